"""Artifacts as they are, files and folders alike: for a command that works with them on its own machine."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from tallystick.core.data import ARTIFACT_URI
from tallystick.core.errors import BadInput, TallyError
from tallystick.core.names import check_digest
from tallystick.core.values import ArtifactRef
from tallystick.doors.api.arriving import unpack_folder
from tallystick.doors.api.wire import answer, save_body
from tallystick.hub.house import House
from tallystick.hub.house.removal import remove
from tallystick.hub.house.rows import artifact_at, export_table, table_of

__all__ = ["routes"]

FILE, FOLDER = "application/octet-stream", "application/x-tar"


class _Artifacts:
    def __init__(self, house: House, upload_bytes_max: int) -> None:
        self.house = house
        self.upload_bytes_max = upload_bytes_max

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

    async def find(self, request: Request) -> Mapping[str, Any]:
        """What the URI ``at`` means, by its content; of a table, its rows as a Parquet file."""
        uri = request.query_params.get("at", "")
        found = await artifact_at(self.house, uri)
        if found is None:
            rows = (await export_table(self.house, table_of(uri, "at")))[1]
            found = ArtifactRef("artifact", rows.artifact, "system.Dataset", uri)
        return {"digest": found.digest, "schema": found.schema, "metadata": found.metadata, "uri": uri}

    async def put(self, request: Request) -> Mapping[str, Any]:
        """Keep the body: a file as it is, or a folder as the tar that :mod:`.arriving` reads."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind not in (FILE, FOLDER):
            raise BadInput(f"the content type must be {FILE} for a file, {FOLDER} for a folder", where="body")
        folder = self.house.folder("artifact")
        try:
            came = folder / "came"
            await save_body(request, came, self.upload_bytes_max)
            if kind == FOLDER:
                await asyncio.to_thread(unpack_folder, came, folder / "it")
                blob = await self.house.artifacts.put_folder(folder / "it")
            else:
                blob = await self.house.artifacts.put_file(came)
        finally:
            await remove(folder)
        about = {"size_bytes": blob.size_bytes, "is_folder": blob.is_folder}
        return {"digest": blob.digest, "uri": f"{ARTIFACT_URI}{blob.digest}", **about}


def _pack(folder: Path) -> None:
    with tarfile.open(folder / "it.tar", "w") as tar:
        tar.add(folder / "it", "it")


def routes(house: House, upload_bytes_max: int = 2**31) -> list[BaseRoute]:
    """``/api/tally/artifacts``: one by its digest, what a URI means, and a new one."""
    artifacts, at = _Artifacts(house, upload_bytes_max), "/api/tally/artifacts"
    return [
        Route(at, answer(artifacts.find), methods=["GET"]),
        Route(at, answer(artifacts.put, 201), methods=["POST"]),
        Route(f"{at}/{{digest}}", artifacts.tar, methods=["GET"]),
    ]
