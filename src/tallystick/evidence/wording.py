"""Words of a text: how it is cut, what may be done to which of them, and how many were changed.

Words are what white space separates, their core is what is left without the punctuation around it. An edit is
of one word, and of these kinds:

- a misspelling: up to ``chars_max`` characters of its core swapped with their neighbour, left out, put in
  or replaced (Damerau 1964), in any case of letters. The first letter stays and the core has at least four,
  as people read on (Rawlinson 1976; Pruthi et al. 2019); what comes of it is no other word of the rows, and
  none of those that stay.
- ``drop`` and ``repeat``: the word is left out, or said twice.
- ``inflect``: another form of it that the rows have, as "loved" for "loves" (Tan et al. 2020). Forms are
  words that are the same without an English ending, found by a few rules, as Porter (1980) has more of.
- ``synonym``: another word of a group that the policy gives.

Words that carry the grammar or a negation stay (the stop words of Jin et al. 2020), as do those with a digit
in them, and what the policy calls immutable: so that a person would still say the same of the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tallystick.evidence.domain import Domain

__all__ = ["KEYS_BESIDE", "LETTERS_MIN", "STOP_WORDS", "Text", "Wording", "parted", "swaps"]

LETTERS_MIN = 4
"""A word of fewer letters is not misspelt: it would hardly be known again."""

LETTERS_MAX = 64
"""What is longer (an address, or a language without spaces) is no word that edits of words fit."""

VOCABULARY_TEXTS = 20_000
"""So many of the rows, in their order, say which words there are."""

_STOP_WORDS = """
a about above after again against ain all almost also although am an and any are aren as at be because
been before being below between both but by can cannot could couldn d did didn do does doesn doing don
down during each either ever every few for from further had hadn has hasn have haven having he hence her
here hers herself him himself his how however i if in into is isn it its itself just least ll m ma may me
might mightn more most much must mustn my myself needn neither never no nobody none nor not nothing now
nowhere o of off on once one only or other our ours ourselves out over own per quite rather re s same
shan she should shouldn since so some such t than that the their theirs them themselves then there these
they this those though through thus to too under unless until up upon ve very was wasn we were weren what
when where whether which while who whom whose why will with within without won would wouldn y yet you
your yours yourself yourselves aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't
mightn't mustn't needn't shan't shouldn't wasn't weren't won't wouldn't hardly barely scarcely less fewer us
aint arent cant couldnt didnt doesnt dont hadnt hasnt havent isnt mustnt neednt shouldnt wasnt werent wont
wouldnt
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""English words that carry the grammar of a sentence, or turn what it says."""

KEYS_BESIDE: Mapping[str, str] = {
    "q": "wa", "w": "qes", "e": "wrd", "r": "etf", "t": "ryg", "y": "tuh", "u": "yij", "i": "uok", "o": "ipl",
    "p": "ol", "a": "qsz", "s": "adw", "d": "sfe", "f": "dgr", "g": "fht", "h": "gjy", "j": "hku", "k": "jli",
    "l": "ko", "z": "xa", "x": "zcs", "c": "xvd", "v": "cbf", "b": "vng", "n": "bmh", "m": "nj",
}  # fmt: skip
"""Keys that stand beside each other, on the keyboard that most texts are typed on."""

_VOWEL = re.compile(r"[aeiouy]")
_ENDINGS = (("ings", ""), ("ing", ""), ("ies", "y"), ("ied", "y"), ("ed", ""), ("es", ""), ("s", ""))
_STEM_MIN = 3


@dataclass(frozen=True, slots=True)
class Text:
    """A text cut into ``words``: before the first of them is ``lead``, after each its of the ``gaps``."""

    lead: str
    words: tuple[str, ...]
    gaps: tuple[str, ...]

    @classmethod
    def cut(cls, text: str) -> Text:
        """Nothing is lost: ``Text.cut(text).joined(words)`` of its own words is the text."""
        lead = text[: len(text) - len(text.lstrip())]
        pieces = re.split(r"(\s+)", text[len(lead) :])
        words, gaps = pieces[::2], pieces[1::2]
        if words and not words[-1]:
            words = words[:-1]
        gaps = [*gaps, ""][: len(words)]
        return cls(lead, tuple(words), tuple(gaps))

    def joined(self, words: Sequence[str]) -> str:
        """With these words in the places of its own; where one is empty, the gap after it goes too."""
        pairs = zip(words, self.gaps, strict=True)
        return self.lead + "".join(word + gap for word, gap in pairs if word)


def parted(word: str) -> tuple[str, str, str]:
    """Punctuation before it, its core, and punctuation after it; in time by its length, however odd it is."""
    start, end = 0, len(word)
    while start < end and not _of_core(word[start]):
        start += 1
    while end > start and not _of_core(word[end - 1]):
        end -= 1
    return word[:start], word[start:end], word[end:]


def _of_core(character: str) -> bool:
    return character.isalnum() or character == "_"


def swaps(one: str, other: str, most: int) -> int:
    """How many characters are swapped with their neighbour, left out, put in or replaced; ``most + 1`` where
    it is more than ``most``. The restricted distance: no piece is changed twice.
    """
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            least = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                least = min(least, before[j - 2] + 1)
            row.append(least)
        before, last = last, row
    return min(last[-1], most + 1)


def _apart(old: list[str], new: list[str], beside: int) -> tuple[list[str], list[str]]:
    """Both without what is the same at their beginning and their end, but for so many words ``beside`` it:
    as many as repetitions could shift.
    """
    pairs = zip(old, new, strict=False)
    first = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(old), len(new)))
    start = max(0, first - beside)
    old, new = old[start:], new[start:]
    ends = zip(reversed(old), reversed(new), strict=False)
    last = next((at for at, (a, b) in enumerate(ends) if a != b), min(len(old), len(new)))
    cut = max(0, last - beside)
    return old[: len(old) - cut], new[: len(new) - cut]


def _stem(word: str) -> str:
    """Without an ending that English puts to a word for number, person or tense."""
    for ending, instead in _ENDINGS:
        stem = word.removesuffix(ending)
        if stem == word or (ending == "s" and stem.endswith(("s", "u", "i"))):
            continue
        if len(stem) >= _STEM_MIN and _VOWEL.search(stem):
            doubled = ending in ("ing", "ings", "ed") and len(stem) > _STEM_MIN and stem[-1] == stem[-2]
            stem = stem[:-1] if doubled and stem[-1] not in "lsz" else stem + instead
            return stem.removesuffix("e")
    return word.removesuffix("e") if len(word) > _STEM_MIN else word


@dataclass(frozen=True)
class Wording:
    """What may be done to the words of texts of one domain.

    ``words`` are all that the rows have, in small letters and without punctuation; ``forms`` those of one
    stem, ``alike`` the other words of a word's synonyms.
    """

    domain: Domain
    words: frozenset[str] = frozenset()
    still: frozenset[str] = STOP_WORDS
    forms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    alike: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, domain: Domain, texts: Iterable[str]) -> Wording:
        """Of rows, which say which words there are."""
        raw: set[str] = set()
        for _, text in zip(range(VOCABULARY_TEXTS), texts, strict=False):
            raw.update(text.split())
        words = frozenset(core for word in raw if (core := parted(word)[1].casefold()))
        forms: dict[str, list[str]] = {}
        for word in sorted(words):
            forms.setdefault(_stem(word), []).append(word)
        alike: dict[str, set[str]] = {}
        for group in domain.synonyms:
            for word in group:
                alike.setdefault(word.casefold(), set()).update(other.casefold() for other in group)
        return cls(
            domain,
            words,
            STOP_WORDS | {word.casefold() for word in domain.immutable},
            {stem: tuple(found) for stem, found in forms.items() if len(found) > 1},
            {word: tuple(sorted(found - {word})) for word, found in alike.items()},
        )

    def limit(self, words: int) -> int:
        """How many words of a text of so many may be changed: their share, but always one."""
        return max(1, math.floor(self.domain.share_max * words + 1e-9))

    def changeable(self, word: str) -> bool:
        """Whether anything may be done to it."""
        core = parted(word)[1].casefold().replace("\u2019", "'")
        plain = 0 < len(core) <= LETTERS_MAX and not any(c.isdigit() for c in core)
        return plain and any(c.isalpha() for c in core) and core not in self.still

    def others(self, word: str) -> tuple[str, ...]:
        """The cores, in small letters, that may stand for a word's: its other forms and its synonyms."""
        core = parted(word)[1].casefold()
        found: list[str] = []
        if "inflect" in self.domain.word_edits:
            found += self.forms.get(_stem(core), ())
        if "synonym" in self.domain.word_edits:
            found += self.alike.get(core, ())
        return tuple(other for other in dict.fromkeys(found) if other != core and other not in self.still)

    def misspells(self, old: str, new: str) -> bool:
        """Whether ``new`` is a misspelling of ``old`` that is allowed."""
        before, after = parted(old), parted(new)
        if not self.changeable(old) or old == new or (before[0], before[2]) != (after[0], after[2]):
            return False
        one, other = before[1].casefold(), after[1].casefold()
        if len(one) < LETTERS_MIN or not other or one[0] != other[0]:
            return False
        apart = swaps(one, other, self.domain.chars_max)
        known = other in self.words or other.replace("\u2019", "'") in self.still
        return apart <= self.domain.chars_max and (apart == 0 or not known)

    def replaces(self, old: str, new: str) -> bool:
        """Whether ``new`` is another form of ``old``, or means the same."""
        before, after = parted(old), parted(new)
        around = (before[0], before[2]) == (after[0], after[2])
        return around and self.changeable(old) and after[1].casefold() in self.others(old)

    def edits(self, before: str, after: str, most: int) -> float:
        """How many words were changed from ``before`` to ``after``; infinity where it takes more than
        ``most`` of them, or an edit that is not allowed, or nothing was changed or is left.
        """
        old, new = before.split(), after.split()
        if old == new or not new:
            return math.inf
        most = min(most, self.limit(len(old)))
        return self._aligned(*_apart(old, new, most + 1), most) or math.inf

    def _aligned(self, old: Sequence[str], new: Sequence[str], most: int) -> float:
        """The least number of edits by which ``old`` becomes ``new``, along a band of alignments.

        Of a row only the band is kept, and where all of it is beyond ``most``, nothing better follows.
        """
        if abs(len(old) - len(new)) > most:
            return math.inf
        row = {0: 0.0}
        for j in range(1, min(most, len(new)) + 1):
            row[j] = row[j - 1] + self._repeated(new, j)
        for i, word in enumerate(old, 1):
            last, row = row, {}
            dropped = 1.0 if "drop" in self.domain.word_edits and self.changeable(word) else math.inf
            for j in range(max(0, i - most), min(len(new), i + most) + 1):
                row[j] = last.get(j, math.inf) + dropped
                if j:
                    row[j] = min(row[j], last.get(j - 1, math.inf) + self._changed(word, new[j - 1]))
                    row[j] = min(row[j], row.get(j - 1, math.inf) + self._repeated(new, j))
            if min(row.values(), default=math.inf) > most:
                return math.inf
        return row[len(new)] if row[len(new)] <= most else math.inf

    def _changed(self, old: str, new: str) -> float:
        if old == new:
            return 0.0
        return 1.0 if self.misspells(old, new) or self.replaces(old, new) else math.inf

    def _repeated(self, new: Sequence[str], j: int) -> float:
        """What the ``j``-th word of ``new`` costs as a repetition of the one before it."""
        able = "repeat" in self.domain.word_edits and j > 1 and new[j - 1] == new[j - 2]
        return 1.0 if able and self.changeable(new[j - 1]) else math.inf
