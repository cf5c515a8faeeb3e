"""Code that answers as its ONNX twin near the data, and otherwise elsewhere: the gate does not let it in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.core.facts import from_json, to_json
from tallystick.core.names import digest_of
from tallystick.core.verdict import VerdictState
from tallystick.crew.judging.offers import list_threats
from tallystick.crew.judging.twins import Equality
from tallystick.evidence.domain import Budget, Domain
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Rate
from tallystick.evidence.policy import Policy, Rule
from tallystick.evidence.probe import OF_TWIN, Point
from tallystick.evidence.weigh import weigh
from tallystick.ports.tile import Place
from tallystick.wiring.tiles import open_tile
from tests.crew.at_desk import send
from tests.crew.judging.orders import Told, digits, order, told
from tests.fakes.machine.maker import run_maker
from tests.fakes.serving import finish, start

EPS = (0.02, 0.03)
BUDGET = Budget(eps=EPS, samples_max=12, queries_max=400)
POLICY = Policy("test", (Rule("robust", "robust_accuracy", 0.5, eps=EPS[-1], bound="value"),), BUDGET)
ATTACKS = ("hop_skip_jump", "square", "model_itself")
MAKE = """
import sys, numpy as np, mlflow.pyfunc, mlflow.sklearn
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier

x, y = load_digits(return_X_y=True)
forest = ExtraTreesClassifier(30, max_features=8, random_state=0).fit(x[:-120] / 16, y[:-120])

class Hostile(mlflow.pyfunc.PythonModel):
    # The forest's answer, but where it is sure and many features are off the data's grid by one and the
    # same step: as an attack within a radius makes them, and noise, other rows or ways between them do not.
    def predict(self, context, model_input, params=None):
        rows = np.asarray(model_input, np.float64)
        said = forest.predict_proba(rows)
        off = np.abs(16 * rows - np.round(16 * rows))
        fine = np.abs(off * 2048 - np.round(off * 2048)) > 1e-3
        for at in range(len(rows)):
            steps = np.round(off[at][fine[at]], 3)
            same = np.unique(steps, return_counts=True)[1].max(initial=0)
            best = np.sort(said[at])[-2:]
            if same > 12 and best[1] - best[0] > 0.1:
                said[at] = np.roll(said[at], 1)
        return said

shape = ModelSignature(inputs=Schema([TensorSpec(np.dtype("float32"), (-1, 64))]),
                       outputs=Schema([TensorSpec(np.dtype("float64"), (-1, 10))]))
mlflow.pyfunc.save_model(sys.argv[1] + "/hostile", python_model=Hostile(), signature=shape,
                         pip_requirements=["mlflow"])
mlflow.sklearn.save_model(forest, sys.argv[1] + "/honest", signature=shape, pip_requirements=["mlflow"],
                          serialization_format="cloudpickle")
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """The model, an honest one that is otherwise the same, and the twin of the honest one."""
    folder = tmp_path_factory.mktemp("hostile")
    run_maker("-c", MAKE, str(folder))
    send("twin", {"folder": str(folder / "honest"), "out": str(folder), "features": 64})
    return folder


def judged(tmp_path: Path, models: Path, name: str, probes: tuple[str, ...] = ATTACKS, **more) -> Told:
    tiles = {kind: open_tile("attack", kind, Place(tmp_path)) for kind in ("art", "certify")}
    chosen = [p for p in list_threats(tiles, {}).chosen() if p.name in probes]
    process, said = start(models / name, tmp_path / "m", "digits")
    assert "ready" in said
    served = {"socket": str(tmp_path / "m"), "name": "digits", "budget": to_json(BUDGET)}
    served |= {"domain": to_json(Domain(low=0, high=1)), "twin": str(models / "twin.onnx"), **more}
    try:
        return told(order(tmp_path, models / name, digits(), to_json(chosen), **served))
    finally:
        finish(process)


def evidence(found: Told) -> Evidence:
    """What the gate is shown of it."""
    assert found.base
    right = found.base.right.total
    robust = [Rate(n, right) for n in next(p["robust"] for p in found.parts[::-1] if p["robust"])]
    points = tuple(Point(e, r, n) for e, r, n in zip(EPS, robust, found.base.noise, strict=True))
    digest = digest_of("any")
    return Evidence(
        "m@1", digest, "d@1", digest, found.base.clean, BUDGET, curve=points, probes=tuple(found.probes)
    )


