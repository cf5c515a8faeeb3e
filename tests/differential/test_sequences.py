"""Random sessions, sent to stock MLflow and to a hub: every answer is the same.

``TALLY_DIFF_EXAMPLES`` says how many sessions (default 10, always the same ones; other ones where it is
set). A failure names the requests that led to it; ``TALLY_DIFF_SHRINK=1`` looks for fewer, for minutes.
"""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.differential.asked.calls import START, calls
from tests.differential.twin import Call, Twin

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("TALLY_DIFF_EXAMPLES", "0"))
RUNS = "/api/2.0/mlflow/runs"
PREFIX = "PREFIX"
HISTORIES_MAX = 8
_number = itertools.count()
_start = itertools.count(100_000)


def renamed(call: Call, prefix: str) -> Call:
    """``call`` with experiments and models of its own: sessions share a database."""

    def put(value: object) -> object:
        if isinstance(value, str):
            return value.replace(PREFIX, prefix).replace(PREFIX.upper(), prefix.upper())
        if isinstance(value, dict):
            return {k: put(v) for k, v in value.items()}
        if value == START and isinstance(value, int):
            return next(_start)
        return [put(v) for v in value] if isinstance(value, list) else value

    raw = None if call.raw is None else str(put(call.raw)).replace(str(START), str(next(_start)))
    params = tuple((k, v.replace(PREFIX, prefix)) for k, v in call.params)
    return Call(call.method, call.path, put(call.body), params, call.headers, raw)


def run_session(twin: Twin, session: list[Call]) -> None:
    """Send a session, in experiments of its own; then read all that it wrote."""
    prefix = f"s{next(_number)}x"
    twin.new_page()
    for name in ("first", "second"):
        twin.ask(Call("POST", "/api/2.0/mlflow/experiments/create", {"name": f"{prefix} {name}"}))
    for start in (5, 7):
        twin.ask(Call("POST", f"{RUNS}/create", {"experiment_id": "@experiment:0@", "start_time": start}))
    for name in ("m", "ünï"):
        made = {"experiment_id": "@experiment:0@", "name": name, "source_run_id": "@run:0@"}
        twin.ask(Call("POST", "/api/2.0/mlflow/logged-models", made))
    for call in session:
        twin.ask(renamed(call, prefix))
    read_all(twin)


def read_all(twin: Twin) -> None:
    """All runs of all experiments known, deleted too, the histories of a few of their metrics, and models."""
    known = [f"@experiment:{n}@" for n in range(len(twin.sides[0].made["experiment"]))]
    body = {"experiment_ids": known, "run_view_type": "ALL", "max_results": 1000}
    found = twin.ask(Call("POST", f"{RUNS}/search", body))
    runs = found.body.get("runs", ()) if isinstance(found.body, dict) else ()
    for run in runs:
        mark = f"@run:{twin.sides[0].made['run'].index(run['info']['run_id'])}@"
        for metric in run["data"].get("metrics", ())[:HISTORIES_MAX]:
            params = (("run_id", mark), ("metric_key", metric["key"]))
            twin.ask(Call("GET", "/api/2.0/mlflow/metrics/get-history", params=params))
    for n in range(len(twin.sides[0].made["model"])):
        twin.ask(
            Call("GET", f"/api/2.0/mlflow/logged-models/@model:{n}@", params=(("allow_deleted", "true"),))
        )
        twin.ask(Call("GET", f"/api/2.0/mlflow/logged-models/@model:{n}@"))


@settings(
    max_examples=EXAMPLES or 10,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, *([Phase.shrink] if "TALLY_DIFF_SHRINK" in os.environ else [])],
    report_multiple_bugs=False,
)
@given(session=calls(PREFIX))
def test_any_session(twin: Twin, session: list[Call]) -> None:
    run_session(twin, session)
