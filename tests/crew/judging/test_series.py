"""Windows of several channels: read as they lie, judged in units of each channel's spread, shown as lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tallystick.core.errors import BadInput
from tallystick.core.facts import to_json
from tallystick.crew.judging.edits import changes, traces
from tallystick.crew.judging.measuring import allowed, distances, noisy, spans
from tallystick.crew.judging.offers import list_threats, open_attacks
from tallystick.crew.judging.rows import Given, given
from tallystick.crew.judging.twins import prove_equal
from tallystick.evidence.domain import Column, Domain, DomainKind
from tallystick.evidence.probe import ProbeState
from tests.crew.judging.orders import order, told, write
from tests.judging.kinds import CHANNELS, STEPS, windows

SERIES = Domain(DomainKind.SERIES, (STEPS, CHANNELS))
USED = ("pgd", "square", "hop_skip_jump", "corruptions")


def lists(x: np.ndarray) -> pa.Array:
    return pa.array(x.tolist(), pa.list_(pa.list_(pa.float32())))


def read(home: Path, columns: dict, domain: Domain = SERIES) -> Given:
    return given(write(home / "rows.parquet", columns), "label", domain, (), 0)


def test_a_window_is_read_as_lists_of_lists_or_flat_or_as_columns(tmp_path: Path) -> None:
    x, label = windows()
    flat = x.reshape(len(x), -1)
    columns = {f"v{at:02d}": flat[:, at] for at in range(flat.shape[1])}
    forms = [{"window": lists(x)}, {"window": pa.array(flat.tolist())}, columns]
    for form in forms:
        found = read(tmp_path, {**form, "label": label})
        np.testing.assert_array_equal(found.x, flat)
        assert [c.name for c in found.domain.columns] == ["channel 1", "channel 2"]
    assert found.notes == ["ranges and spreads of 2 channels were taken from the rows, not from a policy"]


def test_a_channel_s_range_and_spread_are_those_of_the_rows(tmp_path: Path) -> None:
    x, label = windows()
    found = read(tmp_path, {"window": lists(x), "label": label})
    for at, column in enumerate(found.domain.columns):
        assert (column.low, column.high) == (x[:, :, at].min(), x[:, :, at].max())
        assert column.scale == pytest.approx(x[:, :, at].astype(np.float64).std())
    first = replace(SERIES, shape=(CHANNELS, STEPS), channels_first=True)
    other = read(tmp_path, {"window": lists(x.swapaxes(1, 2)), "label": label}, first)
    assert other.domain.columns == found.domain.columns
    eps = spans(found.domain, STEPS * CHANNELS).reshape(STEPS, CHANNELS)
    np.testing.assert_array_equal(spans(other.domain, STEPS * CHANNELS).reshape(CHANNELS, STEPS).T, eps)
    np.testing.assert_allclose(eps[3], [c.scale for c in found.domain.columns])


def test_what_a_policy_says_of_a_channel_counts(tmp_path: Path) -> None:
    x, label = windows()
    stated = (Column("tilt", -1, 1, unit="g"), Column("heat", 0, 2000, immutable=True, scale=50))
    found = read(tmp_path, {"window": lists(x), "label": label}, replace(SERIES, columns=stated))
    tilt, heat = found.domain.columns
    assert (heat, tilt.unit, found.notes) == (stated[1], "g", [])
    assert tilt.scale == pytest.approx(x[:, :, 0].std(), rel=1e-3)
    moved = found.x.copy()
    moved[:, 1] += 1
    assert not allowed(found.domain, found.x, moved).any()
    tight = replace(SERIES, columns=(stated[0], Column("heat", 0, 600)))
    with pytest.raises(BadInput, match="channel 'heat' has") as wrong:
        read(tmp_path, {"window": lists(x), "label": label}, tight)
    assert "step" in wrong.value.where


@pytest.mark.parametrize("spoil", ["one is shorter", "one is missing", "no numbers", "another shape"])
def test_windows_that_do_not_fit_are_named(spoil: str, tmp_path: Path) -> None:
    x, label = windows(5)
    rows = x.tolist()
    domain = replace(SERIES, shape=(STEPS + 1, CHANNELS)) if spoil == "another shape" else SERIES
    if spoil == "one is shorter":
        rows[2][3] = rows[2][3][:1]
    if spoil == "one is missing":
        rows[2][3] = None
    column = pa.array([[["x"] * CHANNELS] * STEPS] * 5) if spoil == "no numbers" else pa.array(rows)
    with pytest.raises(BadInput, match=r"lists|shape"):
        read(tmp_path, {"window": column, "label": label}, domain)


def test_columns_of_a_series_are_its_channels() -> None:
    for columns in ((Column("a"),), (Column("a", one_hot="x"), Column("b"))):
        with pytest.raises(BadInput, match="channel"):
            replace(SERIES, columns=columns)


def test_distance_and_noise_are_in_units_of_each_channel(tmp_path: Path) -> None:
    x, label = windows()
    found = read(tmp_path, {"window": lists(x), "label": label})
    noise = noisy(found.domain, found.x, 0.1, 7)
    far = distances(found.domain, found.x, noise)
    assert ((far > 0.05) & (far <= 0.1 + 1e-5)).all()
    assert allowed(found.domain, found.x, noise).all()
    moved = np.abs(noise - found.x).reshape(-1, STEPS, CHANNELS).max(axis=(0, 1))
    np.testing.assert_allclose(moved, [0.1 * c.scale for c in found.domain.columns], rtol=0.02)


def test_a_trace_holds_the_lines_and_the_largest_change_of_many_steps() -> None:
    domain = Domain(DomainKind.SERIES, (3, 1000), channels_first=True)
    before = np.zeros(3000, np.float32)
    after = before.copy()
    after[1777], after[2001] = 0.5, -0.25
    second, third = traces(domain, before, after)
    assert (second.channel, third.channel) == ("channel 2", "channel 3")
    assert len(second.steps) == 160
    assert (second.steps[second.after.index(0.5)], max(second.before)) == (777, 0.0)
    said = changes(domain, (), before, after)
    assert [(c.feature, c.after) for c in said] == [
        ("channel 2 at step 778", "0.5"),
        ("channel 3 at step 2", "-0.25"),
    ]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear model of windows (n, steps, channels), which sees the first channel's slope, as ONNX."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.zeros((STEPS, CHANNELS, 2), np.float32)
    weights[:, 0, 1] = np.linspace(-1, 1, STEPS) * 60
    weights[:, 0, 0] = -weights[:, 0, 1]
    flat = STEPS * CHANNELS
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["z"]),
         helper.make_node("Softmax", ["z"], ["said"])],
        "windows",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", STEPS, CHANNELS])],
        [helper.make_tensor_value_info("said", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(weights.reshape(flat, 2), "w")],
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("network")
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(made, folder / "model.onnx")
    (folder / "MLmodel").write_text("flavors:\n  onnx:\n    data: model.onnx\n")
    return folder


@pytest.mark.slow
def test_a_model_of_windows_is_attacked_and_spoilt_to_the_end(network: Path, tmp_path: Path) -> None:
    """Of a linear model the exact robust accuracy is known: L-infinity in each channel's own unit."""
    x, label = windows(200)
    tiles, absent = open_attacks(tmp_path)
    assert not absent.keys() & {"white", "art", "corruption"}
    probes = [p for p in list_threats(tiles, absent).chosen() if p.name in USED]
    budget = {"eps": [0.2, 0.5, 1.0, 2.0], "samples_max": 60, "queries_max": 300, "steps_max": 20, "seed": 7}
    wanted = order(
        tmp_path, network, {"window": lists(x), "label": label}, to_json(probes),
        domain=to_json(SERIES), budget=budget,
    )  # fmt: skip
    found = told(wanted)
    assert {p.name: p.state for p in found.probes} == {"clean": ProbeState.DONE} | dict.fromkeys(
        USED, ProbeState.DONE
    )
    domain = found.base.domain
    attacked = np.random.default_rng(7).permutation(200)[:60]
    flat = x.reshape(200, -1)[attacked].astype(np.float64)
    slope = np.zeros((STEPS, CHANNELS))
    slope[:, 0] = np.linspace(-1, 1, STEPS) * 120
    slope = slope.ravel() * np.where(label[attacked], 1, -1)[:, None]
    low, high = (np.array([getattr(c, end) for c in domain.columns] * STEPS) for end in ("low", "high"))
    robust = found.parts[-2]["robust"]  # corruptions come last
    for eps, right in zip(budget["eps"], robust, strict=True):
        worst = np.clip(flat - eps * spans(domain, flat.shape[1]) * np.sign(slope), low, high)
        exact = int(((worst * slope).sum(axis=1) > 0).sum())
        assert exact <= right <= exact + 1, eps
    assert robust[0] > robust[-1]
    shown = found["pgd"].examples[0]
    assert shown.traces[0].channel == "channel 1"
    assert not shown.original
    assert any(now != was for now, was in zip(shown.traces[0].after, shown.traces[0].before, strict=True))
    kinds = set(found["corruptions"].settings["corruptions"])
    assert {"gap", "drift", "spikes", "time warp", "noise", "stuck sensor"} <= kinds


def test_a_twin_is_compared_near_the_windows_channel_by_channel(tmp_path: Path) -> None:
    """By the range of all numbers alone a small channel would be compared where no window lies."""
    x, label = windows()
    found, asked = read(tmp_path, {"window": lists(x), "label": label}), []

    def says(rows: np.ndarray) -> np.ndarray:
        asked.append(rows.reshape(-1, STEPS, CHANNELS)[:, :, 0])
        odds = 1 / (1 + np.exp(-300 * (rows[:, -2:-1] - rows[:, :1]).astype(np.float64)))
        return np.concatenate([1 - odds, odds], axis=1)

    assert prove_equal(says, says, found.x, domain=found.domain).equal
    small = np.concatenate(asked)
    column = found.domain.columns[0]
    edge = 1e-5 * column.span
    assert small.min() >= column.low - edge
    assert small.max() <= column.high + edge
