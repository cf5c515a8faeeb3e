"""What the stock client of Kubeflow Pipelines does, done with this hub, unchanged."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from tests.journeys.conftest import start_hub, wait_until

pytestmark = pytest.mark.journey


def test_it_starts(script):
    said = script("""
said["healthz"] = client.get_kfp_healthz().to_dict()
said["version"] = kfp.__version__
""")
    assert said["healthz"] == {"multi_user": False, "pipeline_store": "database"}


def test_pipelines_and_their_versions(script):
    said = script("""
compiler.Compiler().compile(sums, "sums.yaml")
compiler.Compiler().compile(long, "long.yaml")
p = client.upload_pipeline("sums.yaml", "shelved", description="as given")
said["pipeline"] = [p.display_name, p.name, p.description, p.created_at.year > 2000]
said["same"] = client.get_pipeline(p.pipeline_id).to_dict() == p.to_dict()
said["id"] = client.get_pipeline_id("shelved") == p.pipeline_id
said["none"] = client.get_pipeline_id("nobody")
said["twice"] = refused(client.upload_pipeline, "sums.yaml", "shelved")
v = client.upload_pipeline_version("long.yaml", "second", pipeline_id=p.pipeline_id, description="slow")
w = client.upload_pipeline_version_from_pipeline_func(sums, "third", pipeline_name="shelved")
upload = client.upload_pipeline_version
said["version_twice"] = refused(upload, "long.yaml", "second", pipeline_id=p.pipeline_id)
rows = client.list_pipeline_versions(p.pipeline_id, sort_by="created_at desc").pipeline_versions
said["versions"] = [r.display_name for r in rows]
found = client.get_pipeline_version(p.pipeline_id, v.pipeline_version_id)
said["spec"] = [found.pipeline_spec["pipelineInfo"]["name"], found.description]
said["func"] = client.upload_pipeline_from_pipeline_func(sums, "by-func").display_name
said["own"] = client.upload_pipeline("long.yaml").display_name
said["list"] = sorted(r.display_name for r in client.list_pipelines(page_size=50).pipelines)
said["full"] = refused(client.delete_pipeline, p.pipeline_id)
for one in (rows[2].pipeline_version_id, v.pipeline_version_id, w.pipeline_version_id):
    client.delete_pipeline_version(p.pipeline_id, one)
said["no_versions"] = client.list_pipeline_versions(p.pipeline_id).pipeline_versions
client.delete_pipeline(p.pipeline_id)
said["gone"] = refused(client.get_pipeline, p.pipeline_id)
said["again"] = client.upload_pipeline("sums.yaml", "shelved").pipeline_id != p.pipeline_id
""")
    assert said["pipeline"] == ["shelved", "shelved", "as given", True]
    assert said["same"]
    assert said["id"]
    assert said["none"] is None
    assert said["twice"] == [409, 6, "pipeline: a pipeline is called 'shelved' already"]
    assert said["version_twice"][:2] == [409, 6]
    assert said["versions"] == ["third", "second", "shelved"]
    assert said["spec"] == ["long", "slow"]
    assert (said["func"], said["own"]) == ("by-func", "long")
    assert said["list"] == ["by-func", "long", "shelved"]
    assert said["full"] == [400, 3, "pipeline shelved has versions (delete them first, or cascade)"]
    assert said["no_versions"] is None
    assert said["gone"][:2] == [404, 5]
    assert said["again"]


def test_packages(script):
    said = script("""
import io, tarfile, zipfile
compiler.Compiler().compile(sums, "pipeline.yaml")
with zipfile.ZipFile("p.zip", "w", zipfile.ZIP_DEFLATED) as z:
    z.write("pipeline.yaml")
with tarfile.open("p.tar.gz", "w:gz") as t:
    t.add("pipeline.yaml")
said["zip"] = client.upload_pipeline("p.zip", "zipped").display_name
said["tar"] = client.upload_pipeline("p.tar.gz", "tarred").display_name
with zipfile.ZipFile("two.zip", "w") as z:
    z.write("pipeline.yaml"); z.writestr("other.yaml", "a: 1")
