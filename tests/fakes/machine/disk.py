"""A file system of a test's own, which can be small, full or read-only."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["make_read_only", "mounted"]


@contextlib.contextmanager
def mounted(place: Path, options: str = "rw") -> Iterator[Path]:
    """One in memory at ``place``, a new folder; ``options`` are mount's. It skips where it may not mount."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def make_read_only(place: Path) -> None:
    """From now on nothing can be written below ``place``, where one is mounted."""
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
