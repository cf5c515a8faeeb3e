"""A model's files to MLflow's artifacts and back."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path, PurePosixPath

from tallystick.core.errors import BadInput, Conflict, NotFound, NotSupported, Refused, TooLarge
from tallystick.tiles.registry.rest import Rest

__all__ = ["DEPTH_MAX", "FILES_MAX", "MODEL_BYTES_MAX", "files_of", "pull", "push", "within_artifacts"]

FILES_MAX = 10_000
DEPTH_MAX = 32
MODEL_BYTES_MAX = 64 * 1024**3
_NOT_IN_NAMES = "%#;\\"
"""MLflow refuses these in a path, or, worse, decodes them to another name."""
_SCHEME = "mlflow-artifacts:"


def within_artifacts(uri: str) -> str:
    """The path below the hub's own artifacts that ``uri`` names; NotSupported for files kept elsewhere."""
    rest = uri.removeprefix(_SCHEME)
    elsewhere = rest.startswith("//") and not rest.startswith("///")  # another host's
    path = rest.strip("/")
    if not uri.startswith(_SCHEME) or elsewhere:
        raise NotSupported(
            f"the files are kept at {uri[:200]}, not among the hub's artifacts",
            where="registry",
            hint="log the model again through the hub",
        )
    for part in PurePosixPath(path).parts:
        _check_part(part, path)
    return path


def files_of(folder: Path) -> Sequence[tuple[Path, str]]:
    """All files below ``folder`` with their relative paths; BadInput for links, special files, or none."""
    found: list[tuple[Path, str]] = []
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise BadInput("a model's files are plain files and folders", where=str(path))
            if any(mark in name for mark in _NOT_IN_NAMES) or not name.isprintable():
                raise BadInput(f"MLflow cannot keep a file of this name: {name[:100]!r}", where=str(folder))
            if stat.S_ISREG(mode):
                found.append((path, path.relative_to(folder).as_posix()))
    if not found:
        raise BadInput("there are no files", where=str(folder))
    if len(found) > FILES_MAX:
        raise TooLarge(f"a model has at most {FILES_MAX} files", where=str(folder))
    return sorted(found, key=lambda pair: pair[1])


async def push(rest: Rest, files: Sequence[tuple[Path, str]], uri: str) -> None:
    """Upload ``files`` below ``uri``."""
    root = within_artifacts(uri)
    for source, name in files:
        await rest.upload(source, f"{root}/{name}")


async def pull(rest: Rest, uri: str, dest: Path, size_bytes_max: int = MODEL_BYTES_MAX) -> None:
    """Download all files below ``uri`` into ``dest``, which must not exist; all of it or nothing.

    Refused for a name in the listing that leads elsewhere, TooLarge over the limits, NotFound when
    there are no files.
    """
    root = within_artifacts(uri)
    if await asyncio.to_thread(os.path.lexists, dest):
        raise Conflict("it exists already", where=str(dest))
    part = dest.with_name(f".{dest.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700, parents=True)
    try:
        left, count = size_bytes_max, 0
        async for name in _walk(rest, root, "", 0):
            count += 1
            if count > FILES_MAX:
                raise TooLarge(f"a model has at most {FILES_MAX} files", where=root)
            target = part / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            left -= await rest.download(f"{root}/{name}", target, left)
        if not count:
            raise NotFound("it has no files", where=f"MLflow, {uri}")
        part.rename(dest)
    finally:
        shutil.rmtree(part, ignore_errors=True)


async def _walk(rest: Rest, root: str, below: str, depth: int) -> AsyncIterator[str]:
    if depth > DEPTH_MAX:
        raise TooLarge(f"folders are nested more than {DEPTH_MAX} deep", where=root)
    for entry in await rest.files(f"{root}/{below}".rstrip("/")):
        name = str(entry["path"])
        _check_part(name, root)
        path = f"{below}/{name}" if below else name
        if entry.get("is_dir"):
            async for deeper in _walk(rest, root, path, depth + 1):
                yield deeper
        else:
            yield path


def _check_part(part: str, where: str) -> None:
    """Refuse a name that is not one plain name in one folder."""
    if part in ("", ".", "..") or len(part.encode()) > 255:
        raise Refused(f"{part[:100]!r} is not a file name", where=f"MLflow, {where[:200]}")
    if any(mark in part for mark in "/\\\0") or any(ord(ch) < 32 for ch in part):
        raise Refused(f"{part[:100]!r} leads out of its folder", where=f"MLflow, {where[:200]}")
