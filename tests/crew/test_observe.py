"""The errand ``observe``: silent while nothing changes, loud when it does, deaf to what does not count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.facts import from_json, to_json
from tallystick.core.model import TensorSpec
from tallystick.core.names import digest_of
from tallystick.core.signal import Drift, DriftLimits, weigh_drift
from tallystick.crew.measure.drift import column_drift, ks_p_value, ks_statistic, psi
from tallystick.crew.observe import main
from tallystick.doors.oip.codec import InferRequest, encode_request
from tallystick.ports.traffic import Exchange
from tallystick.tiles.traffic.segments import encode
from tests.crew.at_desk import done, send

NAMES = [f"p{i:02d}" for i in range(64)]
IMAGE = (TensorSpec("pixels", "FP32", (-1, 64)),)
LIMITS = DriftLimits(alpha=0.01, share_max=0.1, rows_min=100)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels in a fixed random order, and their labels."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(5).permutation(len(y))
    return (x[order] / 16).astype(np.float32), y[order]


def shifted(x: np.ndarray, down: int = 0) -> np.ndarray:
    """One pixel to the right, or down."""
    images = x.reshape(-1, 8, 8)
    moved = np.zeros_like(images)
    if down:
        moved[:, 1:] = images[:, :-1]
    else:
        moved[:, :, 1:] = images[:, :, :-1]
    return moved.reshape(-1, 64)


def asked(inputs: dict[str, np.ndarray], at_ms: int, *, binary: bool = True, **other) -> Exchange:
    body, json_bytes = encode_request(InferRequest(inputs), binary=binary)
    return Exchange(**{"at_ms": at_ms, "generation": 2, "status": 200, "latency_ms": 1.0, **other},
                    body=body, json_bytes=json_bytes)  # fmt: skip


def images(rows: np.ndarray, size: int = 32) -> list[Exchange]:
    """Requests of ``size`` images each, by turns binary and JSON."""
    parts = [rows[at : at + size] for at in range(0, len(rows), size)]
    return [asked({"pixels": part}, 1000 + n, binary=n % 2 == 0) for n, part in enumerate(parts)]


def order(
    home: Path, exchanges: list[Exchange], columns: dict[str, np.ndarray], inputs=IMAGE, **other
) -> dict:
    parquet.write_table(pa.table(columns), home / "reference.parquet")
    half = len(exchanges) // 2
    for name, part in (("1", exchanges[:half]), ("2", exchanges[half:])):
        (home / name).write_bytes(b"".join(map(encode, part)))
    plain = {
        "exchanges": [str(home / "1"), str(home / "2"), str(home / "made room")],
        "generation": 2,
        "rows_max": 1_000_000,
        "reference": str(home / "reference.parquet"),
        "label": "label",
        "reference_name": "digits@1",
        "reference_digest": digest_of(b"d"),
        "inputs": to_json(inputs),
    }
    return {**plain, **other}


def table(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    return {**{n: x[:, i].astype(np.float64) for i, n in enumerate(NAMES)}, "label": y}


def test_unchanged_rows_are_silent_and_shifted_ones_raise(tmp_path: Path, digits) -> None:
    x, y = digits
    reference = table(x[:1000], y[:1000])
    for seed in range(5):
        rows = x[1000 + np.random.default_rng(seed).permutation(797)[:300]]
        found = done(main, order(tmp_path, images(rows), reference))
        drift = from_json(Drift, found)
        assert weigh_drift(drift, LIMITS) == (False, 0.0, ())
        assert (drift.rows_reference, drift.rows_live, len(drift.columns)) == (1000, 300, 64)
        assert (found["requests"], found["skipped"], found["left_out"]) == (10, 0, [])
        for down in (0, 1):
            drift = from_json(Drift, done(main, order(tmp_path, images(shifted(rows, down)), reference)))
            raised, share, worst = weigh_drift(drift, LIMITS)
            assert raised
            assert share > 0.25
            assert worst[0].ks > 0.5


def test_a_process_of_its_own_tells_the_same(tmp_path: Path, digits) -> None:
    x, y = digits
    wanted = order(tmp_path, images(shifted(x[1000:1300])), table(x[:1000], y[:1000]))
    found = send("observe", wanted)
    assert found == done(main, wanted)
    assert (found["first_ms"], found["last_ms"]) == (1000, 1009)
    assert (found["reference"], found["reference_digest"]) == ("digits@1", digest_of(b"d"))
    assert [c["column"] for c in found["columns"]] == NAMES


def test_what_does_not_count_is_left_out_and_what_cannot_be_read_is_skipped(tmp_path: Path, digits) -> None:
    x, y = digits
    rows = x[1000:1010]
    exchanges = [
        asked({"pixels": rows}, 50, generation=1),
        asked({"pixels": rows}, 51, status=500),
        asked({"pixels": rows}, 100),
        Exchange(101, 2, 200, 1.0, b"{not json", 0),
        Exchange(102, 2, 200, 1.0, b"", 9),
        asked({"pixels": rows[:, :3]}, 103),
        asked({"a": rows, "b": rows}, 104),
        asked({"pixels": np.array([[b"x"] * 64], object)}, 105),
        asked({"pixels": rows.reshape(10, 8, 8).astype(np.float64)}, 106),
        asked({"pixels": rows[:0]}, 107),
        asked({"pixels": rows}, 900, generation=3),
    ]
    found = done(main, order(tmp_path, exchanges, table(x[:1000], y[:1000])))
    assert (found["rows_live"], found["requests"], found["skipped"]) == (20, 2, 6)
    assert (found["first_ms"], found["last_ms"]) == (100, 106)


def test_a_torn_end_and_no_requests_at_all(tmp_path: Path, digits) -> None:
    x, y = digits
    wanted = order(tmp_path, images(x[1000:1300]), table(x[:1000], y[:1000]))
    whole = (tmp_path / "2").read_bytes()
    (tmp_path / "2").write_bytes(whole[:-10])
    assert done(main, wanted)["requests"] == 9
    found = done(main, {**wanted, "exchanges": []})
    assert (found["rows_live"], found["columns"]) == (0, [])
    assert not weigh_drift(from_json(Drift, found), LIMITS)[0]


def test_an_input_for_each_column(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    specs = [TensorSpec(n, t, (-1,)) for n, t in [("b", "FP64"), ("a", "INT64"), ("word", "BYTES")]]
    reference = {
        "a": draw.integers(0, 9, 500),
        "word": np.array(["x"] * 500),
        "b": draw.normal(size=500),
        "unused": draw.normal(size=500),
        "label": draw.integers(0, 2, 500),
    }
    words = np.array([b"x"] * 40 + [None], object)[:-1]
    exchanges = []
    for n in range(5):
        inputs = {"a": draw.integers(0, 9, 40), "b": draw.normal(5, 1, (40, 1)), "word": words}
        exchanges.append(asked(inputs, n))
    found = done(main, order(tmp_path, exchanges, reference, specs))
    assert (found["rows_live"], found["skipped"], found["left_out"]) == (200, 0, ["word"])
    by_name = {c["column"]: c for c in found["columns"]}
    assert by_name.keys() == {"a", "b"}
    assert by_name["b"]["ks"] > 0.9
    assert by_name["a"]["p_value"] > 1e-3


def test_columns_as_one_table(tmp_path: Path) -> None:
    """As the pyfunc runtime takes them, in the order of the model's inputs."""
    draw = np.random.default_rng(0)
    reference = {"a": draw.normal(0, 1, 500), "b": draw.normal(9, 1, 500), "label": np.zeros(500)}
    specs = [TensorSpec(n, "FP64", (-1,)) for n in ("b", "a")]
    rows = np.column_stack([draw.normal(9, 1, 300), draw.normal(0, 1, 300)])
    found = done(main, order(tmp_path, [asked({"any": rows}, 1)], reference, specs))
    assert found["rows_live"] == 300
    assert max(c["ks"] for c in found["columns"]) < 0.15


