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
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tallystick.core.errors import Conflict, MissingTile
from tallystick.crew.desk import Desk, attend

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
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
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
    os.environ |= environment(database, artifacts, workspaces=bool(desk.order["workspaces"]))
    warnings.simplefilter("ignore")  # of what MLflow imports; nobody here could mend it
    gc.disable()  # a third of the time of the import
    app = _application(database, (artifacts, *desk.order["roots"]))
    gc.enable()
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


def _application(database: str, roots: tuple[str, ...]) -> Any:
    try:
        import uvicorn  # noqa: F401  # asked for here, so that its absence is told like MLflow's
        from mlflow.exceptions import MlflowException
        from mlflow.server import fastapi_app, handlers
    except ImportError as missing:
        raise MissingTile(
            f"it needs the Python package {missing.name or missing}",
            where="MLflow",
            hint="pip install 'tallystick[mlflow]'",
        ) from missing
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
    _keep_within(roots)
    return fastapi_app.app


def _keep_within(roots: tuple[str, ...]) -> None:
    """Let the server itself open artifacts in ``roots`` only, wherever an experiment or model says they are.

    Anybody may create an experiment whose artifacts are at ``file:///etc``: a client then reads there
    with its own rights, which is its affair, but this server must not read or write there on request.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories

    makers = cast(dict[str, Callable[..., Any]], get_registered_artifact_repositories())
    for scheme, maker in list(makers.items()):
        if scheme not in ("runs", "models", "mlflow-artifacts"):  # these lead to one of the others
            makers[scheme] = _guarded(maker, roots)


def _guarded(maker: Callable[..., Any], roots: tuple[str, ...]) -> Callable[..., Any]:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    def make(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
        if not any(_within(artifact_uri, root) for root in roots):
            raise MlflowException(
                f"The hub does not open artifacts at {artifact_uri}: it is outside its own artifacts",
                error_code=PERMISSION_DENIED,
            )
        return maker(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)

    return make


def _within(uri: str, root: str) -> bool:
    from mlflow.utils import file_utils
    from mlflow.utils import uri as uris

    # MLflow's own reading counts, as it is MLflow that opens; it has no types here.
    is_local, path_of = cast(Any, uris.is_local_uri), cast(Any, file_utils.local_file_uri_to_path)
    if is_local(uri) and is_local(root):
        return Path(path_of(uri)).resolve().is_relative_to(Path(path_of(root)).resolve())
    plain = not any(part in uri for part in ("..", "%", "\\", "?", "#"))
    return plain and f"{uri}/".startswith(root.rstrip("/") + "/")


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