said["two"] = refused(client.upload_pipeline, "two.zip", "two")
open("bad.yaml", "w").write("just: text")
said["bad"] = refused(client.upload_pipeline, "bad.yaml", "bad")
""")
    assert (said["zip"], said["tar"]) == ("zipped", "tarred")
    assert said["two"][:2] == [400, 3]
    assert "2 files: 'pipeline.yaml', 'other.yaml'" in said["two"][2]
    assert said["bad"][:2] == [400, 3]


def test_experiments(script):
    said = script("""
e = client.create_experiment("digits", description="numbers")
said["made"] = [e.display_name, e.description, e.storage_state]
said["once"] = client.create_experiment("digits").experiment_id == e.experiment_id
said["by_name"] = client.get_experiment(experiment_name="digits").experiment_id == e.experiment_id
said["by_id"] = client.get_experiment(e.experiment_id).to_dict() == e.to_dict()
client.archive_experiment(e.experiment_id)
said["archived"] = client.get_experiment(e.experiment_id).storage_state
said["refused"] = refused(client.create_run_from_pipeline_func, sums, experiment_id=e.experiment_id)
client.unarchive_experiment(e.experiment_id)
said["back"] = client.get_experiment(e.experiment_id).storage_state
said["list"] = [x.display_name for x in client.list_experiments(sort_by="display_name").experiments]
client.delete_experiment(e.experiment_id)
said["gone"] = refused(client.get_experiment, e.experiment_id)
try:
    client.get_experiment(experiment_name="digits")
except ValueError as wrong:
    said["none"] = str(wrong)
""")
    assert said["made"] == ["digits", "numbers", "AVAILABLE"]
    assert said["once"]
    assert said["by_name"]
    assert said["by_id"]
    assert (said["archived"], said["back"]) == ("ARCHIVED", "AVAILABLE")
    assert said["refused"][:2] == [400, 3]
    assert "digits" in said["list"]
    assert said["gone"][:2] == [404, 5]
    assert said["none"] == "No experiment is found with name digits."


def test_runs(script, hub):
    said = script("""
made = client.create_run_from_pipeline_func(
    sums, arguments={"a": 5}, run_name="first", experiment_name="adding", pipeline_root="gs://nowhere/root"
)
run = made.wait_for_run_completion(60)
said["run"] = [run.run_id == made.run_id, run.display_name, run.state, run.storage_state, run.error]
said["times"] = run.created_at <= run.finished_at
said["config"] = [run.runtime_config.parameters, run.runtime_config.pipeline_root]
said["spec"] = run.pipeline_spec["pipelineInfo"]["name"]
said["experiment"] = client.get_experiment(run.experiment_id).display_name
tasks = {t.task_id: t for t in run.run_details.task_details}
said["tree"] = {t.display_name: sorted(tasks[c.task_id].display_name for c in t.child_tasks or [])
                for t in tasks.values()}
