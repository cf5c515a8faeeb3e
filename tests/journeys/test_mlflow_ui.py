"""MLflow's pages under /mlflow/ in a real browser, over what the stock client logged through the hub."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from playwright.sync_api import Browser, Page, expect

from tests.fakes.machine.chromium import DRIVES_CHROMIUM, chromium
from tests.journeys.conftest import RunningHub, WithRecord, start_hub

__all__ = ["chromium"]

pytestmark = [*DRIVES_CHROMIUM, pytest.mark.slow]

SESSION = """
import json, time, mlflow
from mlflow.entities import Metric
mlflow.set_experiment("pages")
client = mlflow.MlflowClient()
made = []
for n in range(2):
    with mlflow.start_run(run_name=f"run-to-compare-{n}") as run:
        mlflow.log_params({"learning_rate": 0.1 * (n + 1), "optimizer": "adam"})
        client.log_batch(run.info.run_id, [Metric("loss", 1 / (s + 1 + n), 1000 + s, s) for s in range(50)])
        mlflow.log_metric("final_accuracy", 0.25 + n / 2)
        mlflow.log_text("words in an artifact", "notes/readme.txt")
        made.append(run.info.run_id)
with mlflow.start_span("traced-question") as span:
    span.set_inputs({"question": "what is a tally stick"})
    with mlflow.start_span("traced-step", span_type="RETRIEVER"):
        pass
    span.set_outputs({"answer": "a notched record"})
mlflow.flush_trace_async_logging()
print(json.dumps({
    "runs": made,
    "experiment": run.info.experiment_id,
    "trace": mlflow.get_last_active_trace_id(),
    "spans": sorted(s.name for s in mlflow.get_trace(mlflow.get_last_active_trace_id()).data.spans),
    "found": len(mlflow.search_traces(return_type="list")),
}))
"""

SYSTEM = """
import json, time, mlflow
mlflow.enable_system_metrics_logging()
mlflow.set_system_metrics_sampling_interval(0.2)
mlflow.set_system_metrics_samples_before_logging(1)
mlflow.set_experiment("pages")
client = mlflow.MlflowClient()
with mlflow.start_run(run_name="watched") as run:
    end = time.time() + 60
    while time.time() < end:
        keys = [k for k in client.get_run(run.info.run_id).data.metrics if k.startswith("system/")]
        if len(keys) > 3:
            break
        time.sleep(0.2)
