"""The commands that have something done: what they ask, what they say, and what they refuse to begin."""

from __future__ import annotations

import httpx
import pytest

from tallystick.terminal.client import Hub
from tests.doors.kfp.corpus import KFP_PYTHON, needs_kfp


def run(state="succeeded", *steps, key="run-1", error=""):
    return {"key": key, "state": state, "steps": list(steps), "error": error, "outputs": {}}


def step(path, state="succeeded", *, log="", error="", attempt=1):
    return {
        "path": path, "state": state, "attempt": attempt, "log_digest": log, "error": error,
        "started_ms": 0, "ended_ms": 1500,
    }  # fmt: skip


@pytest.fixture
def pipeline(tmp_path):
    (tmp_path / "p.yaml").write_text("spec")
    return "p.yaml"


def begins(desk, ended):
    desk.answers["POST /api/tally/runs"] = run("running")
    desk.noun("run", "run-1", ended)


# ---------------------------------------------------------------------- run


def test_a_run_is_followed_and_its_models_are_registered(desk, pipeline):
    begins(desk, run("succeeded", step("train")))
    desk.answers["POST /api/tally/models"] = {"name": "m", "version": 1}
    said = desk.type("run", pipeline, "-p", "a=1", "-p", "b=x=y", "--register", "best=m")
    assert (said.status, said.out) == (0, "run-1 succeeded\nregistered m@1\n")
    assert "train" in said.err
    (body,) = desk.bodies("POST /api/tally/runs")
    assert body.pop("options")["cache"] is True
    assert body == {"spec": "spec", "params_text": {"a": "1", "b": "x=y"}, "filename": "p.yaml"}


def test_what_was_skipped_and_what_is_tried_again_is_said(desk, pipeline):
    never = step("mail", "skipped", error="its condition is false", attempt=0)
    steps = (step("load", "backing off", error="no net"), step("train", attempt=2), never)
    begins(desk, run("succeeded", *steps))
    lines = [line.split(None, 1) for line in desk.type("run", pipeline).err.splitlines()]
    assert lines == [
        ["load", "backing off   1.5 s, try 1: no net"],
        ["train", "succeeded     1.5 s, try 2"],
        ["mail", "skipped: its condition is false"],
    ]


def test_a_run_that_fails_says_how_to_learn_more(desk, pipeline):
    begins(desk, run("failed", step("train", "failed", error="boom"), error="train: boom"))
    said = desk.type("run", pipeline)
    assert said.status == 1
    assert said.err.endswith(
        "error: run run-1 failed: train: boom\n  tally logs run-1, or see http://hub/runs/run-1\n"
    )


def test_a_run_that_failed_is_done_again_and_followed(desk):
    desk.answers["POST /api/tally/runs/run-1/retry"] = run("running", key="run-2")
    desk.noun("run", "run-2", run("succeeded", step("train"), key="run-2"))
    said = desk.type("retry", "run-1")
    assert (said.status, said.out) == (0, "run-2 succeeded\n")
    assert "train" in said.err
    assert desk.type("retry", "run-1", "--no-wait").out == "run-2 running\n"


def test_what_a_run_waits_for_is_said_once(desk, pipeline):
    begins(desk, None)
    states = [*[run("running", error="there: nobody answers")] * 2, run("running"), run("succeeded")]
    desk.noun("run", "run-1", lambda _: states.pop(0))
    said = desk.type("run", pipeline)
    assert (said.status, said.err) == (0, "  waiting: there: nobody answers\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--no-wait", "--register", "best=m"],
            "--register: a model can only be registered once the run has ended",
        ),
        (["--register", "best=a/b"], "'a/b' is not a valid model name"),
        (["--register", "best=a", "--register", "best=b"], "--register: 'best' is said twice"),
        (["--register", "best"], "say --register OUTPUT=NAME"),
        (["-p", "a=1", "-p", "a=2"], "-p: 'a' is said twice"),
        (["-p", "a"], "say -p NAME=VALUE"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(desk, pipeline, words, said):
    done = desk.type("run", pipeline, *words)
    assert done.status == 2
    assert said in done.err
    assert desk.asked == []


def test_what_is_no_text(desk, tmp_path):
    (tmp_path / "p.yaml").write_bytes(b"\xff")
    assert desk.type("run", "p.yaml").err.startswith("error: p.yaml: is not text")
    assert desk.asked == []


@needs_kfp
def test_a_python_file_is_compiled_first(desk, tmp_path, monkeypatch):
    monkeypatch.setenv("TALLY_KFP_PYTHON", str(KFP_PYTHON))
    (tmp_path / "p.py").write_text("import kfp\n")
    said = desk.type("run", "p.py")
    assert said.status == 2
    assert "p.py: no pipeline in it" in said.err
    assert desk.asked == []


def test_ctrl_c_leaves_the_run_going_and_says_so(desk, pipeline, monkeypatch):
    begins(desk, run("running"))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Hub, "wait", interrupted)
    said = desk.type("run", pipeline)
    assert (said.status, said.err) == (
        130, "run-1 goes on; follow it with `tally status`, stop it with `tally cancel run-1`\n"
    )  # fmt: skip
    said = desk.type("run", pipeline, "--register", "best=m")
    assert "`tally register m --run run-1 --output best`" in said.err
    desk.answers["POST /api/tally/verdicts"] = {"key": "verdict-1"}
    said = desk.type("judge", "m")
    assert (said.status, said.err) == (
        130, "verdict-1 goes on; `tally status` shows how it stands, `tally judge m --cancel` ends it\n"
    )  # fmt: skip
    desk.answers["POST /api/tally/remedies/remedy-1/carry"] = {}
    assert desk.type("heal", "remedy-1").status == 130
    desk.answers["POST /api/tally/endpoints"] = {}
    assert desk.type("deploy", "m", "--name", "e").err.startswith("endpoint e goes on; ")


