"""What a model's files are: said by looking at them, before anything loads them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Advice", "Inspected", "Looked", "Standing"]


class Standing(enum.StrEnum):
    """What may be done with a file."""

    DATA = "data"  # nothing in it can run: it may be loaded
    CODE = (
        "code"  # a pickle of allowed names, or the like: only where a trusted key vouches, and behind a wall
    )
    REFUSED = "refused"  # never loaded, whoever vouches for it


@dataclass(frozen=True, slots=True)
class Looked:
    """One file, or one member of an archive (``weights.pt!data.pkl``), as it was found to be.

    ``kind`` is what its content is (``onnx``, ``safetensors``, ``pickle``, ``json``, ...), whatever its name
    says; ``names`` the globals that a pickle would import; ``why`` a sentence where it is not plain data.
    """

    path: str
    kind: str
    standing: Standing
    digest: str
    size_bytes: int
    why: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Advice:
    """What a scanner that denies by list said: it is shown, and decides nothing."""

    scanner: str
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Inspected:
    """All files of a model. ``advisors`` are the scanners that were asked, with their versions."""

    files: tuple[Looked, ...]
    advice: tuple[Advice, ...] = ()
    advisors: tuple[str, ...] = ()

    @property
    def standing(self) -> Standing:
        """That of the worst file."""
        order = (Standing.REFUSED, Standing.CODE)
        return next((s for s in order if any(f.standing is s for f in self.files)), Standing.DATA)

    @property
    def worst(self) -> tuple[Looked, ...]:
        """The files that are not plain data, the worst first."""
        bad = [f for f in self.files if f.standing is not Standing.DATA]
        return tuple(sorted(bad, key=lambda f: (f.standing is not Standing.REFUSED, f.path)))
