"""The cheapest edit of a table's row that turns its answer: greedy first, then a local search.

Greedy takes, again and again, the single edit that brings the answer nearest to turning for its cost, until
it turns; more than once, minding the cost more or less. Where the victim has gradients they choose which
edits are tried, and propose how far a number must move. From each end of it, and from known rows of other
answers, whatever was changed needlessly is put back, each number is drawn back as far as the answer stays
turned, and single edits are exchanged for others. With labels alone the greedy part is one step deep. All
rows are worked on at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tallystick.tiles.attack.hunt import Hunt
from tallystick.tiles.attack.square import margins
from tallystick.tiles.attack.tables.moves import Moves, units_of

__all__ = ["Search"]

PROBE = 5
DEPTH_MAX = 8
"""Edits that greedy takes one after the other."""

HALVINGS = 9
STARTS = 4
CORNERS = 20
"""Rows of other answers from which a search begins (of labels alone, twice as many), and corners."""

GUIDED_MAX = 24
"""Edits tried in one step where gradients choose among them."""

BEYOND = 1.05
"""So much further than a gradient says that it takes: the answer is seldom quite linear."""

ROUNDS_MAX = 6
POWERS = (1.0, 0.5, 0.0)
"""By which of its cost a gain is divided, one greedy search after the other."""

_Turn = tuple[np.ndarray, np.ndarray]


class Search:
    """Over ``rows`` (k,), places among the hunt's samples; what is found stays in the hunt's ``cheapest``."""

    def __init__(self, hunt: Hunt, rows: np.ndarray) -> None:
        self._hunt, self._space, self._rows = hunt, hunt.space, rows
        self._moves = Moves(hunt.space, hunt.case.x)
        self._units = units_of(hunt.space)
        self._draws = {int(s): hunt.generator(int(s), PROBE) for s in rows}
        self._reserve = 1
        self.gradients = 0

    def go(self, said: Callable[[float, str], None]) -> None:
        """Search until nothing gets cheaper, or the queries are spent (but one of each row)."""
        for turn, power in enumerate(POWERS):
            said(turn / 8, "looking for single edits")
            self._polish(*self._greedy(self._rows, self._hunt.x[self._rows], DEPTH_MAX, power))
        said(0.4, "starting from rows with other answers")
        self._from_others()
        for turn in range(ROUNDS_MAX):
            said(0.5 + 0.5 * turn / ROUNDS_MAX, "making edits cheaper")
            before = self._hunt.price.copy()
            self._exchange(self._rows[np.isfinite(self._hunt.price[self._rows])])
            if (self._hunt.price >= before).all():
                return

    def _able(self, rows: np.ndarray, queries: int = 1) -> np.ndarray:
        """Which of ``rows`` may be asked about so often: bool (k,)."""
        able: np.ndarray = self._hunt.left[rows] - self._reserve >= queries
        return able

    # ---------------------------------------------------------------------------------------------- greedy

    def _greedy(
        self, rows: np.ndarray, states: np.ndarray, depth: int, power: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """From ``states`` (k, features) of ``rows`` (k,), by edits, while it is cheaper than what is known.

        Returns the rows that were turned (n,), and where their search ended.
        """
        ended, ends = [rows[:0]], [states[:0]]
        for _ in range(1 if self._hunt.case.victim.gives == "labels" else depth):
            able = self._able(rows)
            rows, states = rows[able], states[able]
            going: list[np.ndarray] = []
            after: list[np.ndarray] = []
            for part in self._hunt.blocks(np.arange(len(rows)), 2 * max(1, len(self._moves))):
                next_, turned, goes = self._step(rows[part], states[part], power)
                ended.append(rows[part[turned]])
                ends.append(next_[turned])
                going.append(part[goes])
                after.append(next_[goes])
            if not going:
                break
            rows, states = rows[np.concatenate(going)], np.concatenate(after)
        return np.concatenate(ended), np.concatenate(ends)

    def _step(
        self, rows: np.ndarray, states: np.ndarray, power: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The best single edit of each state: states after it, which were turned, and which go on."""
        owner, tried = self._candidates(rows, states)
        scores, wrong = self._hunt.ask(rows[owner], tried)
        gain = self._margin(states, rows)[owner]
        gain -= margins(scores, self._hunt.y[rows[owner]], self._hunt.case.victim.gives)
        origin = self._hunt.x[rows]
        added = self._space.price(tried, origin[owner]) - self._space.price(states, origin)[owner]
        worth = gain / np.maximum(added, 1e-6) ** power
        worth[wrong] = np.inf
        after, turned, goes = states.copy(), np.zeros(len(rows), bool), np.zeros(len(rows), bool)
        for at in np.lexsort((-added, worth)):  # the best comes last; of those that turn it, the cheapest
            if wrong[at] or gain[at] > 0:
                after[owner[at]], turned[owner[at]], goes[owner[at]] = tried[at], wrong[at], not wrong[at]
        return after, turned, goes

    def _margin(self, states: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """How far each state is from turning; of unchanged rows it is known, else it costs a query."""
        value = margins(self._hunt.scores[rows], self._hunt.y[rows], self._hunt.case.victim.gives)
        changed = np.flatnonzero((states != self._hunt.x[rows]).any(axis=1) & self._able(rows))
        if len(changed):
            scores, _ = self._hunt.ask(rows[changed], states[changed])
            value[changed] = margins(scores, self._hunt.y[rows[changed]], self._hunt.case.victim.gives)
        return value

    def _candidates(self, rows: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Edited states (n, features) and their rows (n,): as many each as it may still ask about."""
        count, origin = len(self._moves), self._hunt.x[rows]
        owner = np.repeat(np.arange(len(rows)), count)
        column, value = np.tile(self._moves.column, len(rows)), np.tile(self._moves.value, len(rows))
        guided = self._slopes(rows, states) if self._hunt.case.victim.gradients else None
        if guided is not None:
            proposed, to = self._proposed(states, *guided)
            owner = np.concatenate([owner, np.repeat(np.arange(len(rows)), proposed.shape[1])])
            column, value = np.concatenate([column, proposed.ravel()]), np.concatenate([value, to.ravel()])
        tried = self._moves.rows(states[owner], origin[owner], column, value)
        price = self._space.price(tried, origin[owner])
        useful = (tried != states[owner]).any(axis=1) & (price < self._hunt.price[rows[owner]])
        owner, tried, price = owner[useful], tried[useful], price[useful]
        if guided is None:
            rank = np.concatenate([self._draws[int(s)].random(count) for s in rows])[useful]
        else:
            moved = tried.astype(np.float64) - states[owner]
            added = price - self._space.price(states, origin)[owner]
            rank = (moved * guided[0][owner]).sum(axis=1) / np.maximum(added, 1e-6)
        order = np.lexsort((rank, owner))
        owner, tried = owner[order], tried[order]
        place = np.arange(len(owner)) - np.searchsorted(owner, owner)
        left = self._hunt.left[rows] - self._reserve
        some = place < np.minimum(left, GUIDED_MAX if guided is not None else count)[owner]
        return owner[some], tried[some]

    def _slopes(self, rows: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The gradient (k, features) of the margin, and the margin of logits (k,)."""
        y, at = self._hunt.y[rows], np.arange(len(rows))

        def weigh(logits: np.ndarray) -> np.ndarray:
            rest = logits.copy()
            rest[at, y] = -np.inf
            weights = np.zeros_like(logits)
            weights[at, y] = 1
            weights[at, rest.argmax(axis=1)] = -1
            return weights

        logits, slopes = self._hunt.case.victim.pull(states, weigh)
        self.gradients += len(rows)
        return slopes.astype(np.float64), margins(logits, y, "logits")

    def _proposed(
        self, states: np.ndarray, slopes: np.ndarray, margin: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """For each plain column the value at which, by its slope alone, the answer would turn."""
        plain = np.flatnonzero(self._space.plain & ~self._space.fixed)
        steep = slopes[:, plain]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            step = np.where(steep != 0, -BEYOND * np.maximum(margin, 0)[:, None] / steep, 0.0)
        to = np.clip(states[:, plain] + step, self._space.low[plain], self._space.high[plain])
        return np.broadcast_to(plain, to.shape), to.astype(np.float32)

    # -------------------------------------------------------------------------------------------- cheaper

    def _from_others(self) -> None:
        """From what other probes found, from rows of other answers, each as a change of the row, and, for
        rows that nothing has turned, from corners of the range.
        """
        hunt = self._hunt
        said, pool = hunt.case.scores.argmax(axis=1), hunt.pool()
        known = self._rows[np.isfinite(hunt.case.adversarial[self._rows]).all(axis=1)]
        self._from(known, np.asarray(hunt.case.adversarial[known], np.float32))
        for place in range(STARTS if hunt.case.victim.gives != "labels" else 2 * STARTS):
            rows = [self._other(s, place, said, pool) for s in self._rows]
            self._from(self._rows, np.stack(rows))
        for _ in range(CORNERS):
            stood = self._rows[np.isinf(hunt.price[self._rows])]
            if len(stood):
                half = np.stack([self._draws[int(s)].random(hunt.x.shape[1]) < 0.5 for s in stood])
                self._from(stood, np.where(half, self._space.low, self._space.high))

    def _from(self, rows: np.ndarray, states: np.ndarray) -> None:
        """Ask about ``states`` (k, features) of ``rows`` (k,), and go on from those that turn them."""
        able = self._able(rows)
        rows, states = rows[able], self._space.project(states[able], self._hunt.x[rows[able]])
        changed = (states != self._hunt.x[rows]).any(axis=1)
        rows, states = rows[changed], states[changed]
        wrong = self._hunt.ask(rows, states)[1]
        self._polish(rows[wrong], states[wrong])

    def _other(self, sample: int, place: int, said: np.ndarray, pool: np.ndarray) -> np.ndarray:
        """The row of another answer that is ``place``-th cheapest to become; the row itself if none."""
        other = pool[said[pool] != self._hunt.y[sample]]
        if place >= len(other):
            return np.asarray(self._hunt.x[sample])
        origin = np.repeat(self._hunt.x[sample : sample + 1], len(other), axis=0)
        rows = self._space.project(self._hunt.case.x[other], origin)
        best = np.argsort(self._space.price(rows, origin), kind="stable")[place]
        return np.asarray(rows[best])

    def _polish(self, rows: np.ndarray, states: np.ndarray) -> None:
        """Take back what ``states`` (k, features), which turn ``rows`` (k,), do not need: in two orders."""
        for dearest_first in (True, False):
            made = self._put_back(rows, states.copy(), dearest_first)
            self._draw_back(rows, made, dearest_first)

    def _changed(self, rows: np.ndarray, states: np.ndarray, dearest_first: bool) -> Iterator[_Turn]:
        """The units that each state changes, one in each turn, by cost: the states' places, and units."""
        origin = self._hunt.x[rows]
        steps = np.abs(states.astype(np.float64) - origin) / self._space.span * self._space.cost
        found = []
        for at in range(len(rows)):
            units = np.unique(self._units[states[at] != origin[at]])
            cost = np.array([steps[at, self._units == unit].max() for unit in units])
            found.append(units[np.argsort(-cost if dearest_first else cost, kind="stable")])
        for turn in range(max((len(units) for units in found), default=0)):
            some = np.array([i for i, units in enumerate(found) if turn < len(units)], np.int64)
            some = some[self._able(rows[some])]
            yield some, np.array([found[i][turn] for i in some], np.int64)

    def _put_back(self, rows: np.ndarray, states: np.ndarray, dearest_first: bool) -> np.ndarray:
        """Unit by unit: what the answer does not need is left as it was."""
        for some, units in self._changed(rows, states, dearest_first):
            tried = self._without(rows[some], states[some], units)
            real = (tried != self._hunt.x[rows[some]]).any(axis=1)
            wrong = real.copy()
            wrong[real] = self._hunt.ask(rows[some[real]], tried[real])[1]
            states[some[wrong]] = tried[wrong]
        return states

    def _without(self, rows: np.ndarray, states: np.ndarray, units: np.ndarray) -> np.ndarray:
        back = self._units[None, :] == units[:, None]
        return np.where(back, self._hunt.x[rows], states)

    def _draw_back(self, rows: np.ndarray, states: np.ndarray, dearest_first: bool) -> None:
        """Number by number: nearer to what it was, by halves, while it turns."""
        for places, units in self._changed(rows, states, dearest_first):
            plain = self._space.plain[units]
            some, column = places[plain], units[plain]
            who, at = rows[some], np.arange(int(plain.sum()))
            good = states[some, column].astype(np.float64)
            bad = self._hunt.x[who, column].astype(np.float64)
            for _ in range(HALVINGS):
                middle = ((good + bad) / 2).astype(np.float32)
                tried = self._moves.rows(states[some], self._hunt.x[who], column, middle)
                value = tried[at, column].astype(np.float64)
                going = self._able(who) & (value != good) & (value != bad)
                if not going.any():
                    break
                wrong = np.zeros(len(who), bool)
                wrong[going] = self._hunt.ask(who[going], tried[going])[1]
                states[some[wrong]] = tried[wrong]
                good, bad = np.where(wrong, value, good), np.where(going & ~wrong, value, bad)

    def _exchange(self, rows: np.ndarray) -> None:
        """Without each changed unit in turn: one or two other edits that are cheaper, if there are any."""
        for some, units in self._changed(rows, self._hunt.cheapest[rows], True):
            who = rows[some]
            states = self._without(who, self._hunt.cheapest[who], units)
            self._polish(*self._greedy(who, states, 2, 1.0))
