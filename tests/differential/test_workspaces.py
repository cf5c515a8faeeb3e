"""MLflow's workspaces: with them on, every request in any workspace is answered as stock answers it.

Ids that another workspace has, names that several have, workspaces that do not exist, and none named.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.differential.asked.calls import any_call
from tests.differential.conftest import Pair, paired
from tests.differential.test_sequences import EXAMPLES, PREFIX, renamed
from tests.differential.twin import Call, Twin

pytestmark = pytest.mark.slow

API = "/api/2.0/mlflow"
HEADER = "X-MLFLOW-WORKSPACE"
KNOWN = ["", "default", "team-a", "team-b"]
OTHERS = ["nobody", "Not A Name", "../up", "team a", "TEAM-A", "x" * 80]
_number = itertools.count()


@pytest.fixture(scope="module")
def walled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both with workspaces on, and two made."""
    folder = tmp_path_factory.mktemp("workspaces")
    with paired(folder, stock_words=("--enable-workspaces",), hub_words=("--workspaces",)) as pair:
        for name in ("team-a", "team-b"):
            pair.twin.ask(Call("POST", "/api/3.0/mlflow/workspaces", {"name": name}))
        yield pair


def within(call: Call, workspace: str | None) -> Call:
    """``call`` in a workspace; an empty name is said, None is not."""
    return call if workspace is None else replace(call, headers={**call.headers, HEADER: workspace})


def begin(twin: Twin) -> str:
    """An experiment of one name, a run and a model in each of the known workspaces."""
    prefix = f"w{next(_number)}x"
    twin.new_page()
    for workspace in KNOWN[1:]:
        twin.ask(within(Call("POST", f"{API}/experiments/create", {"name": f"{prefix}-a"}), workspace))
    for n, workspace in enumerate(KNOWN[1:]):
        place = {"experiment_id": f"@experiment:{n}@"}
        twin.ask(within(Call("POST", f"{API}/runs/create", {**place, "start_time": n + 1}), workspace))
        twin.ask(within(Call("POST", f"{API}/logged-models", {**place, "name": "m"}), workspace))
    return prefix


def read_everywhere(twin: Twin) -> None:
    for workspace in (None, *KNOWN):
        body = {"experiment_ids": [f"@experiment:{n}@" for n in range(3)], "run_view_type": "ALL"}
        twin.ask(within(Call("POST", f"{API}/runs/search", body), workspace))
        twin.ask(within(Call("POST", f"{API}/experiments/search", {"max_results": 1000}), workspace))


@settings(
    max_examples=EXAMPLES // 2 or 5,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    phases=[Phase.generate, *([Phase.shrink] if "TALLY_DIFF_SHRINK" in os.environ else [])],
)
@given(
    session=st.lists(
        st.tuples(any_call(PREFIX), st.sampled_from([None, *KNOWN, *KNOWN, *KNOWN, *OTHERS])),
        min_size=8,
        max_size=30,
    )
)
def test_any_session(walled: Pair, session: list[tuple[Call, str | None]]) -> None:
    prefix = begin(walled.twin)
    for call, workspace in session:
        walled.twin.ask(within(renamed(call, prefix), workspace))
    read_everywhere(walled.twin)


