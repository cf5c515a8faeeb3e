"""What may stand in a word's place: its misspellings, and what can be done to it as a whole.

Misspellings are those of DeepWordBug (Gao et al. 2018) and TextBugger (Li et al. 2019): two neighbours
swapped, a letter left out, doubled, put in or mistyped for the key beside it; a letter or digit that looks
like it (Boucher et al. 2022); and the whole word in capitals or without. What is allowed at all, such as that
the first letter stays, is the domain's to say (:mod:`tallystick.evidence.wording`), and which words may be
changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from tallystick.evidence.wording import KEYS_BESIDE, LETTERS_MIN, Wording, parted

__all__ = ["Moves"]

MISSPELT_MAX = 32
"""Misspellings of one word that are tried, a seeded choice of them."""

LOOK_ALIKES: Mapping[str, str] = {
    "a": "\u04304", "c": "\u0441", "e": "\u04353", "h": "\u04bb", "i": "\u04561", "j": "\u0458", "l": "1",
    "o": "\u043e0", "p": "\u0440", "s": "\u04555", "x": "\u0445", "y": "\u0443",
}  # fmt: skip
"""Cyrillic letters that look like Latin ones, and digits that are read as them."""


class Moves:
    """``characters`` and ``words`` say which kinds there are."""

    def __init__(self, wording: Wording, *, characters: bool, words: bool) -> None:
        self.wording, self.characters, self.words = wording, characters, words

    def of(self, word: str, draw: np.random.Generator) -> tuple[str, ...]:
        """All that may stand for ``word``, once each; empty where nothing may. One may be the empty text."""
        if not self.wording.changeable(word):
            return ()
        whole = self._whole(word) if self.words else ()
        spelt = self.misspelt(word, word, draw) if self.characters else ()
        return tuple(dict.fromkeys((*whole, *spelt)))

    def misspelt(self, origin: str, word: str, draw: np.random.Generator) -> tuple[str, ...]:
        """What one more misspelling makes of ``word``, and may stand for ``origin``."""
        before, core, after = parted(word)
        if self.wording.domain.chars_max < 1 or len(core) < LETTERS_MIN:
            return ()
        found = list(dict.fromkeys(before + made + after for made in _spelt(core)))
        some = [found[at] for at in draw.permutation(len(found))[: 2 * MISSPELT_MAX]]
        return tuple(made for made in some if self.wording.misspells(origin, made))[:MISSPELT_MAX]

    def _whole(self, word: str) -> Iterator[str]:
        kinds = self.wording.domain.word_edits
        if "drop" in kinds:
            yield ""
        if "repeat" in kinds:
            yield f"{word} {word}"
        before, core, after = parted(word)
        for other in self.wording.others(word):
            yield before + _cased(other, core) + after


def _spelt(core: str) -> Iterator[str]:
    """Every word that one edit of a letter makes of ``core``, but of its first."""
    for at in range(1, len(core)):
        letter, left, right = core[at], core[:at], core[at + 1 :]
        yield left + right
        yield left + letter + letter + right
        if right:
            yield left + right[0] + letter + right[1:]
        for other in LOOK_ALIKES.get(letter.lower(), ""):
            yield left + other + right
        for other in KEYS_BESIDE.get(letter.lower(), ""):
            near = other.upper() if letter.isupper() else other
            yield left + near + right
            yield left + letter + near + right
    yield core.upper()
    yield core.lower()


def _cased(word: str, like: str) -> str:
    """In the case of letters that ``like`` has."""
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word
