"""Defences that hide gradients more than they move decisions: the gate is not taken in, and refuses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallystick.core.facts import to_json
from tallystick.core.names import digest_of
from tallystick.core.verdict import VerdictState
from tallystick.crew.judging.offers import list_threats
from tallystick.evidence.domain import Budget, Domain
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Rate
from tallystick.evidence.policy import Policy
from tallystick.evidence.probe import Point
from tallystick.evidence.weigh import weigh
from tallystick.ports.tile import Place
from tallystick.wiring.tiles import open_tile
from tests.crew.judging.orders import Told, order, told
from tests.harden.steps import ANY, about, artifact, linear, step, table, telltale

pytestmark = pytest.mark.filterwarnings("ignore")
EPS = 0.1
X, Y = telltale()
PICTURES = {**ANY, "shape": [5, 6]}
BUDGET = Budget(eps=(0.05, EPS), samples_max=40, queries_max=300, steps_max=20)
RULE = {"name": "robust", "measure": "robust_accuracy", "eps": EPS, "at_least": 0.5, "bound": "value"}
POLICY = Policy.parse({"budget": to_json(BUDGET), "rule": [RULE]})


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import mlflow

    folder = tmp_path_factory.mktemp("fragile")
    table(X, Y).to_parquet(folder / "rows", index=False)
    mlflow.onnx.save_model(linear(X, Y), str(folder / "original"))
    return folder


def defended(original: Path, folder: Path, how: str, settings: dict[str, Any]) -> Path:
    """The folder of the model that a step makes of the original."""
    out = artifact(folder / how)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        model = {} if how == "adversarial" else {"model": artifact(original / "original")}
        step(how)[how](
            rows=artifact(original / "rows"), about=about(30, domain=PICTURES), settings=settings,
            eps=EPS, seed=7, hardened=out, **model,
        )  # fmt: skip
    return Path(out.path)


def judged(model: Path, folder: Path) -> tuple[Told, Evidence]:
    """Every usual evasion probe from inside, and one from outside, as the gate carries them out."""
    tiles = {kind: open_tile("attack", kind, Place(folder)) for kind in ("white", "art")}
    names = ("fgsm", "pgd", "ensemble", "adaptive", "square")
    chosen = [p for p in list_threats(tiles, {}).chosen() if p.name in names]
    rows = {f"f{i}": X[:, i] for i in range(30)} | {"label": Y}
    more = {"budget": to_json(BUDGET), "domain": to_json(Domain())}
    found = told(order(folder, model, rows, to_json(chosen), **more))
    assert found.base
    total = found.base.right.total
    robust = [Rate(n, total) for n in next(p["robust"] for p in found.parts[::-1] if p["robust"])]
    points = tuple(Point(e, r, n) for e, r, n in zip(BUDGET.eps, robust, found.base.noise, strict=True))
    digest = digest_of("any")
    probes = tuple(found.probes)
    return found, Evidence("m@1", digest, "d", digest, found.base.clean, BUDGET, curve=points, probes=probes)


def slopes_of_cross_entropy(model: Path) -> np.ndarray:
    """What a plain attack follows: the gradient of float32 cross-entropy, through the chances (n, 30)."""
    import torch

    proto = step("smooth")["load_graph"](str(model))
    from onnx import numpy_helper

    held = {
        i.name: torch.tensor(numpy_helper.to_array(i)) for i in proto.graph.initializer if "layer" in i.name
    }
    x = torch.tensor(X, requires_grad=True)
    inside = x
    for at in (0, 2):
        inside = torch.relu(inside @ held[f"layer{at}"] + held[f"layer{at + 1}"])
    chances = torch.softmax(inside @ held["layer4"] + held["layer5"], dim=1)
    loss = -torch.log(chances[torch.arange(len(Y)), torch.tensor(Y)]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    found: np.ndarray = x.grad.numpy()
    return found


def louder(model: Path, times: float) -> None:
    """Multiply the logits of a distilled network, as defensive distillation at that temperature does."""
    import onnx
    from onnx import numpy_helper

    proto = onnx.load(str(model / "model.onnx"))
    for held in proto.graph.initializer:
        if held.name in ("layer4", "layer5"):
            values = numpy_helper.to_array(held) * np.float32(times)
            held.CopyFrom(numpy_helper.from_array(values, held.name))
    onnx.save(proto, str(model / "model.onnx"))


def test_a_distilled_model_falls_as_the_original_does_and_is_refused(original, tmp_path):
    model = defended(original, tmp_path, "distill", {"epochs": 100, "temperature": 20.0})
    _, evidence = judged(model, tmp_path)
    assert evidence.clean.value > 0.95
    assert evidence.curve[-1].robust.value < 0.5
    assert weigh(POLICY, evidence, 0, "m@1")[0] is VerdictState.REFUSED


def test_distillation_that_hides_gradients_is_not_taken_for_robust(original, tmp_path):
    """Carlini and Wagner (2017): what defensive distillation does is that logits are so large that chances
    saturate, and cross-entropy has no gradient. The gate follows margins of logits, and refuses.
    """
    model = defended(original, tmp_path, "distill", {"epochs": 100, "temperature": 20.0})
    louder(model, 400)
    slopes = slopes_of_cross_entropy(model)
    assert (~slopes.any(axis=1)).mean() > 0.5, "a plain attack stays where it is"
    _, evidence = judged(model, tmp_path)
    assert evidence.clean.value > 0.95
    assert evidence.curve[-1].robust.value < 0.5
    state, (finding,) = weigh(POLICY, evidence, 0, "m@1")
    assert state is VerdictState.REFUSED, finding.text


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_squeezing_alone_has_no_gradient_and_is_refused_all_the_same(original, tmp_path, bits):
    """Rounding has a gradient of zero everywhere; the gate goes straight through it (Athalye et al. 2018)."""
    model = defended(original, tmp_path, "preprocess", {"kind": "squeeze", "bits": bits})
    ask = step("preprocess")["asked"](step("preprocess")["load_graph"](str(model)), about(30)["inputs"])
    near = np.clip(X + 1e-6, 0, 1)
    same = ask(near)["probabilities"] == ask(X)["probabilities"]
    assert same.all(axis=1).mean() > 0.95, "what a difference quotient sees is flat"
    found, evidence = judged(model, tmp_path)
    assert evidence.curve[-1].robust.value < 0.3
    state, (finding,) = weigh(POLICY, evidence, 0, "m@1")
    assert state is VerdictState.REFUSED, finding.text
    assert found["pgd"].gradients > 0, "it is attacked from the inside, with the rounding in it"


@pytest.mark.parametrize("setting", [{"kind": "median", "window": 3}, {"kind": "jpeg", "quality": 40}])
def test_what_stands_before_pictures_is_attacked_from_the_inside(original, tmp_path, setting):
    found, evidence = judged(defended(original, tmp_path, "preprocess", setting), tmp_path)
    assert found["pgd"].done
    assert found["pgd"].gradients > 0
    assert evidence.curve[-1].robust.value < 0.3
    assert weigh(POLICY, evidence, 0, "m@1")[0] is VerdictState.REFUSED


def test_adversarial_training_passes_the_same_gate(original, tmp_path):
    model = defended(original, tmp_path, "adversarial", {"epochs": 20})
    _, evidence = judged(model, tmp_path)
    assert weigh(POLICY, evidence, 0, "m@1")[0] is VerdictState.PASSED
