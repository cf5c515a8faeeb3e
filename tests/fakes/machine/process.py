"""Processes to kill."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

__all__ = ["killed_after"]


def killed_after(lines: int, command: Sequence[str]) -> list[bytes]:
    """What a process said that was killed as soon as it had said so many lines."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        return said + child.stdout.readlines()
