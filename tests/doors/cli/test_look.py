"""What is there, in words: models with their verdicts, the status with what waits for somebody, the log."""

from __future__ import annotations

import click
import pytest

from tallystick.doors.cli.main import cli
from tallystick.terminal.show import Screen, visible
from tests.doors.cli.conftest import STATUS

NOW = "sha256:now"


def model(version=1):
    return {"name": "m", "version": version, "digest": f"sha256:{version}", "origin": {"run": ""}, "at_ms": 0}


def verdict(state, *, key="v", version=1, digest="", policy=NOW, broken=()):
    findings = [{"rule": r, "holds": False, "severity": "refuse"} for r in broken]
    findings += [
        {"rule": "kept", "holds": True, "severity": "refuse"},
        {"rule": "warned", "holds": False, "severity": "warn"},
    ]
    reached = state in ("passed", "refused")
    return {
        "key": key, "model": f"m@{version}", "state": state, "model_digest": digest or f"sha256:{version}",
        "policy_digest": policy, "findings": findings if reached else [],
        "figures": {"clean_accuracy": 0.993} if reached else {},
    }  # fmt: skip


def endpoint(model="m@1", *, verdict="v", state="ready", error="", name="e"):
    return {
        "name": name, "state": state, "error": error, "observed_generation": 1,
        "wished": {"model": model, "generation": 1, "verdict": verdict},
    }  # fmt: skip


def signal(key="s", *, model="m@1", endpoint="e"):
    return {"key": key, "endpoint": endpoint, "model": model, "share": 0.42}


def remedy(key="r", *, signal="s", state="proposed", action="fall back", outcome=""):
    return {
        "key": key, "signal": signal, "state": state, "action": action, "outcome": outcome, "endpoint": "e"
    }  # fmt: skip


# ---------------------------------------------------------------------- models


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        ([], "none"),
        ([verdict("passed")], "passed; 99.3% clean"),
        (
            [verdict("refused", broken=("robust at 0.15", "clean"))],
            "refused: robust at 0.15, clean; 99.3% clean",
        ),
        ([verdict("passed", policy="sha256:old")], "passed under another policy; 99.3% clean"),
        ([verdict("passed", digest="sha256:other")], "passed for other files; 99.3% clean"),
        ([verdict("judging")], "judging"),
        ([verdict("failed")], "failed"),
        ([verdict("failed"), verdict("passed")], "passed; 99.3% clean"),
        ([verdict("judging"), verdict("refused", broken=("clean",)), verdict("passed")], "refused: clean;"),
    ],
)
def test_a_models_verdict(desk, verdicts, words):
    desk.answers["GET /api/tally/nouns/model"] = [model()]
    desk.answers["GET /api/tally/nouns/verdict"] = verdicts
    line = desk.type("models").out.splitlines()[1]
    assert f"  {words}" in line
    assert line.startswith("m@1")


def test_models_as_json_have_the_verdict_that_the_gate_asks(desk):
    desk.answers["GET /api/tally/nouns/model"] = [model()]
    desk.answers["GET /api/tally/nouns/verdict"] = [verdict("failed", key="a"), verdict("passed", key="b")]
    assert [m["verdict"]["key"] for m in desk.type("models", "--json").json] == ["b"]


# ---------------------------------------------------------------------- status


def status(desk, **nouns):
    for noun, found in nouns.items():
        desk.answers[f"GET /api/tally/nouns/{noun}"] = found
    said = desk.type("status")
    assert said.status == 0, said.err
    return [" ".join(line.split()) for line in said.out.splitlines()]


def test_how_each_executor_keeps_its_steps_apart(desk):
    executors = {"ray": "each step on a node", "local": "each step is forked"}
    desk.answers["GET /api/tally/status"] = {**STATUS, "executors": executors}
    lines = status(desk)
    at = lines.index("sandbox none")
    assert lines[at + 1 : at + 3] == [
        "executor ray: each step on a node",
        "executor local: each step is forked",
    ]
    assert desk.type("status", "--json").json["executors"] == executors


def test_an_endpoint_let_in_under_another_policy(desk):
    verdicts = [verdict("passed", policy="sha256:old")]
    lines = status(desk, endpoint=[endpoint()], verdict=verdicts)
    stands = "endpoint e ready, m@1, generation 1 of 1"
    assert f"{stands}; its verdict was given under another policy: tally judge m@1" in lines
    assert desk.type("status", "--json").json["endpoints"][0]["under_another_policy"] is True
    lines = status(desk, verdict=[verdict("passed")])
    assert stands in lines


def test_an_endpoint_that_serves_nothing(desk):
    lines = status(desk, endpoint=[endpoint("", verdict="", state="stopped")])
    assert "endpoint e stopped, nothing, generation 1 of 1" in lines


