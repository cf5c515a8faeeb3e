"""Bring and take: stock MLflow goes on with the hub's database, and a hub with stock's."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.differential.asked.calls import calls
from tests.differential.asked.filling import experiments_of_all_kinds, runs_of_all_kinds
from tests.differential.conftest import Pair
from tests.differential.test_sequences import PREFIX, read_all, run_session
from tests.differential.twin import Call, Twin

pytestmark = pytest.mark.slow

API = "/api/2.0/mlflow"
SEARCHES = [
    {"filter": "metrics.loss != nan", "order_by": ["metrics.loss DESC"]},
    {"filter": "params.lr ILIKE 'a%'", "order_by": ["metrics.acc", "tags.stage"]},
    {"filter": "status = 'RUNNING'", "run_view_type": "ALL", "max_results": 9},
]


def read_more(twin: Twin) -> None:
    """What was written, in all the ways that it is read."""
    read_all(twin)
    for search in SEARCHES:
        twin.ask(
            Call(
                "POST",
                f"{API}/runs/search",
                {"experiment_ids": ["@experiment:0@", "@experiment:1@"], **search},
            )
        )
    twin.ask(Call("POST", f"{API}/experiments/search", {"max_results": 1000, "view_type": "ALL"}))


def test_each_goes_on_with_the_others_database(pair: Pair) -> None:
    pair.twin.new_page()
    runs_of_all_kinds(pair.twin, "taken", 18)
    experiments_of_all_kinds(pair.twin, "taken")
    read_more(pair.twin)
    pair.swap()
    read_more(pair.twin)
    pair.twin.ask(
        Call(
            "POST", f"{API}/runs/log-metric", {"run_id": "@run:0@", "key": "late", "value": 1, "timestamp": 1}
        )
    )
    pair.twin.ask(Call("POST", f"{API}/runs/create", {"experiment_id": "@experiment:0@", "start_time": 9999}))
    read_more(pair.twin)
    _goes_on(pair.twin)


def _goes_on(twin: Twin) -> None:
    """Further sessions, now that the databases have changed hands."""

    @settings(
        max_examples=2, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(session=calls(PREFIX))
    def any_session(session: list[Call]) -> None:
        run_session(twin, session)

    any_session()