said["states"] = sorted({t.state for t in tasks.values()})
said["ends"] = all(t.start_time <= t.end_time for t in tasks.values())
said["history"] = [s.state for s in run.state_history]
compiler.Compiler().compile(sums, "sums.yaml")
p = client.upload_pipeline("sums.yaml", "for-runs")
v = client.list_pipeline_versions(p.pipeline_id).pipeline_versions[0]
e = client.create_experiment("adding")
second = client.run_pipeline(
    e.experiment_id, "second", pipeline_id=p.pipeline_id, version_id=v.pipeline_version_id,
    params={"a": 7, "b": 8}, service_account="pipeline-runner", enable_caching=False,
)
said["second"] = done(second.run_id).state
found = client.get_run(second.run_id)
said["reference"] = found.pipeline_version_reference.pipeline_version_id == v.pipeline_version_id
said["account"] = found.service_account
third = client.create_run_from_pipeline_package("sums.yaml", run_name="third", enable_caching=False)
said["third"] = done(third.run_id).state
said["in_default"] = client.get_experiment(client.get_run(third.run_id).experiment_id).display_name
said["wrong"] = refused(client.create_run_from_pipeline_package, "sums.yaml", arguments={"a": "text"})
said["unknown"] = refused(client.create_run_from_pipeline_package, "sums.yaml", arguments={"c": 1})
said["no_run"] = refused(client.get_run, "7b1a4c39-58d6-4f3e-9d8c-31d26b6ef4c2")
""")
    assert said["run"] == [True, "first", "SUCCEEDED", "AVAILABLE", None]
    assert said["times"]
    assert said["config"] == [{"a": 5, "b": 2}, "gs://nowhere/root"]
    assert (said["spec"], said["experiment"]) == ("sums", "adding")
    assert said["tree"]["root"] == ["add", "for-loop-2[0]", "for-loop-2[1]"]
    assert said["tree"]["for-loop-2[0]"] == ["add-2"]
    assert (said["states"], said["ends"], said["history"]) == (["SUCCEEDED"], True, ["RUNNING", "SUCCEEDED"])
    assert (said["second"], said["reference"], said["account"]) == ("SUCCEEDED", True, "pipeline-runner")
    assert (said["third"], said["in_default"]) == ("SUCCEEDED", "Default")
    assert said["wrong"][:2] == [400, 3]
    assert "'a' must be NUMBER_INTEGER" in said["wrong"][2]
    assert said["unknown"][:2] == [400, 3]
    assert said["no_run"][:2] == [404, 5]
    runs = hub.get("/api/tally/nouns/run").json()
    assert {r["options"]["experiment"] for r in runs} == {"adding", "Default"}
    experiment = hub.get("/api/2.0/mlflow/experiments/get-by-name?experiment_name=adding").json()[
        "experiment"
    ]
    ours = [r["record_id"] for r in runs if r["options"]["experiment"] == "adding"]
    assert {r["experiment_id"] for r in runs if r["record_id"] in ours} == {experiment["experiment_id"]}


def test_runs_in_lists(script):
    said = script("""
for name in ("first", "second", "third"):
    made = client.create_run_from_pipeline_func(sums, run_name=name, experiment_name="listed")
    done(made.run_id)
e = client.get_experiment(experiment_name="listed").experiment_id
names, token = [], ""
while True:
    page = client.list_runs(page_size=2, page_token=token, sort_by="created_at desc", experiment_id=e)
    names += [r.display_name for r in page.runs]
    token = page.next_page_token
    if not token:
        break
said["all"], said["total"] = names, page.total_size
said["everywhere"] = client.list_runs(page_size=1).total_size >= 3
where = json.dumps({"predicates": [{"operation": "IS_SUBSTRING", "key": "display_name", "stringValue": "IR"},
                                   {"operation": 1, "key": "state", "string_value": "SUCCEEDED"}]})
said["filtered"] = sorted(r.display_name for r in client.list_runs(filter=where, experiment_id=e).runs)
since = json.dumps({"predicates": [{"operation": "GREATER_THAN", "key": "created_at",
                                    "timestampValue": "2099-01-01T00:00:00Z"}]})
said["since"] = client.list_runs(filter=since).runs
client.archive_run(made.run_id)
said["archived"] = client.get_run(made.run_id).storage_state
kept = {"operation": "EQUALS", "key": "storage_state", "stringValue": "AVAILABLE"}
kept = client.list_runs(filter=json.dumps({"predicates": [kept]}), experiment_id=e).runs
said["kept"] = sorted(r.display_name for r in kept)
client.unarchive_run(made.run_id)
said["available"] = client.get_run(made.run_id).storage_state
client.delete_run(made.run_id)
said["gone"] = refused(client.get_run, made.run_id)
said["left"] = sorted(r.display_name for r in client.list_runs(experiment_id=e).runs)
""")
    assert (said["all"], said["total"]) == (["third", "second", "first"], 3)
    assert said["everywhere"]
    assert said["filtered"] == ["first", "third"]
    assert said["since"] is None
    assert (said["archived"], said["kept"], said["available"]) == (
        "ARCHIVED",
        ["first", "second"],
        "AVAILABLE",
    )
    assert said["gone"][:2] == [404, 5]
    assert said["left"] == ["first", "second"]


def test_a_run_that_is_stopped_and_one_that_is_retried(script, tmp_path):
    said = script("""
slow = client.create_run_from_pipeline_func(long, arguments={"seconds": 60.0}, run_name="slow")
while client.get_run(slow.run_id).run_details.task_details[1:] == []:
    time.sleep(0.1)
