"""Domains: which columns are of one one-hot group."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tallystick.evidence.domain import Column, one_hot_groups


def columns(groups: Sequence[str]) -> list[Column]:
    """One of each group, in order; of none where that is empty."""
    return [Column(f"c{at}", one_hot=group) for at, group in enumerate(groups)]


def test_groups_stand_in_order_of_their_first_columns_and_need_not_lie_together() -> None:
    found = one_hot_groups(columns(["z", "", "a", "z", "a", "", "m"]))
    assert list(found.items()) == [("z", (0, 3)), ("a", (2, 4)), ("m", (6,))]
    assert one_hot_groups(columns(["", ""])) == one_hot_groups(()) == {}


@given(st.lists(st.sampled_from(["", "a", "b", "c", " "])))
def test_each_column_of_a_group_is_in_that_group_once_and_no_other_is(groups: list[str]) -> None:
    found = one_hot_groups(columns(groups))
    pairs = [(at, group) for group, places in found.items() for at in places]
    assert sorted(pairs) == [(at, group) for at, group in enumerate(groups) if group]
    assert all(places == tuple(sorted(places)) for places in found.values())
    assert list(found) == sorted(found, key=groups.index)
