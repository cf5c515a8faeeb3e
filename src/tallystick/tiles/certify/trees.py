"""Ensembles of decision trees: exactly what no row within a box can turn, as far as a limit of nodes
suffices.

A tree is a set of leaves, each with the box of rows that reach it. Within a box, the score of another class
less that of the right one is at most the sum over trees of the greatest such difference among the leaves that
can be reached (Chen et al. 2019, one level). Where that is above 0, the tree that matters most is divided
into its leaves, and so on: branch and bound. It ends with a proof, with leaves of all trees that have a row
in common, or at the limit. A single tree is always decided.

Of a one-hot group not its columns are bounded but the choice of one of them: a leaf is reached where one
choice that is left fits it, and in what is divided into a leaf those choices are left that fit. A whole
number is above a threshold where it is above the whole number below it. So what is found is a row that the
domain allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tallystick.core.errors import BadInput, NotSupported
from tallystick.tiles.certify.box import Choice
from tallystick.tiles.certify.graph import Picked
from tallystick.tiles.certify.linear import TIED

__all__ = ["Forest", "Found", "Limit", "read_forest"]

ROUNDING = 1e-5
"""Of the sum of all trees' largest leaves: what float32 may do to a score."""

LEAVES_MAX = 1_000_000


@dataclass
class Limit:
    """How many nodes one row and radius may take, and how many are left for all of them."""

    each: int
    left: int


@dataclass(frozen=True)
class Found:
    """Whether no row of the box turns the answer; not ``decided`` where the limit, or rounding, was met."""

    holds: bool
    decided: bool


