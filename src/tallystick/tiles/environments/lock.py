"""A lock: each package at one version, each file by its hash; and where locks are kept."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from tallystick.core.errors import NotSupported
from tallystick.core.names import digest_of
from tallystick.core.values import Environment
from tallystick.tiles.environments.machine import PLATFORM, PYTHON

__all__ = ["Locks", "environment_of", "packages_of"]

LOCK_BYTES_MAX = 4 * 1024 * 1024
_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)"
    r"(?: --hash=sha256:[0-9a-f]{64})+"
)


def packages_of(lock: str) -> dict[str, str]:
    """The packages of a lock with their versions; NotSupported for any line that is not of a lock.

    A lock may come from somebody else, with a run to be done again: an option in it must not reach uv.
    """
    found: dict[str, str] = {}
    lines = (" ".join(line.split()) for line in lock.splitlines())
    for line in filter(None, lines):
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise NotSupported(
                f"a lock cannot hold {line[:100]!r}", hint="it holds name==version and hashes alone"
            )
        found[canonicalize_name(parts["name"])] = parts["version"]
    return found


def environment_of(lock: str) -> Environment:
    """The environment that a lock makes on this machine."""
    return Environment(PYTHON, PLATFORM, packages_of(lock), lock)


class Locks:
    """Locks by what they were resolved from, as files in ``folder``; ``age_s``: how old at most, 0 is any."""

    def __init__(self, folder: Path, age_s: int) -> None:
        self._folder = folder
        self._age_s = age_s

    def key(self, requirements: Sequence[str], options: Sequence[str]) -> str:
        """The name of a file: what decides a resolution."""
        asked = [list(requirements), list(options), PYTHON, PLATFORM]
        return digest_of(asked).removeprefix("sha256:")

    def find(self, key: str) -> Environment | None:
        """The lock that was kept, where it can be read and is young enough."""
        try:
            raw = (self._folder / f"{key}.json").read_bytes()
            kept = json.loads(raw)
            if self._age_s and time.time() - float(kept["made_s"]) > self._age_s:
                return None
            return environment_of(str(kept["lock"]))
        except (OSError, ValueError, KeyError, TypeError, NotSupported):
            return None

    def keep(self, key: str, requirements: Sequence[str], lock: str) -> None:
        """Keep a lock, whole or not at all."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = {"requirements": list(requirements), "made_s": int(time.time()), "lock": lock}
        aside = self._folder / f".{key}.{os.getpid()}"
        aside.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        aside.replace(self._folder / f"{key}.json")