said["early"] = refused(client.runs.run_service_retry_run, slow.run_id)
client.terminate_run(slow.run_id)
ended = done(slow.run_id)
said["stopped"] = [ended.state, ended.error.code]
said["task"] = [t.state for t in ended.run_details.task_details if t.display_name == "wait"]
client.terminate_run(slow.run_id)
bad = client.create_run_from_pipeline_func(broken, arguments={"path": "/nowhere/at/all"}, run_name="bad")
failed = done(bad.run_id)
said["failed"] = [failed.state, failed.error.code, failed.error.message]
task = [t for t in failed.run_details.task_details if t.display_name == "fail-unless"][0]
said["why"] = [task.state, task.error.message]
client.runs.run_service_retry_run(bad.run_id)
again = done(bad.run_id)
said["again"] = [again.run_id == bad.run_id, again.state, again.display_name]
said["later"] = again.created_at >= failed.finished_at
said["once"] = [r.display_name for r in client.list_runs(page_size=100).runs].count("bad")
""")
    assert said["early"][:2] == [400, 3]
    assert said["stopped"] == ["FAILED", 1]
    assert said["task"] == ["CANCELED"]
    assert said["failed"][:2] == ["FAILED", 2]
    assert said["why"][0] == "FAILED"
    assert "it is not there" in said["why"][1]
    assert said["again"] == [True, "FAILED", "bad"]
    assert said["later"]
    assert said["once"] == 1


def test_recurring_runs(script):
    said = script("""
compiler.Compiler().compile(sums, "sums.yaml")
e = client.create_experiment("often")
r = client.create_recurring_run(e.experiment_id, "each-second", description="again", interval_second=1,
                                params={"a": 3}, pipeline_package_path="sums.yaml", max_concurrency=2)
said["made"] = [r.display_name, r.mode, r.status, r.max_concurrency, r.no_catchup, r.description]
said["trigger"] = r.trigger.periodic_schedule.interval_second
end = time.monotonic() + 30
while time.monotonic() < end:
    runs = client.list_runs(experiment_id=e.experiment_id, sort_by="scheduled_at").runs or []
    if len([x for x in runs if x.state == "SUCCEEDED"]) >= 3:
        break
    time.sleep(0.2)
client.disable_recurring_run(r.recurring_run_id)
said["states"] = sorted({x.state for x in runs})
said["due"] = [b.scheduled_at.timestamp() - a.scheduled_at.timestamp() for a, b in zip(runs, runs[1:])]
said["from"] = {x.recurring_run_id == r.recurring_run_id for x in runs} == {True}
said["paused"] = client.get_recurring_run(r.recurring_run_id).status
client.enable_recurring_run(r.recurring_run_id)
said["on"] = client.get_recurring_run(r.recurring_run_id).mode
client.disable_recurring_run(r.recurring_run_id)
c = client.create_recurring_run(e.experiment_id, "nightly", cron_expression="0 30 3 ? * 2-6", no_catchup=True,
                                start_time="2031-01-01T00:00:00Z", end_time="2032-01-01T00:00:00Z",
                                pipeline_package_path="sums.yaml", enabled=False)
t = c.trigger.cron_schedule
said["cron"] = [t.cron, str(t.start_time), str(t.end_time), c.status, c.no_catchup]
said["spec"] = client.get_recurring_run(c.recurring_run_id).pipeline_spec["pipelineInfo"]["name"]
said["list"] = [x.display_name for x in client.list_recurring_runs(experiment_id=e.experiment_id,
                                                                  sort_by="display_name").recurring_runs]
