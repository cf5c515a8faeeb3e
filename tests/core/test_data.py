from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.data import Column, Snapshot, check_append, check_snapshot
from tallystick.core.errors import BadInput
from tallystick.core.names import digest_of

columns = st.lists(
    st.builds(Column, st.text("abc é", min_size=1, max_size=3), st.sampled_from(["int64", "double"])),
    min_size=1,
    max_size=5,
    unique_by=lambda column: column.name,
).map(tuple)


@given(columns, st.randoms())
def test_the_same_columns_fit_in_any_order(have: tuple[Column, ...], lots: Random) -> None:
    check_append("t", (), have)
    shuffled = list(have)
    lots.shuffle(shuffled)
    check_append("t", have, tuple(shuffled))


@given(columns, columns)
def test_other_columns_never_fit(have: tuple[Column, ...], come: tuple[Column, ...]) -> None:
    if set(have) == set(come):
        check_append("t", have, come)
        return
    with pytest.raises(BadInput) as refused:
        check_append("t", have, come)
    assert refused.value.where == "table t"


@pytest.mark.parametrize(
    ("come", "says"),
    [
        ([], "no columns"),
        ([("a", "int64"), ("a", "double")], "'a' appears twice"),
        ([("", "int64")], "cannot be a column name"),
        ([("a\nb", "int64")], "cannot be a column name"),
        ([("a" * 251, "int64")], "cannot be a column name"),
        ([("a", "int64")], "'b' is missing"),
        ([("a", "int64"), ("b", "double"), ("c", "double")], "'c' is not in the table"),
        ([("a", "int64"), ("b", "string")], "'b' is string, the table has double"),
    ],
)
def test_what_does_not_fit_is_named(come: list[tuple[str, str]], says: str) -> None:
    have = (Column("a", "int64"), Column("b", "double"))
    with pytest.raises(BadInput, match=says):
        check_append("t", have, tuple(Column(*c) for c in come))


def test_a_table_needs_a_name() -> None:
    with pytest.raises(BadInput):
        check_append("../t", (), (Column("a", "int64"),))


def test_a_snapshot_is_checked() -> None:
    good = Snapshot("t", "1", digest_of("rows"), 0, (), 0)
    assert check_snapshot(good) is good
    assert good.key == "t@1"
    for bad in (replace(good, rows=-1), replace(good, digest="rows"), replace(good, table="a/b")):
        with pytest.raises(BadInput):
            check_snapshot(bad)
