"""Texts: typing errors, letters lost, case and punctuation gone. Strengths are shares of characters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tallystick.evidence.wording import KEYS_BESIDE

__all__ = ["TEXTS"]

SpoilText = Callable[[str, float, np.random.Generator], str]


def _typed_wrong(text: str, share: float, chance: np.random.Generator) -> str:
    hit = chance.random(len(text)) < share
    out = []
    for letter, wrong in zip(text, hit, strict=True):
        near = KEYS_BESIDE.get(letter.lower())
        if wrong and near:
            other = near[int(chance.integers(0, len(near)))]
            out.append(other.upper() if letter.isupper() else other)
        else:
            out.append(letter)
    return "".join(out)


def _dropped(text: str, share: float, chance: np.random.Generator) -> str:
    kept = chance.random(len(text)) >= share
    return "".join(letter for letter, stays in zip(text, kept, strict=True) if stays) or text[:1]


def _swapped(text: str, share: float, chance: np.random.Generator) -> str:
    letters, at = list(text), 0
    hit = chance.random(len(text)) < share
    while at < len(letters) - 1:
        if hit[at]:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
            at += 1
        at += 1
    return "".join(letters)


def _case(text: str, share: float, chance: np.random.Generator) -> str:
    hit = chance.random(len(text)) < share
    return "".join(c.swapcase() if wrong else c for c, wrong in zip(text, hit, strict=True))


def _unpunctuated(text: str, share: float, chance: np.random.Generator) -> str:
    kept = chance.random(len(text)) >= share
    pairs = zip(text, kept, strict=True)
    return "".join(c for c, stays in pairs if stays or c.isalnum() or c.isspace()) or text[:1]


LETTERS = (0.01, 0.03, 0.05, 0.1, 0.15)

TEXTS: Mapping[str, tuple[SpoilText, Sequence[float]]] = {
    "typing errors": (_typed_wrong, LETTERS),
    "lost letters": (_dropped, LETTERS),
    "swapped letters": (_swapped, LETTERS),
    "case": (_case, (0.05, 0.1, 0.25, 0.5, 1.0)),
    "punctuation": (_unpunctuated, (0.2, 0.4, 0.6, 0.8, 1.0)),
}
