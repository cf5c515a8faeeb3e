"""Searches over runs and experiments that have everything: any filter, order and page is as stock's."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.differential.asked.filling import experiments_of_all_kinds, runs_of_all_kinds
from tests.differential.asked.filters import experiment_filters, run_filters, run_orders
from tests.differential.conftest import Pair
from tests.differential.twin import Call, Twin

pytestmark = pytest.mark.slow

API = "/api/2.0/mlflow"
EXAMPLES = int(os.environ.get("TALLY_DIFF_EXAMPLES", "0")) * 20
PAGES_MAX = 60

searched = settings(
    max_examples=EXAMPLES or 80,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)


@pytest.fixture(scope="module")
def filled(pair: Pair) -> Twin:
    """Both servers with the same runs and experiments."""
    pair.twin.new_page()
    runs_of_all_kinds(pair.twin, "searched", 48)
    experiments_of_all_kinds(pair.twin, "e")
    return pair.twin


def ask(twin: Twin, call: Call) -> object:
    """One answer; what was asked before does not matter here."""
    twin.history.clear()
    return twin.ask(call).body


def turn_pages(twin: Twin, path: str, body: dict[str, object]) -> int:
    """Ask for page after page on both sides, and say how many there were."""
    pages = 1
    answer = ask(twin, Call("POST", path, body))
    while isinstance(answer, dict) and "next_page_token" in answer and pages < PAGES_MAX:
        latest = len(twin.sides[0].made["token"]) - 1
        answer = ask(twin, Call("POST", path, body | {"page_token": f"@token:{latest}@"}))
        pages += 1
    return pages


STAGES = st.sampled_from(["ACTIVE_ONLY", "DELETED_ONLY", "ALL", None])
EXPERIMENTS = [
    ["@experiment:0@"],
    ["@experiment:1@", "@experiment:0@"],
    ["@experiment:0@", "@experiment:0@", "77777"],
]


@searched
@given(
    filter_=run_filters(),
    orders=run_orders(),
    stage=STAGES,
    where=st.sampled_from(EXPERIMENTS),
    most=st.sampled_from([1000, 1000, 7]),
)
def test_any_search_of_runs(
    filled: Twin, filter_: str, orders: list[str], stage: str | None, where: list[str], most: int
) -> None:
    body = {
        "experiment_ids": where,
        "filter": filter_,
        "order_by": orders,
        "max_results": most,
        "run_view_type": stage,
    }
    ask(filled, Call("POST", f"{API}/runs/search", body))


@searched
@given(
    filter_=experiment_filters(),
    stage=STAGES,
    order=st.sampled_from(
        [
            None,
            ["name"],
            ["name DESC"],
            ["creation_time", "name"],
            ["experiment_id DESC"],
            ["last_update_time"],
            ["tags.x"],
            ["nope"],
        ]
    ),
)
def test_any_search_of_experiments(
    filled: Twin, filter_: str, stage: str | None, order: list[str] | None
) -> None:
    body = {"filter": filter_, "order_by": order, "max_results": 1000, "view_type": stage}
    ask(filled, Call("POST", f"{API}/experiments/search", body))


@pytest.mark.parametrize(
    "orders", [[], ["metrics.loss"], ["metrics.loss DESC", "params.lr"], ["tags.stage DESC"], ["end_time"]]
)
@pytest.mark.parametrize("most", [1, 5, 13])
def test_every_page_of_runs(filled: Twin, orders: list[str], most: int) -> None:
    body = {"experiment_ids": ["@experiment:0@", "@experiment:1@"], "order_by": orders, "max_results": most}
    assert turn_pages(filled, f"{API}/runs/search", body) >= 43 // most


def test_every_page_of_experiments(filled: Twin) -> None:
    body: dict[str, object] = {
        "filter": "name LIKE '%e%'",
        "max_results": 2,
        "order_by": ["name"],
        "view_type": "ALL",
    }
    assert turn_pages(filled, f"{API}/experiments/search", body) >= 4


@pytest.mark.parametrize(
    "token",
    ["", "x", "bm90IGpzb24=", "e30=", "eyJvZmZzZXQiOiAieCJ9", "eyJvZmZzZXQiOiAtMX0=", "eyJvZmZzZXQiOiAyfQ=="],
)
def test_a_token_that_nobody_gave(filled: Twin, token: str) -> None:
    """The last ones say {"offset": "x"}, {"offset": -1} and {"offset": 2}."""
    body = {"experiment_ids": ["@experiment:0@"], "max_results": 3, "page_token": token}
    ask(filled, Call("POST", f"{API}/runs/search", body))
    ask(
        filled,
        Call(
            "POST",
            f"{API}/experiments/search",
            {"max_results": 2, "page_token": token, "filter": "name LIKE 'e%'"},
        ),
    )
    params = (("run_id", "@run:0@"), ("metric_key", "loss"), ("max_results", "1"), ("page_token", token))
    ask(filled, Call("GET", f"{API}/metrics/get-history", params=params))


@pytest.mark.parametrize("name", ["run_id", "artifact_uri"])
def test_an_order_by_what_has_random_ids_in_it(filled: Twin, name: str) -> None:
    """Each side by itself, as the ids are its own."""
    body = {"experiment_ids": ["@experiment:0@"], "order_by": [f"attributes.{name} DESC"]}
    for side in filled.sides:
        answer = side.send(Call("POST", f"{API}/runs/search", body))
        ids = [run["info"]["run_id"] for run in answer.body["runs"]]
        assert len(ids) > 30
        assert ids == sorted(ids, reverse=True), side.name
