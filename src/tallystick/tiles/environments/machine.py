"""This machine, as an environment names it."""

from __future__ import annotations

import platform
import sys

__all__ = ["PLATFORM", "PYTHON", "minor_of"]

PYTHON = f"{platform.python_implementation()} {platform.python_version()}"
PLATFORM = f"{sys.platform} {platform.machine()}"


def minor_of(python: str) -> str:
    """Without the last number of the version: what wheels are made for."""
    return python.rpartition(".")[0]
