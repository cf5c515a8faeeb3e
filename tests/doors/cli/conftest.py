"""The command line, typed into this process, before a hub that says what a test wants."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tallystick.doors.cli.main import answer, cli
from tallystick.doors.judge import COMMANDS
from tallystick.terminal.client import Hub
from tallystick.terminal.context import Tally

URL = "http://hub"
STATUS = {
    "version": "0", "url": URL, "home": "/home/of/hub", "pid": 1, "sandbox": "none", "policy": "p",
    "policy_digest": "sha256:now", "label": "label", "counts": {"run": 1, "step": 9}, "under_way": [],
}  # fmt: skip


for _command in COMMANDS:  # as wiring/main.py adds them
    cli.add_command(_command)


@dataclass
class Said:
    """What one command line came to."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Desk:
    """``answers`` holds, by method and path, a value (200), an ``httpx.Response``, or what makes one."""

    capsys: Any
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[httpx.Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.answers["GET /api/tally/status"] = STATUS
        for noun in ("model", "verdict", "endpoint", "signal", "remedy", "data"):
            self.answers[f"GET /api/tally/nouns/{noun}"] = []

    def noun(self, noun: str, key: str, state: Any) -> None:
        self.answers[f"GET /api/tally/nouns/{noun}/{key}"] = state

    def error(self, address: str, status: int, kind: str, what: str, where: str = "", hint: str = "") -> None:
        said = {"error": kind, "what": what, "where": where, "hint": hint}
        self.answers[address] = httpx.Response(status, json=said)

    def bodies(self, address: str) -> list[Any]:
        """What was sent there, as JSON."""
        return [json.loads(r.content) for r in self.asked if f"{r.method} {r.url.path}" == address]

    def type(self, *words: str) -> Said:
        tally = Tally(lambda settings, said: None, found=Hub(URL, httpx.MockTransport(self._answer)))
        status = answer(tally, words)
        said = self.capsys.readouterr()
        return Said(status, said.out, said.err)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        address = f"{request.method} {request.url.path}"
        found = self.answers.get(address)
        if found is None:
            noun = {"error": "NotFound", "what": f"nothing at {address}", "where": "", "hint": ""}
            return httpx.Response(404, json=noun)
        if callable(found):
            found = found(request)
        if isinstance(found, httpx.Response):
            return found
        return httpx.Response(200, json=found)


@pytest.fixture(autouse=True)
def nobody_elses_settings(monkeypatch, tmp_path):
    """No TALLY_* variable, and a folder without tallystick.toml."""
    for name in [n for n in os.environ if n.startswith("TALLY_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def desk(capsys):
    return Desk(capsys)
