"""MLflow's own server as a child of the hub: one process on a unix socket, and no more.

It is an errand that goes on serving (see :mod:`tallystick.hub.house.errand`): the order names the socket,
the database, the artifacts' folder and further places to read from; ``ready`` is said once it answers.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import Conflict
from tallystick.crew.desk import Desk, attend
from tallystick.crew.mlflow.loading import TELLS_NOBODY, loading_mlflow
from tallystick.crew.mlflow.places import keep_places, keep_within

if TYPE_CHECKING:
    import uvicorn

__all__ = ["UNFINISHED", "environment", "main", "sweep"]

UNFINISHED = ".artifact.uploading."
"""How MLflow's names for artifacts begin that are still being written."""
_KEEP_ALIVE_S = 75
"""Longer than the hub keeps an idle connection, so that it is never the server that closes one first."""


def environment(database: str, artifacts: str, *, workspaces: bool = False) -> dict[str, str]:
    """What MLflow's application reads as it is imported: where things are, and what is switched off.

    ``artifacts`` is a URI.
    """
    return {
        **TELLS_NOBODY,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ENABLE_AI_GATEWAY": "false",
        "MLFLOW_ENABLE_WORKSPACES": str(workspaces).lower(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "_MLFLOW_IN_JOB_EXECUTOR": "false",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_FILE_STORE": database,
        "_MLFLOW_SERVER_REGISTRY_STORE": database,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
    }


def main(desk: Desk) -> Mapping[str, Any]:
    """Serve until told to end."""
    began = time.time()
    database, artifacts, folder = str(desk.order["database"]), *_artifacts(str(desk.order["artifacts"]))
    with contextlib.suppress(
        OSError
    ):  # what a client names without its whole path is below it, as with stock
        os.chdir(str(desk.order["folder"]))
    workspaces = bool(desk.order["workspaces"])
    os.environ |= environment(database, artifacts, workspaces=workspaces)
    app = _application(database, (artifacts, *desk.order["roots"]), workspaces)
    gc.freeze()

    def ready() -> None:
        desk.ready()
        if folder:
            threading.Thread(target=sweep, args=(folder, began), daemon=True).start()

    with _listening(Path(desk.order["socket"])) as door:
        _server(app, ready).run(sockets=[door])
    return {}


def _artifacts(said: str) -> tuple[str, Path | None]:
    """Where artifacts are, as a URI, and the folder, made when new: None for an object store."""
    if "://" in said:
        return said, None
    folder = Path(said)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder.as_uri(), folder


def _application(database: str, roots: tuple[str, ...], workspaces: bool) -> Any:
    with loading_mlflow("mlflow"):
        import uvicorn  # noqa: F401  # asked for here, so that its absence is told like MLflow's
        from mlflow.exceptions import MlflowException
        from mlflow.server import fastapi_app, handlers
    try:
        handlers.initialize_backend_stores(database, database, "mlflow-artifacts:/")
    except MlflowException as wrong:
        if "out-of-date database schema" not in str(wrong):
            raise
        raise Conflict(
            f"the database was made by another version of MLflow: {str(wrong).partition('. ')[0]}",
            where="MLflow's database",
            hint="back it up, then: mlflow db upgrade URL; or start the hub again, which offers both",
        ) from wrong
    keep_within(roots, workspaces)
    keep_places(handlers._get_tracking_store())
    return fastapi_app.app


def _server(app: Any, ready: Callable[[], None]) -> uvicorn.Server:
    import uvicorn

    class Announced(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

    return Announced(
        uvicorn.Config(
            app,
            access_log=False,
            date_header=False,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            timeout_keep_alive=_KEEP_ALIVE_S,
            ws="none",
        )
    )


@contextlib.contextmanager
def _listening(path: Path) -> Any:
    """A unix socket that only its owner may connect to; uvicorn's own would be everybody's."""
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        os.umask(before)
        try:
            yield door
        finally:
            path.unlink(missing_ok=True)


def sweep(artifacts: Path, before: float) -> int:
    """Remove what uploads that were cut off before ``before`` (seconds since 1970) have left; how many."""
    swept = 0
    for folder, _, files in os.walk(artifacts):
        for name in files:
            path = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                if name.startswith(UNFINISHED) and path.lstat().st_mtime < before:
                    path.unlink()
                    swept += 1
    return swept


if __name__ == "__main__":
    attend(main)
