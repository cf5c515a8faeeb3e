"""The packages of an environment, taken up by a process that was forked without any of them."""

from __future__ import annotations

import os
import sys

__all__ = ["take_up"]


def take_up(runtime: str, program: str) -> None:
    """Do what ``program``, an environment's Python, does at its start about installed packages.

    ``runtime`` comes last on the path then. Modules of it that the environment brings as well are forgotten:
    its own win.
    """
    import site

    sys.executable = program  # by which `site` finds the environment
    there = set(sys.path)
    sys.path[:] = [path for path in sys.path if path != runtime]
    site.main()
    own = [path for path in sys.path if path not in there and path != runtime]
    for name in os.listdir(runtime):  # noqa: PTH208  a few microseconds of each step
        if name != "tallystick" and any(os.path.exists(f"{path}/{name}") for path in own):  # noqa: PTH110
            for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                del sys.modules[module]
