"""Random search: edits drawn by lot, as many as are allowed; then, from what turned, ever fewer.

It needs no scores. Where nothing is known to turn a text, most draws change as many words as may be, as these
turn soonest. What turned is drawn back edit by edit, and from then on one word fewer is changed, half of them
where it was changed before. Texts that were asked about are not asked about again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tallystick.evidence.wording import Text
from tallystick.tiles.texts.hunt import Hunt, Words
from tallystick.tiles.texts.moves import Moves

__all__ = ["by_lot"]

TRIES = 16
"""Draws of each text in one round."""

PLACES_MAX = 200
"""Places of a long text that lots are drawn for."""

ROUNDS_MAX = 400
PATIENCE = 25
"""Rounds that come no nearer, after which a text is let be."""


@dataclass
class _Lot:
    sample: int
    draw: np.random.Generator
    moves: dict[int, tuple[str, ...]]
    known: dict[int, str] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)
    idle: int = 0


def by_lot(hunt: Hunt, moves: Moves, probe: int, said: Callable[[float, str], None]) -> dict[str, int]:
    """Search; what is found stays in the hunt. Returns counts that the probe says."""
    lots = [_begun(hunt, moves, sample, probe) for sample in hunt.open()]
    idle = sum(not lot.moves for lot in lots)
    lots = [lot for lot in lots if lot.moves]
    spent = 0
    for turn in range(ROUNDS_MAX):
        live = [lot for lot in lots if lot.idle < PATIENCE and _able(hunt, lot)]
        if not live:
            break
        spent = turn + 1
        used = max(int(hunt.used[lot.sample]) for lot in live) / hunt.queries
        said(min(0.99, max(turn / ROUNDS_MAX, used)), f"draws for {len(live)} texts")
        _round(hunt, live)
    return {"without_a_word_to_change": idle, "rounds": spent}


def _begun(hunt: Hunt, moves: Moves, sample: int, probe: int) -> _Lot:
    draw, words = hunt.generator(sample, probe), hunt.texts[sample].words
    places = [at for at, word in enumerate(words) if hunt.wording.changeable(word)]
    some = sorted(draw.permutation(places)[:PLACES_MAX].tolist()) if places else []
    able = {at: found for at in some if (found := moves.of(words[at], draw))}
    return _Lot(sample, draw, able, _told(words, str(hunt.adversarial[sample])))


def _told(words: Words, text: str) -> dict[int, str]:
    """By place what another probe changed, where it left the number of words as it was."""
    new = Text.cut(text).words
    pairs = enumerate(zip(words, new, strict=True)) if len(new) == len(words) else ()
    return {at: now for at, (was, now) in pairs if now != was}


def _able(hunt: Hunt, lot: _Lot) -> bool:
    sample = lot.sample
    return bool(
        hunt.left[sample] > 0 and hunt.most(sample) > 0 and hunt.distance[sample] > hunt.case.budget.eps[0]
    )


def _round(hunt: Hunt, live: list[_Lot]) -> None:
    """Some draws of each text, all in one call; what turned is then drawn back."""
    owner: list[int] = []
    made: list[Words] = []
    for lot in live:
        found = _drawn(hunt, lot)
        owner += [lot.sample] * len(found)
        made += found
    before = hunt.distance.copy()
    hunt.ask(owner, made)
    hunt.fewer([lot.sample for lot in live if hunt.distance[lot.sample] < before[lot.sample]])
    for lot in live:
        if hunt.distance[lot.sample] < before[lot.sample]:
            words = hunt.found[lot.sample]
            lot.known, lot.idle = {at: words[at] for at in hunt.edits(lot.sample, words)}, 0
        else:
            lot.idle += 1


def _drawn(hunt: Hunt, lot: _Lot) -> list[Words]:
    """Texts that were not asked about, at most TRIES and what queries are left."""
    made = []
    for _ in range(min(TRIES, int(hunt.left[lot.sample]))):
        words = _one(hunt, lot)
        mark = hash(words)
        if mark not in lot.asked and any(words):
            lot.asked.add(mark)
            made.append(words)
    return made


def _one(hunt: Hunt, lot: _Lot) -> Words:
    most = min(hunt.most(lot.sample), len(lot.moves))
    count = most if lot.draw.random() < 0.75 else int(lot.draw.integers(1, most + 1))
    words = list(hunt.texts[lot.sample].words)
    for at, new in lot.draw.permutation(np.array(list(lot.known.items()), object).reshape(-1, 2)).tolist():
        if count > 0 and lot.draw.random() < 0.5:
            words[at], count = new, count - 1
    free = [at for at in lot.moves if words[at] == hunt.texts[lot.sample].words[at]]
    for at in lot.draw.permutation(free)[:count].tolist() if free else []:
        words[at] = lot.moves[at][int(lot.draw.integers(len(lot.moves[at])))]
    return tuple(words)
