"""Runs, experiments and schedules on a house in memory: what takes a step that behaves as the test wants."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from tallystick.core.run.events import Run, StepState
from tallystick.core.run.events import Step as RunStep
from tallystick.core.values import ArtifactRef, Values
from tallystick.doors.kubeflow.tasks import task_details
from tallystick.doors.kubeflow.wire import id_of, key_of
from tallystick.hub.execute import execute
from tallystick.hub.plan import plan
from tallystick.tiles.kubeflow.states import seen_in
from tests.doors.kubeflow.asked import FILE, SPEC
from tests.fakes.house import make_house, until

BODY = {"display_name": "mine", "pipeline_spec": SPEC}
EVERY = {"periodic_schedule": {"interval_second": "60"}}


class Step:
    """Fails while it is ``broken``, and waits while it is held."""

    def __init__(self) -> None:
        self.broken = False
        self.free = threading.Event()
        self.free.set()

    def __call__(self) -> int:
        self.free.wait(20)
        if self.broken:
            raise RuntimeError("it is broken")
        return 1


@pytest.fixture
def step():
    return Step()


@pytest.fixture
async def house(tmp_path, step):
    house = make_house(tmp_path, {"a": step})
    yield house
    step.free.set()
    await until(lambda: not house.tasks)
    await house.traffic.close()


async def ended(api, run_id):
    found = {}

    async def over():
        found.update((await api.get(f"/runs/{run_id}")).json())
        return found["state"] in ("SUCCEEDED", "FAILED")

    await until(over)
    return found


async def runs_in(api, **query):
    return [r["run_id"] for r in (await api.get("/runs", params=query)).json().get("runs", [])]


async def test_a_retry_stands_under_the_same_id(api, house, step):
    step.broken = True
    run_id = (await api.post("/runs", json=BODY)).json()["run_id"]
    failed = await ended(api, run_id)
    assert (failed["state"], failed["error"]["code"]) == ("FAILED", 2)
    assert "it is broken" in failed["error"]["message"]
    assert (await api.post(f"/runs/{run_id}:retry")).json() == {}
    assert (await ended(api, run_id))["state"] == "FAILED"
    step.broken = False
    await api.post(f"/runs/{run_id}:retry")
    again = await ended(api, run_id)
    assert (again["state"], again["display_name"], again.get("error")) == ("SUCCEEDED", "mine", None)
    assert {t["run_id"] for t in again["run_details"]["task_details"]} == {run_id}
    assert await runs_in(api) == [run_id], "its attempts are no runs of their own here"
    assert len(await house.all("run", Run)) == 3
    refused = await api.post(f"/runs/{run_id}:retry")
    assert (refused.status_code, refused.json()["code"]) == (400, 3)


async def test_a_task_says_what_it_put_out(api, house):
    """As Kubeflow does since it keeps tasks by itself: parameters, and of metrics each number."""
    run_id = (await api.post("/runs", json=BODY)).json()["run_id"]
    await ended(api, run_id)
    run = await house.get("run", key_of("run", run_id), Run)
    metrics = {"loss": 0.5, "n": 2, "by": "me", "never": float("nan"), "so": True}
    refs = {
        "metrics": (ArtifactRef("metrics", "sha256:m", "system.Metrics", metadata=metrics),),
        "models": tuple(
            ArtifactRef("models", f"sha256:{n}", "system.Model", metadata={"n": n}) for n in (1, 2)
        ),
        "mine": (ArtifactRef("mine", "sha256:x", "my.Own"),),
    }
    made = replace(
        run,
        outputs=Values({"best": 1}),
        steps=(RunStep("a", StepState.SUCCEEDED, outputs=Values({"Output": [1]}, refs)),),
    )
    root, task = task_details(made, run_id)
    assert root["outputs"]["parameters"] == [{"parameter_key": "best", "value": 1, "type": "OUTPUT"}]
    assert task["outputs"]["parameters"] == [{"parameter_key": "Output", "value": [1], "type": "OUTPUT"}]
    told = {one["artifact_key"]: one["artifacts"] for one in task["outputs"]["artifacts"]}
    assert [(m["type"], m["name"], m["number_value"]) for m in told["metrics"]] == [
        ("Metric", "loss", 0.5), ("Metric", "n", 2),
    ]  # fmt: skip
    assert [(m["type"], m["metadata"]) for m in told["models"]] == [("Model", {"n": 1}), ("Model", {"n": 2})]
    assert told["mine"][0]["uri"] == "tally://artifacts/sha256:x"
    (read,) = seen_in({"run_details": {"task_details": [root, task]}}).steps
    assert read.outputs.artifacts["metrics"][0].metadata == {"loss": 0.5, "n": 2}
    assert all(
        "outputs" not in t
        for t in task_details(replace(run, steps=(RunStep("a", StepState.RUNNING),)), run_id)
    )


async def test_a_retry_that_cannot_begin_leaves_the_run_as_it_was(api, house, step):
    step.broken = True
    run_id = (await api.post("/runs", json=BODY)).json()["run_id"]
    await ended(api, run_id)
    run = await house.get("run", key_of("run", run_id), Run)
    path = await house.artifacts.path_of(run.spec_digest)
    path.chmod(0o600)
    path.write_text("no pipeline any more")
    assert (await api.post(f"/runs/{run_id}:retry")).status_code >= 400
    assert (await api.get("/runs", params={})).json()["runs"][0]["state"] == "FAILED"
    assert len(await house.all("run", Run)) == 1


async def test_what_is_deleted_is_stopped(api, house, step):
    step.free.clear()
    run_id = (await api.post("/runs", json=BODY)).json()["run_id"]
    assert (await api.get(f"/runs/{run_id}")).json()["state"] == "RUNNING"
    await api.delete(f"/runs/{run_id}")
    step.free.set()
    await until(lambda: not house.tasks)
    assert (await house.get("run", key_of("run", run_id), Run)).state == "cancelled"
    assert await runs_in(api) == []
    assert (await api.get(f"/runs/{run_id}")).status_code == 404
    assert (await api.post(f"/runs/{run_id}:terminate")).status_code == 404


async def test_a_run_that_came_by_another_door(api, house):
    from tests.doors.kubeflow.conftest import read

    run = await plan(house, read(FILE), FILE, {"n": 2})
    await execute(house, read(FILE), run)
    [found] = (await api.get("/runs")).json()["runs"]
    assert (found["run_id"], found["state"]) == (id_of(run.key), "SUCCEEDED")
    assert (found["display_name"], found.get("experiment_id")) == (f"p {run.key}", None)
    assert (await api.get(f"/runs/{run.key}")).json()["run_id"] == found["run_id"], "its key is taken too"
    await api.post(f"/runs/{found['run_id']}:archive")
    assert (await api.get(f"/runs/{found['run_id']}")).json()["storage_state"] == "ARCHIVED"
    made = (await api.post("/experiments", json={"display_name": "Default"})).json()
    assert await runs_in(api, experiment_id=made["experiment_id"]) == [found["run_id"]]


async def test_an_archived_experiment_rests(api, house):
    made = (await api.post("/experiments", json={"display_name": "e"})).json()["experiment_id"]
    run_id = (await api.post("/runs", json={**BODY, "experiment_id": made})).json()["run_id"]
    await ended(api, run_id)
    asked = {**BODY, "experiment_id": made, "trigger": EVERY, "mode": "ENABLE"}
    recurring = (await api.post("/recurringruns", json=asked)).json()["recurring_run_id"]
    await api.post(f"/experiments/{made}:archive")
    assert (await api.get(f"/recurringruns/{recurring}")).json()["status"] == "DISABLED"
    assert (await api.get(f"/runs/{run_id}")).json()["storage_state"] == "ARCHIVED"
    for path, body in (("/runs", BODY), ("/recurringruns", asked)):
        answer = await api.post(path, json={**body, "experiment_id": made})
        assert (answer.status_code, answer.json()["code"]) == (400, 3)
    await api.post(f"/experiments/{made}:unarchive")
    assert (await api.get(f"/runs/{run_id}")).json()["storage_state"] == "AVAILABLE"
    assert (await api.get(f"/recurringruns/{recurring}")).json()["status"] == "DISABLED"
    await api.delete(f"/experiments/{made}")
    assert await runs_in(api) == [run_id], "its runs stay"


@pytest.mark.parametrize(
    ("given", "kept"),
    [("0 0 3 * *", "0 0 3 * * *"), ("5 0 3 * * 1-5", "5 0 3 * * 1-5"), ("@daily", "@daily")],
)
async def test_cron_as_kubeflow_reads_it(api, given, kept):
    asked = {**BODY, "trigger": {"cron_schedule": {"cron": given}}}
    made = (await api.post("/recurringruns", json=asked)).json()
    assert made["trigger"] == {"cron_schedule": {"cron": kept}}
    assert (made["no_catchup"], made["status"], made["max_concurrency"]) == (False, "DISABLED", "1")


async def test_a_reference_without_a_version_means_the_newest(api):
    files = {"uploadfile": ("p.yaml", FILE)}
    made = (await api.post("/pipelines/upload?name=p", files=files)).json()["pipeline_id"]
    newest = (await api.post(f"/pipelines/upload_version?name=2&pipelineid={made}", files=files)).json()
    run = (await api.post("/runs", json={"pipeline_version_reference": {"pipeline_id": made}})).json()
    assert run["pipeline_version_reference"]["pipeline_version_id"] == newest["pipeline_version_id"]
    assert (await ended(api, run["run_id"]))["state"] == "SUCCEEDED"
    assert (await api.get("/pipelines/names/p")).json()["pipeline_id"] == made
    assert (await api.get("/pipelines/names/q")).status_code == 404
    assert (await api.delete(f"/pipelines/{made}")).status_code == 400
    assert (await api.delete(f"/pipelines/{made}?cascade=true")).status_code == 200
