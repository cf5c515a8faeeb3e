"""Opening MLflow's database for one hub: held, looked at, and migrated where that is needed and agreed to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tallystick.core.errors import Conflict
from tallystick.settings import Settings
from tallystick.wiring.database.address import Address, address_of
from tallystick.wiring.database.hold import Hold, hold
from tallystick.wiring.database.places import folders_outside
from tallystick.wiring.database.schema import Found, Installed, Look, installed_mlflow, look
from tallystick.wiring.database.unfinished import set_aside
from tallystick.wiring.database.upgrade import Talk, upgrade

__all__ = ["Database", "open_database"]


@dataclass
class Database:
    """A database that this hub may use, until :meth:`close`. ``address`` bears the password."""

    address: Address
    mlflow: Installed | None
    lock: Hold | None

    def close(self) -> None:
        """Let another hub have it; twice is fine."""
        if self.lock:
            self.lock.close()

    def folders_outside(self, known: Sequence[Path]) -> list[Path]:
        """Where experiments keep artifacts on this machine, outside of the ``known`` folders."""
        there = look(self.address).found is Found.MLFLOW
        return folders_outside(self.address, known) if there else []

    def why_not_native(self) -> str:
        """In plain words, for whoever sees that the native tile is not ready. It looks into the database."""
        found = look(self.address)
        if found.found in (Found.MISSING, Found.EMPTY):
            return "native as soon as MLflow's own server has made the database, at its first use"
        return f"by MLflow's own server: only it knows revision {found.revision} of the schema"


def open_database(settings: Settings, home: Path, talk: Talk) -> Database:
    """The database of ``settings``, ready for use, or not there yet.

    Conflict where another hub holds it, where it is not MLflow's, where MLflow is too old for it, or where
    it must be migrated and nobody agreed. The errors of :func:`look` and :func:`upgrade` as well.
    """
    address = address_of(settings.database, home)
    found = look(address)
    mlflow = installed_mlflow()
    database = Database(address, mlflow, hold(address.file, home) if address.file else None)
    try:
        if not settings.database and _may_be_unfinished(address, found, mlflow):
            found = _begun_anew(address, found, talk)
        _check(address, found, bool(settings.database), talk)
        if mlflow and found.found is Found.MLFLOW and found.revision != mlflow.head:
            _check_known(address, found.revision, mlflow)
            upgrade(address, found.revision, mlflow, home, talk)
    except BaseException:
        database.close()
        raise
    return database


def _may_be_unfinished(address: Address, found: Look, mlflow: Installed | None) -> bool:
    """Whether MLflow may have been killed as it made the home's own database."""
    half = found.found is Found.MLFLOW and mlflow is not None and found.revision != mlflow.head
    return bool(address.file and address.file.name == "mlflow.db") and (found.found is Found.UNMARKED or half)


def _begun_anew(address: Address, found: Look, talk: Talk) -> Look:
    place = set_aside(address.file) if address.file else None
    if place is None:
        return found
    what = "MLflow's database was unfinished when its hub was killed"
    talk.said(f"{what}: it is made anew, and what there was is {place.name}")
    return look(address)


def _check(address: Address, found: Look, named: bool, talk: Talk) -> None:
    """Conflict for tables that MLflow must not be let at; a file that is not there is only said."""
    if found.found is Found.FOREIGN:
        raise Conflict(
            f"it is not MLflow's: it holds other tables ({', '.join(found.tables)})",
            where=str(address),
            hint="name MLflow's database, or one that is empty or not there yet",
        )
    if found.found is Found.UNMARKED:
        raise Conflict(
            "it holds MLflow's tables without a revision of their schema: MLflow before 1.0, or broken off",
            where=str(address),
            hint="migrate it with MLflow 2: mlflow db upgrade URL",
        )
    if found.found is Found.MISSING and named:
        talk.said(f"There is no database at {address} yet: it is made when it is first needed.")


def _check_known(address: Address, revision: str, mlflow: Installed) -> None:
    if revision not in mlflow.revisions:
        raise Conflict(
            f"its schema is revision {revision}, which MLflow {mlflow.version} does not know:"
            " a newer MLflow made it",
            where=str(address),
            hint="pip install -U mlflow",
        )
