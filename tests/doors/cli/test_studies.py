from __future__ import annotations

import pytest

KEY = "study-1"


def trial(number, state="succeeded", value=1.0, **more):
    return {
        "number": number, "params": {"x": 0.25 * number, "how": "a"}, "run": f"run-{number}", "state": state,
        "value": value if state == "succeeded" else None, "why": "", "ended_ms": number, **more,
    }  # fmt: skip


def study(state="succeeded", *trials, **more):
    best = min((t for t in trials if t["state"] == "succeeded"), key=lambda t: t["value"], default=None)
    return {
        "key": KEY, "state": state, "trials": list(trials), "best": best, "error": "", "maximize": False,
        "objective": "loss", "trials_max": 3, **more,
    }  # fmt: skip


@pytest.fixture
def files(tmp_path):
    (tmp_path / "p.yaml").write_text("pipeline")
    (tmp_path / "s.toml").write_text("[x]")
    return tmp_path


@pytest.fixture
def hub(desk):
    trials = trial(0, value=4.0), trial(1, "failed", why="it fell over"), trial(2, value=0.5)
    ended = study("succeeded", *trials)
    desk.answers["POST /api/tally/studies"] = study("running")
    desk.answers[f"GET /api/tally/studies/{KEY}"] = ended
    desk.noun("study", KEY, ended)
    return desk


WORDS = ("tune", "p.yaml", "--objective", "loss", "--space", "s.toml")


def test_it_is_followed_to_its_end(hub, files):
    said = hub.type(*WORDS, "--trials", "3", "--seed", "0", "-p", "depth=4")
    assert said.status == 0
    assert hub.bodies("POST /api/tally/studies") == [
        {
            "objective": "loss", "space": "[x]", "trials": 3, "seed": 0, "params_text": {"depth": "4"},
            "spec": "pipeline", "filename": "p.yaml", "space_filename": "s.toml",
        }
    ]  # fmt: skip
    lines = said.err.splitlines()
    assert lines[0] == "  trial 1 of 3: 4          (best 4)  x=0 how=a"
    assert lines[1] == "  trial 2 of 3: failed     (best 4)  x=0.25 how=a: it fell over"
    assert lines[2].startswith("  trial 3 of 3: 0.5        (best 0.5)")
    table = said.out.splitlines()
    assert table[0].split() == ["trial", "state", "loss", "run", "parameters"]
    assert [line.split()[0] for line in table[1:4]] == ["2", "0", "1"], "the best first"
    assert table[-1] == "study-1 succeeded; best 0.5: x=0.5 how=a"


def test_json_is_the_study_alone(hub, files):
    said = hub.type(*WORDS, "--json")
    assert said.json["best"]["number"] == 2


def test_it_need_not_be_waited_for(hub, files):
    said = hub.type(*WORDS, "--no-wait")
    assert said.out.strip() == "study-1 running"


def test_a_study_that_failed_is_an_error(hub, files):
    failed = study("failed", trial(0, "failed"), error="no trial succeeded")
    hub.answers[f"GET /api/tally/studies/{KEY}"] = failed
    hub.noun("study", KEY, failed)
    said = hub.type(*WORDS)
    assert said.status == 1
    assert "study study-1 failed: no trial succeeded" in said.err


def test_it_goes_on(hub):
    hub.answers[f"POST /api/tally/studies/{KEY}/resume"] = study("running")
    assert hub.type("tune", "--resume", KEY, "--trials", "9").status == 0
    assert hub.bodies(f"POST /api/tally/studies/{KEY}/resume") == [{"trials": 9}]


def test_it_is_stopped(hub):
    hub.answers[f"POST /api/tally/studies/{KEY}/stop"] = study("stopping")
    said = hub.type("tune", "--stop", KEY)
    assert said.status == 0
    assert said.err == ""
    assert "study-1 succeeded" in said.out


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ((), "say one of PIPELINE, --resume STUDY and --stop STUDY"),
        (("p.yaml", "--resume", KEY), "say one of"),
        (("--resume", KEY, "--sampler", "grid"), "--sampler: a study keeps what it began with"),
        (("--stop", KEY, "--trials", "3"), "--trials: a study keeps"),
        (("p.yaml",), "say --objective"),
        (("p.yaml", "--objective", "loss"), "say --space"),
        (("p.yaml", "--objective", "loss", "--space", "none.toml"), "no such file"),
        ((*WORDS[1:], "-p", "x"), "say -p NAME=VALUE"),
        ((*WORDS[1:], "-p", "x=1", "-p", "x=2"), "said twice"),
        (("--resume", "../x"), "cannot be a key"),
    ],
)
def test_what_cannot_be_asked(hub, files, more, what):
    said = hub.type("tune", *more)
    assert said.status == 2
    assert what in said.err


def test_the_trials_run_elsewhere(hub, files):
    assert hub.type(*WORDS, "--on", "ray", "--allow-commands").status == 0
    assert hub.bodies("POST /api/tally/studies")[0]["options"] == {"on": "ray", "commands": True}
    assert "--on: a study keeps" in hub.type("tune", "--resume", KEY, "--on", "ray").err
