"""MLflow's part of the house: its record natively, its artifacts, and its own server for all the rest."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from tallystick.core.errors import BadInput, TallyError
from tallystick.doors.mlflow.artifacts import artifact_routes
from tallystick.doors.mlflow.gate import RegistryGate
from tallystick.doors.mlflow.holders import Holders
from tallystick.doors.mlflow.proxy import mlflow_routes
from tallystick.doors.mlflow.relay import error_answer
from tallystick.doors.tracking.front import NativeFront
from tallystick.doors.tracking.lane import Lane
from tallystick.evidence.policy import Gate
from tallystick.hub.house import House
from tallystick.judging.seals import Seals
from tallystick.ports.clock import Clock
from tallystick.ports.files import Files
from tallystick.ports.tile import Place
from tallystick.ports.tracking import Tracking
from tallystick.record.address import without_password
from tallystick.settings import Settings
from tallystick.wiring.database.opened import Database
from tallystick.wiring.tiles import open_tile

__all__ = ["ARTIFACT_ROOT", "Mlflow", "mlflow_options", "open_mlflow", "roots_of", "say_outside", "store_of"]

ARTIFACT_ROOT = "mlflow-artifacts:/"
"""Where new experiments keep their artifacts: with the hub, wherever that puts them."""


def store_of(said: str) -> str:
    """Setting ``artifact_store``: a whole path, ``s3://bucket/prefix``, or empty for the one in the home."""
    scheme, mark, _ = said.partition("://")
    if not said or scheme == "s3":
        return said.rstrip("/")
    if mark and scheme != "file":
        raise BadInput(
            f"{without_password(said)[:200]!r} is neither a folder nor s3://bucket/prefix",
            where="artifact_store",
        )
    return str(Path(unquote(urlsplit(said).path) if mark else said).absolute())


def roots_of(said: str) -> list[str]:
    """Setting ``artifact_roots`` as URIs."""
    parts = [part.strip() for part in said.split(",") if part.strip()]
    return [part if "://" in part else Path(part).absolute().as_uri() for part in parts]


def say_outside(settings: Settings, home: Path, database: Database, said: Callable[[str], None]) -> None:
    """Say where artifacts are on this machine that MLflow's own server may not open."""
    roots = [unquote(urlsplit(root).path) for root in roots_of(settings.artifact_roots)]
    store = store_of(settings.artifact_store) or home / "mlartifacts"
    outside = ", ".join(map(str, database.folders_outside([Path(folder) for folder in (store, *roots)])))
    if outside:
        said(f"warning: experiments keep artifacts in {outside}; MLflow's pages show them only with setting")
        said(f"  artifact_roots: tally up --artifact-roots {shlex.quote(outside.replace(', ', ','))}")


def mlflow_options(settings: Settings, database: Database) -> Mapping[str, Any]:
    """What the tiles for tracking, files and the registry are told: the same to all three."""
    return {
        "database": database.address.for_sqlalchemy,
        "artifact_root": ARTIFACT_ROOT,
        "artifact_store": store_of(settings.artifact_store),
        "artifact_roots": roots_of(settings.artifact_roots),
        "workspaces": settings.workspaces,
        "mlflow_idle_s": settings.mlflow_idle_s,
    }


@dataclass
class Mlflow:
    """The two native tiles and, where MLflow's own tile is the registry, the server that does the rest."""

    tracking: Tracking
    files: Files
    database: Database
    settings: Settings
    child: Any
    lane: Lane

    def front(self, app: ASGIApp) -> ASGIApp:
        """``app`` behind the native routes; as it is where there is no server to do the rest."""
        if not self.child:
            return app
        return NativeFront(app, self.lane, error_answer)

    def seals(self, house: House) -> Seals:
        """What keeps the files of versions in production as they are: one for all doors."""

        def gate() -> Gate:
            return house.policy.gate

        return Seals(gate, Holders(self.child, gate, self.tracking).held)

    def routes(self, house: House, seals: Seals) -> list[BaseRoute]:
        """To be put after all others; ``house`` has the gate before MLflow's registry."""
        if not self.child:
            return []
        own = artifact_routes(self.files, seals, self.settings.workspaces)
        return [*own, *mlflow_routes(self.child, self.lane, RegistryGate(house, self.child, seals))]

    def facts(self, home: Path) -> Mapping[str, Any]:
        """What ``tally status`` says of it; a function is asked each time."""
        installed = self.database.mlflow
        return {
            "database": str(self.database.address),
            "artifact_store": store_of(self.settings.artifact_store) or str(home / "mlartifacts"),
            "workspaces": self.settings.workspaces,
            "mlflow_version": installed.version if installed else "",
            "mlflow_server": self._server,
            "native_tracking": self._native,
        }

    async def _server(self) -> str:
        return str(self.child.state) if self.child else "is not used"

    async def _native(self) -> str:
        """``on``, or in plain words who answers instead, and why."""
        try:
            if await self.tracking.ready():
                return "on"
            return await asyncio.to_thread(self.database.why_not_native)
        except TallyError as wrong:
            return f"not possible: {wrong}"

    async def close(self) -> None:
        """Let go of the record and the artifacts."""
        await self.tracking.close()
        await self.files.close()


def open_mlflow(settings: Settings, place: Place, database: Database, registry: Any, clock: Clock) -> Mlflow:
    """Open the tiles for ``database`` and for the artifacts, each found by how the address begins."""
    store = str(place.options["artifact_store"])
    record = replace(place, parts={"database": open_tile("database", database.address.kind, place)})
    tracking: Tracking = open_tile("tracking", "mlflow", record)
    return Mlflow(
        tracking=tracking,
        files=open_tile("files", "s3" if store.startswith("s3://") else "local", place),
        database=database,
        settings=settings,
        child=getattr(registry, "child", None),
        lane=Lane(tracking, clock, settings.workspaces),
    )
