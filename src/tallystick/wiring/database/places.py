"""Where a database says that artifacts are, as far as that is on this machine and not the hub's own."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tallystick.wiring.database.address import Address
from tallystick.wiring.database.schema import TIMEOUT_S, connected

__all__ = ["folders_outside"]

_SHOWN_MAX = 5
_LOCATIONS = (
    "select distinct artifact_location from experiments where artifact_location not like 'mlflow-artifacts:%'"
)


def folders_outside(address: Address, known: Sequence[Path]) -> list[Path]:
    """Folders below which experiments keep artifacts, without those below ``known``; the first few.

    MLflow's own server opens none of them unless it is told to: anybody may make an experiment whose
    artifacts are at ``/etc``.
    """
    if address.file:
        with contextlib.closing(sqlite3.connect(address.file, timeout=TIMEOUT_S)) as db:
            rows = db.execute(_LOCATIONS).fetchall()
    else:
        with connected(address) as server:
            rows = [tuple(map(str, row)) for row in server.execute(_LOCATIONS).fetchall()]
    paths = {path for row in rows if (path := _path(str(row[0])))}
    # An experiment's own folder bears its number; what they share is the folder above.
    roots = {path.parent if path.name.isdigit() else path for path in paths}
    return sorted(r for r in roots if not any(r.is_relative_to(folder) for folder in known))[:_SHOWN_MAX]


def _path(location: str) -> Path | None:
    scheme, mark, _ = location.partition(":")
    if scheme == "file" and mark:
        return Path(os.path.normpath(unquote(urlsplit(location).path)))
    return Path(os.path.normpath(location)) if location.startswith("/") else None