def test_open_signals_and_remedies_with_their_commands(desk):
    remedies = [remedy("r1"), remedy("r2", signal="s2", state="carrying out")]
    lines = status(
        desk, endpoint=[endpoint()], verdict=[verdict("passed")],
        signal=[signal("s"), signal("s2"), signal("s3")], remedy=remedies,
    )  # fmt: skip
    assert [line for line in lines if line.startswith(("signal", "remedy"))] == [
        "signal s: 42% of what endpoint e is asked has drifted",
        "signal s2: 42% of what endpoint e is asked has drifted",
        "signal s3: 42% of what endpoint e is asked has drifted: tally observe e",
        "remedy r1 proposed: fall back: tally heal r1",
        "remedy r2 carrying out: fall back",
    ]


def test_what_is_over_does_not_wait_for_anybody(desk):
    lines = status(
        desk, endpoint=[endpoint()], verdict=[verdict("passed")],
        signal=[signal("done"), signal("gone", model="m@0")],
        remedy=[remedy(signal="done", state="done"), remedy("r2", signal="gone")],
    )  # fmt: skip
    assert not [line for line in lines if line.startswith(("signal", "remedy"))]
    said = desk.type("status", "--json").json
    assert (said["signals"], said["remedies"]) == ([], [])


def test_a_remedy_that_failed_or_that_only_people_can_carry_out(desk):
    remedies = [
        remedy("r1", state="failed", outcome="the disk was full"),
        remedy("r2", signal="s2", action="label data"),
    ]
    lines = status(
        desk, endpoint=[endpoint()], verdict=[verdict("passed")],
        signal=[signal("s"), signal("s2")], remedy=remedies,
    )  # fmt: skip
    assert "remedy r1 failed: fall back (the disk was full): tally heal r1" in lines
    assert "remedy r2 proposed: label data: tally ingest TABLE FILE, then tally observe e" in lines


# ---------------------------------------------------------------------- log, show, settings


def test_the_log_shows_what_the_hub_answers(desk):
    fact = {"seq": 3, "at_ms": 0, "noun": "run", "key": "k", "event": "began", "note": "words"}
    desk.answers["GET /api/tally/log"] = [fact]
    assert desk.type("log", "-n", "1").out.splitlines()[1].split()[-4:] == ["run", "k", "began", "words"]
    assert dict(desk.asked[-1].url.params) == {"noun": "", "limit": "1", "before": "0"}
    desk.answers["GET /api/tally/log"] = []
    assert desk.type("log").out == "nothing has happened yet\n"
    assert desk.type("log", "--noun", "run", "--before", "3").out == (
        "nothing has happened to any run before fact 3\n"
    )


def test_show_prints_json(desk):
    desk.noun("model", "m@1", model())
    assert desk.type("show", "model", "m@1").json == model()
    desk.error(
        "GET /api/tally/nouns/model/m@2", 404, "NotFound", "no model 'm@2'", hint="tally log --noun model"
    )
    said = desk.type("show", "model", "m@2")
    assert (said.status, said.err) == (2, "error: no model 'm@2'\n  tally log --noun model\n")


@pytest.mark.parametrize("key", ["a/b", "../x", "", "a?b", "a\\b", "a#b", "a b"])
def test_what_cannot_be_a_key_is_not_asked_for(desk, key):
    for words in (["show", "run", key], ["cancel", key], ["logs", key], ["heal", key]):
        said = desk.type(*words)
        assert said.status == 2
        assert "cannot be a key" in said.err
    assert desk.asked == []


def test_settings_show_what_holds_and_the_default(desk, monkeypatch):
    monkeypatch.setenv("TALLY_PORT", "5123")
    heads, *lines = desk.type("settings").out.splitlines()
    assert heads.split()[:3] == ["setting", "now", "default"]
    assert next(line.split()[:3] for line in lines if line.startswith("port")) == ["port", "5123", "5000"]
    port = next(r for r in desk.type("settings", "--json").json if r["name"] == "port")
    assert (port["now"], port["default"]) == (5123, 5000)


def test_every_command_that_asks_a_hub_takes_json():
    """`up` serves."""
    groups = {name: c.commands for name, c in cli.commands.items() if isinstance(c, click.Group)}
    within = {f"{name} {inner}": c for name, found in groups.items() for inner, c in found.items()}
    for name, command in {**cli.commands, **within}.items():
        if name in groups:
            continue
        option = next((p for p in command.params if "--json" in p.opts), None)
        if name == "up":
            assert option is None
        else:
            assert isinstance(option, click.Option), name
            assert option.is_flag, name


def test_an_error_moves_no_cursor(desk):
    assert visible("a\x1b[2J\nb\tü\u202e") == "a\\x1b[2J\nb\tü\\u202e"
    desk.error("GET /api/tally/status", 500, "Failed", "bad \x1b[2J", hint="see \x07")
    assert desk.type("status").err == "error: bad \\x1b[2J\n  see \\x07\n"


def test_what_others_said_moves_no_cursor(capsys):
    screen = Screen(False)
    screen.say("a\x1b[2Jb")
    screen.result({}, "c\x9b2Jd")
    screen.table([], ["head"], [["e\x1b]0;f\x07g"]], "none")
    said = capsys.readouterr()
    assert not {"\x1b", "\x9b", "\x07"} & {*said.out, *said.err}
    assert all(letter in said.out + said.err for letter in "abcdefg")
