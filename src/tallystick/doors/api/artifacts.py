"""Artifacts as they are, files and folders alike: for a command that works with them on its own machine."""

from __future__ import annotations

import asyncio
import tarfile
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from tallystick.core.errors import TallyError
from tallystick.core.names import check_digest
from tallystick.hub.house import House
from tallystick.hub.house.removal import remove

__all__ = ["routes"]


class _Artifacts:
    def __init__(self, house: House) -> None:
        self.house = house

    async def tar(self, request: Request) -> Response:
        """The artifact as a tar of one entry, ``it``: a file, or a folder with all that is in it."""
        try:
            digest = check_digest(str(request.path_params["digest"]))
            folder = self.house.folder("artifact")
        except TallyError as wrong:
            return JSONResponse(wrong.as_dict(), status_code=wrong.http_status)
        try:
            await self.house.artifacts.unpack(digest, folder / "it")
            await asyncio.to_thread(_pack, folder)
        except TallyError as wrong:
            await remove(folder)
            return JSONResponse(wrong.as_dict(), status_code=wrong.http_status)
        except BaseException:
            await remove(folder)
            raise
        done = BackgroundTask(remove, folder)
        return FileResponse(folder / "it.tar", media_type="application/x-tar", background=done)


def _pack(folder: Path) -> None:
    with tarfile.open(folder / "it.tar", "w") as tar:
        tar.add(folder / "it", "it")


def routes(house: House) -> list[BaseRoute]:
    """``GET /api/tally/artifacts/DIGEST``."""
    return [Route("/api/tally/artifacts/{digest}", _Artifacts(house).tar, methods=["GET"])]