def test_ctrl_c_before_anything_runs(desk, pipeline):
    def interrupted(_):
        raise KeyboardInterrupt

    desk.answers["POST /api/tally/runs"] = interrupted
    said = desk.type("run", pipeline)
    assert (said.status, said.err.strip()) == (130, "stopped")


# ---------------------------------------------------------------------- cancel and logs


def test_cancel_waits_until_the_run_has_ended(desk):
    desk.answers["POST /api/tally/runs/run-1/cancel"] = run("running")
    states = iter(["cancelling", "cancelled"])
    desk.noun("run", "run-1", lambda _: run(next(states)))
    assert desk.type("cancel", "run-1").out == "run-1 cancelled\n"


def test_cancelling_what_has_ended(desk):
    desk.answers["POST /api/tally/runs/run-1/cancel"] = run("succeeded")
    assert desk.type("cancel", "run-1").out == "run-1 had ended before: succeeded\n"


STEPS = [
    step("importer"),
    step("loop[0]/train", log="sha256:a"),
    step("loop[1]/train", "failed", log="sha256:b", error="boom"),
    step("evaluate", "cached"),
    step("choose", "running"),
    step("split", log="sha256:c"),
]


@pytest.fixture
def logged(desk):
    desk.noun("run", "run-1", run("failed", *STEPS))

    def log(request):
        found = {s["path"]: s for s in STEPS}[request.url.params["path"]]
        text = f"{found['log_digest'][-1]} \u00fc\n"[int(request.url.params["from"]) :]
        return {"text": text, "next": 4, "attempt": 1, "ended": True}

    desk.answers["GET /api/tally/runs/run-1/log"] = log
    return desk


def test_logs_without_a_step_list_those_that_have_one(logged):
    heads, *lines = logged.type("logs", "run-1").out.splitlines()
    assert heads.split() == ["step", "state", "error"]
    assert [line.split() for line in lines] == [
        ["loop[0]/train", "succeeded"],
        ["loop[1]/train", "failed", "boom"],
        ["choose", "running"],
        ["split", "succeeded"],
    ]
    assert len(logged.type("logs", "run-1", "--json").json) == 4
    logged.noun("run", "run-2", run("running"))
    assert logged.type("logs", "run-2").out == "no step of run-2 has a log yet\n"


@pytest.mark.parametrize(("wanted", "log"), [("loop[1]/train", "b"), ("split", "c"), ("loop[0]/train", "a")])
def test_the_log_of_a_step(logged, wanted, log):
    assert logged.type("logs", "run-1", wanted).out == f"{log} \u00fc\n"
    said = logged.type("logs", "run-1", wanted, "--json").json
    assert (said["step"], said["log"]) == (wanted, f"{log} \u00fc\n")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("train", "2 steps are called 'train'\n  say which: loop[0]/train, loop[1]/train"),
        ("nix", "no step 'nix'\n  its steps: importer, loop[0]/train,"),
    ],
)
def test_a_log_that_cannot_be_shown(logged, wanted, words):
    said = logged.type("logs", "run-1", wanted)
    assert said.status == 2
    assert words in said.err


def test_a_log_is_followed_until_the_step_has_ended_and_anew_when_it_is_tried_again(desk):
    desk.noun("run", "run-1", run("running", step("choose", "running")))
    pieces = iter([
        (0, "a\n", 2, 1, False), (2, "", 2, 1, False), (2, "", 2, 2, False), (0, "b", 1, 2, False),
        (1, "c", 2, 2, True),
    ])  # fmt: skip

    def log(request):
        start, text, after, attempt, ended = next(pieces)
        assert int(request.url.params["from"]) == start
        return {"text": text, "next": after, "attempt": attempt, "ended": ended}

    desk.answers["GET /api/tally/runs/run-1/log"] = log
    assert desk.type("logs", "run-1", "choose", "--follow").out == "a\nbc\n"


