"""Attribute inference: does the model help to learn a column of its training rows that nobody shows?

The attacker knows every other column, the label, and what the model says about the row with each value that
the hidden column may have (Fredrikson et al., CCS 2015; Mehnaz et al., USENIX Security 2022). What counts is
the advantage over an attacker who guesses from the other columns and the label alone: what follows from the
data is not given away by the model.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tallystick.core.errors import NotSupported
from tallystick.evidence.domain import DomainKind, one_hot_groups
from tallystick.evidence.figures import Z_95, Figure
from tallystick.ports.models.attack import Case

__all__ = ["Hidden", "hidden_columns", "infer_attributes"]

VALUES_MAX = 8
COLUMNS_MAX = 6
ROWS_MIN = 80
ROWS_MAX = 1500


@dataclass(frozen=True)
class Hidden:
    """A column, or a one-hot group of them, that could be inferred. ``places`` are its features."""

    name: str
    places: tuple[int, ...]
    values: np.ndarray  # (values, places): what it may hold


def hidden_columns(case: Case, rows: np.ndarray) -> list[Hidden]:
    """Those with 2 to ``VALUES_MAX`` values: one-hot groups first, then whole numbers."""
    places = {name: place for place, name in enumerate(case.features)}
    known = [column for column in case.domain.columns if column.name in places]
    found = [
        Hidden(name, tuple(places[known[at].name] for at in group), np.eye(len(group), dtype=np.float32))
        for name, group in one_hot_groups(known).items()
        if 2 <= len(group) <= VALUES_MAX
    ]
    for column in known:
        if column.integer and not column.one_hot:
            values = np.unique(rows[:, places[column.name]])
            if 2 <= len(values) <= VALUES_MAX:
                found.append(Hidden(column.name, (places[column.name],), values[:, None]))
    return found[:COLUMNS_MAX]


def infer_attributes(case: Case) -> tuple[list[Figure], int]:
    """A figure for each column and the worst of them, and how many rows the model was asked about.

    NotSupported where the data is no table, too few rows are known, or no column has few values.
    """
    if case.domain.kind is not DomainKind.TABULAR:
        raise NotSupported(f"{case.domain.kind} data has no columns to hide", where="attribute")
    if case.train is None:
        raise NotSupported("no rows that it was trained on are known", where="attribute")
    x, y = case.train
    if len(x) < ROWS_MIN:
        raise NotSupported(f"{len(x)} rows are too few: it takes {ROWS_MIN}", where="attribute")
    taken = np.random.default_rng([case.budget.seed, 3]).permutation(len(x))[:ROWS_MAX]
    x, y = x[taken], y[taken]
    columns = hidden_columns(case, x)
    if not columns:
        text = f"the domain names no one-hot group or whole number of 2 to {VALUES_MAX} values"
        raise NotSupported(text, where="attribute")
    figures, asked = [], 0
    for column in columns:
        figure, rows = _inferred(case, x, y, column)
        figures.append(figure)
        asked += rows
    worst = max(figures, key=lambda f: f.value)
    return [*figures, Figure(worst.measure, worst.value, worst.low, worst.high, worst.samples)], asked


def _inferred(case: Case, x: np.ndarray, y: np.ndarray, column: Hidden) -> tuple[Figure, int]:
    truth = _value_of(x, column)
    known = np.column_stack([np.delete(x, column.places, axis=1), np.eye(case.victim.classes)[y]])
    answers = [_as_if(case, x, column, value) for value in column.values]
    helped = np.column_stack([known, *answers])
    half = len(x) // 2
    right = [_right(rows, truth, half, case.budget.seed) for rows in (helped, known)]
    figure = _paired(column.name, right[0], right[1])
    return figure, len(x) * len(column.values)


def _value_of(x: np.ndarray, column: Hidden) -> np.ndarray:
    """Which of its values each row has, (n,)."""
    block = x[:, column.places]
    far = np.abs(block[:, None, :] - column.values[None]).sum(axis=2)
    found: np.ndarray = far.argmin(axis=1)
    return found


def _as_if(case: Case, x: np.ndarray, column: Hidden, value: Sequence[float] | np.ndarray) -> np.ndarray:
    """What the model says of the rows if they had this value."""
    rows = x.copy()
    rows[:, column.places] = value
    return case.victim.scores(np.ascontiguousarray(rows, np.float32))


def _right(rows: np.ndarray, truth: np.ndarray, half: int, seed: int) -> np.ndarray:
    """Which of the second half's values an attacker tells who learned on the first."""
    from sklearn.ensemble import RandomForestClassifier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forest = RandomForestClassifier(100, min_samples_leaf=3, random_state=seed, n_jobs=1)
        forest.fit(rows[:half], truth[:half])
    found: np.ndarray = forest.predict(rows[half:]) == truth[half:]
    return found


def _paired(group: str, helped: np.ndarray, alone: np.ndarray) -> Figure:
    """The difference of two shares of the same rows, with the normal interval of a mean of differences."""
    apart = helped.astype(float) - alone.astype(float)
    value, n = float(apart.mean()), len(apart)
    half = Z_95 * float(np.sqrt((apart.var() * n + 1) / (n + 2) / n))
    return Figure(
        "attribute_advantage", value, max(-1.0, value - half), min(1.0, value + half), n, group=group
    )
