"""MLflow's REST as far as the registry needs it: calls, errors, files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import httpx

from tallystick.core.errors import (
    BadInput,
    Conflict,
    Failed,
    NotFound,
    Refused,
    TallyError,
    TooLarge,
    Unavailable,
)

__all__ = ["CHUNK_BYTES", "Rest", "Server"]

CHUNK_BYTES = 1024 * 1024
_TRIES = 3
_API = "/api/2.0/mlflow/"
_FILES = "/api/2.0/mlflow-artifacts/artifacts"
_KINDS: Mapping[str, type[TallyError]] = {
    "BAD_REQUEST": BadInput,
    "INVALID_PARAMETER_VALUE": BadInput,
    "INVALID_STATE": Conflict,
    "PERMISSION_DENIED": Refused,
    "RESOURCE_ALREADY_EXISTS": Conflict,
    "RESOURCE_DOES_NOT_EXIST": NotFound,
    "TEMPORARILY_UNAVAILABLE": Unavailable,
}


class Server(Protocol):
    """MLflow's server, running or to be started."""

    async def client(self, dead: httpx.AsyncClient | None = None) -> httpx.AsyncClient:
        """A client on it; ``dead`` is one whose connection failed."""
        ...

    async def close(self) -> None:
        """End it."""
        ...


class Rest:
    """Calls to MLflow's server. An error of MLflow's is raised as ours, with its message."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def get(self, path: str, **params: Any) -> dict[str, Any]:
        """``GET`` below ``/api/2.0/mlflow/``."""
        return await self._call("GET", _API + path, params=params)

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        """``POST`` below ``/api/2.0/mlflow/``."""
        return await self._call("POST", _API + path, json=body)

    async def patch(self, path: str, **body: Any) -> dict[str, Any]:
        """``PATCH`` below ``/api/2.0/mlflow/``."""
        return await self._call("PATCH", _API + path, json=body)

    async def pages(self, path: str, field: str, **params: Any) -> Sequence[dict[str, Any]]:
        """All pages of a listing, as one."""
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            page = await self.get(path, **params, **({"page_token": token} if token else {}))
            found += page.get(field, ())
            token = page.get("next_page_token", "")
            if not token:
                return found

    async def files(self, folder: str) -> Sequence[dict[str, Any]]:
        """What is in a folder of the artifacts: ``path`` (one name), ``is_dir``, ``file_size``."""
        listing = await self._call("GET", _FILES, params={"path": folder})
        return list(listing.get("files", ()))

    async def upload(self, source: Path, path: str) -> None:
        """Stream a file to ``path`` of the artifacts."""
        headers = {"content-length": str((await asyncio.to_thread(source.stat)).st_size)}
        address = f"{_FILES}/{quote(path)}"
        answer = await self._send("PUT", address, headers=headers, content=lambda: _read(source))
        _check(answer)

    async def download(self, path: str, dest: Path, size_bytes_max: int) -> int:
        """Stream a file of the artifacts to ``dest``; its bytes. TooLarge for more than allowed."""
        answer = await self._send("GET", f"{_FILES}/{quote(path)}", stream=True)
        try:
            if not answer.is_success:
                await answer.aread()
            _check(answer)
            return await _write(answer, dest, size_bytes_max)
        except httpx.TransportError as wrong:
            raise Unavailable("the download broke off", where=f"MLflow, {path}") from wrong
        finally:
            await answer.aclose()

    async def _call(self, method: str, path: str, **rest: Any) -> dict[str, Any]:
        answer = await self._send(method, path, **rest)
        _check(answer)
        return dict(answer.json())

    async def _send(
        self, method: str, path: str, *, stream: bool = False, content: Any = None, **rest: Any
    ) -> httpx.Response:
        """Once; again where the server was gone before it could begin, or where asking twice is the same."""
        client = await self._server.client()
        for _ in range(_TRIES):
            made = client.build_request(method, path, content=content() if content else None, **rest)
            try:
                return await client.send(made, stream=stream)
            except httpx.TransportError as wrong:
                again = method == "GET" and not isinstance(wrong, httpx.TimeoutException)
                if not again and not isinstance(wrong, httpx.ConnectError):
                    raise Unavailable(f"MLflow's server did not answer: {wrong!r}", where=path) from wrong
                client = await self._server.client(client)
        raise Unavailable("MLflow's server ends again and again", where=path, hint="try again shortly")


def _check(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    try:
        said = answer.json()
    except ValueError:
        said = {}
    code = str(said.get("error_code", "")) if isinstance(said, dict) else ""
    text = str(said.get("message", "")) if code else answer.text
    kind = _KINDS.get(code, NotFound if answer.status_code == 404 else Failed)
    raise kind(text[:500] or f"status {answer.status_code}", where="MLflow")


async def _read(source: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(source.open, "rb")
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


async def _write(answer: httpx.Response, dest: Path, size_bytes_max: int) -> int:
    size = 0
    with await asyncio.to_thread(dest.open, "xb") as file:
        async for chunk in answer.aiter_bytes(CHUNK_BYTES):
            size += len(chunk)
            if size > size_bytes_max:
                raise TooLarge(f"there are more than the {size_bytes_max} bytes allowed", where=dest.name)
            await asyncio.to_thread(file.write, chunk)
    return size
