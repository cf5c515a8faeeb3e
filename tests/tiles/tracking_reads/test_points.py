"""Histories: whole, by the page, of many runs, and thinned out."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.record.asks import History, HistoryBulk, HistoryInterval, NotPlain
from tests.tiles.tracking_reads.both import QUICK, Both
from tests.tiles.tracking_reads.parts import KEYS


def _points(found: Any) -> list[tuple[Any, ...]]:
    """In the order in which they came, but for those that differ in being NaN alone: that order is open."""
    told = [(repr(one.value), one.timestamp, one.step) for one in found]
    return [one for _, group in itertools.groupby(told, key=lambda one: one[1:]) for one in sorted(group)]


def test_a_history(both: Both) -> None:
    for run_id, key in itertools.product(both.runs, (*KEYS, "none")):
        whole = both.ask(History(run_id, key))
        theirs = both.store.get_metric_history(run_id, key)
        assert _points(_ours(whole.items)) == _points(theirs)
        assert whole.next_offset is None
        token, offset = None, 0
        for _ in itertools.count():
            found = both.store.get_metric_history(run_id, key, max_results=6, page_token=token)
            token = found.token
            page = both.ask(History(run_id, key, 6, offset))
            assert len(page.items) == len(found)
            assert (page.next_offset is None) == (token is None)
            if page.next_offset is None:
                break
            offset = page.next_offset
    with pytest.raises(NotPlain):
        both.ask(History("none", "loss"))


class _Named(NamedTuple):
    value: float
    timestamp: int
    step: int


def _ours(points: Any) -> list[_Named]:
    return [_Named(one.value, one.timestamp_ms, one.step) for one in points]


@QUICK
@given(st.data(), st.sampled_from(KEYS), st.sampled_from([1, 3, 40, 25_000]))
def test_histories_of_many(both: Both, data: st.DataObject, key: str, most: int) -> None:
    ids = data.draw(st.lists(st.sampled_from([*both.runs, "none"]), min_size=1, max_size=6))
    theirs = both.store.get_metric_history_bulk(ids, key, most)
    ours = both.ask(HistoryBulk(tuple(ids), key, most))
    assert [one.run_id for one in ours] == [one.run_id for one in theirs]
    if most >= 1000:
        for run_id in set(ids):
            assert _points(_ours([one for one in ours if one.run_id == run_id])) == _points(
                [one for one in theirs if one.run_id == run_id]
            )


@QUICK
@given(
    st.data(),
    st.sampled_from(KEYS),
    st.integers(1, 30),
    st.one_of(st.none(), st.tuples(st.integers(-3, 8), st.integers(-3, 8))),
)
def test_a_history_thinned_out(
    both: Both, data: st.DataObject, key: str, most: int, steps: tuple[int, int] | None
) -> None:
    ids = data.draw(st.lists(st.sampled_from(both.runs), min_size=1, max_size=4))
    first, last = steps or (None, None)
    theirs = both.store.get_metric_history_bulk_interval(ids, key, most, first, last)
    ours = both.ask(HistoryInterval(tuple(ids), key, most, first, last))
    assert [(one.run_id, repr(one.value), one.timestamp_ms, one.step) for one in ours] == [
        (one.run_id, repr(one.value), one.timestamp, one.step) for one in theirs
    ]


def test_what_is_not_plain_of_histories(both: Both) -> None:
    for ask in (
        HistoryInterval((both.runs[0], "none"), "loss", 5),
        HistoryInterval((both.runs[0],), "loss", 5, 1, None),
        HistoryBulk((both.runs[0],), "loss", 0),
    ):
        with pytest.raises(NotPlain):
            both.ask(ask)
