"""Square attack (Andriushchenko et al. 2020): random search by squares of changed pixels, at one radius.

ART's is for images and never moves the last row and column (its random numbers end one early), so
features are laid out as a square with a blind border, whatever they are: of vectors a square is then
simply a group of features.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tallystick.tiles.attack.hunt import Hunt, Spent
from tallystick.tiles.attack.library import estimator, evasion, seeded

__all__ = ["NAME", "QUERIES_MIN", "square"]

NAME = "Square"
QUERIES_MIN = 4
FLOOR = 1e-30
"""Smallest probability whose logarithm is taken."""

SHARE_FIRST = 0.8
"""Of the features, changed by the first squares."""

SAID_EVERY = 50
"""Iterations between two words about how far it is."""


class _Board:
    """Features of a row as an image (1, side, side) with blind pixels at the end and along the border."""

    def __init__(self, features: int) -> None:
        self.features = features
        self.inner = math.isqrt(features - 1) + 1
        self.side = self.inner + 1
        # The largest first square that still leaves ART's random numbers room.
        self.share = min(SHARE_FIRST, ((self.side - 0.51) / self.side) ** 2)

    def lay(self, unit: np.ndarray) -> np.ndarray:
        """Rows (n, features) as images (n, 1, side, side)."""
        images = np.zeros((len(unit), 1, self.side, self.side), np.float32)
        flat = np.zeros((len(unit), self.inner * self.inner), np.float32)
        flat[:, : self.features] = unit
        images[:, 0, : self.inner, : self.inner] = flat.reshape(len(unit), self.inner, self.inner)
        return images

    def take(self, images: np.ndarray) -> np.ndarray:
        """Images back to rows."""
        inner = images[:, 0, : self.inner, : self.inner].astype(np.float32)
        return inner.reshape(len(images), -1)[:, : self.features]


class _Memory:
    """Answers to ART, which asks up to three times about the same image: only new ones are queries.

    Of each sample it keeps two images: the one that the search stands at, and the newest candidate.
    ART asks either about all samples, or about those not yet fooled when it last asked about all.
    """

    def __init__(self, hunt: Hunt, board: _Board, todo: np.ndarray, said: Callable[[], None]) -> None:
        self._hunt, self._board, self._todo, self._said = hunt, board, todo, said
        self._images = np.full((2, len(todo), board.features), np.nan, np.float32)
        self._scores = np.zeros((2, len(todo), hunt.classes), np.float32)
        self._stands = np.zeros(len(todo), np.int64)
        self._standing = np.arange(len(todo))
        clean = hunt.scores
        self._logarithm = bool(
            (clean >= 0).all() and (clean <= 1 + 1e-3).all() and np.allclose(clean.sum(axis=1), 1, atol=1e-3)
        )
        self._images[0] = hunt.unit[todo]
        self._scores[0] = self._shown(hunt.scores[todo])

    def _shown(self, scores: np.ndarray) -> np.ndarray:
        """Log-probabilities keep the margin moving where probabilities saturate; other scores stay."""
        return np.log(np.maximum(scores, np.float32(FLOOR))) if self._logarithm else scores

    def __call__(self, images: np.ndarray) -> np.ndarray:
        rows = self._board.take(images)
        everyone = len(rows) == len(self._todo)
        owner = np.arange(len(rows)) if everyone else self._standing
        slot = np.full(len(rows), -1)
        for at in (0, 1):
            slot[(slot < 0) & (rows == self._images[at, owner]).all(axis=1)] = at
        new = np.flatnonzero(slot < 0)
        if len(new):
            slot[new] = 1 - self._stands[owner[new]]
            scores = self._hunt.ask(self._todo[owner[new]], rows[new])
            self._images[slot[new], owner[new]] = rows[new]
            self._scores[slot[new], owner[new]] = self._shown(scores)
        answers: np.ndarray = self._scores[slot, owner]
        if everyone:
            self._stands = slot
            self._standing = np.flatnonzero(answers.argmax(axis=1) == self._hunt.y[self._todo])
            self._said()
        return answers


def square(
    hunt: Hunt, eps: tuple[float, ...], queries: int, seed: int, said: Callable[[float, float], None]
) -> dict[str, Any]:
    """One search for each radius, smallest first, on the samples that still withstand it.

    At most ``queries`` queries for each sample and radius. Returns the settings, for the record.
    """
    attacks = evasion()
    board = _Board(hunt.x.shape[1])
    iterations = queries - 2
    for step, radius in enumerate(eps):
        todo = np.flatnonzero(hunt.withstands(radius))
        if not len(todo):
            continue
        turns = _Turns(iterations, said, step, eps)
        attack = attacks.SquareAttack(
            estimator(_Memory(hunt, board, todo, turns), (1, board.side, board.side), hunt.classes),
            norm=np.inf,
            eps=hunt.eps_unit(radius),
            max_iter=iterations,
            p_init=board.share,
            nb_restarts=1,
            batch_size=max(1, len(todo)),
            verbose=False,
        )
        right = np.eye(hunt.classes, dtype=np.float32)[hunt.y[todo]]
        with seeded(seed + step), contextlib.suppress(Spent):
            attack.generate(board.lay(hunt.unit[todo]), y=right)
    layout = f"{board.features} features as {board.inner} x {board.inner}, with a blind border"
    return {
        "norm": "Linf",
        "queries_max_each_eps": queries,
        "share_first": round(board.share, 4),
        "layout": layout,
        "sees": "scores",
    }


class _Turns:
    """Says now and then how far the search at the ``step``-th radius is."""

    def __init__(
        self, turns: int, said: Callable[[float, float], None], step: int, eps: tuple[float, ...]
    ) -> None:
        self._turns, self._said, self._step, self._eps, self._at = turns, said, step, eps, 0

    def __call__(self) -> None:
        self._at += 1
        if self._at % SAID_EVERY == 1:
            share = (self._step + min(1.0, self._at / self._turns)) / len(self._eps)
            self._said(share, self._eps[self._step])