print(json.dumps({"run": run.info.run_id, "keys": keys}))
"""


def python(hub: RunningHub, code: str) -> Any:
    """Run ``code`` with the stock client; what it prints last, as JSON."""
    env = {
        "PATH": os.environ["PATH"], "HOME": str(hub.home), "MLFLOW_TRACKING_URI": hub.url,
        "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet",
    }  # fmt: skip
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@dataclass
class Filled:
    """A hub with two runs and a trace, as its ``said``."""

    hub: RunningHub
    said: dict[str, Any]

    def url(self, rest: str) -> str:
        return f"{self.hub.url}/mlflow/#/experiments/{self.said['experiment']}{rest}"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, with_record: WithRecord) -> Iterator[Filled]:
    hub = start_hub(with_record(tmp_path_factory.mktemp("pages") / "home"))
    yield Filled(hub, python(hub, SESSION))
    hub.end()


@pytest.fixture
def page(filled: Filled, chromium: Browser) -> Iterator[Page]:
    """A page that asks nobody but the hub, and that no policy hinders."""
    context = chromium.new_context(viewport={"width": 1600, "height": 1000})
    one = context.new_page()
    one.set_default_timeout(60_000)
    asked: list[str] = []
    hindered: list[str] = []
    failed: list[str] = []
    one.on("request", lambda request: asked.append(request.url))
    one.on(
        "console", lambda said: hindered.append(said.text) if "Content Security Policy" in said.text else None
    )
    one.on("response", lambda got: failed.append(f"{got.status} {got.url}") if got.status >= 500 else None)
    yield one
    context.close()
    assert [url for url in asked if not url.startswith(("data:", "blob:", filled.hub.url))] == []
    assert hindered == []
    assert failed == []


def test_two_runs_are_compared(filled: Filled, page: Page) -> None:
    runs = json.dumps(filled.said["runs"])
    page.goto(
        f'{filled.hub.url}/mlflow/#/compare-runs?runs={runs}&experiments=["{filled.said["experiment"]}"]'
    )
    for text in ("run-to-compare-0", "run-to-compare-1", "learning_rate", "final_accuracy"):
        expect(page.get_by_text(text).first).to_be_visible()
    for value in ("0.25", "0.75"):
        expect(page.get_by_text(value, exact=True).first).to_be_visible()


def test_a_metric_is_drawn(filled: Filled, page: Page) -> None:
    page.goto(filled.url(f"/runs/{filled.said['runs'][0]}/model-metrics"))
    expect(page.get_by_text("loss").first).to_be_visible()
    expect(
        page.locator(".js-plotly-plot .scatterlayer .trace path.js-line, .js-plotly-plot .points path").first
    ).to_be_attached()


def test_runs_are_searched(filled: Filled, page: Page) -> None:
    page.goto(filled.url("/runs?searchFilter=metrics.final_accuracy+%3E+0.5"))
    expect(page.get_by_text("run-to-compare-1").first).to_be_visible()
    expect(page.get_by_text("run-to-compare-0")).to_have_count(0)


def test_an_artifact_is_read(filled: Filled, page: Page) -> None:
    page.goto(filled.url(f"/runs/{filled.said['runs'][0]}/artifacts/notes/readme.txt"))
    expect(page.get_by_text("words in an artifact").first).to_be_visible()


def test_a_trace_of_the_stock_client_is_shown(filled: Filled, page: Page) -> None:
    assert filled.said["spans"] == ["traced-question", "traced-step"]
    assert filled.said["found"] == 1
    page.goto(filled.url("/traces"))
    expect(page.get_by_text(re.compile("what is a tally stick|traced-question")).first).to_be_visible()


def test_a_trace_by_otlp_is_shown(filled: Filled, page: Page) -> None:
    """As an OpenTelemetry exporter posts it, in protobuf."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = bytes(range(16)), bytes(range(8)), "otlp-span-to-see"
    span.start_time_unix_nano, span.end_time_unix_nano = 1_700_000_000_000_000_000, 1_700_000_001_000_000_000
    headers = {"content-type": "application/x-protobuf", "x-mlflow-experiment-id": filled.said["experiment"]}
    answer = httpx.post(
        f"{filled.hub.url}/v1/traces", content=request.SerializeToString(), headers=headers, timeout=60
    )
    assert answer.status_code == 200, answer.text
    trace_id = f"tr-{bytes(range(16)).hex()}"
    page.goto(filled.url("/traces?startTimeLabel=ALL"))
    expect(page.get_by_role("row", name=trace_id)).to_be_visible()
    page.goto(filled.url(f"/traces?startTimeLabel=ALL&traceId={trace_id}"))
    expect(page.get_by_text("otlp-span-to-see").first).to_be_visible()


@pytest.mark.skipif(
    find_spec("psutil") is None, reason="MLflow measures the machine with psutil, which is not installed"
)
def test_system_metrics_are_shown(filled: Filled, page: Page) -> None:
    said = python(filled.hub, SYSTEM)
    assert any(key.startswith("system/cpu") for key in said["keys"])
    page.goto(filled.url(f"/runs/{said['run']}/system-metrics"))
    expect(page.get_by_role("heading", name="cpu_utilization_percentage")).to_be_visible()


def test_system_metrics_arrive_under_their_names(filled: Filled, page: Page) -> None:
    """Whether psutil is there or not: a batch as MLflow's monitor logs it, and the page about it."""
    names = ("cpu_utilization_percentage", "system_memory_usage_megabytes", "disk_usage_percentage")
    run_id = filled.said["runs"][1]
    points = [
        {"key": f"system/{name}", "value": 10 + step, "timestamp": 1000 + step, "step": step}
        for name in names
        for step in range(5)
    ]
    answer = httpx.post(
        f"{filled.hub.url}/api/2.0/mlflow/runs/log-batch",
        json={"run_id": run_id, "metrics": points},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    page.goto(filled.url(f"/runs/{run_id}/system-metrics"))
    for name in names:
        expect(page.get_by_text(name).first).to_be_visible()