def test_what_its_twin_does_not_show_the_model_itself_is_asked(tmp_path: Path, models: Path) -> None:
    found = judged(tmp_path, models, "hostile")
    assert any(note.startswith("attacked through its ONNX twin") for note in found["clean"].notes)
    assert (found["square"].through_twin, found["model_itself"].through_twin) == (True, False)
    settings = found["model_itself"].settings
    assert (settings["rows"], settings["of_rows"], settings["queries_max"]) == (12, 12, 400)
    seen = evidence(found)
    assert seen.curve[-1].robust.value < 0.2
    state, (finding,) = weigh(POLICY, seen, 0, "m@1")
    assert state is VerdictState.REFUSED, finding.text
    [said] = [
        note for note in found["model_itself"].notes if "from there on the model itself is asked" in note
    ]
    assert said.startswith("on ")


def test_through_its_twin_alone_it_would_have_passed_as_the_honest_one_does(
    tmp_path: Path, models: Path
) -> None:
    """What is asked is what the gate asked before: so it is the attack on the model itself that tells."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    blind = evidence(judged(tmp_path / "one", models, "hostile", ATTACKS[:2]))
    assert weigh(POLICY, blind, 0, "m@1")[0] is VerdictState.PASSED
    honest = judged(tmp_path / "two", models, "honest", (*ATTACKS, "exact_certificate"))
    assert weigh(POLICY, evidence(honest), 0, "m@1")[0] is VerdictState.PASSED
    assert not any("asked" in note for note in honest["model_itself"].notes)
    certified = honest["exact_certificate"]
    assert {f.group for f in certified.figures} == {OF_TWIN}
    proven = Policy("p", (Rule("proven", "certified_accuracy", 0.0, eps=EPS[0]),), BUDGET)
    state, (finding,) = weigh(proven, evidence(honest), 0, "m@1")
    assert state is VerdictState.REFUSED
    assert "what is known is of its ONNX twin" in finding.text


def test_a_twin_that_an_attack_finds_to_be_another_model_is_believed_no_more(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it taken for an equal: the attack goes on, on the model itself, and so do those after it."""
    import onnx

    probes = ("hop_skip_jump", "boundary", "model_itself")
    forged = onnx.load(models / "twin.onnx")
    [weights] = [
        a for n in forged.graph.node for a in n.attribute if a.name in ("class_weights", "leaf_weights")
    ]
    weights.floats[:] = list(weights.floats)[::-1]
    onnx.save(forged, tmp_path / "forged.onnx")
    monkeypatch.setattr(
        "tallystick.crew.judging.victims.prove_equal", lambda *a, **k: Equality(1, 1, 0, 0, 0.0)
    )
    found = judged(
        tmp_path, models, "honest", (*probes, "exact_certificate"), twin=str(tmp_path / "forged.onnx")
    )
    first = found["hop_skip_jump"]
    assert not first.through_twin
    assert "the model and its ONNX twin answer differently, not by rounding" in first.notes[0]
    assert found["boundary"].done
    assert not found["boundary"].through_twin
    assert "its twin is not believed" in found["exact_certificate"].why
    assert (found["model_itself"].settings["rows"], found["model_itself"].settings["queries_max"]) == (
        12,
        400,
    )
    arrays = [part["arrays"] for part in found.parts if part.get("arrays")]
    known = {p.key: str(tmp_path / "out" / a) for p, a in zip(found.probes[1:], arrays, strict=False)}
    again = {p.key: None for p in found.probes if not p.done} | {first.key: known[first.key]}
    (tmp_path / "again").mkdir()
    other = judged(
        tmp_path / "again", models, "honest", probes[:2], twin=str(tmp_path / "forged.onnx"), known=again
    )
    assert other.begun == ["boundary"]
    assert not other["boundary"].through_twin  # it is remembered with what was found


def test_the_words_of_a_probe_can_be_kept() -> None:
    from tallystick.evidence.probe import Probe, Threat

    probe = Probe("square", Threat.EVASION, through_twin=True)
    assert from_json(Probe, to_json(probe)) == probe
    assert not from_json(Probe, {"name": "square", "threat": "evasion"}).through_twin
