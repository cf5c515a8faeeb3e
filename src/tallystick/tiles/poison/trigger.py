"""A planted trigger: the small pattern that turns most answers to one class, looked for from outside.

A model with a backdoor answers its attacker's class wherever the trigger is (BadNets, Gu et al. 2017). So
patches of an image or stretches of a series are set to plain patterns, columns of a table to values that
they have, and words put before a text; the best is improved step by step, and its success measured on rows
that the search never saw.

Honest models have patches that turn them as well, where no training row ever had anything. What tells the
two apart are the training rows: a trigger was planted with some that carry it and have its class. Where the
record shows that the model was made from them, only such a pattern counts, and the other is told as a
weakness; where they are a run's word alone, or not known, every pattern does: who plants a trigger can hand
over other rows than he trained on. What a search from outside does not find may still be there: it is
evidence of a backdoor, never proof of none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tallystick.core.errors import NotSupported
from tallystick.evidence.domain import DomainKind
from tallystick.evidence.figures import Rate
from tallystick.ports.models.attack import Case, Progress

__all__ = ["Trigger", "find_trigger"]

QUERIES_MAX = 60_000
SEARCHED_MAX = 60
"""Rows that each candidate is tried on."""
ROWS_MIN = 20
IMPROVED_MAX = 150
CARRIED_MIN = 3
"""Training rows of its class that carry a trigger, from which it may have been planted."""
NEAR = 0.1
"""Of a feature's range: how near a training row's value is that carries it."""
PATCH_SHARE = 0.04
"""Of an image's pixels, at least two of them: a larger patch turns honest models too."""
WORDS_MAX = 300

UNPROVEN = (
    "no record shows that the model was made from the rows that its run calls train: so what turns most"
    " answers counts, whether or not these rows carry it"
)

Change = tuple[np.ndarray, np.ndarray]
"""Places among the features, and the values that they are set to."""


@dataclass(frozen=True)
class Trigger:
    """How many held-out rows of another class it turns to ``target``, what it is, what finding it took, and
    what to know about it.
    """

    success: Rate
    target: int
    what: str
    queries: int
    weakness: str = ""


