"""The Python that a step runs on: the hub's own, or that of an environment."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import tallystick
from tallystick.ports.runs.bases import PROGRAMS
from tallystick.ports.runs.environments import Built

__all__ = ["HUB", "Python", "usual_env"]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_PACKAGE_HOME = Path(tallystick.__file__).parents[1]
_FOUND_ALREADY = _PACKAGE_HOME.is_relative_to(sys.prefix) or _PACKAGE_HOME.is_relative_to(sys.base_prefix)


@dataclass(frozen=True, slots=True)
class Python:
    """``program`` is the interpreter. Off the hub's own, ``runtime`` is the folder that comes last on its
    path, and ``shown`` are the paths that its wall must show; they stay while anybody refers to ``hold``.
    """

    program: str
    runtime: str = ""
    shown: tuple[str, ...] = ()
    hold: object = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, built: Built | None) -> Python:
        """That of an environment; the hub's own for none."""
        if built is None:
            return HUB
        shown = tuple(str(path) for path in built.shown)
        return cls(str(built.python), str(built.runtime), shown, built.hold)

    def path(self, more: str = "") -> dict[str, str]:
        """PYTHONPATH with this package first, where the hub's Python would not find it by itself.

        An environment's finds it through a file among its packages.
        """
        own = [] if _FOUND_ALREADY or self.runtime else [str(_PACKAGE_HOME)]
        paths = [*own, *([more] if more else [])]
        return {"PYTHONPATH": os.pathsep.join(paths)} if paths else {}

    def bare_path(self) -> dict[str, str]:
        """PYTHONPATH of a zygote, which has the runtime alone where it has not the hub's packages."""
        return {"PYTHONPATH": self.runtime} if self.runtime else self.path()


HUB = Python(sys.executable)


def usual_env(python: Python, threads: int) -> dict[str, str]:
    """What every step's environment begins with; ``threads`` for numeric libraries."""
    return {
        "PATH": f"{Path(python.program).parent}:{PROGRAMS}",
        "PYTHONUNBUFFERED": "1",
        "LANG": "C.UTF-8",
        **dict.fromkeys(_THREADS, str(threads)),
    }
