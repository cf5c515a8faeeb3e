"""Files: artifacts, served so that nothing in them can act in our name, and our own static files."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from tallystick.core.errors import BadInput, NotFound, TallyError
from tallystick.core.names import check_digest
from tallystick.doors.console.answer import HEADERS, HERE, error_answer
from tallystick.doors.console.view import View

__all__ = ["ARTIFACT_HEADERS", "TEXT_BYTES_MAX", "artifact", "static"]

TEXT_BYTES_MAX = 1024 * 1024

ARTIFACT_HEADERS: Mapping[str, str] = {
    **HEADERS,
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, max-age=31536000, immutable",
}
"""An artifact never changes, and is somebody else's content: it may be looked at and nothing more."""

_STATIC = {
    "tally.css": "text/css; charset=utf-8",
    "tally.js": "text/javascript; charset=utf-8",
    "mark.svg": "image/svg+xml",
}


async def artifact(view: View, request: Request) -> Response:
    """An artifact file: a real PNG as that, short UTF-8 as plain text, all else to be saved."""
    try:
        digest = check_digest(str(request.path_params["digest"]))
        path = await _path(view, digest)
    except TallyError as wrong:
        return error_answer(view, request, wrong)
    kind = await asyncio.to_thread(_kind, path)
    headers = dict(ARTIFACT_HEADERS)
    if kind == "application/octet-stream":
        headers["Content-Disposition"] = f'attachment; filename="{digest.replace(":", "-")[:23]}.bin"'
    return FileResponse(path, media_type=kind, headers=headers)


async def _path(view: View, digest: str) -> Path:
    try:
        return await view.artifacts.path_of(digest)
    except (NotFound, BadInput):
        if not await view.artifacts.has(digest):
            raise
        hint = "a model's files, for example; only single files show here"
        raise NotFound("this artifact is a folder", where=digest, hint=hint) from None


def _kind(path: Path) -> str:
    """The media type by what the bytes are, never by what somebody called them."""
    with path.open("rb") as file:
        head = file.read(TEXT_BYTES_MAX + 1)
    if head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"IHDR":
        return "image/png"
    if len(head) <= TEXT_BYTES_MAX and b"\0" not in head and _is_utf8(head):
        return "text/plain; charset=utf-8"
    return "application/octet-stream"


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


async def static(request: Request) -> Response:
    """One of our three static files; with its stamp in the address it may be kept for a year."""
    name = str(request.path_params["name"])
    if name not in _STATIC:
        return Response("no such file", 404, headers=dict(HEADERS), media_type="text/plain")
    kept = "public, max-age=31536000, immutable" if "v" in request.query_params else "no-cache"
    headers = {**HEADERS, "Cache-Control": kept}
    return FileResponse(HERE / "static" / name, media_type=_STATIC[name], headers=headers)
