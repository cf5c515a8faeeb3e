"""A house with keys behind its API, and a command line before it: in one process, over no network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.from_thread
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tallystick.doors.api import artifacts, attest
from tallystick.doors.cli.main import answer, cli
from tallystick.doors.vouch import vouch_commands
from tallystick.evidence.supply import Inspected, Looked, Standing
from tallystick.hub.house import House
from tallystick.ports.tile import Place
from tallystick.terminal.client import Hub
from tallystick.terminal.context import Tally
from tallystick.tiles.signing.dsse import open_tile
from tallystick.wiring.tiles import open_signing
from tests.doors.cli.conftest import Said, nobody_elses_settings
from tests.fakes.house import make_house
from tests.fakes.house.made import judged, made_model

__all__ = ["Bridge", "Desk", "desk", "nobody_elses_settings"]


async def status(_: Request) -> JSONResponse:
    return JSONResponse({})


STATUS = Route("/api/tally/status", status)


class Bridge(httpx.BaseTransport):
    """Requests of a client that waits, to an app that runs in the portal's loop."""

    def __init__(self, portal: Any, app: Starlette) -> None:
        self._portal, self._inner = portal, httpx.ASGITransport(app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._portal.call(self._asked, request)

    async def _asked(self, request: httpx.Request) -> httpx.Response:
        given = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
        found = await self._inner.handle_async_request(given)
        return httpx.Response(found.status_code, headers=found.headers, content=await found.aread())


@dataclass
class Desk:
    """``type`` is a command line before the hub; ``elsewhere`` one where there is no hub and no home."""

    capsys: Any
    portal: Any
    house: House
    tmp_path: Path
    standing: Standing = Standing.DATA

    def type(self, *words: str) -> Said:
        app = Starlette(routes=[*attest.routes(self.house), *artifacts.routes(self.house), STATUS])
        found = Hub("http://hub", Bridge(self.portal, app))
        return self._said(
            Tally(lambda *_: None, found=found), ("--home", str(self.tmp_path / "home"), *words)
        )

    def elsewhere(self, *words: str) -> Said:
        return self._said(Tally(lambda *_: None), ("--home", str(self.tmp_path / "none"), *words))

    def _said(self, tally: Tally, words: tuple[str, ...]) -> Said:
        for command in vouch_commands(open_signing, self._inspect):
            cli.add_command(command)
        status = answer(tally, words)
        said = self.capsys.readouterr()
        return Said(status, said.out, said.err)

    def _inspect(self, folder: Path) -> Inspected:
        why = "" if self.standing is Standing.DATA else "it imports os.system"
        return Inspected((Looked("model.onnx", "x", self.standing, "sha256:" + "0" * 64, 1, why),))

    def run(self, work: Any, *given: Any, **more: Any) -> Any:
        """Something of the house's, in its loop."""

        async def call() -> Any:
            return await work(self.house, *given, **more)

        return self.portal.call(call)


@pytest.fixture
def desk(capsys, tmp_path) -> Iterator[Desk]:
    with anyio.from_thread.start_blocking_portal() as portal:

        async def begin() -> House:
            return make_house(tmp_path, signing=open_tile(Place(tmp_path / "home")))

        house = portal.call(begin)
        yield Desk(capsys, portal, house, tmp_path)
        portal.call(house.sandbox.close)
        portal.call(house.traffic.close)


@pytest.fixture
def model(desk):
    """A model that a run made here, and that passed."""
    made, _ = desk.run(made_model)
    desk.run(judged, made)
    return made


@pytest.fixture
def key(desk, tmp_path) -> Path:
    """The hub's public key, as it is handed over."""
    (tmp_path / "hub.pem").write_text(desk.type("trust", "show").out)
    return tmp_path / "hub.pem"


@pytest.fixture
def download(desk, model, key, tmp_path) -> Path:
    """The model's download, moved to where there is nothing else of the hub."""
    assert desk.type("download", model.key, str(tmp_path / "out" / "it")).status == 0
    return tmp_path / "out" / "it"
