"""Artifacts natively: MLflow's routes for them over the Files port, as streams, and what MLflow has not.

Beside what MLflow's own server does, a client may

- ask for a part (``Range``, ``If-Range``) or on a condition (``If-Match``, ``If-None-Match``, our ``ETag``);
- say a file's digest as it uploads it (``Repr-Digest`` or ``Content-Digest: sha-256=:BASE64:``): with another
  it is refused, and what was there stays;
- go on with an upload that was cut off: ``HEAD .../artifacts/PATH?upload`` answers 204 and
  ``Upload-Offset: N``, the bytes that are kept; then ``PUT`` with ``Content-Range: bytes N-LAST/TOTAL`` and
  the rest as its body (``bytes */TOTAL`` and no body, where N is TOTAL already).

Refused is what would change the files of a version that stands in production
(:mod:`tallystick.judging.seals`).

Whatever is not here, multipart uploads for one, goes to MLflow's own server.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from tallystick.core.errors import BadInput, NotFound, TookTooLong, TooLarge, Unavailable
from tallystick.doors.mlflow.conditions import (
    Part,
    Rest,
    file_headers,
    part_asked,
    rest_sent,
    sha256_said,
    state_asked,
)
from tallystick.doors.mlflow.paths import UPLOAD_BYTES_MAX, target_of
from tallystick.doors.mlflow.relay import check_origin, guarded
from tallystick.judging.seals import Seals
from tallystick.ports.files import FileInfo, Files

__all__ = ["STALLED_S", "artifact_routes"]

STALLED_S = 60.0
"""How long an upload may bring nothing: then it is cut off, so that another can go on with it."""
_SLICE_BYTES = 128 * 1024
"""What is sent of a file at a time."""
_FOLDER = "/mlflow-artifacts/artifacts"
_BASES = tuple(f"{mount}{api}/2.0{_FOLDER}" for mount in ("", "/mlflow") for api in ("/api", "/ajax-api"))
_WORKSPACE = b"x-mlflow-workspace"
_TRIES = 3
_Handler = Callable[[Request], Awaitable[Response]]


def artifact_routes(files: Files, seals: Seals, workspaces: bool = False) -> list[BaseRoute]:
    """To be put before ``mlflow_routes``, which takes what these leave.

    These leave what belongs to a workspace other than the default one: MLflow's own server refuses it where
    ``workspaces`` are off, and where they are on it knows which there are and keeps them apart.
    """
    door = _Artifacts(files, seals)
    kind = _DefaultRoute if workspaces else _PlainRoute
    lists = [] if workspaces else [kind(base, _said(door.list), methods=["GET", "HEAD"]) for base in _BASES]
    methods = ["GET", "HEAD", "PUT", "DELETE"]
    return [*lists, *(kind(base + "/{path:path}", _said(door.one), methods=methods) for base in _BASES)]


class _PlainRoute(Route):
    """A route for requests that name no workspace, where there are none."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """No half match: what another method asks for goes to MLflow's own server."""
        match, found = super().matches(scope)
        return (match, found) if match is Match.FULL and not _workspace(scope) else (Match.NONE, {})


class _DefaultRoute(Route):
    """A route for requests in the default workspace: its artifacts lie beside the folder of all others."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As :class:`_PlainRoute`."""
        match, found = super().matches(scope)
        path = found.get("path_params", {}).get("path", "")
        ours = _workspace(scope) in (b"", b"default") and path.partition("/")[0] != "workspaces"
        return (match, found) if match is Match.FULL and ours else (Match.NONE, {})


def _workspace(scope: Scope) -> bytes:
    named = [value.strip() for key, value in scope["headers"] if key == _WORKSPACE]
    return b",".join(name for name in named if name)


def _said(handle: _Handler) -> _Handler:
    async def answer(request: Request) -> Response:
        async def go() -> Response:
            check_origin(request)
            return await handle(request)

        return await guarded(request, go)

    return answer


