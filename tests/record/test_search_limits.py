"""What a search may cost before it is known whether it is one."""

from __future__ import annotations

from tallystick.record import search
from tallystick.record.search import ORDERS_MAX, read_conditions, read_orders


def test_orders_are_few_and_short_before_they_are_looked_at() -> None:
    """What is kept of them, and the time that they take, has a limit of its own."""
    many = tuple(f"tags.t{n}" for n in range(ORDERS_MAX))
    found = read_orders(many, "run")
    assert found is not None
    assert len(found) == ORDERS_MAX
    kept = search._read_orders.cache_info().currsize
    assert read_orders((*many, "tags.more"), "run") is None
    assert read_orders(("!", "y" * 1_000_000), "run") is None
    assert search._read_orders.cache_info().currsize == kept


def test_blanks_in_a_list_cost_no_more_than_their_number() -> None:
    """Twice the blanks, twice the steps of the pattern: quadratic, this would take minutes."""
    assert read_conditions("run_id IN ('a'" + " " * 7900 + "x", "run") is None
    assert search._CLAUSE.match("run_id IN ('a'" + " " * 400_000 + "x") is None
    for blanks in ("", " , ", ",", "  ,"):
        assert read_conditions(f"run_id IN ('a'{blanks})", "run") == read_conditions("run_id IN ('a')", "run")
