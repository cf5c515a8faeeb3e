"""Greedy search: again and again the one edit that brings the answer nearest to turning, until it turns.

The first edit is the best of all there are, as far as the queries go. Where they do not reach for all,
words are tried in the order of their importance: by how much the answer weakens where one is left out (Gao et
al. 2018; Li et al. 2019; Jin et al. 2020). Later edits are tried where the first look had seen the most gain,
which is enough where gains add up or diminish (Minoux 1978). A word that is misspelt may be misspelt once
more: that is no further edit. All texts are worked on at once, and those whose answer turned leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from tallystick.tiles.texts.hunt import Hunt, Words
from tallystick.tiles.texts.moves import Moves

__all__ = ["greedy"]

PLACES = 8
"""Places at which the second and later edits are tried, those that gained the most at first."""

EACH = 4
"""Of what may stand in such a place: the best at first."""


@dataclass
class _Walk:
    """One text on its way: the words now, their margin, and by place what had been seen to gain how much.

    ``places`` are those of words that may be changed, and ``first`` the first edits to try, as far as queries
    go: of a long text not all of them are ever made.
    """

    sample: int
    words: Words
    margin: float
    draw: np.random.Generator
    places: list[int]
    first: list[tuple[int, str]] = field(default_factory=list)
    seen: dict[int, list[tuple[float, str]]] = field(default_factory=dict)
    done: bool = False


def greedy(hunt: Hunt, moves: Moves, probe: int, said: Callable[[float, str], None]) -> dict[str, int]:
    """Search; what is found stays in the hunt. Returns counts that the probe says."""
    walks = [_begun(hunt, sample, probe) for sample in hunt.open()]
    long = [walk for walk in walks if not _list_first(hunt, moves, walk)]
    _rank(hunt, long, drops=moves.words and "drop" in hunt.case.domain.word_edits)
    for walk in long:
        _list_first(hunt, moves, walk)
    idle = sum(not walk.first for walk in walks)
    walks = [walk for walk in walks if walk.first]
    depth, deepest = 1, max((hunt.most(walk.sample) for walk in walks), default=0)
    while live := [w for w in walks if not w.done and depth <= hunt.most(w.sample)]:
        said(0.9 * (depth - 1) / deepest, f"edit {depth} of {len(live)} texts")
        _step(hunt, live, depth)
        for _ in range(moves.wording.domain.chars_max - 1 if moves.characters else 0):
            _deeper(hunt, moves, [w for w in live if not w.done])
        depth += 1
    said(0.9, "putting back what is not needed")
    hunt.fewer([walk.sample for walk in walks])
    return {"without_a_word_to_change": idle, "ranked_by_importance": len(long)}


def _begun(hunt: Hunt, sample: int, probe: int) -> _Walk:
    words = hunt.texts[sample].words
    places = [at for at, word in enumerate(words) if hunt.wording.changeable(word)]
    return _Walk(sample, words, float(hunt.margin[sample]), hunt.generator(sample, probe), places)


def _list_first(hunt: Hunt, moves: Moves, walk: _Walk) -> bool:
    """List the first edits to try, place by place in their order; whether there are no more than queries."""
    walk.first, most = [], _allowance(hunt, walk, 1)
    for at in walk.places:
        walk.first += [(at, new) for new in moves.of(walk.words[at], walk.draw)]
        if len(walk.first) > most:
            return False
    return True


def _rank(hunt: Hunt, walks: list[_Walk], *, drops: bool) -> None:
    """Put the places of texts in order of importance: by what is left of the margin without each word.

    A third of the queries at most goes into that, for a seeded choice of the words of a very long text.
    ``drops``: whether to leave a word out is an edit that is allowed here, and not a way to weigh it alone.
    """
    chosen = [
        sorted(walk.draw.permutation(walk.places)[: int(hunt.left[walk.sample]) // 3].tolist())
        for walk in walks
    ]
    owner = [walk.sample for walk, places in zip(walks, chosen, strict=True) for _ in places]
    made = (_with(walk.words, at, "") for walk, places in zip(walks, chosen, strict=True) for at in places)
    if not owner:
        return
    margins = iter(_weighed(hunt, owner, made, keeps=drops).tolist())
    for walk, places in zip(walks, chosen, strict=True):
        told = {at: next(margins) for at in places}
        walk.places = [at for _, at in sorted((told.get(at, np.inf), at) for at in walk.places)]


def _weighed(hunt: Hunt, owner: list[int], made: Iterable[Words], *, keeps: bool) -> np.ndarray:
    """The margins of texts with a word left out; what turns is kept where that is an edit."""
    before = hunt.distance.copy(), hunt.adversarial.copy(), dict(hunt.found)
    margins, _ = hunt.ask(owner, made)
    if not keeps:
        hunt.distance, hunt.adversarial, hunt.found = before
    return margins


def _allowance(hunt: Hunt, walk: _Walk, depth: int) -> int:
    """Queries for the step to ``depth`` edits: of the first half of all, of a later one its share."""
    left, steps = int(hunt.left[walk.sample]), hunt.most(walk.sample) - depth + 1
    return left if steps <= 1 else left // 2 if depth == 1 else left // steps


def _step(hunt: Hunt, live: list[_Walk], depth: int) -> None:
    """One more edit of each text: the best that is tried."""
    tried = [
        (walk, walk.first[: _allowance(hunt, walk, 1)] if depth == 1 else _later(hunt, walk, depth))
        for walk in live
    ]
    before = [walk.margin for walk in live]
    told = _take_best(hunt, tried)
    if depth == 1:
        for (walk, found), margin, margins in zip(tried, before, told, strict=True):
            _remember(walk, found, margin, margins)


def _later(hunt: Hunt, walk: _Walk, depth: int) -> list[tuple[int, str]]:
    was = hunt.texts[walk.sample].words
    free = [at for at in walk.seen if walk.words[at] == was[at]]
    best = sorted(free, key=lambda at: (walk.seen[at][0], at))[:PLACES]
    # By turns of places: where queries are few, the best of each before the second best of any.
    found = [(at, walk.seen[at][turn][1]) for turn in range(EACH) for at in best if turn < len(walk.seen[at])]
    return found[: _allowance(hunt, walk, depth)]


def _deeper(hunt: Hunt, moves: Moves, live: list[_Walk]) -> None:
    """Misspell words once more that are misspelt already, where that helps."""
    tried = []
    for walk in live:
        was = hunt.texts[walk.sample].words
        found = [
            (at, new)
            for at in hunt.edits(walk.sample, walk.words)
            if len(walk.words[at].split()) == 1
            for new in moves.misspelt(was[at], walk.words[at], walk.draw)
        ]
        tried.append((walk, found[: max(0, int(hunt.left[walk.sample]) // 4)]))
    _take_best(hunt, tried, stops=False)


def _take_best(
    hunt: Hunt, tried: list[tuple[_Walk, list[tuple[int, str]]]], *, stops: bool = True
) -> list[np.ndarray]:
    """Ask about every move of every walk; each goes where its margin is least, if that is less than now.

    A walk is done once it has turned, and, where ``stops``, if nothing is less. Returns the margins, by walk.
    """
    owner = [walk.sample for walk, found in tried for _ in found]
    made = (_with(walk.words, at, new) for walk, found in tried for at, new in found)
    margins, wrong = hunt.ask(owner, made)
    ends = np.cumsum([len(found) for _, found in tried])[:-1]
    parts = list(zip(tried, np.split(margins, ends), np.split(wrong, ends), strict=True)) if tried else []
    for (walk, found), told, turned in parts:
        if not found or (not turned.any() and told.min() >= walk.margin):
            walk.done = walk.done or stops
            continue
        best = int(np.where(turned, -np.inf, told).argmin())
        walk.words, walk.margin = _with(walk.words, *found[best]), float(told[best])
        walk.done = bool(turned.any())
    return [told for _, told, _ in parts]


def _remember(walk: _Walk, moves: list[tuple[int, str]], before: float, margins: np.ndarray) -> None:
    """What each move of the first step left of the margin, by place, the best first."""
    for (at, new), margin in zip(moves, margins, strict=True):
        if margin < before:
            walk.seen.setdefault(at, []).append((float(margin), new))
    for found in walk.seen.values():
        found.sort(key=lambda pair: pair[0])


def _with(words: Words, at: int, new: str) -> Words:
    return (*words[:at], new, *words[at + 1 :])
