"""The rows to judge on, as the domain says that they lie: features, right answers, groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tallystick.core.errors import BadInput
from tallystick.crew.judging.measuring import by_channel
from tallystick.crew.measure.columns import (
    feature_names,
    features,
    floats,
    is_number,
    labels,
    named,
    read_rows,
    texts,
)
from tallystick.evidence.domain import Column, Domain, DomainKind

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Given", "given"]

GROUPS_OF_NUMBERS_MAX = 50
"""A group column of numbers has at most so many different ones: others are measures, not groups."""


@dataclass
class Given:
    """Rows ``x`` float32 (n, features) or object (n,) of str, their classes' names ``truth`` (n,), and more.

    ``domain`` has a column for each feature of a table, and for each channel of a series. ``groups`` are
    object (n,) of str by column.
    """

    x: np.ndarray
    truth: np.ndarray
    features: tuple[str, ...]
    domain: Domain
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def given(path: Path, label: str, domain: Domain, wanted: Sequence[str], count: int) -> Given:
    """Read the rows. ``wanted`` are the model's inputs, where each is a column; ``count`` how many features
    it takes, 0 for any.

    BadInput names the column or row that does not fit the domain or the model.
    """
    table = read_rows(path)
    names = feature_names(table, label)
    truth = labels(table, label)
    groups = _groups(table, domain)
    chosen = _chosen(table, names, domain, wanted, count)
    if domain.kind is DomainKind.TEXT:
        return Given(_text(table, chosen), truth, tuple(chosen), domain, groups)
    notes: list[str] = []
    if domain.kind is DomainKind.SERIES:
        domain, x = _series(table, chosen, domain, notes)
    elif domain.kind is DomainKind.TABULAR:
        domain = _whole_domain(table, chosen, domain, notes)
        lows, highs = np.array([[c.low, c.high] for c in domain.columns]).T
        x = features(table, chosen, lows, highs)
    else:
        x = features(table, chosen, domain.low, domain.high)
    if len(chosen) == 1 and x.shape[1] > 1:
        chosen = [f"{chosen[0]}[{at}]" for at in range(x.shape[1])]
    if domain.shape and int(np.prod(domain.shape)) != x.shape[1]:
        text = f"{x.shape[1]} features do not make a shape of {list(domain.shape)}"
        raise BadInput(text, where="rows", hint="say the shape of a row in the policy's domain")
    return Given(x, truth, tuple(chosen), domain, groups, notes)


def _chosen(
    table: pa.Table, names: Sequence[str], domain: Domain, wanted: Sequence[str], count: int
) -> list[str]:
    """The columns for the model: those that its inputs name, or the domain, or all but labels and groups."""
    if wanted and not (len(wanted) == 1 and len(names) == 1):
        missing = [name for name in wanted if name not in names]
        if missing:
            raise BadInput(
                f"the model has an input {missing[0]!r:.100}, and the rows have no such column",
                where="rows",
                hint="judge on a table with the columns that the model was trained on",
            )
        return list(wanted)
    stated = [column.name for column in domain.columns if domain.kind is not DomainKind.SERIES]
    if missing := [name for name in stated if name not in names]:
        raise BadInput(
            f"the policy's domain has a column {missing[0]!r:.100}, and the rows have none",
            where="rows",
            hint="judge on a table with the columns that the model was trained on, or mend the domain",
        )
    if stated and count in (0, len(stated)):
        return [name for name in names if name in set(stated)]
    apart = [n for n in names if n not in domain.groups]
    numbers = [n for n in names if n not in domain.groups or is_number(table.column(n))]
    return next((c for c in (list(names), numbers, apart) if len(c) == count), numbers or list(names))


def _text(table: pa.Table, chosen: Sequence[str]) -> np.ndarray:
    if len(chosen) != 1:
        hint = "name other columns as groups in the policy's domain, or leave them out"
        raise BadInput(f"{len(chosen)} columns, where one holds the text", where="rows", hint=hint)
    return texts(table.column(chosen[0]), chosen[0])


def _whole_domain(table: pa.Table, chosen: Sequence[str], domain: Domain, notes: list[str]) -> Domain:
    """The domain with a column for each feature, in order; what it does not state is what the rows say."""
    stated = {column.name: column for column in domain.columns}
    seen = [name for name in chosen if name not in stated]
    if seen:
        shown = ", ".join(seen[:10]) + (", ..." if len(seen) > 10 else "")
        notes.append(
            f"ranges of {len(seen)} columns were taken from the rows, not from a policy: {shown}"[:500]
        )
    return replace(domain, columns=tuple(stated.get(n) or _seen(table.column(n), n) for n in chosen))


def _series(
    table: pa.Table, chosen: Sequence[str], domain: Domain, notes: list[str]
) -> tuple[Domain, np.ndarray]:
    """Windows (n, features), and the domain with a column for each channel.

    Where the policy states none, its range is that of the rows, and where it states no ``scale``, the unit of
    eps is the standard deviation of the channel in the rows.
    """
    bounds = np.finfo(np.float32)
    x = features(table, chosen, float(bounds.min), float(bounds.max))
    steps, channels = domain.steps_and_channels
    if steps * channels != x.shape[1]:
        return domain, x  # what is wrong with it is said of every kind alike
    values = by_channel(domain, x)
    if not domain.columns:
        notes.append(f"ranges and spreads of {channels} channels were taken from the rows, not from a policy")
    whole = domain.columns or tuple(
        Column(f"channel {at + 1}", float(values[:, at].min()), float(values[:, at].max()))
        for at in range(channels)
    )
    for at, column in enumerate(whole):
        _check_range(column, values[:, at])
    spread = [column.scale or float(values[:, at].std()) for at, column in enumerate(whole)]
    whole = tuple(replace(column, scale=scale) for column, scale in zip(whole, spread, strict=True))
    low, high = min(column.low for column in whole), max(column.high for column in whole)
    if low < high:  # for whoever asks about all numbers at once
        domain = replace(domain, low=low, high=high)
    return replace(domain, columns=whole), x


def _check_range(column: Column, values: np.ndarray) -> None:
    outside = np.argwhere((values < np.float32(column.low)) | (values > np.float32(column.high)))
    if len(outside):
        row, step = outside[0]
        text = f"channel {column.name!r} has {values[row, step]:g}, outside {column.low:g} to {column.high:g}"
        hint = "mend the channel's range in the policy's domain, or leave such rows out"
        raise BadInput(text, where=f"rows, row {row + 1:,}, step {step + 1:,}", hint=hint)


def _seen(column: pa.ChunkedArray, name: str) -> Column:
    """A column as its values are: their range, and whole where all of them are."""
    if not is_number(column):
        hint = "only numbers can be attacked; if it is the label, name it with --label"
        raise BadInput(f"column {name!r} is {column.type}, not numbers", where="rows", hint=hint)
    values = floats(column)
    known = values[np.isfinite(values)]
    if not len(known):
        raise BadInput(f"column {name!r} has no finite number", where="rows")
    low, high = float(known.min()), float(known.max())
    whole = bool((known == np.floor(known)).all())
    return Column(name, low, high, integer=whole)


def _groups(table: pa.Table, domain: Domain) -> dict[str, np.ndarray]:
    found = {}
    for name in domain.groups:
        if name not in table.column_names:
            raise BadInput(
                f"the policy's domain groups by {name!r:.100}", where="rows", hint="no such column"
            )
        column = table.column(name)
        values = floats(column) if is_number(column) else None
        if values is None:
            found[name] = np.array(["(none)" if v is None else str(v) for v in column.to_pylist()], object)
        elif len(np.unique(values)) <= GROUPS_OF_NUMBERS_MAX and np.isfinite(values).all():
            whole = bool((values == np.floor(values)).all())
            found[name] = named(values) if whole else np.array([f"{v:g}" for v in values], object)
        else:
            raise BadInput(
                f"group column {name!r} has over {GROUPS_OF_NUMBERS_MAX} different numbers",
                where="rows",
                hint="put them into bands in a column of their own",
            )
    return found
