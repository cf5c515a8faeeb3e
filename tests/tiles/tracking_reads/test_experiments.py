"""Experiments are found and told as MLflow finds and tells them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.record.asks import GetExperiment, NotPlain, SearchExperiments
from tallystick.record.search import read_conditions, read_orders
from tests.tiles.tracking_reads.both import QUICK, STAGES, TEXTS, TIMES, VIEWS, Both, same_pages
from tests.tiles.tracking_reads.parts import told_experiment

experiment_tests = st.one_of(
    st.builds(
        "name {} '{}'".format,
        st.sampled_from(["=", "!=", "LIKE", "ILIKE"]),
        st.sampled_from(["one", "two%", "%é", "%É", "_ne"]),
    ),
    st.builds(
        "tags.{} {} '{}'".format,
        st.sampled_from(["team", "`a b`"]),
        st.sampled_from(["=", "!=", "LIKE", "ILIKE"]),
        TEXTS,
    ),
    st.builds("tags.team {}".format, st.sampled_from(["IS NULL", "IS NOT NULL"])),
    st.builds("creation_time {} {}".format, st.sampled_from(["=", "!=", ">", ">=", "<", "<="]), TIMES),
    st.builds(
        "experiment_id {}".format, st.sampled_from(["= '1'", "!= '0'", "IN ('1', '3')", "NOT IN ('2')"])
    ),
)
experiment_orders = st.lists(
    st.builds(
        "{} {}".format,
        st.sampled_from(["name", "experiment_id", "creation_time", "last_update_time"]),
        st.sampled_from(["ASC", "DESC"]),
    ),
    max_size=2,
    unique_by=lambda order: order.split()[0],
)


@QUICK
@given(
    st.lists(experiment_tests, max_size=2).map(" AND ".join),
    experiment_orders,
    VIEWS,
    st.sampled_from([1, 2, 100]),
)
def test_a_search_for_experiments(both: Both, text: str, orders: list[str], view: str, size: int) -> None:
    conditions, order = read_conditions(text, "experiment"), read_orders(tuple(orders), "experiment")
    assert conditions is not None
    assert order is not None

    def theirs(token: str | None) -> tuple[list[Any], str | None]:
        found = both.store.search_experiments(view, size, text, orders, token)
        return list(found), found.token

    same_pages(
        theirs,
        lambda offset: both.ask(SearchExperiments(conditions, STAGES[view], order, size, offset)),
        told_experiment,
    )


def test_an_experiment_by_id_and_by_name(both: Both) -> None:
    for number in (0, 1, 2, 3):
        theirs = both.store.get_experiment(str(number))
        assert told_experiment(both.ask(GetExperiment(number))) == told_experiment(theirs)
        assert told_experiment(both.ask(GetExperiment(name=theirs.name))) == told_experiment(theirs)
    for ask in (GetExperiment(99), GetExperiment(name="ONE")):
        with pytest.raises(NotPlain):
            both.ask(ask)