client.delete_recurring_run(c.recurring_run_id)
said["gone"] = refused(client.get_recurring_run, c.recurring_run_id)
base = dict(experiment_id=e.experiment_id, job_name="x", pipeline_package_path="sums.yaml")
said["bad_cron"] = refused(client.create_recurring_run, cron_expression="99 * * * * *", **base)
said["bad_time"] = refused(client.create_recurring_run, interval_second=5, start_time="soon", **base)
said["bad_many"] = refused(client.create_recurring_run, interval_second=5, max_concurrency=99, **base)
said["bad_params"] = refused(client.create_recurring_run, interval_second=5, params={"c": 1}, **base)
""")
    assert said["made"] == ["each-second", "ENABLE", "ENABLED", "2", False, "again"]
    assert said["trigger"] == "1"
    assert set(said["states"]) <= {"SUCCEEDED", "RUNNING"}
    assert set(said["due"]) == {1.0}, "one for each second, none twice, none left out"
    assert said["from"]
    assert (said["paused"], said["on"]) == ("DISABLED", "ENABLE")
    assert said["cron"][0] == "0 30 3 ? * 2-6"
    assert said["cron"][1].startswith("2031-01-01")
    assert said["cron"][3:] == ["DISABLED", True]
    assert said["spec"] == "sums"
    assert said["list"] == ["each-second", "nightly"]
    assert said["gone"][:2] == [404, 5]
    for name in ("bad_cron", "bad_time", "bad_many", "bad_params"):
        assert said[name][:2] == [400, 3], said[name]


def test_the_commands(hub, script, tmp_path):
    """`tally schedule`, with the same schedules behind it."""
    file = tmp_path / "sums.yaml"
    script('compiler.Compiler().compile(sums, "sums.yaml")')
    made = hub.json("schedule", "add", str(file), "--every", "1s", "--name", "quick", "-p", "a=4")
    assert (made["name"], made["timing"]["every_s"], made["params"]["a"]) == ("quick", 1, 4)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = next(s for s in hub.json("schedule", "list") if s["name"] == "quick")
        if found["last_state"] == "succeeded":
            break
        time.sleep(0.1)
    assert found["last_state"] == "succeeded", found
    assert hub.tally("schedule", "pause", "quick").stdout == "quick is paused\n"
    shown = hub.tally("schedule", "list").stdout
    assert "paused" in shown
    assert "every 1s" in shown
    assert hub.tally("schedule", "resume", "quick").stdout == "quick goes on\n"
    assert hub.tally("schedule", "remove", made["key"]).stdout == "quick is removed\n"
    assert "quick" not in hub.tally("schedule", "list").stdout
    nightly = hub.tally("schedule", "add", str(file), "--cron", "0 3 * * *").stdout
    assert nightly.endswith("03:00:00 UTC\n")
    for words, said in (
        (["add", str(file)], "either --cron or --every"),
        (["add", str(file), "--cron", "@daily", "--every", "1h"], "either --cron or --every"),
        (["add", str(file), "--every", "soon"], "is no interval"),
        (["add", str(file), "--cron", "0 25 * * *"], "'25' is no hour"),
        (["add", str(file), "--every", "1h", "-p", "q=1"], "no parameter 'q'"),
        (["add", str(tmp_path / "none.yaml"), "--every", "1h"], "no such file"),
        (["pause", "nobody"], "no schedule 'nobody'"),
    ):
        assert said in hub.tally("schedule", *words, status=2).stderr


def test_a_schedule_goes_on_though_its_hub_is_killed(script, tmp_path, with_record):
    """Each due time has one run, and no more, whenever that was."""
    script('compiler.Compiler().compile(sums, "sums.yaml")')
    home = with_record(tmp_path / "home")
    words = ("--every", "1s", "--name", "quick", "--catchup", "--at-once", "10")
    for life in range(3):
        running = start_hub(home)
        try:
            if not life:
                made = running.json("schedule", "add", str(tmp_path / "sums.yaml"), *words)
            before = _runs(running)
            assert wait_until(lambda hub=running, n=before: _runs(hub) > n + 1 and _ended(hub))
        finally:
            running.kill()
    running = start_hub(home)
    try:
        running.tally("schedule", "pause", "quick")
        assert wait_until(lambda: running.json("status")["under_way"] in ([], ["schedules"]), 60)
        last = running.json("schedule", "list")[0]["due_ms"]
        found = running.get("/apis/v2beta1/runs?page_size=200&sort_by=scheduled_at").json()["runs"]
    finally:
        running.end()
    due = [round(datetime.fromisoformat(run["scheduled_at"]).timestamp() * 1000) for run in found]
    assert due == list(range(made["created_ms"] + 1000, last + 1, 1000))
    assert {run["state"] for run in found} == {"SUCCEEDED"}


def _runs(hub):
    return hub.get("/apis/v2beta1/runs?page_size=1").json()["total_size"]


def _ended(hub):
    """Whether a run has ended: by then MLflow's database is made."""
    return any(r["state"] == "succeeded" for r in hub.get("/api/tally/nouns/run").json())