def test_a_log_that_was_never_made_says_why(desk):
    desk.noun("run", "run-1", run("failed", step("evaluate", "cached")))
    desk.error("GET /api/tally/runs/run-1/log", 404, "NotFound", "no log: it came from the cache")
    said = desk.type("logs", "run-1", "evaluate")
    assert (said.status, said.err) == (2, "error: no log: it came from the cache\n")


def test_a_dry_run_is_a_table(desk, pipeline):
    steps = [{"path": "train", "state": "miss", "note": "miss: never made", "cache_key": "k"}]
    desk.answers["POST /api/tally/runs"] = {"pipeline": "p", "steps": steps}
    flags = ("--dry-run", "--cache-max-age", "2h", "--seed", "7", "--no-gpus", "--no-cache")
    said = desk.type("run", pipeline, *flags)
    assert [line.split() for line in said.out.splitlines()] == [
        ["step", "foreseen", "why"], ["train", "miss", "never", "made"]
    ]  # fmt: skip
    (body,) = desk.bodies("POST /api/tally/runs")
    assert body["dry_run"] is True
    assert body["options"] == {
        "cache": False, "cache_age_ms_max": 7_200_000, "verify_share": 0.0, "seed": 7, "no_gpus": True,
        "commands": False, "on": "", "host": "", "experiment": "",
    }  # fmt: skip
    assert desk.type("run", pipeline, "--dry-run", "--json").json["steps"] == steps


@pytest.mark.parametrize("age", ["2", "h", "-1h", "0s", "2 h", "1w", "1e9d", "\u0662h"])
def test_an_age_that_is_none(desk, pipeline, age):
    said = desk.type("run", pipeline, "--cache-max-age", age)
    assert (said.status, desk.asked) == (2, [])
    assert "--cache-max-age" in said.err


def test_the_cache_is_explained_where_that_is_wanted(desk, pipeline):
    noted = {**step("train"), "cache_note": "miss: never made", "note": "verified: made again"}
    begins(desk, run("succeeded", noted))
    said = desk.type("run", pipeline, "--explain-cache").err
    assert "      miss: never made\n      verified: made again\n" in said
    assert "never made" not in desk.type("run", pipeline).err


# ---------------------------------------------------------------------- judge, observe, ingest


def test_judging_on_a_file_says_to_ingest_it(desk, tmp_path):
    desk.error("POST /api/tally/verdicts", 404, "NotFound", "no table 't.csv'", "data")
    (tmp_path / "t.csv").write_text("a\n1\n")
    said = desk.type("judge", "m", "--data", "t.csv")
    assert (said.status, said.err) == (
        2, "error: t.csv: is a file, not a table\n  ingest it first: tally ingest TABLE t.csv\n"
    )  # fmt: skip
    assert "no table 't.csv'" in desk.type("judge", "m", "--data", "u.csv").err
    for where in ("model", "model.onnx", "inspect"):
        desk.error("POST /api/tally/verdicts", 404, "NotFound", "no model 'm'", where)
        assert "no model 'm'" in desk.type("judge", "m", "--data", "t.csv").err


def test_a_table_of_that_name_is_judged_on_whatever_files_there_are(desk, tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n")
    desk.answers["POST /api/tally/verdicts"] = {"key": "v"}
    reached = {"key": "v", "model": "m@1", "state": "refused", "findings": []}
    desk.noun("verdict", "v", reached)
    assert desk.type("judge", "m", "--data", "t.csv").status == 3


@pytest.mark.parametrize(
    ("action", "command"),
    [("fall back", "tally heal r"), ("label data", "tally ingest TABLE FILE, then tally observe e")],
)
def test_observing_says_the_next_step(desk, action, command):
    remedy = {"key": "r", "state": "proposed", "action": action, "why": "so", "endpoint": "e"}
    found = {"text": "t", "drift": {}, "signal": {"key": "s", "text": "drifted"}, "remedy": remedy}
    desk.answers["POST /api/tally/endpoints/e/observe"] = found
    assert desk.type("observe", "e").out.splitlines()[-1] == f"next: {command}"
    desk.answers["POST /api/tally/endpoints/e/observe"] = {**found, "signal": None, "remedy": None}
    assert desk.type("observe", "e").out == "no signal: t\n"


def test_a_name_is_checked_before_a_file_is_sent(desk, tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n")
    assert "is not a valid table name" in desk.type("ingest", "a b", "t.csv").err
    assert "t.csv.gz: no such file" in desk.type("ingest", "t", "t.csv.gz").err
    assert desk.asked == []


def test_what_answers_and_is_no_hub(desk):
    desk.answers["GET /api/tally/status"] = httpx.Response(200, text="<html>")
    assert desk.type("status").err.startswith("error: what answers at http://hub is not a tallystick hub\n")
