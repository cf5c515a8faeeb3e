"""The smallest edits that still turn the model, said in words: ``income 41000 -> 41210``.

And what was done to a text or a series, so that it can be shown beside what it was.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import numpy as np

from tallystick.crew.judging.measuring import by_channel, spans
from tallystick.evidence.domain import Column, Domain, DomainKind, one_hot_groups
from tallystick.evidence.probe import Change, Piece, Trace

__all__ = ["changes", "fewer", "passage", "traces"]

QUERIES_MAX = 400
"""Of one row: to find out which of its edits it does not take."""

SHOWN_MAX = 20
CHARS_MAX = 80

AROUND = 12
"""Words of a text that are shown before and after one that was changed."""

PIECES_MAX = 40

CHANNELS_MAX = 3
STEPS_MAX = 160
"""Of a series that is drawn: channels, and steps of each."""

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
    if domain.kind is DomainKind.SERIES:
        return _channels(domain, before, after)
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
    places = list(one_hot_groups(columns)[group])

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
    for kind, a, b, c, d in _compared(old, new):
        if kind != "equal":
            was, now = " ".join(old[a:b]), " ".join(new[c:d])
            made.append(Change(f"word {a + 1}", was[:CHARS_MAX], _told(was, now)))
    return tuple(made[:SHOWN_MAX])


def _compared(old: Sequence[str], new: Sequence[str]) -> Sequence[tuple[str, int, int, int, int]]:
    return difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()


def _told(was: str, now: str) -> str:
    """``now``, and of letters that only look like those before, which they are."""
    strange = dict.fromkeys(c for c in now if not c.isascii() and c not in was)
    said = now[:CHARS_MAX]
    return f"{said} ({', '.join(f'U+{ord(c):04X}' for c in strange)})"[: 2 * CHARS_MAX] if strange else said


def passage(before: str, after: str) -> tuple[Piece, ...]:
    """Both texts by pieces, changed and unchanged ones; of long stretches that are the same both ends alone.

    White space is one space; at most ``PIECES_MAX``.
    """
    old, new = before.split(), after.split()
    made = []
    parts = _compared(old, new)
    for at, (kind, a, b, c, d) in enumerate(parts):
        if kind != "equal":
            was, now = " ".join(old[a:b]), " ".join(new[c:d])
            made.append(Piece(was[:CHARS_MAX], now[:CHARS_MAX]))
            continue
        same = _ends(old[a:b], first=at == 0, last=at == len(parts) - 1)
        made.append(Piece(same, same))
    return tuple(made[:PIECES_MAX])


def _ends(words: Sequence[str], *, first: bool, last: bool) -> str:
    """The words next to what was changed: all where there are few, else with dots for the rest."""
    head = [] if first else words[:AROUND]
    tail = [] if last else words[max(len(head), len(words) - AROUND) :]
    dots = ["\u2026"] if len(head) + len(tail) < len(words) else []
    return " ".join(word[:CHARS_MAX] for word in [*head, *dots, *tail])


def _most_changed(domain: Domain, before: np.ndarray, after: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Channels by the largest change in units of their span, and all changes (channels, steps) in these."""
    unit = by_channel(domain, spans(domain, len(before)))
    far = np.abs(by_channel(domain, after) - by_channel(domain, before)) / unit
    order = sorted(range(len(far)), key=lambda at: (-far[at].max(), at))
    return [at for at in order if far[at].max() > 0], far


def _channel(domain: Domain, at: int) -> Column:
    return domain.columns[at] if domain.columns else Column(f"channel {at + 1}")


def _channels(domain: Domain, before: np.ndarray, after: np.ndarray) -> tuple[Change, ...]:
    """The largest change of each channel."""
    order, far = _most_changed(domain, before, after)
    was, now = by_channel(domain, before), by_channel(domain, after)
    made = []
    for at in order[:SHOWN_MAX]:
        step, column = int(far[at].argmax()), _channel(domain, at)
        made.append(_number(f"{column.name} at step {step + 1}", column, was[at, step], now[at, step]))
    return tuple(made)


def traces(domain: Domain, before: np.ndarray, after: np.ndarray) -> tuple[Trace, ...]:
    """The channels that were changed most; of more steps than can be told apart, those most changed."""
    order, far = _most_changed(domain, before, after)
    was, now = by_channel(domain, before), by_channel(domain, after)
    made = []
    for at in order[:CHANNELS_MAX]:
        parts = np.array_split(np.arange(far.shape[1]), min(STEPS_MAX, far.shape[1]))
        steps = [int(part[far[at][part].argmax()]) for part in parts]
        column = _channel(domain, at)
        made.append(
            Trace(column.name, tuple(steps), _short(was[at, steps]), _short(now[at, steps]), column.unit)
        )
    return tuple(made)


def _short(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in values)
