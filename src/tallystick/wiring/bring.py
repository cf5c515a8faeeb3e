"""``tally import``: an old file store of MLflow's becomes part of a hub's record, while that hub rests."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tallystick.core.errors import Conflict, MissingTile
from tallystick.settings import Settings
from tallystick.wiring.database.opened import open_database
from tallystick.wiring.database.upgrade import Talk, do_errand
from tallystick.wiring.home import Home, open_home
from tallystick.wiring.mlflow import store_of

__all__ = ["bring"]


def bring(settings: Settings, folder: Path, talk: Talk) -> Mapping[str, Any]:
    """Import file store ``folder``: counts ``brought`` and ``there``, and ``notes`` in plain words.

    Conflict while a hub runs on the home or uses the database, BadInput where ``folder`` is no file store.
    """
    os.umask(0o077)
    with (
        contextlib.closing(_home(settings)) as home,
        contextlib.closing(open_database(settings, home.path, talk)) as database,
        tempfile.TemporaryDirectory(prefix="import-", dir=home.path / "scratch") as scratch,
    ):
        if database.mlflow is None:
            raise MissingTile(
                "MLflow reads the folder, and is not installed",
                where=str(folder),
                hint="pip install 'tallystick[mlflow]'",
            )
        store = store_of(settings.artifact_store) or str(home.path / "mlartifacts")
        order = {
            "folder": str(folder),
            "database": database.address.for_sqlalchemy,
            "artifacts": store,
            "scratch": scratch,
        }
        folders = () if "://" in store else (store,)
        return do_errand("mlflow.bring", order, database.address, home.path, talk, folders)


def _home(settings: Settings) -> Home:
    try:
        return open_home(Path(settings.home))
    except Conflict as wrong:
        if "another hub runs" not in wrong.what:
            raise
        raise Conflict(wrong.what, where=wrong.where, hint="end it, import, then start it again") from wrong