def test_a_reference_that_does_not_fit_says_so(tmp_path: Path, digits) -> None:
    x, y = digits
    whole = table(x[:100], y[:100])
    for columns, label, inputs, kind, words in [
        (whole, "target", IMAGE, BadInput, "no column 'target'"),
        ({**whole, "more": y[:100]}, "label", IMAGE, NotSupported, "64 features, and digits@1 has 65"),
        (whole, "label", [TensorSpec("other", "FP32", (-1,))], NotSupported, "none of the model's inputs"),
        ({"label": y[:100]}, "label", IMAGE, BadInput, "no column beside"),
    ]:
        with pytest.raises(kind, match=words):
            done(main, order(tmp_path, [], columns, inputs, label=label))
    with pytest.raises(BadInput, match="the order lacks"):
        done(main, {"exchanges": []})


@pytest.mark.parametrize("rows", [(100, 100), (1000, 300), (1500, 101), (40, 5000)])
def test_the_p_value_is_that_of_scipy(rows: tuple[int, int]) -> None:
    from scipy.stats import ks_2samp

    draw = np.random.default_rng(rows[1])
    for apart in (0.0, 0.1, 0.2, 0.4, 0.6):
        first, second = draw.normal(0, 1, rows[0]), draw.normal(apart, 1, rows[1])
        for a, b in ((first, second), (np.round(first), np.round(second))):
            wanted = ks_2samp(a, b, method="asymp")
            statistic = ks_statistic(a, b)
            assert statistic == pytest.approx(wanted.statistic, abs=1e-12)
            found, exact = (np.log(max(p, 1e-12)) for p in (ks_p_value(statistic, *rows), wanted.pvalue))
            assert found == pytest.approx(exact, rel=0.1, abs=0.05)


def test_psi_by_hand() -> None:
    reference = np.repeat(np.arange(4.0), 25)
    assert psi(reference, reference) == 0
    live = np.repeat(np.arange(4.0), [50, 50, 0, 0])
    # Bins end at 0, 1, 1.5 (the median lies between two values), 2 and 3; the third and the last are empty.
    p = np.array([25.5, 25.5, 0.5, 25.5, 25.5, 0.5]) / 103
    q = np.array([50.5, 50.5, 0.5, 0.5, 0.5, 0.5]) / 103
    assert psi(reference, live) == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert psi(np.zeros(50), np.zeros(20)) < 0.05
    assert psi(np.zeros(50), np.ones(20)) > 1


def test_missing_numbers() -> None:
    nothing, some = np.full(5, np.nan), np.array([0.0, np.nan, 1.0])
    assert column_drift("c", nothing, nothing).p_value == 1
    assert column_drift("c", some, nothing).p_value == 0
    assert column_drift("c", nothing, some).ks == 1
    assert column_drift("c", some, np.array([0.0, 1.0])).ks == 0
