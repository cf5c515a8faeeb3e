"""Artifacts, from and to this machine: what somebody calls one on a command line, files sent, files got."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tallystick.core.data import ARTIFACT_URI, RUN_URI, TABLE_URI, TableRef
from tallystick.core.errors import BadInput, Conflict, Damaged, Unavailable
from tallystick.core.names import check_digest
from tallystick.terminal.client import Hub
from tallystick.terminal.context import check_file

__all__ = [
    "check_new",
    "get_artifact",
    "given_inputs",
    "new_place",
    "put_artifact",
    "uri_of",
    "write_artifact",
]

Progress = Callable[[int], None]
_HERE = ("./", "../", "/", "~", "file:")
"""How a name begins that means a file or folder of this machine."""


def given_inputs(hub: Hub, inputs: Mapping[str, str], params: Mapping[str, str]) -> dict[str, str]:
    """The parameters with a URI for each input artifact; BadInput for one that is said in both ways."""
    for name in inputs:
        if name in params:
            raise BadInput(f"{name!r} is said twice", where="--input", hint="leave out -p, or --input")
    return {**params, **{name: uri_of(hub, said) for name, said in inputs.items()}}


def uri_of(hub: Hub, said: str) -> str:
    """The URI of what somebody calls an artifact. A file or folder of this machine is sent to the hub first.

    ``./FILE``, ``sha256:...``, ``RUN/OUTPUT``, ``RUN/STEP/OUTPUT``, ``TABLE``, ``TABLE@SNAPSHOT``, or a URI.
    What it means never depends on what happens to lie in the folder.
    """
    if said.startswith("tally://"):
        return said
    if said.startswith("sha256:"):
        return ARTIFACT_URI + check_digest(said)
    if said in (".", "..", "~") or said.startswith(_HERE):
        return str(put_artifact(hub, Path(said.removeprefix("file://").removeprefix("file:")))["uri"])
    if "/" in said:
        return RUN_URI + said
    try:
        return f"{TABLE_URI}{TableRef.parse(said)}"
    except BadInput as wrong:
        hint = "a table, RUN/OUTPUT, RUN/STEP/OUTPUT, a digest, or a file as ./FILE"
        raise BadInput(f"{said[:200]!r} is no artifact", where="--input", hint=hint) from wrong


# ------------------------------------------------------------------------------------------------ to the hub


def put_artifact(hub: Hub, path: Path, progress: Progress = lambda _: None) -> Mapping[str, Any]:
    """Have a file or folder kept: its ``digest`` and ``uri``. BadInput for links and whatever else it is."""
    path = path.expanduser()
    if not path.is_dir():
        return dict(hub.keep(check_file(path), progress))
    with tempfile.TemporaryDirectory(prefix="tally-") as temp:
        file = Path(temp, "it.tar")
        try:
            form = tarfile.USTAR_FORMAT
            with tarfile.open(file, "w", format=form, encoding="utf-8", errors="strict") as tar:
                _pack(tar, path)
        except OSError as wrong:
            raise Unavailable(f"cannot be read: {wrong.strerror or wrong}", where=str(path)) from wrong
        return dict(hub.keep(file, progress, is_folder=True))


def _pack(tar: tarfile.TarFile, folder: Path) -> None:
    for name, path in [("it", folder), *_below(folder, "it")]:
        info, status = tarfile.TarInfo(name), path.lstat()
        try:
            if stat.S_ISREG(status.st_mode):
                with path.open("rb") as source:
                    info.size = os.fstat(source.fileno()).st_size
                    tar.addfile(info, source)
            elif path.is_dir() and (path == folder or not path.is_symlink()):
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                raise BadInput("is neither a file nor a folder", where=str(path), hint="leave links out")
        except ValueError as wrong:  # what the format cannot say: a name of over 255 bytes, half a character
            raise BadInput(f"cannot be sent: {wrong}", where=str(path)) from wrong


def _below(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        yield f"{name}/{path.name}", path
        if path.is_dir() and not path.is_symlink():
            yield from _below(path, f"{name}/{path.name}")


# ---------------------------------------------------------------------------------------------- from the hub


def get_artifact(hub: Hub, said: str, dest: Path, progress: Progress = lambda _: None) -> Mapping[str, Any]:
    """Write an artifact to ``dest``, which must not exist: whole or not at all. What the hub knows of it."""
    check_new(dest, "file or folder")
    found: Mapping[str, Any] = hub.get("/artifacts", at=uri_of(hub, said))
    with new_place(dest) as temp:
        write_artifact(hub, str(found["digest"]), temp, dest, progress)
    return found


def check_new(dest: Path, kind: str) -> None:
    """Conflict where something is at ``dest``, which is to be a new ``kind``."""
    if dest.exists() or dest.is_symlink():
        raise Conflict("it exists already", where=str(dest), hint=f"name a new {kind}")


@contextmanager
def new_place(dest: Path) -> Iterator[Path]:
    """A folder that is gone afterwards, on the disk of ``dest``; Unavailable where that cannot be written."""
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tally-", dir=dest.parent) as temp:
            yield Path(temp)
    except OSError as wrong:
        raise Unavailable(f"cannot be written: {wrong.strerror}", where=str(dest)) from wrong


def write_artifact(hub: Hub, digest: str, temp: Path, dest: Path, progress: Progress) -> None:
    """Fetch one, which comes as a tar with one entry, ``it``; ``temp`` lies on the same disk as ``dest``."""
    file, out = temp / "it.tar", temp / "out"
    hub.fetch(digest, file, progress)
    try:
        with tarfile.open(file, "r:") as tar:
            for entry in tar:
                if not (entry.isreg() or entry.isdir()) or entry.name.partition("/")[0] != "it":
                    raise Damaged("the hub sent something else than files", where=dest.name)
                tar.extract(entry, out, filter="data")
    except tarfile.TarError as wrong:
        raise Damaged(f"what the hub sent cannot be read: {wrong}", where=dest.name) from wrong
    (out / "it").rename(dest)
    file.unlink()
    shutil.rmtree(out)