def test_what_another_workspace_has_is_not_there(walled: Pair) -> None:
    """Every hot route, on things of workspace team-a, asked from each workspace."""
    begin(walled.twin)
    run, experiment = {"run_id": "@run:1@"}, {"experiment_id": "@experiment:1@"}
    calls = [
        Call("GET", f"{API}/runs/get", params=(("run_id", "@run:1@"),)),
        Call("GET", f"{API}/metrics/get-history", params=(("run_id", "@run:1@"), ("metric_key", "m"))),
        Call(
            "GET",
            "/ajax-api/2.0/mlflow/metrics/get-history-bulk",
            params=(("run_id", "@run:1@"), ("metric_key", "m")),
        ),
        Call(
            "GET",
            f"{API}/metrics/get-history-bulk-interval",
            params=(("run_ids", "@run:1@"), ("metric_key", "m")),
        ),
        Call("GET", f"{API}/experiments/get", params=(("experiment_id", "@experiment:1@"),)),
        Call("GET", f"{API}/logged-models/@model:1@"),
        Call("POST", f"{API}/logged-models/search", {"experiment_ids": ["@experiment:1@"]}),
        Call("POST", f"{API}/runs/search", {"experiment_ids": ["@experiment:1@"]}),
        Call("POST", f"{API}/runs/log-metric", {**run, "key": "m", "value": 1, "timestamp": 1}),
        Call("POST", f"{API}/runs/log-batch", {**run, "metrics": [{"key": "m", "value": 2, "timestamp": 2}]}),
        Call("POST", f"{API}/runs/log-parameter", {**run, "key": "p", "value": "1"}),
        Call("POST", f"{API}/runs/set-tag", {**run, "key": "t", "value": "1"}),
        Call("POST", f"{API}/runs/delete-tag", {**run, "key": "t"}),
        Call("POST", f"{API}/runs/update", {**run, "status": "FINISHED"}),
        Call("POST", f"{API}/runs/outputs", {**run, "models": [{"model_id": "@model:2@"}]}),
        Call("POST", f"{API}/runs/log-inputs", {**run, "models": [{"model_id": "@model:2@"}]}),
        Call("POST", f"{API}/runs/delete", run),
        Call("POST", f"{API}/runs/restore", run),
        Call("POST", f"{API}/runs/create", {**experiment, "start_time": 5}),
        Call("POST", f"{API}/logged-models", {**experiment, "name": "n", "source_run_id": "@run:2@"}),
        Call(
            "PATCH",
            f"{API}/logged-models/@model:1@",
            {"model_id": "@model:1@", "status": "LOGGED_MODEL_READY"},
        ),
        Call("POST", f"{API}/experiments/set-experiment-tag", {**experiment, "key": "k", "value": "v"}),
        Call("POST", f"{API}/experiments/update", {**experiment, "new_name": f"renamed {next(_number)}"}),
        Call("POST", f"{API}/experiments/delete", experiment),
        Call("POST", f"{API}/experiments/restore", experiment),
    ]
    for workspace in ("team-b", "default", None, "nobody", "team-a"):
        for call in calls:
            if workspace == "team-a" or not call.path.endswith("runs/create"):
                walled.twin.ask(within(call, workspace))
    read_everywhere(walled.twin)


def test_a_registered_model_has_its_name_in_each_workspace(walled: Pair) -> None:
    for workspace in KNOWN[1:]:
        walled.twin.ask(
            within(
                Call("POST", f"{API}/registered-models/create", {"name": "shared", "description": workspace}),
                workspace,
            )
        )
    for workspace in (None, *KNOWN, "nobody"):
        walled.twin.ask(
            within(Call("GET", f"{API}/registered-models/get", params=(("name", "shared"),)), workspace)
        )
        body = {"name": "shared", "source": "s3://b/m", "description": str(workspace)}
        walled.twin.ask(within(Call("POST", f"{API}/model-versions/create", body), workspace))
        params = (("name", "shared"), ("version", "2"))
        walled.twin.ask(within(Call("GET", f"{API}/model-versions/get", params=params), workspace))


def test_with_workspaces_off_the_header_is_answered_as_stock_does(twin: Twin) -> None:
    twin.ask(Call("POST", f"{API}/experiments/create", {"name": "no workspaces"}))
    twin.ask(Call("POST", f"{API}/runs/create", {"experiment_id": "@experiment:0@", "start_time": 1}))
    for workspace in ("", "a b", "default", "team-a"):
        for call in (
            Call("GET", f"{API}/runs/get", params=(("run_id", "@run:0@"),)),
            Call("POST", f"{API}/runs/set-tag", {"run_id": "@run:0@", "key": "k", "value": "v"}),
            Call("POST", f"{API}/runs/search", {"experiment_ids": ["@experiment:0@"]}),
        ):
            twin.ask(within(call, workspace))
