"""``tally harden``: what is submitted, what is judged, what is shown side by side, how it ends."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.core.facts import to_json
from tallystick.core.model import ModelVersion, Origin, TensorSpec
from tallystick.core.names import digest_of
from tallystick.core.verdict import Finding, Severity, Verdict, VerdictState
from tallystick.doors.judge.harden import pipeline_text
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Rate
from tallystick.evidence.probe import Point, Probe, Threat

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
    "path": "adversarial",
    "attempt": 1,
    "state": "succeeded",
    "started_ms": 0,
    "ended_ms": 2500,
    "error": "",
}
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
    desk.noun("run", "run-2", {"state": "succeeded", "steps": [STEP], "error": ""})
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
    ]
    assert "  adversarial                      succeeded     2.5 s\n" in said.err
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
    assert said.out.splitlines()[-1] == "  refuse   robust: 10% is below 50%"


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
    hub.noun("run", "run-2", {"state": "failed", "steps": [failed], "error": "step adversarial failed"})
    said = hub.type("harden", "m", "--how", "adversarial")
    assert said.status == 1
    assert "run run-2 failed: step adversarial failed" in said.err
    assert "tally logs run-2" in said.err
    assert "the model is no ONNX" in said.err
    assert not hub.bodies("POST /api/tally/models")