@dataclass(frozen=True)
class Forest:
    """Leaves of all trees, sorted by ``tree`` (leaves,), with ``weights`` (leaves, classes) and a ``bias``.

    Conditions are on the columns that trees see: ``leaf`` (k,) is only reached by rows with
    ``low < column[feature] <= high``; ``columns`` are those of the row.
    """

    tree: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    leaf: np.ndarray
    feature: np.ndarray
    low: np.ndarray
    high: np.ndarray
    columns: Picked

    def seen(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The box (features,) as trees see it (columns,), wider by what float32 may do to a scaled one."""
        made, wide = zip(*(self._scaled(end) for end in (low, high)), strict=True)
        widest = np.maximum(*wide)
        return np.minimum(*made) - widest, np.maximum(*made) + widest

    def _scaled(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A row (features,) as trees see it (columns,) float64, and what float32 may do to each number."""
        columns, ends = self.columns, row[self.columns.index].astype(np.float64)
        exact = (columns.scale == 1) & (columns.offset == 0)
        wide = 1e-6 * (np.abs(ends * columns.scale) + np.abs(columns.offset))
        return ends * columns.scale + columns.offset, np.where(exact, 0.0, wide)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """float64 (n, classes), for comparison with the victim's; NaN where rounding decides which way a row
        goes.
        """
        made = np.full((len(x), self.weights.shape[1]), np.nan)
        for at, row in enumerate(x):
            seen, wide = (part[self.feature] for part in self._scaled(row))
            near = (np.abs(seen - self.low) < wide) | (np.abs(seen - self.high) < wide)
            if not near.any():
                out = (seen.astype(np.float32) <= self.low) | (seen.astype(np.float32) > self.high)
                reached = np.bincount(self.leaf[out], minlength=len(self.tree)) == 0
                made[at] = self.weights[reached].sum(axis=0) + self.bias
        return made

    @property
    def rounding(self) -> float:
        """What float32 may do to a score."""
        largest = np.maximum.reduceat(np.abs(self.weights).max(axis=1), _runs(self.tree)[0])
        return max(TIED, ROUNDING * float(largest.sum() + np.abs(self.bias).max()))

    def on_whole(self, whole: np.ndarray) -> Forest:
        """The same for rows that are whole numbers in the features ``whole`` (features,): with thresholds
        between them moved down to them. Columns that are scaled are left as they are.
        """
        columns = self.columns
        plain = whole[columns.index] & (columns.scale == 1) & (columns.offset == 0)
        low, high = (
            np.where(plain[self.feature], np.floor(ends), ends).astype(np.float32)
            for ends in (self.low, self.high)
        )
        return replace(self, low=low, high=high)

    def _fits(self, choices: Sequence[Choice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which leaves each choice of each group fits, bool (leaves, choices); where each group's begin; and
        which conditions are about a group.
        """
        fits, first, about = [np.ones((len(self.tree), 0), bool)], [], np.zeros(len(self.feature), bool)
        for choice in choices:
            first.append(len(fits) - 1)
            place = np.full(int(self.columns.index.max(initial=-1)) + int(choice.columns.max()) + 2, -1)
            place[choice.columns] = np.arange(len(choice.columns))
            at = place[self.columns.index[self.feature]]
            mine = np.flatnonzero(at >= 0)
            about[mine] = True
            for values in choice.rows:
                row = np.zeros(len(place))
                row[choice.columns] = values
                seen, wide = (part[self.feature[mine]] for part in self._scaled(row))
                out = (seen + wide <= self.low[mine]) | (seen - wide > self.high[mine])
                never = np.bincount(self.leaf[mine[out]], minlength=len(self.tree)) > 0
                fits.append(~never[:, None])
        return np.concatenate(fits, axis=1), np.array(first, np.int64), about

    def holds(
        self,
        low: np.ndarray,
        high: np.ndarray,
        y: int,
        limit: Limit,
        choices: Sequence[Choice] = (),
    ) -> Found:
        """Whether every row within ``low`` to ``high`` (features,) is given class ``y``; of one-hot groups
        only their ``choices``.
        """
        low, high = self.seen(low, high)
        fits, first, about = self._fits(choices)
        out = ((self.low >= high[self.feature]) | (self.high < low[self.feature])) & ~about
        out |= self.low >= self.high  # no whole number is between them
        able = np.bincount(self.leaf[out], minlength=len(self.tree)) == 0
        able &= _each(fits, first)
        part = _Part.of(self, able, low, high, about, (fits[able], first))
        spent = limit.each + len(part.tree)
        decided = True
        for other in range(self.weights.shape[1]):
            if other == y:
                continue
            offset = float(self.bias[other] - self.bias[y])
            gain = self.weights[able, other] - self.weights[able, y]
            found, nodes = part.search(gain, offset, self.rounding, max(1, min(spent, limit.left)))
            limit.left -= nodes
            if not found.holds and found.decided:
                return found
            decided &= found.decided
        return Found(decided, decided)


@dataclass(frozen=True)
class _Part:
    """The leaves that can be reached: ``low`` and ``high`` (leaves, columns that matter), within a box, and
    the choices of one-hot groups that each ``fits``, bool (leaves, choices), each group's from ``first`` on.
    """

    tree: np.ndarray
    low: np.ndarray
    high: np.ndarray
    box: tuple[np.ndarray, np.ndarray]
    fits: np.ndarray
    first: np.ndarray

    @classmethod
    def of(
        cls,
        forest: Forest,
        able: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        about: np.ndarray,
        choices: tuple[np.ndarray, np.ndarray],
    ) -> _Part:
        """Only columns in which some reachable leaf cuts the box are kept, and are of no one-hot group."""
        cuts = able[forest.leaf] & ~about
        cuts &= (forest.low >= low[forest.feature]) | (forest.high < high[forest.feature])
        columns, place = np.unique(forest.feature[cuts], return_inverse=True)
        rank = np.cumsum(able) - 1
        shape = (int(able.sum()), len(columns))
        lows, highs = np.full(shape, -np.inf, np.float32), np.full(shape, np.inf, np.float32)
        lows[rank[forest.leaf[cuts]], place] = forest.low[cuts]
        highs[rank[forest.leaf[cuts]], place] = forest.high[cuts]
        below = np.nextafter(low[columns].astype(np.float32), np.float32(-np.inf))
        return cls(forest.tree[able], lows, highs, (below, high[columns].astype(np.float32)), *choices)

    def search(self, gain: np.ndarray, offset: float, rounding: float, nodes_max: int) -> tuple[Found, int]:
        """Whether ``gain`` (leaves,) summed over the leaves of a row, and ``offset``, stays below 0; and the
        nodes that it took. Depth first, the most promising leaf first.
        """
        waiting = [(np.arange(len(self.tree)), *self.box, np.ones(self.fits.shape[1], bool))]
        nodes, close = 0, False
        while waiting:
            if nodes >= nodes_max:
                return Found(False, False), nodes
            nodes += 1
            leaves, low, high, left = waiting.pop()
            first, count = _runs(self.tree[leaves])
            best = np.maximum.reduceat(gain[leaves], first)
            most = float(best.sum()) + offset
            if most < -rounding:
                continue
            spread = np.where(count > 1, best - np.minimum.reduceat(gain[leaves], first), -1.0)
            chosen = int(spread.argmax())
            if spread[chosen] <= 0:  # all leaves of each tree are alike: that is the value, exactly
                if most > rounding:
                    return Found(False, True), nodes
                close = True
                continue
            branch = leaves[first[chosen] : first[chosen] + count[chosen]]
            order = branch[np.argsort(gain[branch], kind="stable")]
            waiting.extend(self._within(leaves, leaf, low, high, left) for leaf in order)
        return Found(not close, not close), nodes

    def _within(
        self, leaves: np.ndarray, leaf: int, low: np.ndarray, high: np.ndarray, left: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The part of the box that reaches ``leaf``, the choices left there, and the leaves of all trees that
        are reached from it.
        """
        low, high = np.maximum(low, self.low[leaf]), np.minimum(high, self.high[leaf])
        left = left & self.fits[leaf]
        able = ((self.low[leaves] < high) & (self.high[leaves] > low)).all(axis=1)
        able &= _each(self.fits[leaves] & left, self.first)
        return leaves[able], low, high, left


def _each(fits: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Where of every group some choice is left: bool (leaves,) of ``fits`` (leaves, choices), of which each
    group's begin at ``first``.
    """
    return np.asarray(np.logical_or.reduceat(fits, first, axis=1).all(axis=1))


def _runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each run of equal values begins, and how long it is."""
    first = np.flatnonzero(np.r_[True, values[1:] != values[:-1]][: len(values)])
    return first, np.diff(np.r_[first, len(values)])


def read_forest(attributes: Mapping[str, Any], columns: Picked) -> Forest:
    """From a TreeEnsembleClassifier's attributes; BadInput where they are no trees, NotSupported for other
    forms.
    """
    try:
        return _Reader(attributes).forest(columns)
    except (KeyError, IndexError, ValueError, TypeError) as wrong:
        text = f"its trees cannot be read: {type(wrong).__name__}: {str(wrong)[:100]}"
        raise BadInput(text, where="twin") from wrong


_TESTS = {
    b"BRANCH_LEQ": (False, False),
    b"BRANCH_LT": (True, False),
    b"BRANCH_GTE": (True, True),
    b"BRANCH_GT": (False, True),
}
"""Of each test, whether the threshold itself is on the upper side, and whether the upper side is the true
one.
"""


class _Reader:
    def __init__(self, attributes: Mapping[str, Any]) -> None:
        names = ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
        self._tree, self._node, self._feature, self._true, self._false = (
            np.array(attributes[f"nodes_{name}"], np.int64) for name in names
        )
        self._value = np.array(attributes["nodes_values"], np.float32)
        self._mode = list(attributes["nodes_modes"])
        self._attributes = attributes
        labels = attributes.get("classlabels_int64s") or attributes["classlabels_strings"]
        self._classes = len(labels)
        self._place = {
            key: i for i, key in enumerate(zip(self._tree.tolist(), self._node.tolist(), strict=True))
        }
        unknown = set(self._mode) - {b"LEAF", *_TESTS}
        if unknown:
            name = min(unknown).decode("ascii", "replace")
            raise NotSupported(f"its trees test with {name:.50}", where="twin")

    def forest(self, columns: Picked) -> Forest:
        leaves: list[int] = []
        conditions: list[tuple[int, int, float, float]] = []
        for root in self._roots():
            self._walk(root, leaves, conditions)
        weights, bias = self._weights(leaves)
        table = np.array(conditions, np.float64).reshape(-1, 4)
        return Forest(
            tree=self._tree[leaves],
            weights=weights,
            bias=bias,
            leaf=table[:, 0].astype(np.int64),
            feature=_checked(table[:, 1].astype(np.int64), len(columns.index)),
            low=table[:, 2].astype(np.float32),
            high=table[:, 3].astype(np.float32),
            columns=columns,
        )

    def _roots(self) -> list[int]:
        """The first node of each tree, trees in order."""
        inner = {(int(self._tree[i]), int(c)) for i in self._inner() for c in (self._true[i], self._false[i])}
        roots = [place for key, place in self._place.items() if key not in inner]
        roots.sort(key=lambda place: (int(self._tree[place]), place))
        if len(roots) != len(set(self._tree.tolist())) or len(self._place) != len(self._node):
            raise ValueError("not every tree has one root")
        return roots

    def _inner(self) -> list[int]:
        return [i for i, mode in enumerate(self._mode) if mode != b"LEAF"]

    def _walk(self, root: int, leaves: list[int], conditions: list[tuple[int, int, float, float]]) -> None:
        """All leaves below ``root`` that some row reaches and, of each, its conditions, one a feature."""
        waiting: list[tuple[int, dict[int, tuple[float, float]]]] = [(root, {})]
        steps = 0
        while waiting:
            steps += 1
            if steps > len(self._node) or len(leaves) > LEAVES_MAX:
                raise ValueError("its nodes are no trees, or too many")
            at, limits = waiting.pop()
            if any(low >= high for low, high in limits.values()):
                continue
            if self._mode[at] == b"LEAF":
                conditions += [(len(leaves), f, low, high) for f, (low, high) in limits.items()]
                leaves.append(at)
                continue
            feature, tree = int(self._feature[at]), int(self._tree[at])
            upper, swapped = _TESTS[self._mode[at]]
            cut = self._value[at]
            cut = float(np.nextafter(cut, np.float32(-np.inf)) if upper else cut)
            low, high = limits.get(feature, (-np.inf, np.inf))
            below, above = (self._false, self._true) if swapped else (self._true, self._false)
            waiting.append((self._place[tree, int(below[at])], {**limits, feature: (low, min(high, cut))}))
            waiting.append((self._place[tree, int(above[at])], {**limits, feature: (max(low, cut), high)}))

    def _weights(self, leaves: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """(leaves, classes) and (classes,), such that the class with the highest sum is the answer."""
        attributes = self._attributes
        ids = np.array(attributes["class_ids"], np.int64)
        values = np.array(attributes["class_weights"], np.float64)
        rank = {place: i for i, place in enumerate(leaves)}
        keys = zip(attributes["class_treeids"], attributes["class_nodeids"], strict=True)
        rows = np.array([rank.get(self._place[key], -1) for key in keys], np.int64)
        width = max(self._classes, int(ids.max(initial=0)) + 1)
        weights = np.zeros((len(leaves), width))
        np.add.at(weights, (rows[rows >= 0], ids[rows >= 0]), values[rows >= 0])
        given = np.array(attributes.get("base_values", []), np.float64)
        after = attributes.get("post_transform", b"NONE")
        if self._classes == 2 and len(set(ids.tolist())) == 1:
            return self._binary(weights[:, ids[0]], float(given.sum()), after, bool((values >= 0).all()))
        if after not in (b"NONE", b"SOFTMAX"):
            raise NotSupported(f"its scores end in {after.decode('ascii', 'replace'):.50}", where="twin")
        bias = np.zeros(width)
        bias[: len(given)] = given
        return weights, bias

    @staticmethod
    def _binary(
        single: np.ndarray, base: float, after: bytes, positive: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """One score for two classes: the second is said where it is above 0, or half where it is a share."""
        if after not in (b"NONE", b"LOGISTIC"):
            raise NotSupported(f"its score ends in {after.decode('ascii', 'replace'):.50}", where="twin")
        middle = 0.5 if after == b"NONE" and positive else 0.0
        return np.stack([np.zeros_like(single), single], axis=1), np.array([0.0, base - middle])


def _checked(features: np.ndarray, count: int) -> np.ndarray:
    if len(features) and not 0 <= int(features.min()) <= int(features.max()) < count:
        raise ValueError("a tree looks at a column that is not there")
    return features
