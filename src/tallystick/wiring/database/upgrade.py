"""Migrating an older database of MLflow's: said first, agreed to, backed up, and only then done."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallystick.core.errors import Conflict, Failed, TallyError
from tallystick.core.wall import Wall
from tallystick.hub.house.errand import run_errand
from tallystick.ports.sandbox import Sandbox
from tallystick.ports.tile import Place
from tallystick.wiring.database.address import Address
from tallystick.wiring.database.backup import back_up, check_can_back_up, how_to_restore, place_of_backup
from tallystick.wiring.database.schema import Installed, look
from tallystick.wiring.tiles import open_tile

__all__ = ["Talk", "do_errand", "upgrade"]

MEMORY_MIB = 8192
FILE_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Talk:
    """How the house speaks with whoever starts it: ``said`` tells, ``agreed`` asks and waits."""

    said: Callable[[str], None]
    agreed: Callable[[str], bool]


def upgrade(address: Address, revision: str, mlflow: Installed, home: Path, talk: Talk) -> None:
    """Bring a database at ``revision`` to the schema that the installed MLflow needs.

    Conflict, and nothing is changed, where nobody agreed. Failed where the migration failed: it names the
    backup and how to bring it back.
    """
    check_can_back_up(address)
    steps = len(mlflow.revisions) - mlflow.revisions.index(revision) - 1
    place = place_of_backup(address, home, time.strftime("%Y%m%dT%H%M%S"))
    talk.said(f"The database {address} was made by an older MLflow.")
    talk.said(f"  its schema   revision {revision}")
    talk.said(f"  needed       revision {mlflow.head}, of MLflow {mlflow.version}: {steps} migrations")
    talk.said(f"  backup       {place}, made first")
    talk.said(f"Once it is migrated, stock MLflow before {mlflow.version} no longer opens it.")
    if not talk.agreed("Migrate it now?"):
        raise Conflict(
            f"it has the schema of an older MLflow (revision {revision}), and nothing was changed",
            where=str(address),
            hint="agree to the migration: the same command with --upgrade-database",
        )
    back_up(address, place)
    talk.said(f"backed up, and the copy is whole: {place}")
    try:
        _migrate(address, home, talk)
        _check_done(address, mlflow)
    except TallyError as wrong:
        raise Failed(
            f"the migration failed: {wrong.what}; the backup is {place}",
            where=str(address),
            hint=f"bring it back with: {how_to_restore(address, place)}",
        ) from wrong
    talk.said(f"migrated: the schema is at revision {mlflow.head}")


def _migrate(address: Address, home: Path, talk: Talk) -> None:
    do_errand("mlflow.upgrade", {"database": address.for_sqlalchemy}, address, home, talk)


def _check_done(address: Address, mlflow: Installed) -> None:
    found = look(address)
    if found.revision != mlflow.head:
        raise Failed(f"it is at revision {found.revision or 'none'} now", where=str(address))


def do_errand(
    name: str,
    order: Mapping[str, Any],
    address: Address,
    home: Path,
    talk: Talk,
    folders: Sequence[str] = (),
) -> Mapping[str, Any]:
    """Have ``crew/<name>`` work on the database while no hub runs; its progress is told as it comes.

    ``folders`` are whole paths that it writes in, beside the home and the database's folder.
    """
    (home / "scratch").mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=home / "scratch") as work:
        return _done(name, order, _wall(Path(work), address, home, folders), home, talk)


def _wall(work: Path, address: Address, home: Path, folders: Sequence[str]) -> Wall:
    writable = (str(home), *folders, *((str(address.file.parent),) if address.file else ()))
    return Wall(
        workdir=str(work),
        writable=writable,
        env=_environment(work),
        cpu_seconds=0,  # metrics in the hundreds of millions take as long as they take
        memory_mib=MEMORY_MIB,
        file_mib=FILE_MIB,
        network=True,  # a server may be anywhere
    )


def _done(name: str, order: Mapping[str, Any], wall: Wall, home: Path, talk: Talk) -> Mapping[str, Any]:
    told = _Told(talk.said)

    async def go() -> Mapping[str, Any]:
        sandbox: Sandbox = open_tile("sandbox", "process", Place(home))
        try:
            return await run_errand(sandbox, name, order, wall, told)
        finally:
            await sandbox.close()

    return asyncio.run(go())


def _environment(work: Path) -> dict[str, str]:
    """What an errand of ours sees: how a database or an object store is reached, and no more of the hub's."""
    kept = {k: v for k, v in os.environ.items() if k.startswith(("PG", "AWS_", "MLFLOW_S3_"))}
    home = {"HOME": os.environ.get("HOME", str(work)), "TMPDIR": str(work)}
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **home, **kept}


class _Told:
    """Progress as lines: one whenever another tenth is done."""

    def __init__(self, said: Callable[[str], None]) -> None:
        self._said = said
        self._tenth = -1

    def __call__(self, share: float, text: str) -> None:
        if int(share * 10) > self._tenth:
            self._tenth = int(share * 10)
            self._said(f"  {share:4.0%}  {text}")
