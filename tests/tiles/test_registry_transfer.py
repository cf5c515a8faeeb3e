"""A model's files, from a server that means harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallystick.core.errors import (
    BadInput,
    Failed,
    NotFound,
    NotSupported,
    Refused,
    TooLarge,
    Unavailable,
)
from tallystick.proofs.registry import contents
from tallystick.tiles.registry import transfer
from tallystick.tiles.registry.mlflow import MlflowRegistry
from tallystick.tiles.registry.rest import Rest

FILES = "/api/2.0/mlflow-artifacts/artifacts"


class Hostile:
    """A server that answers as ``answer`` says."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.opened = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://localhost")

    async def client(self, dead: httpx.AsyncClient | None = None) -> httpx.AsyncClient:
        return self.opened

    async def close(self) -> None:
        await self.opened.aclose()


def listing(*entries: dict[str, Any], content: bytes = b"x") -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == FILES:
            return httpx.Response(200, json={"files": list(entries)})
        return httpx.Response(200, content=content)

    return answer


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../x", "a/b", "/etc/x", "a\\..\\b", "a\0b", "a\nb", "x" * 300, "../../home/x"]
)
@pytest.mark.parametrize("is_dir", [False, True])
async def test_a_listing_cannot_lead_out_of_the_folder(tmp_path: Path, name: str, is_dir: bool) -> None:
    server = Hostile(listing({"path": "fine", "is_dir": False}, {"path": name, "is_dir": is_dir}))
    with pytest.raises(Refused):
        await transfer.pull(Rest(server), "mlflow-artifacts:/1/x", tmp_path / "in" / "got")
    assert contents(tmp_path) == {}
    await server.close()


@pytest.mark.parametrize("uri", ["mlflow-artifacts:/1/../2", "mlflow-artifacts:/a\\b"])
async def test_an_address_cannot_lead_elsewhere(tmp_path: Path, uri: str) -> None:
    server = Hostile(listing())
    with pytest.raises(Refused):
        await transfer.pull(Rest(server), uri, tmp_path / "got")
    await server.close()


@pytest.mark.parametrize(
    "uri", ["file:///etc", "http://x/y", "s3://b/x", "mlflow-artifacts://host/x", "/etc", "models:/a/1"]
)
async def test_another_store_is_not_supported(tmp_path: Path, uri: str) -> None:
    server = Hostile(listing())
    with pytest.raises(NotSupported):
        await transfer.pull(Rest(server), uri, tmp_path / "got")
    await server.close()


async def test_downloads_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FILES_MAX", 3)
    files = [{"path": f"f{i}", "is_dir": False} for i in range(4)]
    endless = {"path": "again", "is_dir": True}
    for server, limit in (
        (Hostile(listing(*files)), 100),
        (Hostile(listing(files[0], content=b"x" * 101)), 100),
        (Hostile(listing(*files[:3], content=b"x" * 40)), 100),
        (Hostile(listing(endless)), 100),
    ):
        with pytest.raises(TooLarge):
            await transfer.pull(Rest(server), "mlflow-artifacts:/1", tmp_path / "got", limit)
        assert contents(tmp_path) == {}, "nothing is left of what was refused"
        await server.close()


async def test_a_model_without_files_is_not_found(tmp_path: Path) -> None:
    server = Hostile(listing())
    with pytest.raises(NotFound):
        await transfer.pull(Rest(server), "mlflow-artifacts:/1", tmp_path / "got")
    await server.close()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "m"}, NotFound),
        (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "m"}, BadInput),
        (403, {"error_code": "PERMISSION_DENIED", "message": "m"}, Refused),
        (503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "m"}, Unavailable),
        (500, {"error_code": "INTERNAL_ERROR", "message": "m"}, Failed),
        (500, [], Failed),
        (404, None, NotFound),
    ],
)
async def test_errors_are_ours(status: int, body: Any, kind: type[Exception]) -> None:
    server = Hostile(lambda _: httpx.Response(status, json=body))
    with pytest.raises(kind) as told:
        await MlflowRegistry(server).run_data("x")
    assert type(told.value) is kind
    await server.close()
