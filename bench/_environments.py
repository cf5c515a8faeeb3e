"""Environments of peers: each in a folder of its own below the user's cache, made once by uv."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["environment"]

INSTALL_S = 900


def environment(name: str, *packages: str) -> Path | str:
    """The programs of the environment, made when it is not there; else the reason why it cannot be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tallystick-bench" / name
    stamp = cache / "installed"
    wanted = "\n".join(packages)
    if stamp.exists() and stamp.read_text() in ("", wanted):
        return cache / "bin"
    uv, python = str(Path(sys.executable).parent / "uv"), str(cache / "bin" / "python")
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(cache)],
        [uv, "pip", "install", "--quiet", "--python", python, *packages],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S)
        except (OSError, subprocess.TimeoutExpired) as wrong:
            return str(wrong)[-300:]
        if done.returncode:
            return done.stderr.strip()[-300:]
    stamp.write_text(wanted)
    return cache / "bin"
