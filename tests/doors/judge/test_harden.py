"""``tally harden``: what is submitted, what is judged, what is shown side by side, how it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tallystick.core.facts import to_json
from tallystick.core.model import ModelVersion, Origin, TensorSpec
from tallystick.core.names import digest_of
from tallystick.core.verdict import Finding, Severity, Verdict, VerdictState
from tallystick.doors.judge.harden import pipeline_text
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Rate, rate_figure
from tallystick.evidence.probe import OF_TWIN, Point, Probe, Threat
from tests.doors.cli.conftest import URL

POLICY = """
[budget]
eps = [0.1]
[[rule]]
name = "robust"
measure = "robust_accuracy"
eps = 0.1
at_least = 0.5
"""
MODEL = ModelVersion(
    "m", 1, digest_of("m"), ("onnx",), (TensorSpec("x", "FP32", (-1, 4)),),
    origin=Origin("run-1", snapshots={"t@9": digest_of("rows")}),
)  # fmt: skip
STEP = {
    "path": "condition-branches-1/condition-2/adversarial",
    "attempt": 1,
    "state": "succeeded",
    "started_ms": 0,
    "ended_ms": 2500,
    "error": "",
}


def made(**parts: Any) -> dict[str, Any]:
    """The run that hardened, with what ``part`` told of its rows."""
    told = {"train": {"rows": 80, "left_out": 20}, "test": {"rows": 20, "found": 20}} | parts
    artifacts = {name: [{"metadata": about}] for name, about in told.items()}
    whole = {"key": "run-2", "state": "succeeded", "steps": [STEP], "error": ""}
    return {**whole, "outputs": {"artifacts": artifacts}}


FINDINGS = {
    "refused": (Finding("robust", False, Severity.REFUSE, "robust: 10% is below 50%"),),
    "passed": (Finding("robust", True, Severity.REFUSE, "robust: 80% is at least 50%"),),
}


def whole(key: str, model: str, right: int, state: str) -> dict[str, Any]:
    """What ``GET /verdicts/KEY`` says."""
    evidence = Evidence(
        model, digest_of(model), "run-2/test", digest_of("rows"), Rate(95, 100),
        curve=(Point(0.1, Rate(right, 100), Rate(90, 100)),),
        probes=(Probe("clean", Threat.CLEAN), Probe("pgd", Threat.EVASION, queries=1)),
    )  # fmt: skip
    verdict = Verdict(
        key, model, digest_of(model), "p", digest_of("p"), VerdictState(state), FINDINGS[state],
        dataset="run-2/test", at_ms=1,
    )  # fmt: skip
    return {"verdict": to_json(verdict), "evidence": to_json(evidence), "expired": ""}


@pytest.fixture
def hub(desk):
    """A hub where ``m@1`` is hardened to ``m@2``, which passes."""
    desk.answers["POST /api/tally/models/admit"] = to_json(MODEL)
    desk.answers["GET /api/tally/policy"] = {"text": POLICY}
    desk.noun("run", "run-1", {"outputs": {"artifacts": {"test": [{}], "best": [{}]}}})
    desk.answers["POST /api/tally/runs"] = {"key": "run-2"}
    desk.noun("run", "run-2", made())
    desk.answers["POST /api/tally/models"] = {"name": "m", "version": 2}
    judged(desk, "passed")
    return desk


def judged(desk, state):
    keys = iter(("verdict-1", "verdict-2"))
    desk.answers["POST /api/tally/verdicts"] = lambda _: {"key": next(keys)}
    for key, model, right, said in (("verdict-1", "m@1", 10, "refused"), ("verdict-2", "m@2", 80, state)):
        found = whole(key, model, right, said)
        desk.answers[f"GET /api/tally/verdicts/{key}"] = found
        desk.noun("verdict", key, found["verdict"])


def test_a_hardened_model_is_registered_and_judged_beside_the_original(hub):
    said = hub.type("harden", "m", "--how", "adversarial")
    assert said.status == 0
    assert [line.split() for line in said.out.splitlines()] == [
        ["m@1", "m@2"],
        ["clean", "95.0%", "(88.8%", "to", "97.8%)", "95.0%", "(88.8%", "to", "97.8%)"],
        ["eps", "0.1", "10.0%", "(5.5%", "to", "17.4%)", "80.0%", "(71.1%", "to", "86.7%)"],
        ["verdict", "refused", "passed"],
        ["next:", "tally", "deploy", "m@2", "--name", "m"],
        ["see:", f"{URL}/verdicts/verdict-2"],
    ]
    assert "trained on 80 rows; 20 more are left out of training, as they are among the 20 to" in said.err
    assert "  adversarial      succeeded     2.5 s\n" in said.err
    (run,) = hub.bodies("POST /api/tally/runs")
    assert run["spec"] == pipeline_text()
    assert (run["params"]["how"], run["params"]["eps"], run["params"]["about"]["label"]) == (
        "adversarial",
        0.1,
        "label",
    )
    assert run["params"]["held_out"] == "tally://runs/run-1/test"
    assert hub.bodies("POST /api/tally/models") == [{"name": "m", "run": "run-2", "output": "hardened"}]
    assert hub.bodies("POST /api/tally/verdicts") == [
        {"model": model, "data": "run-2/test", "label": "label"} for model in ("m@1", "m@2")
    ]


def test_what_is_said_reaches_the_run(hub):
    words = ("--eps", "0.3", "--seed", "3", "--label", "answer", "--data", "t@4", "--set", "draws=4")
    said = hub.type("harden", "m@1", "--how", "smooth", *words, "--output-name", "calm", "--json")
    (run,) = hub.bodies("POST /api/tally/runs")
    assert {k: run["params"][k] for k in ("eps", "seed", "data")} == {
        "eps": 0.3,
        "seed": 3,
        "data": "tally://tables/t@4",
    }
    assert run["params"]["settings"]["draws"] == 4
    assert hub.bodies("POST /api/tally/models")[0]["name"] == "calm"
    assert {v["label"] for v in hub.bodies("POST /api/tally/verdicts")} == {"answer"}
    assert said.json["how"] == "smooth"
    assert said.json["figures"][1]["eps"] == 0.1
    assert [said.json["figures"][1][role]["value"] for role in ("original", "hardened")] == [0.1, 0.8]
    assert {k: v["state"] for k, v in said.json["verdicts"].items()} == {
        "original": "refused",
        "hardened": "passed",
    }


def test_one_that_is_refused_too_says_why_and_ends_with_the_gates_status(hub):
    judged(hub, "refused")
    said = hub.type("harden", "m", "--how", "preprocess")
    assert said.status == 3
    assert said.out.splitlines()[-4:] == [
        "  refuse   robust: 10% is below 50%",
        "next: tally verdict verdict-2",
        "next: tally harden m@1 --how adversarial",
        f"see: {URL}/verdicts/verdict-2",
    ]


def test_signs_that_gradients_are_hidden_are_shown_beside_the_figures(hub):
    found = whole("verdict-2", "m@2", 80, "passed")
    note = "gradients are zero at 40% of 64 samples: the model may be less robust than the curve says"
    found["evidence"]["probes"][1]["notes"] = ["something else", note]
    hub.answers["GET /api/tally/verdicts/verdict-2"] = found
    said = hub.type("harden", "m", "--how", "preprocess")
    assert [line for line in said.out.splitlines() if "sign" in line] == [f"  sign     pgd: {note}"]
    judged(hub, "passed")
    hub.answers["GET /api/tally/verdicts/verdict-2"] = found
    assert hub.type("harden", "m", "--how", "preprocess", "--json").json["signs"] == [f"pgd: {note}"]


def test_what_was_certified_stands_with_the_rest(hub):
    found = whole("verdict-2", "m@2", 80, "passed")
    certified = rate_figure("certified_accuracy", Rate(40, 100), 0.1, "smoothed")
    of_twin = tuple(replace(certified, group=group) for group in (OF_TWIN, f"smoothed, {OF_TWIN}"))
    vote = Probe("smoothing_certificate", Threat.CERTIFICATE, figures=(certified, *of_twin))
    found["evidence"]["probes"].append(to_json(vote))
    hub.answers["GET /api/tally/verdicts/verdict-2"] = found
    said = hub.type("harden", "m", "--how", "smooth")
    (line,) = [line for line in said.out.splitlines() if line.startswith("certified, as a vote 0.1")]
    assert line.split()[-5:] == ["-", "40.0%", "(30.9%", "to", "49.8%)"]
    for words in ("certified, of its ONNX twin 0.1 ", "certified, as a vote, of its ONNX twin 0.1 "):
        assert words in said.out


def test_rows_that_are_nowhere_in_the_data_are_said_to_be(hub):
    hub.noun("run", "run-2", made(train={"rows": 100, "left_out": 0}, test={"rows": 20, "found": 0}))
    said = hub.type("harden", "m", "--how", "adversarial", "--data", "other", "--json")
    told = "trained on 100 rows; none of the 20 to judge by is in other, so that none had to be left out"
    assert told in said.json["notes"]
    assert said.json["rows"] == {"train": 100, "left_out": 0, "test": 20, "found": 0}


def test_how_far_training_is_comes_from_its_log(hub):
    running = {**STEP, "state": "running", "ended_ms": 0}
    states = iter([{**made(), "state": "running", "steps": [running]}])
    hub.answers["GET /api/tally/nouns/run/run-2"] = lambda _: next(states, made())
    printed = "warming up\n  5%  epoch 5 of 100\n 30%  epoch 30 of 100\nand more\n"
    piece = {"text": printed, "next": 40, "attempt": 1, "ended": False}
    hub.answers["GET /api/tally/runs/run-2/log"] = piece
    said = hub.type("harden", "m", "--how", "adversarial")
    assert said.status == 0
    assert "   30%  adversarial: epoch 30 of 100\n" in said.err


def test_what_does_not_apply_is_refused_before_anything_runs(hub):
    hub.answers["POST /api/tally/models/admit"] = to_json(
        ModelVersion("m", 1, digest_of("m"), ("sklearn",), MODEL.inputs)
    )
    for words, what in (
        (("--how", "preprocess", "--data", "t"), "preprocess needs the model as ONNX"),
        (("--how", "adversarial"), "say which rows to train on"),
        (("--how", "adversarial", "--data", "t", "--set", "bits"), "'bits' is not NAME=VALUE"),
        (("--how", "adversarial", "--data", "t", "--output-name", "no name"), "name"),
        (("--how", "magic"), "'magic'"),
    ):
        said = hub.type("harden", "m", *words)
        assert said.status == 2, said.err
        assert what in said.err
    assert not hub.bodies("POST /api/tally/runs")


def test_a_run_that_fails_registers_nothing(hub):
    failed = {**STEP, "state": "failed", "error": "the model is no ONNX"}
    broken = {"state": "failed", "steps": [failed], "error": "step adversarial failed"}
    hub.noun("run", "run-2", made() | broken)
    said = hub.type("harden", "m", "--how", "adversarial")
    assert said.status == 1
    assert "run run-2 failed: step adversarial failed" in said.err
    assert "tally logs run-2 adversarial" in said.err
    assert "the model is no ONNX" in said.err
    assert not hub.bodies("POST /api/tally/models")
