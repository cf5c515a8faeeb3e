"""A hostile model: how it is made, and how a careless reader would load it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CASES", "MARK", "Case", "hostile", "write"]

MARK = "ran"
"""The file that a hostile model makes in the working folder of whoever loads it."""


@dataclass(frozen=True)
class Case:
    """``make`` writes files into an empty folder; ``load`` names the careless reader, or none.

    There is none where what it would take is not installed here, or where the harm is not to run something
    (a bomb, a link, a file outside).
    """

    name: str
    make: Callable[[Path], None]
    load: str = ""
    file: str = "model.pkl"


CASES: dict[str, Case] = {}


def hostile(
    load: str = "", file: str = "model.pkl"
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Add a case that is named like the function which makes it."""

    def add(make: Callable[[Path], None]) -> Callable[[Path], None]:
        name = make.__name__.replace("_", "-")
        assert name not in CASES
        CASES[name] = Case(name, make, load, file)
        return make

    return add


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
