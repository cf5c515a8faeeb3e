"""How a probe asks: within its time, and the model itself as much as its speed allows."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import TookTooLong
from tallystick.core.facts import to_json
from tallystick.crew.judging.asking import ITSELF_S, Patience, allowance
from tallystick.crew.judging.offers import list_threats
from tallystick.crew.measure.target import Seen
from tallystick.evidence.figures import Figure
from tallystick.evidence.probe import Probe, ProbeState, Threat
from tallystick.ports.models.attack import Case, Found, Needs, Offer, Progress
from tests.crew.judging.orders import order, points, told, write
from tests.fakes.attack import FakeAttack


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """``linear``: which of two numbers is larger, as an ONNX graph."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder = tmp_path_factory.mktemp("models")
    (folder / "linear").mkdir()
    weights = numpy_helper.from_array(np.array([[10, -10], [-10, 10]], np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["y"], axis=1)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in "xy"]
    graph = helper.make_graph(nodes, "linear", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.save(model, folder / "linear" / "model.onnx")
    (folder / "linear" / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}\n")
    return folder


@given(st.floats(1e-9, 1e3), st.integers(1, 2000), st.integers(1, 10_000))
def test_what_is_granted_is_within_the_budget_and_never_next_to_nothing(
    row_s: float, rows: int, queries_max: int
) -> None:
    some, each = allowance(row_s, rows, queries_max)
    assert 1 <= some <= rows
    assert 1 <= each <= queries_max
    assert some >= min(rows, 20)
    assert each >= min(queries_max, 300)
    if some * each > max(min(rows, 20) * min(queries_max, 500), 0):
        assert some * each * row_s <= 1.001 * ITSELF_S


@given(st.floats(1e-9, 10), st.floats(1, 100))
def test_a_slower_model_is_asked_no_more(row_s: float, times: float) -> None:
    quick, slow = allowance(row_s, 120, 5000), allowance(row_s * times, 120, 5000)
    assert slow[0] <= quick[0]
    assert slow[0] * slow[1] <= quick[0] * quick[1]


def test_a_quick_model_is_asked_all_there_is() -> None:
    assert allowance(1e-6, 120, 5000) == (120, 5000)
    assert allowance(1.0, 120, 5000) == (20, 300)


def test_patience_begins_with_each_probe_and_ends_with_it() -> None:
    now = 0.0
    patience = Patience(10.0, lambda: now)
    now = 100.0
    patience.check()
    patience.begin()
    now = 110.0
    patience.check()
    now = 110.1
    with pytest.raises(TookTooLong, match="stopped after 10 s"):
        patience.check()
    patience.end()
    patience.check()
    Patience(math.inf).begin()


class Slower(FakeAttack):
    """It asks for ever, or says for ever that it is busy; and an honest probe after it."""

    def offers(self) -> tuple[Offer, ...]:
        more = (
            Offer("asks", Threat.EVASION, 1, "asks"),
            Offer("talks", Threat.EVASION, 1, "talks"),
            Offer("certain", Threat.CERTIFICATE, 1, "certain"),
            Offer("leaks", Threat.INFERENCE, 1, "leaks", Needs(train=True)),
        )
        return (*more[:2], *super().offers(), *more[2:])

    def run(self, name: str, case: Case, progress: Progress) -> Found:
        while name == "asks":
            case.victim.scores(case.x[:1])
        while name == "talks":
            progress(0.5, "busy")
        if name == "certain":
            every = len(case.attacked)
            figure = Figure("certified_accuracy", 1.0, 1.0, 1.0, every, case.budget.eps[-1])
            return Found(Probe(name, Threat.CERTIFICATE, library="fake", figures=(figure,)))
        if name == "leaks":
            figure = Figure("membership_advantage", 0.1, 0.05, 0.15, 200)
            return Found(Probe(name, Threat.INFERENCE, library="fake", figures=(figure,)))
        return super().run(name, case, progress)


def judged(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, *named: str, **more):
    tiles = {"slower": Slower()}
    monkeypatch.setattr("tallystick.crew.judging.offers.open_attacks", lambda home: (tiles, {}))
    chosen = [p for p in list_threats(tiles, {}).chosen() if p.name in named]
    return told(order(tmp_path, models / "linear", points(), to_json(chosen), **more))


def test_a_probe_that_takes_too_long_is_stopped_and_the_others_go_on(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()
    found = judged(tmp_path, models, monkeypatch, "asks", "talks", "grid", probe_s=1.0)
    for name in ("asks", "talks"):
        assert found[name].state is ProbeState.FAILED
        assert found[name].why.startswith("stopped after 1 s")
        assert "probe_s" in found[name].why
    assert found["grid"].done
    assert time.monotonic() - began < 60


def test_a_model_whose_answers_get_ever_slower_ends_the_probe(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, asked = Seen._predict, []

    def slow(self: Seen, rows: np.ndarray):
        asked.append(time.sleep(min(0.2, 0.0005 * len(asked) ** 2)))
        return plain(self, rows)

    monkeypatch.setattr(Seen, "_predict", slow)
    found = judged(tmp_path, models, monkeypatch, "asks", "grid", probe_s=1.5)
    assert found["asks"].why.startswith("stopped after 1.5 s")
    assert found["grid"].state in (ProbeState.DONE, ProbeState.FAILED)
    assert found["grid"].done or found["grid"].why.startswith("stopped after 1.5 s")


def test_a_certificate_that_an_attack_contradicts_is_none(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = judged(tmp_path, models, monkeypatch, "grid", "certain")
    assert found["certain"].state is ProbeState.FAILED
    assert "it certifies 12 of 12 rows at eps 0.2, and attacks left" in found["certain"].why


@pytest.mark.parametrize("trained_on", [True, False])
def test_what_rests_on_rows_that_nobody_knows_it_was_trained_on_is_a_bound(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, trained_on: bool
) -> None:
    train = str(write(tmp_path / "train.parquet", points(80)))
    found = judged(tmp_path, models, monkeypatch, "leaks", train=train, trained_on=trained_on)
    (figure,) = found["leaks"].figures
    assert figure.beyond is not trained_on
    assert bool(found["leaks"].notes) is not trained_on
    if not trained_on:
        assert "no record shows" in found["leaks"].notes[0]
