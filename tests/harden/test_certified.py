"""A model smoothed by ``tally harden`` is certified with its own sigma, and no attack beats that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallystick.core.errors import NotSupported
from tallystick.evidence.domain import Budget, Column, Domain, DomainKind
from tallystick.ports.models.attack import Case
from tallystick.tiles.attack.black import run_black
from tallystick.tiles.certify.smooth import Smoothed
from tallystick.tiles.certify.tile import CertifyTile
from tests.harden.steps import ANY, about, artifact, linear, step, table, telltale
from tests.tiles.attack.toys import Onnx, case_of

pytestmark = pytest.mark.filterwarnings("ignore")
SIGMA, DRAWS, EPS = 0.25, 32, (0.01, 0.03, 0.05)
X, Y = telltale()
BUDGET = Budget(eps=EPS, samples_max=24, queries_max=1100)


@dataclass
class Made:
    """What the step ``smooth`` made of telltale rows, and its settings."""

    file: Path

    def case(self, domain: Domain | None = None) -> Case:
        return case_of(Onnx(self.file), X, Y.astype(np.int64), domain, BUDGET)


def smoothed(folder: Path, domain: Any = ANY) -> Made:
    table(X, Y).to_parquet(folder / "rows", index=False)
    out = artifact(folder / "made")
    settings = {"epochs": 6, "sigma": SIGMA, "draws": DRAWS, "base": "network"}
    step("smooth")["smooth"](
        rows=artifact(folder / "rows"), model=None, about=about(30, domain=domain), settings=settings,
        eps=0.1, seed=7, hardened=out,
    )  # fmt: skip
    return Made(Path(out.path) / "model.onnx")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return smoothed(tmp_path_factory.mktemp("smooth"))


def certify(case: Case) -> Any:
    return CertifyTile().run("smoothing_certificate", case, lambda share, text: None).probe


def changed(made: Made, folder: Path, change: Callable[[Any], None]) -> Made:
    """The same file with something done to its graph."""
    import onnx

    proto = onnx.load(str(made.file))
    change(proto)
    onnx.save(proto, str(folder / "changed.onnx"))
    return Made(folder / "changed.onnx")


def test_the_models_own_sigma_is_what_it_is_certified_with(made: Made) -> None:
    probe = certify(made.case())
    assert (probe.settings["sigma"], probe.settings["sigma_is"]) == (SIGMA, "its own")
    assert probe.settings["draws_it_answers_with"] == DRAWS
    assert [(f.eps, f.group) for f in probe.figures] == [(e, "smoothed") for e in EPS]
    assert probe.figures[0].value > 0.7
    assert probe.curves[0].x[2] == SIGMA
    assert "under fresh noise of its own sigma 0.25" in probe.notes[1]
    assert f"the mean over the {DRAWS} rows of noise that it answers with says the same of" in probe.notes[1]


def test_another_sigma_is_another_certificate(made: Made, tmp_path: Path) -> None:
    def less(proto: Any) -> None:
        next(p for p in proto.metadata_props if p.key == "harden.sigma").value = "0.05"

    probe = certify(changed(made, tmp_path, less).case())
    assert probe.settings["sigma"] == 0.05
    assert any("times as wide as the sigma that the model names" in note for note in probe.notes), (
        "of 0.25, which the graph still holds"
    )
    assert not any("times as wide" in note for note in certify(made.case()).notes)
    assert probe.figures[-1].value < certify(made.case()).figures[-1].value


def test_no_attack_beats_the_certificate(made: Made) -> None:
    """Each certified row is moved as far as its certificate goes, to where attacks point: to the nearest row
    that HopSkipJump turned, and the way that is known to be worst. Many fresh votes say the same class.
    """
    case = made.case()
    vote = Smoothed(case)
    radius, voted = vote.radii(lambda share: None)
    sure = np.flatnonzero(radius > 0)
    assert len(sure) > 15
    turned = run_black("hop_skip_jump", case, lambda share, text: None).adversarial
    assert turned is not None
    x = case.x[case.attacked].astype(np.float64)
    worst = -(2.0 * case.y[case.attacked] - 1)[:, None] * np.ones_like(x)
    for way in (np.nan_to_num(turned - x), worst):
        for at in sure[np.abs(way[sure]).max(axis=1) > 0]:
            there = x[at] + 0.999 * radius[at] * way[at] / np.linalg.norm(way[at])
            votes = vote.votes(np.random.default_rng(at), there, 2000)
            assert votes.argmax() == voted[at]
            assert votes.max() > 0.47 * 2000, "the certificate is a lower bound: at its end at least a half"


def test_the_certificate_is_not_idle(made: Made) -> None:
    """Far beyond it, the worst way does turn the vote: so the test before could fail."""
    case = made.case()
    vote = Smoothed(case)
    x, side = case.x[case.attacked].astype(np.float64), 2.0 * case.y[case.attacked] - 1
    far = [
        vote.votes(np.random.default_rng(1), row - 0.6 * s, 500).argmax()
        for row, s in zip(x, side, strict=True)
    ]
    assert (np.array(far) != case.y[case.attacked]).mean() > 0.8


def test_what_the_domain_leaves_of_a_radius_counts(made: Made) -> None:
    """Features that nobody can change cost nothing of the length that a radius has."""
    columns = tuple(Column(f"f{i}", immutable=i > 4) for i in range(30))
    held = Smoothed(made.case(Domain(DomainKind.TABULAR, columns=columns)))
    free = Smoothed(made.case())
    assert held.lengths.max() <= EPS[-1] * np.sqrt(5) * 1.001
    assert free.lengths.max() == pytest.approx(EPS[-1] * np.sqrt(30), rel=1e-3)
    assert (held.lengths < free.lengths).all()


def test_noise_that_leaves_out_what_attackers_change_is_no_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    fixed = {"low": 0.0, "high": 1.0, "scale": 1.0, "whole": False, "fixed": True, "group": "", "way": "any"}
    made = smoothed(tmp_path, {**ANY, "columns": {"f3": fixed}})
    columns = tuple(Column(f"f{i}", immutable=i == 3) for i in range(30))
    assert certify(made.case(Domain(DomainKind.TABULAR, columns=columns))).figures
    with pytest.raises(
        NotSupported, match="its own noise leaves out feature 'f3', which an attacker may change"
    ):
        certify(made.case())


def test_a_model_that_only_says_that_it_is_smoothed_is_not_believed(made: Made, tmp_path: Path) -> None:
    from onnx import helper, numpy_helper

    def swap(proto: Any) -> None:
        """It answers the other class, and keeps the model inside as it was."""
        last = next(n for n in proto.graph.node if list(n.output) == ["probabilities"])
        last.output[0] = "straight"
        proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 0]), "swap"))
        at = list(proto.graph.node).index(last) + 1
        proto.graph.node.insert(
            at, helper.make_node("Gather", ["straight", "swap"], ["probabilities"], axis=1)
        )

    with pytest.raises(NotSupported, match="is not what the whole model answers"):
        certify(changed(made, tmp_path, swap).case())

    def other_noise(proto: Any) -> None:
        held = next(i for i in proto.graph.initializer if i.name == "noise")
        values = numpy_helper.to_array(held)[0]
        held.CopyFrom(numpy_helper.from_array(values, "noise"))

    with pytest.raises(NotSupported, match="says that it is a smoothed model, and is built otherwise"):
        Smoothed(replace(made.case(), victim=Onnx(changed(made, tmp_path, other_noise).file)))

    plain = linear(X, Y)
    helper.set_model_props(plain, {"harden.how": "smooth", "harden.sigma": "0.25"})
    (tmp_path / "plain.onnx").write_bytes(plain.SerializeToString())
    with pytest.raises(NotSupported, match="says that it is a smoothed model, and is built otherwise"):
        certify(Made(tmp_path / "plain.onnx").case())


@pytest.mark.parametrize("sigma", ["wide", "0", "-1", "nan", "inf"])
def test_a_sigma_that_is_none_is_an_answer(made: Made, tmp_path: Path, sigma: str) -> None:
    def say(proto: Any) -> None:
        next(p for p in proto.metadata_props if p.key == "harden.sigma").value = sigma

    with pytest.raises(NotSupported, match="built otherwise"):
        certify(changed(made, tmp_path, say).case())
