"""The smallest edits that still turn the model, said in words: ``income 41000 -> 41210``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import numpy as np

from tallystick.crew.judging.measuring import spans
from tallystick.evidence.domain import Column, Domain
from tallystick.evidence.probe import Change

__all__ = ["changes", "fewer"]

QUERIES_MAX = 400
"""Of one row: to find out which of its edits it does not take."""

SHOWN_MAX = 20
CHARS_MAX = 80

Turns = Callable[[np.ndarray], np.ndarray]
"""Of rows (k, features): whether the model is still turned by them, bool (k,)."""


def fewer(domain: Domain, before: np.ndarray, after: np.ndarray, turns: Turns) -> np.ndarray:
    """``after`` with as many features as possible put back to what they were, and the model still turned.

    Halves are put back at once while that goes, the smallest edits first; then one after the other. Columns
    of one one-hot group go together. What is left has no edit that could be put back alone, unless the
    queries ran out.
    """
    kept, asked = after.copy(), 0
    groups = _groups(domain, before, after)
    size = max(1, len(groups) // 2)
    while groups and asked < QUERIES_MAX:
        put_back = False
        for at in range(0, len(groups), size):
            if asked >= QUERIES_MAX:
                break
            places = [place for group in groups[at : at + size] for place in group]
            tried = kept.copy()
            tried[places] = before[places]
            asked += 1
            if (tried != before).any() and turns(tried[None])[0]:
                kept, put_back = tried, True
        groups = [group for group in groups if (kept[group] != before[group]).any()]
        if size == 1 and not put_back:
            break
        size = max(1, size // 2)
    return kept


def _groups(domain: Domain, before: np.ndarray, after: np.ndarray) -> list[list[int]]:
    """The places that were changed, those of one one-hot group together, the smallest change first."""
    far = np.abs(after.astype(np.float64) - before) / spans(domain, len(before))
    found: dict[object, list[int]] = {}
    for place in np.flatnonzero(after != before):
        name = domain.columns[place].one_hot if domain.columns else ""
        found.setdefault(name or int(place), []).append(int(place))
    return sorted(found.values(), key=lambda group: (far[group].max(), group[0]))


def changes(
    domain: Domain, features: Sequence[str], before: np.ndarray | str, after: np.ndarray | str
) -> tuple[Change, ...]:
    """What differs, in words, the largest change first; at most ``SHOWN_MAX``."""
    if isinstance(before, str) or isinstance(after, str):
        return _words(str(before), str(after))
    groups = _groups(domain, before, after)[::-1]
    made = []
    for group in groups[:SHOWN_MAX]:
        one_hot = domain.columns[group[0]].one_hot if domain.columns else ""
        if one_hot:
            made.append(_category(one_hot, domain.columns, before, after))
        else:
            column = domain.columns[group[0]] if domain.columns else None
            made.append(_number(features[group[0]], column, before[group[0]], after[group[0]]))
    return tuple(made)


def _number(name: str, column: Column | None, before: float, after: float) -> Change:
    by = float(after) - float(before)
    unit = column.unit if column else ""
    return Change(name, _said(before), _said(after), float(f"{by:.6g}"), unit)


def _category(group: str, columns: Sequence[Column], before: np.ndarray, after: np.ndarray) -> Change:
    places = [at for at, column in enumerate(columns) if column.one_hot == group]

    def chosen(row: np.ndarray) -> str:
        name = columns[places[int(row[places].argmax())]].name
        return name.removeprefix(group).lstrip("=_: ") or name

    return Change(group, chosen(before), chosen(after))


def _said(value: float) -> str:
    return f"{int(value)}" if float(value).is_integer() and abs(value) < 2**53 else f"{value:.6g}"


def _words(before: str, after: str) -> tuple[Change, ...]:
    """The words that differ, by position."""
    old, new = before.split(), after.split()
    made = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            where = f"word {a + 1}"
            made.append(Change(where, " ".join(old[a:b])[:CHARS_MAX], " ".join(new[c:d])[:CHARS_MAX]))
    return tuple(made[:SHOWN_MAX])