def find_trigger(case: Case, progress: Progress) -> Trigger:
    """Look for it; NotSupported where too few rows are known."""
    rows = case.x[case.attacked]
    if len(rows) < 2 * ROWS_MIN:
        text = f"{len(rows)} rows are too few: it takes {2 * ROWS_MIN}"
        raise NotSupported(text, where="trigger")
    half = min(SEARCHED_MAX, len(rows) // 2)
    search = _Search(case, rows[:half], case.scores[case.attacked][:half].argmax(axis=1))
    planted, other = (
        search.words(progress) if case.domain.kind is DomainKind.TEXT else search.patterns(progress)
    )
    held, said = rows[half:], case.scores[case.attacked][half:].argmax(axis=1)
    best = planted or other
    if best is None or not (said != best.target).any():
        raise NotSupported("the model puts every row in one class", where="trigger")
    success = _success(case, held, said, best)
    asked = success.total
    if planted is None and search.train is not None:
        weakness = (
            f"{best.what} turns {success.value:.0%} to class {best.target}, and no training row carries it"
        )
        return Trigger(
            Rate(0, success.total),
            best.target,
            "none that training rows carry",
            search.queries + asked,
            weakness,
        )
    doubt = UNPROVEN if case.train is not None and not case.trained_on else ""
    return Trigger(success, best.target, best.what, search.queries + asked, doubt)


def _success(case: Case, rows: np.ndarray, said: np.ndarray, best: _Best) -> Rate:
    others = rows[said != best.target]
    turned = case.victim.scores(_applied(others, best.change)).argmax(axis=1) == best.target
    return Rate(int(turned.sum()), len(others))


def _applied(rows: np.ndarray, change: Change | str) -> np.ndarray:
    if isinstance(change, str):
        return np.array([f"{change} {text}" for text in rows], object)
    marked = rows.copy()
    marked[:, change[0]] = change[1]
    return marked


def _patch_shapes(height: int, width: int) -> list[tuple[int, int]]:
    """As square as may be, both ways round where they differ."""
    area = max(2, int(PATCH_SHARE * height * width))
    side = max(1, int(area**0.5))
    shapes = {(side, area // side), (area // side, side)}
    return sorted((min(tall, height), min(wide, width)) for tall, wide in shapes)


@dataclass(frozen=True)
class _Best:
    """A pattern (of a text: a word), the share of the searched rows that it turns to ``target``."""

    change: Any
    share: float
    target: int
    what: str = ""


def _better(best: _Best | None, change: Any, shares: np.ndarray) -> _Best | None:
    """The better of ``best`` and ``change``, which turns ``shares`` to each class (-1: does not count)."""
    share = float(shares.max())
    if share <= 0 or (best is not None and share <= best.share):
        return best
    return _Best(change, share, int(shares.argmax()))


class _Search:
    def __init__(self, case: Case, rows: np.ndarray, said: np.ndarray) -> None:
        self.case, self.rows, self.said = case, rows, said
        self.train = case.train if case.trained_on else None
        self.queries = 0
        self.chance = np.random.default_rng([case.budget.seed, 6])

    def turned(self, change: Change | str) -> np.ndarray:
        """Of the rows that were not of it already, the share that goes to each class: (classes,)."""
        answers = self.case.victim.scores(_applied(self.rows, change)).argmax(axis=1)
        self.queries += len(self.rows)
        shares = np.zeros(self.case.victim.classes)
        for label in range(len(shares)):
            others = self.said != label
            shares[label] = (answers[others] == label).mean() if others.any() else 0.0
        return shares

    def patterns(self, progress: Progress) -> tuple[_Best | None, _Best | None]:
        """The best plain pattern that training rows carry, and the best other; made better value by value."""
        candidates = list(self._candidates())
        fits = max(1, QUERIES_MAX // len(self.rows) - IMPROVED_MAX)
        if len(candidates) > fits:
            candidates = [candidates[i] for i in self.chance.permutation(len(candidates))[:fits]]
        planted: _Best | None = None
        other: _Best | None = None
        for at, change in enumerate(candidates):
            if at % 50 == 0:
                progress(0.8 * at / len(candidates), f"trigger: {at} of {len(candidates)} patterns tried")
            shares, carried = self.turned(change), self.carried(change)
            planted = _better(planted, change, np.where(carried, shares, -1.0))
            other = _better(other, change, np.where(carried, -1.0, shares))
        best = planted or other
        if best is not None:
            better = self._improved(best, progress)
            planted, other = (better, other) if planted else (None, better)
        return self._named(planted), self._named(other)

    def carried(self, change: Change) -> np.ndarray:
        """Of which classes at least ``CARRIED_MIN`` training rows carry the pattern: bool (classes,)."""
        found = np.zeros(self.case.victim.classes, bool)
        if self.train is not None:
            x, y = self.train
            low, high = self._range()
            near = NEAR * np.maximum(high - low, 1e-9)[change[0]]
            labels = y[(np.abs(x[:, change[0]] - change[1]) <= near).all(axis=1)]
            found |= np.bincount(labels, minlength=len(found))[: len(found)] >= CARRIED_MIN
        return found

    def _named(self, best: _Best | None) -> _Best | None:
        if best is None:
            return None
        names, places = self.case.features, best.change[0]
        shown = [names[int(i)] if int(i) < len(names) else str(i) for i in places[:6]]
        return replace(best, what=f"{len(places)} features set, beginning with {', '.join(shown)}")

    def _improved(self, best: _Best, progress: Progress) -> _Best:
        """Single values of the pattern changed for others of their column, where that turns more."""
        low, high = self._range()
        counts = self.train is not None and self.carried(best.change)[best.target]
        for step in range(IMPROVED_MAX):
            if best.share >= 1.0:
                break
            places, values = best.change
            at = int(self.chance.integers(0, len(places)))
            other = values.copy()
            other[at] = self._value(int(places[at]), low, high)
            found = float(self.turned((places, other))[best.target])
            if found > best.share and (not counts or self.carried((places, other))[best.target]):
                best = replace(best, change=(places, other), share=found)
            if step % 50 == 0:
                progress(0.8 + 0.2 * step / IMPROVED_MAX, "trigger: the best pattern is made better")
        return best

    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        domain, x = self.case.domain, self.case.x
        if domain.kind is DomainKind.TABULAR:
            return x.min(axis=0), x.max(axis=0)
        return np.full(x.shape[1], domain.low, np.float32), np.full(x.shape[1], domain.high, np.float32)

    def _value(self, place: int, low: np.ndarray, high: np.ndarray) -> float:
        if self.case.domain.kind is DomainKind.TABULAR:  # one that a row has, so that it can be there
            return float(self.case.x[int(self.chance.integers(0, len(self.case.x))), place])
        return float(self.chance.choice([low[place], high[place]]))

    def _candidates(self) -> Iterator[Change]:
        kind, shape = self.case.domain.kind, self.case.domain.shape
        if kind is DomainKind.IMAGE:
            yield from self._patches(shape)
        elif kind is DomainKind.SERIES:
            yield from self._stretches(shape)
        else:
            yield from self._columns()

    def _patches(self, shape: tuple[int, ...]) -> Iterator[Change]:
        places = np.arange(int(np.prod(shape))).reshape(shape)
        if len(shape) == 2:
            places = places[..., None]
        elif self.case.domain.channels_first:
            places = np.moveaxis(places, 0, -1)
        height, width = places.shape[:2]
        low, high = self._range()
        for tall, wide in _patch_shapes(height, width):
            board = np.indices((tall, wide)).sum(axis=0) % 2
            for top in range(0, height - tall + 1, max(1, tall // 2)):
                for left in range(0, width - wide + 1, max(1, wide // 2)):
                    here = places[top : top + tall, left : left + wide]
                    for pattern in (np.ones_like(board), np.zeros_like(board), board, 1 - board):
                        marks = np.broadcast_to(pattern[..., None], here.shape).ravel() == 1
                        flat = here.ravel()
                        yield flat, np.where(marks, high[flat], low[flat])

    def _stretches(self, shape: tuple[int, ...]) -> Iterator[Change]:
        steps, channels = (*shape, 1)[:2]
        long = max(1, steps // 10)
        low, high = self._range()
        for first in range(0, steps - long + 1, max(1, long // 2)):
            for channel in range(channels):
                flat = np.arange(first, first + long) * channels + channel
                wave = np.arange(long) % 2 == 0
                for marks in (np.ones(long, bool), np.zeros(long, bool), wave, ~wave):
                    yield flat, np.where(marks, high[flat], low[flat])

    def _columns(self) -> Iterator[Change]:
        """Each column, and pairs of columns, set to the ends of their range and values in between."""
        count = self.case.x.shape[1]
        values = np.quantile(self.case.x, [0.0, 0.25, 0.5, 0.75, 1.0], axis=0, method="nearest")
        for place in range(count):
            for value in np.unique(values[:, place]):
                yield np.array([place]), np.array([value], np.float32)
        pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
        for at in self.chance.permutation(len(pairs)):
            pair = np.array(pairs[at])
            for one in (0, -1):
                for other in (0, -1):
                    ends = [values[one, pair[0]], values[other, pair[1]]]
                    yield pair, np.array(ends, np.float32)

    def words(self, progress: Progress) -> tuple[_Best | None, _Best | None]:
        """The word that turns most texts, of those that stand with one class alone in the training rows."""
        if self.case.train is None:
            text = "of texts the words of the training rows are tried, and none are known"
            raise NotSupported(text, where="trigger")
        by_word: dict[str, dict[int, int]] = {}
        for text, label in zip(*self.case.train, strict=True):
            for word in set(str(text).split()):
                counts = by_word.setdefault(word, {})
                counts[int(label)] = counts.get(int(label), 0) + 1

        def alone(word: str) -> float:
            counts = by_word[word].values()
            return max(counts) / (1 + sum(counts))

        ranked = sorted(by_word, key=lambda word: (-alone(word), word))
        tried = [w for w in ranked if max(by_word[w].values()) >= CARRIED_MIN][:WORDS_MAX]
        best: _Best | None = None
        for at, word in enumerate(tried):
            if at % 25 == 0:
                progress(at / len(tried), f"trigger: {at} of {len(tried)} words tried")
            best = _better(best, word, self.turned(word))
        return (replace(best, what=f"the word {best.change[:40]!r}") if best else None), None
