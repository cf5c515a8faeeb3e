"""A declared preprocessing (BPDA): what stands behind it is differentiated, what is said is of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tallystick.core.errors import BadInput, NotSupported
from tallystick.evidence.domain import Budget, Domain, DomainKind
from tallystick.gradient.across import Declared, _mean
from tallystick.ports.models.attack import Case, Weigh
from tallystick.ports.tile import Place
from tallystick.tiles.runtime.onnx import open_tile as open_onnx
from tallystick.tiles.white.tile import open_tile as open_white
from tests.gradient.behind import SIDE, model
from tests.tiles.attack.toys import case_of
from tests.tiles.white.nets import digits


class Victim:
    """An ONNX model as an attack sees it."""

    classes, gives, gradients = 10, "logits", True
    twin: Path | None = None

    def __init__(self, folder: Path, across: dict[str, Any] | None = None) -> None:
        self.predictor = open_onnx(Place(folder, {"across": across} if across else {})).load(folder)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        return self.predictor.predict({"x": rows})["y"]

    def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
        logits, gradients = self.predictor.pull({"x": rows}, weigh)
        return logits, gradients["x"]


IMAGE = {"shape": (SIDE, SIDE)}
ACROSS: dict[str, dict[str, Any]] = {
    "bits": {}, "quantized": {}, "steps": {}, "median": {"stand_in": "mean", **IMAGE},
}  # fmt: skip
EPS = (0.05, 0.1, 0.2)


def attacked(victim: Any) -> Case:
    _, x, y = digits()
    domain = Domain(DomainKind.IMAGE, (SIDE, SIDE))
    return case_of(victim, x, y, domain, Budget(eps=EPS, samples_max=100, steps_max=30))


def robust(case: Case, probe: str) -> np.ndarray:
    found = open_white(Place(Path())).run(probe, case, lambda share, text: None)
    return np.array([(found.distance > eps).sum() for eps in EPS])


@pytest.mark.parametrize("kind", ["bits", "quantized", "steps"])
def test_a_net_behind_fewer_bits_that_plain_pgd_cannot_turn_is_turned(kind: str, tmp_path: Path) -> None:
    folder = model(kind, tmp_path / kind)
    plain = attacked(Victim(folder))
    with pytest.raises(NotSupported):
        robust(plain, "pgd")
    right = int((plain.distance > 0).sum())
    assert right > 85
    found = robust(attacked(Victim(folder, ACROSS[kind] or {"stand_in": "identity"})), "pgd")
    bare = robust(attacked(Victim(model("", tmp_path / "bare"))), "pgd")
    assert found[-1] <= 5
    assert (found <= bare + 0.25 * right).all()  # nearly as if nothing stood before it


def test_a_net_behind_a_median_is_turned_through_a_mean(tmp_path: Path) -> None:
    folder = model("median", tmp_path / "median")
    through = robust(attacked(Victim(folder, ACROSS["median"])), "pgd")
    right = int((attacked(Victim(folder)).distance > 0).sum())
    assert right > 30
    assert through[-1] < 0.25 * right


def test_the_gradient_is_that_of_what_stands_behind_and_the_answer_that_of_the_whole(tmp_path: Path) -> None:
    _, x, _ = digits()
    x, weights = x[:7], np.random.default_rng(0).normal(size=(7, 10)).astype(np.float32)
    folder = model("bits", tmp_path / "bits")
    victim, whole = Victim(folder, {"until": "seen"}), Victim(folder)
    logits, slopes = victim.pull(x, lambda z: weights)
    np.testing.assert_allclose(logits, whole.scores(x), rtol=1e-4, atol=1e-4)
    bare = Victim(model("", tmp_path / "bare"))
    seen = np.floor(x * 7 + 0.5).astype(np.float32) / 7
    np.testing.assert_allclose(slopes, bare.pull(seen, lambda z: weights)[1], rtol=1e-4, atol=1e-4)
    found = Victim(
        folder, {"stand_in": "identity"}
    )  # the first from which all is smooth: before the division
    np.testing.assert_allclose(found.pull(x, lambda z: weights)[1], slopes / 7, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("until", "says"),
    [
        ("nowhere", "no tensor 'nowhere'"),
        ("inside", "of shape"),
        ("whole", "of shape|cannot be had"),
        ("scaled", "Cast"),
        ("y", "of shape"),
    ],
)
def test_what_is_declared_wrongly_is_said(until: str, says: str, tmp_path: Path) -> None:
    victim = Victim(model("bits", tmp_path / "bits"), {"until": until})
    with pytest.raises(NotSupported, match=says):
        victim.pull(digits()[1][:5], np.zeros_like)


def test_what_turns_an_image_into_its_negative_is_not_the_identity(tmp_path: Path) -> None:
    """Followed blindly, such a gradient leads away from every mistake."""
    folder = model("bits", tmp_path / "bits")
    made = onnx.load(folder / "model.onnx")
    made.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
    made.graph.node.insert(5, helper.make_node("Sub", ["one", "seen"], ["turned"]))
    made.graph.node[6].input[0] = "turned"
    onnx.save_model(made, folder / "model.onnx")
    _, x, _ = digits()
    with pytest.raises(NotSupported, match="not like identity: they correlate by -"):
        Victim(folder, {"until": "turned"}).pull(x[:9], np.zeros_like)


def test_what_passes_by_the_declared_part_is_noticed(tmp_path: Path) -> None:
    folder = model("bits", tmp_path / "bits")
    made = onnx.load(folder / "model.onnx")
    made.graph.node.insert(5, helper.make_node("Add", ["seen", "x"], ["both"]))
    made.graph.node[6].input[0] = "both"
    onnx.save_model(made, folder / "model.onnx")
    with pytest.raises(NotSupported, match="depend on 'x' too"):
        Victim(folder, {"until": "seen"}).pull(digits()[1][:9], np.zeros_like)


@pytest.mark.parametrize("first", [False, True])
def test_a_mean_is_its_own_way_back(first: bool) -> None:
    """The inner products <Ma, b> and <a, Mb> are the same, so M is symmetric."""
    draw = np.random.default_rng(2)
    shape = (3, 6, 5) if first else (6, 5, 3)
    declared = Declared(stand_in="mean", size=3, shape=shape, channels_first=first)
    a, b = draw.normal(size=(2, 4, 90)).astype(np.float32)
    one, other = (declared.made(a) * b).sum(), (a * declared.made(b)).sum()
    assert one == pytest.approx(other, rel=1e-4)
    np.testing.assert_allclose(_mean(np.ones((1, 5)), 1, 3)[0], [2 / 3, 1, 1, 1, 2 / 3])


@pytest.mark.parametrize(
    "said", [{"stand_in": "hope"}, {"stand_in": "mean"}, {"stand_in": "mean", "shape": (8, 8), "size": 4}]
)
def test_what_is_no_declaration_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Declared(**said)
