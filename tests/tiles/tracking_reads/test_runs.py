"""A search for runs finds, orders and pages as MLflow's does."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mlflow.entities import ViewType

from tallystick.record.asks import GetRun, NotPlain, SearchRuns
from tallystick.record.search import read_conditions, read_orders
from tallystick.tiles.tracking import find
from tests.tiles.tracking_reads.both import QUICK, STAGES, TEXTS, TIMES, VIEWS, Both, same_pages
from tests.tiles.tracking_reads.parts import KEYS, told_run

numbers = st.sampled_from(["0", "0.5", "1", "-2.5", "1e308", "-1E-3", "5", "1.7976931348623157e308"])
metric_tests = st.builds(
    "metrics.`{}` {} {}".format,
    st.sampled_from([*KEYS, "none"]),
    st.sampled_from(["=", "!=", ">", ">=", "<", "<="]),
    numbers,
)
words = st.sampled_from(["=", "!=", "LIKE", "ILIKE", "like", "ilike"])
items = st.sampled_from(
    ["params.p", "params.q", "params.none", "tags.t", "tags.`a b`", "tags.mlflow.runName"]
)
names = st.sampled_from(["run_name", "status", "user_id", "artifact_uri", "attributes.`Run name`", "run_id"])
datasets = st.sampled_from(["dataset.name", "dataset.digest", "datasets.context"])
dataset_texts = st.sampled_from(["iris", "Iris", "%i%", "0", "train", "Test", "a_b", "t%", "none"])
run_tests = st.one_of(
    metric_tests,
    metric_tests,
    st.builds("{} {} '{}'".format, items, words, TEXTS),
    st.builds("{} {}".format, items, st.sampled_from(["IS NULL", "IS NOT NULL"])),
    st.builds(
        "{} {} '{}'".format,
        names,
        words,
        st.one_of(TEXTS, st.sampled_from(["FINISHED", "f%", "%run%", "Bob"])),
    ),
    st.builds("{} {} '{}'".format, datasets, words, dataset_texts),
    st.builds(
        "{} {} ('{}', '{}')".format, datasets, st.sampled_from(["IN", "NOT IN"]), dataset_texts, dataset_texts
    ),
    st.builds(
        "{} {} {}".format,
        st.sampled_from(["start_time", "end_time", "Created"]),
        st.sampled_from(["=", "!=", ">", ">=", "<", "<="]),
        TIMES,
    ),
)
run_filters = st.lists(run_tests, max_size=3).map(" AND ".join)
run_orders = st.lists(
    st.builds(
        "{} {}".format,
        st.sampled_from(
            [f"metrics.`{key}`" for key in (*KEYS, "none")] * 2
            + [
                "params.p",
                "tags.t",
                "tags.`a b`",
                "start_time",
                "end_time",
                "status",
                "run_name",
                "run_id",
                "user_id",
            ]
        ),
        st.sampled_from(["ASC", "DESC"]),
    ),
    max_size=3,
    unique_by=lambda order: order.split()[0],
)
experiment_sets = st.sets(st.sampled_from([1, 2, 3, 9]), min_size=1, max_size=4).map(sorted)


def _search_runs(both: Both, text: str, orders: list[str], ids: list[int], view: str, size: int) -> None:
    conditions, order = read_conditions(text, "run"), read_orders(tuple(orders), "run")
    assert conditions is not None
    assert order is not None
    named = [str(number) for number in ids]
    same_pages(
        lambda token: both.store._search_runs(named, text, view, size, orders, token),
        lambda offset: both.ask(SearchRuns(tuple(ids), conditions, STAGES[view], order, size, offset)),
        told_run,
    )


@QUICK
@given(
    run_filters,
    run_orders,
    experiment_sets,
    VIEWS,
    st.sampled_from([1, 7, 100]),
)
def test_a_search_for_runs(
    both: Both, text: str, orders: list[str], ids: list[int], view: str, size: int
) -> None:
    if size == 1 and text == "":
        size = 5
    _search_runs(both, text, orders, ids, view, size)


@QUICK
@given(run_filters, run_orders, experiment_sets, st.integers(0, 3))
def test_wherever_it_starts(sqlite: Both, text: str, orders: list[str], ids: list[int], which: int) -> None:
    """From each of the places where a search could start, the same is found."""
    conditions, order = read_conditions(text, "run"), read_orders(tuple(orders), "run")
    assert conditions is not None
    assert order is not None
    ask = SearchRuns(tuple(ids), conditions, ("active",), order, 9, 0)
    starts = [start for start, _, _ in find._samples(ask, (find.Part("1 = 1"),))]
    assume(which < len(starts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(find, "_start", lambda *_: starts[which])
        _search_runs(sqlite, text, orders, ids, ViewType.ACTIVE_ONLY, 9)


def test_a_run_by_its_id(both: Both) -> None:
    for run_id in both.runs:
        assert told_run(both.ask(GetRun(run_id))) == told_run(both.store.get_run(run_id))
    with pytest.raises(NotPlain):
        both.ask(GetRun("none"))


def test_runs_by_their_ids(both: Both) -> None:
    some = "', '".join(both.runs[:5])
    for text in (f"run_id IN ('{some}')", f"run_id NOT IN ('{some}')", f"run_id = '{both.runs[3]}'"):
        _search_runs(both, text, ["metrics.loss"], [1, 2, 3], ViewType.ALL, 4)


def test_all_runs_at_once(both: Both) -> None:
    _search_runs(both, "", [], [1, 2, 3], ViewType.ALL, 50_000)


@pytest.mark.parametrize("ask", [SearchRuns((1,), max_results=0), SearchRuns((1,), offset=2**63)])
def test_what_no_page_can_be_is_left_to_mlflow(sqlite: Both, ask: SearchRuns) -> None:
    with pytest.raises(NotPlain):
        sqlite.ask(ask)