class _Artifacts:
    """The routes' handlers."""

    def __init__(self, files: Files, seals: Seals) -> None:
        self._files = files
        self._seals = seals

    async def list(self, request: Request) -> Response:
        """What is right below a folder, as MLflow's own server says it."""
        asked = request.query_params.getlist("path")
        path = (asked[0] if asked else "").rstrip("/")
        if path:
            path = _checked(target_of(f"/{quote(path)}".encode()).path[1:])
        entries = [_entry(info) for info in await self._files.list(path)]
        return _json({"files": entries} if entries else {})

    async def one(self, request: Request) -> Response:
        """An artifact, or what is to be done with it."""
        raw: bytes = request.scope["raw_path"]
        mount = b"/mlflow" if raw.startswith(b"/mlflow/") else b""
        path = _checked(target_of(raw, mount).path.partition(f"{_FOLDER}/")[2])
        if request.method == "PUT":
            return await self._put(request, path)
        if request.method == "DELETE":
            return await self._delete(path)
        if request.method == "HEAD" and "upload" in request.query_params:
            kept = await self._files.partial(path)
            return Response(None, 204, {"upload-offset": str(kept), "cache-control": "no-store"})
        return await self._get(request, path)

    async def _delete(self, path: str) -> Response:
        with suppress(NotFound):  # as MLflow has it: what is wanted is so
            async with self._seals.landing(path, removes=True):
                await self._files.delete(path)
        return _json({})

    async def _get(self, request: Request, path: str) -> Response:
        for _ in range(_TRIES):
            info = await self._stat(path)
            headers = file_headers(info)
            status = state_asked(request.headers, info)
            if status != 200:
                return Response(None, status, {"etag": headers["etag"], "cache-control": "no-cache"})
            part = part_asked(request.headers, info)
            if not part:
                return Response(None, 416, {"content-range": f"bytes */{info.size}"})
            headers |= part.headers(info.size)
            if request.method == "HEAD":
                return Response(None, part.status, headers)
            first, rest = await self._opened(info, part)
            if rest:
                return _Download(first, rest, part.status, headers)
        raise Unavailable("it is replaced again and again", where=path[:200], hint="try again")

    async def _stat(self, path: str) -> FileInfo:
        try:
            return await self._files.stat(path)
        except NotFound:
            if await self._files.list(path):
                raise BadInput(f"Artifact path refers to a directory, not a file: '{path}'") from None
            raise NotFound(f"No such artifact: '{path}'") from None

    async def _opened(self, info: FileInfo, part: Part) -> tuple[bytes, AsyncGenerator[bytes] | None]:
        """The bytes, of the very file that ``info`` is about; None where it was replaced meanwhile."""
        rest = _all(self._files.read(info.path, part.start, part.end))
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(aclosing(rest))
            with suppress(NotFound):
                first = await anext(rest, b"")
                if (await self._files.stat(info.path)).etag == info.etag:
                    opened.pop_all()
                    return first, rest
        return b"", None

    async def _put(self, request: Request, path: str) -> Response:
        rest = rest_sent(request.headers)
        digest = sha256_said(request.headers, rest)
        length = request.headers.get("content-length", "")
        size = rest.offset + rest.length if rest else int(length) if length.isdigit() else 0
        if size > UPLOAD_BYTES_MAX:
            raise _too_large(path)
        await self._seals.check(path)  # before it is sent in vain; and again when it is whole
        try:
            async with AsyncExitStack() as landing:
                whole = self._seals.landing(path)
                body = _body(request, path, rest, lambda: landing.enter_async_context(whole))
                landing.push_async_callback(body.aclose)
                info = await self._files.put(path, body, sha256=digest, offset=rest.offset if rest else 0)
        except ClientDisconnect:
            return Response(None, 400)  # nobody reads it
        return Response(None, 200, {"etag": f'"{info.etag}"'})


async def _body(
    request: Request, path: str, rest: Rest | None, whole: Callable[[], Awaitable[None]]
) -> AsyncGenerator[bytes]:
    """The request's body; an error when it stalls, is too long, or is not as long as it said.

    ``whole`` is awaited when all of it is there, before whoever takes it knows that.
    """
    seen, stream = 0, aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(STALLED_S):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise TookTooLong("the upload stalled", where=path[:200], hint="go on with it") from None
        if chunk is None:
            break
        seen += len(chunk)
        if seen > (rest.length if rest else UPLOAD_BYTES_MAX):
            raise _too_large(path)
        if chunk:
            yield chunk
    if rest and seen != rest.length:
        raise BadInput(f"the body has {seen} bytes, not {rest.length}", where=path[:200])
    await whole()


class _Download(StreamingResponse):
    """A file's bytes; whoever goes away while they stream lets the file go too."""

    def __init__(
        self, first: bytes, rest: AsyncGenerator[bytes], status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(_sliced(first, rest), status, headers)
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._rest):
            await super().__call__(scope, receive, send)


async def _all(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The same as something that can be closed."""
    async for chunk in chunks:
        yield chunk


async def _sliced(piece: bytes | None, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """All from ``piece`` on: what is handed over at a time waits, as a copy, for whoever reads slowly."""
    while piece is not None:
        for start in range(0, len(piece), _SLICE_BYTES):
            yield piece[start : start + _SLICE_BYTES]
        piece = None  # let go of before the next is there
        piece = await anext(rest, None)


def _checked(path: str) -> str:
    """Refuse what MLflow's own server would not take, so that it can go on with whatever is stored."""
    if "#" in path or re.match(r"[A-Za-z]:/|/|file:", path, re.IGNORECASE):
        raise BadInput("Invalid path")
    return path


def _entry(info: FileInfo) -> dict[str, str | bool | int]:
    entry: dict[str, str | bool | int] = {"path": info.path.rpartition("/")[2], "is_dir": info.is_folder}
    return {**entry, "file_size": info.size} if info.size else entry


def _json(content: object) -> Response:
    return Response(json.dumps(content, indent=2), media_type="application/json")


def _too_large(path: str) -> TooLarge:
    return TooLarge(f"an artifact is at most {UPLOAD_BYTES_MAX} bytes", where=path[:200])
