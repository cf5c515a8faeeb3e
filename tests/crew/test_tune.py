"""The tuner's process: asked over its standard streams, as the hub asks it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from tallystick.core.errors import error_from_dict
from tallystick.core.facts import to_json
from tallystick.core.study import Dimension, Kind, Trial, TrialState
from tallystick.proofs.runs.tuner import BOWL, CHOICE

pytest.importorskip("optuna")

STUDY = replace(BOWL, space=(Dimension("x", Kind.FLOAT, 0, 1), Dimension("n", Kind.INT, 0, 9), CHOICE))


def asked(order, *questions):
    """What it says, line by line."""
    lines = [json.dumps(one) for one in (order, *questions)]
    ended = subprocess.run(
        [sys.executable, "-m", "tallystick.crew.tune"], input="\n".join(lines) + "\n", text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    return [json.loads(line) for line in ended.stdout.splitlines()], ended


def test_it_answers_until_nobody_asks():
    study = to_json(STUDY)
    trial = Trial(0, {"x": 0.5, "n": 3, "how": ["c", 1]}, state=TrialState.RUNNING, steps={"1": 2.0})
    said, ended = asked(
        {"tuner": "optuna"},
        {"study": study, "count": 9, "trials": []},
        {"study": study, "count": 9, "trials": [to_json(trial)]},
        {"study": {**study, "pruner": "median"}, "count": 9, "trials": [], "number": 0},
        {
            "study": {**study, "trials_max": 9},
            "count": 9,
            "trials": [to_json(replace(trial, state=TrialState.FAILED))],
        },
    )
    assert ended.returncode == 0, ended.stderr
    assert [list(line) for line in said] == [["ready"]] * 5 + [["result"]]
    assert said[0]["ready"] == {}
    for values in (said[n]["ready"]["values"] for n in (1, 2, 4)):
        x, n, how = values
        assert 0 <= x <= 1
        assert n in range(10)
        assert how in range(5), "the place of the choice's value"
    assert said[1] != said[2]
    assert said[3]["ready"] == {"worse": False}
    assert said[5]["result"] == {"trials": 1}


def test_a_grid_comes_to_its_end():
    study = to_json(replace(STUDY, space=(CHOICE,), sampler="grid"))
    trials = [to_json(Trial(n, {"how": v}, state=TrialState.FAILED)) for n, v in enumerate(CHOICE.values)]
    said, _ = asked({"tuner": "optuna"}, {"study": study, "count": 5, "trials": trials})
    assert said[1]["ready"] == {"values": None}


@pytest.mark.parametrize(
    ("order", "question", "what"),
    [
        ({}, None, "the order lacks 'tuner'"),
        ({"tuner": "none"}, None, "no tuner tile 'none'"),
        (
            {"tuner": "optuna"},
            {"study": to_json(replace(STUDY, sampler="cmaes")), "count": 9, "trials": []},
            "a choice",
        ),
        ({"tuner": "optuna"}, {"study": {}, "count": 9, "trials": []}, "'key' is missing"),
    ],
)
def test_its_errors_are_told(order, question, what):
    said, ended = asked(order, *([question] if question else []))
    assert ended.returncode
    assert what in str(error_from_dict(said[-1]["error"]))
