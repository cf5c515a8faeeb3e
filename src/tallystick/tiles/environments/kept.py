"""What is kept of environments, for people: each with its size and last use; and removing some of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tallystick.core.errors import NotSupported
from tallystick.tiles.environments.folders import Folders
from tallystick.tiles.environments.lock import LOCK_BYTES_MAX, packages_of
from tallystick.tiles.environments.room import CACHE, sizes_of, turn_at

__all__ = ["kept_in", "prune"]


def kept_in(folders: Folders) -> list[dict[str, Any]]:
    """The environments, those last used for longest first, and then uv's cache, where there is one.

    Of each ``name``, ``size_bytes`` (what several share is split among them), ``used_ms`` (since 1970; 0 for
    the cache), ``in_use``, ``packages`` by name, and ``wanted``: the requirements that it was resolved from.
    """
    sizes, asked = sizes_of(folders), _asked(folders.root / "locks")
    return [_shown(folders, name, size, asked) for name, size in sizes.items()]


def prune(
    folders: Folders, bytes_max: int | None = None, unused_s: float | None = None, *, dry_run: bool = False
) -> list[str]:
    """Remove what is not in use; the names of what went, or with ``dry_run`` of what would.

    That is each environment that was not used for ``unused_s`` seconds; and uv's cache, and then those that
    were not used for longest, until ``bytes_max`` bytes are taken at most. Who needs one that went has it
    built again. A dry run takes sizes as they are split now: what is shared may make it one more.
    """
    with turn_at(folders):
        gone: list[str] = []
        while went := _pass(folders, bytes_max, unused_s, dry_run):
            gone += went
            if dry_run:
                break
        return gone


def _pass(folders: Folders, bytes_max: int | None, unused_s: float | None, dry_run: bool) -> list[str]:
    """One go; what two share counts for the later one afterwards, so that all is measured again then."""
    sizes, went, now = sizes_of(folders), list[str](), time.time()
    total = sum(sizes.values())
    for name in sorted(sizes, key=lambda name: name != CACHE):  # the cache first, and the others as they are
        old = unused_s is not None and name != CACHE and now - folders.used_at(name) >= unused_s
        if not (old or (bytes_max is not None and total > bytes_max)):
            continue
        if not folders.in_use(name) if dry_run else folders.removed(name):
            total -= sizes[name]
            went.append(name)
    return went


def _asked(locks: Path) -> Mapping[str, list[str]]:
    """By lock, the requirements that it was resolved from."""
    found: dict[str, list[str]] = {}
    for file in sorted(locks.glob("[0-9a-f]*.json")):
        try:
            said = json.loads(file.read_bytes())
            wanted = " ".join(map(str, said["requirements"]))
            found.setdefault(str(said["lock"]), []).append(wanted)
        except (OSError, ValueError, KeyError, TypeError):  # it is resolved anew when somebody asks for it
            continue
    return found


def _shown(folders: Folders, name: str, size: int, asked: Mapping[str, list[str]]) -> dict[str, Any]:
    lock, packages = "", dict[str, str]()
    try:
        with (folders.root / name / "lock.txt").open("rb") as file:  # a package may have put its own there
            lock = file.read(LOCK_BYTES_MAX).decode("utf-8")
        packages = packages_of(lock)
    except (
        OSError,
        UnicodeDecodeError,
        NotSupported,
    ):  # the cache has none; of a broken one the rest is said
        pass
    used_ms = 0 if name == CACHE else int(folders.used_at(name) * 1000)
    return {
        "name": name,
        "size_bytes": size,
        "used_ms": used_ms,
        "in_use": folders.in_use(name),
        "packages": packages,
        "wanted": asked.get(lock, []) if lock else [],
    }
