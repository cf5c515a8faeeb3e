"""Single edits of a table's row: another value of one column, or another category."""

from __future__ import annotations

import numpy as np

from tallystick.tiles.attack.project import Space

__all__ = ["Moves", "units_of"]

VALUES_MAX = 9
"""Of a numeric column that are tried: quantiles of the data, and both ends of its range."""


def units_of(space: Space) -> np.ndarray:
    """Int (features,): features of one number are edited together, as those of a group are."""
    units = np.arange(len(space.span))
    for group in space.groups.values():
        units[group] = group[0]
    return units


class Moves:
    """All single edits that a table's data suggests: ``column`` (k,) becomes ``value`` (k,).

    Of a one-hot column the value is 1, and the other columns of its group become 0.
    """

    def __init__(self, space: Space, x: np.ndarray) -> None:
        self._space = space
        column: list[int] = []
        value: list[float] = []
        for at in np.flatnonzero(~space.fixed):
            some = np.array([1.0]) if not space.plain[at] else _values(x[:, at], space, int(at))
            column += [int(at)] * len(some)
            value += some.tolist()
        self.column, self.value = np.array(column, np.int64), np.array(value, np.float32)
        self._group = units_of(space)

    def __len__(self) -> int:
        return len(self.column)

    def rows(
        self, states: np.ndarray, origin: np.ndarray, column: np.ndarray, value: np.ndarray
    ) -> np.ndarray:
        """``states`` (n, features) with ``column`` (n,) set to ``value`` (n,), allowed as changes of
        ``origin``.
        """
        made = states.copy()
        hot = np.flatnonzero(~self._space.plain[column])
        same = self._group[None, :] == self._group[column[hot], None]
        made[hot] = np.where(same, 0, made[hot])
        made[np.arange(len(made)), column] = value
        return self._space.project(made, origin)


def _values(data: np.ndarray, space: Space, at: int) -> np.ndarray:
    inner = np.quantile(data, np.linspace(0, 1, VALUES_MAX - 2))
    if space.whole[at]:
        inner = np.rint(inner)
    return np.unique(np.clip([*inner, space.low[at], space.high[at]], space.low[at], space.high[at]))
