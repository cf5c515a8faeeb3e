"""The artifacts of a file store: which of them come along, where they go, and how their addresses change."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from tallystick.crew.filestore.links import LEFT_OUT, leads_out
from tallystick.crew.filestore.outcome import Outcome

__all__ = ["Addresses", "copy_files", "keep"]

ROOT = "mlflow-artifacts:/"
UNFINISHED = ".artifact.uploading."
"""How names begin of what is still being written: the server removes what a broken import leaves."""


@dataclass
class Addresses:
    """Old addresses and new ones. ``ids`` gives each experiment's number in the database.

    What lies in the file store at ``<experiment>/<...>/artifacts`` goes to the same path below the hub's
    artifacts. What lies elsewhere stays there, under its old address; ``elsewhere`` counts it by its kind.
    """

    mlruns: Path
    ids: dict[int, int]
    moved: dict[str, str] = field(default_factory=dict)
    folders: dict[Path, str] = field(default_factory=dict)
    elsewhere: Counter[str] = field(default_factory=Counter)

    def of(self, uri: str | None, experiment_id: int, *below: str) -> str | None:
        """The new address of what was at ``uri``, and by its place should be ``<experiment>/<below>``."""
        path = _local_path(uri or "")
        if uri is None or path is None:
            if below:
                self.elsewhere[urlsplit(uri or "").scheme or "unknown"] += 1
            return uri
        own = "/".join((str(experiment_id), *below))
        if not f"{path}/".endswith(f"/{own}/"):
            self.elsewhere["folders"] += bool(below)
            return uri
        target = "/".join((str(self.ids[experiment_id]), *below))
        self.moved[str(path)] = f"{ROOT}{target}"
        folder = next((f for f in (self.mlruns / own, self.mlruns / ".trash" / own) if f.is_dir()), None)
        if folder and below:
            self.folders[folder] = target
        return f"{ROOT}{target}"

    def inside(self, uri: str | None) -> str | None:
        """The new address of something inside of what moved, such as a model version's source."""
        path = _local_path(uri or "")
        for parent in (path, *path.parents) if path else ():
            new = self.moved.get(str(parent))
            if new and path:
                rest = path.relative_to(parent).as_posix()
                return new if rest == "." else f"{new}/{rest}"
        return uri


def _local_path(uri: str) -> Path | None:
    """The path that a local address means, as MLflow reads it; None for every other address."""
    from mlflow.utils import file_utils
    from mlflow.utils import uri as uris

    if not uri or not cast(Any, uris.is_local_uri)(uri):
        return None
    return Path(os.path.normpath(cast(Any, file_utils.local_file_uri_to_path)(uri)))


def keep(store: str, folder: Path, target: str, mlruns: Path, outcome: Outcome) -> int:
    """Copy ``folder`` to ``target`` in the artifacts' store, a folder or ``s3://...``; how many files."""
    files = list(_files(folder, mlruns, outcome))
    if "://" not in store:
        return copy_files(files, folder, Path(store, target))
    if files:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        there = cast(Any, get_artifact_repository)(store)
        for file in files:  # one by one, as MLflow does it with a folder
            there.log_artifact(str(file), Path(target, file.relative_to(folder).parent).as_posix())
    return len(files)


def copy_files(files: Iterable[Path], folder: Path, target: Path) -> int:
    """Copy every file that is not there yet with the same size; a name that is there is there whole."""
    copied = 0
    for source in files:
        place = target / source.relative_to(folder)
        if place.is_file() and place.stat().st_size == source.stat().st_size:
            continue
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = place.with_name(f"{UNFINISHED}{os.getpid()}")
        shutil.copyfile(source, part)
        part.replace(place)
        copied += 1
    return copied


def _files(folder: Path, mlruns: Path, outcome: Outcome) -> Iterable[Path]:
    """The files below, links to files of the store among them; all other links are noted and left out."""
    if leads_out(folder, mlruns):
        outcome.note(f"{folder}: {LEFT_OUT}")
        return
    for at, names, files in os.walk(folder):
        for name in names:
            if Path(at, name).is_symlink():
                outcome.note(f"{Path(at, name)}: is a link to a folder, and was left out")
        for name in sorted(files):
            path = Path(at, name)
            if not path.is_file():
                outcome.note(f"{path}: is no file, and was left out")
            elif path.is_symlink() and leads_out(path, mlruns):
                outcome.note(f"{path}: {LEFT_OUT}")
            else:
                yield path
