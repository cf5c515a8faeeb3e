"""A median filter and JPEG before a model, as graphs: beside ART's own classes and a stock decoder."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from tests.harden.steps import ANY, about, artifact, linear, step, table

pytestmark = pytest.mark.filterwarnings("ignore")
CODE = step("preprocess")


def same(shape: list[int]) -> Any:
    """A model that says what it is asked, ``x`` (n, *shape) float32."""
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", *shape]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def through(made: Any, rows: np.ndarray, inputs: list[Any]) -> np.ndarray:
    return CODE["asked"](made, inputs)(rows.reshape(len(rows), -1))["y"]


def pictures(*shape: int) -> np.ndarray:
    """Six smooth pictures with some noise, in 0..1."""
    draw = np.random.default_rng(8)
    rise = np.linspace(0, 3, shape[0])[:, None] + np.linspace(0, 2, shape[1])[None]
    waves = np.sin(rise[..., None] + draw.uniform(0, 6, (6, 1, 1, shape[2]))) / 2 + 0.5
    return np.clip(waves + draw.normal(0, 0.08, waves.shape), 0, 1).astype(np.float32)


def inputs_of(shape: list[int]) -> list[Any]:
    return [{"name": "x", "type": "FP32", "shape": [-1, *shape]}]


@pytest.mark.parametrize("window", [2, 3, 4])
@pytest.mark.parametrize("first", [False, True])
def test_a_median_filter_is_arts(window, first):
    from art.defences.preprocessor import SpatialSmoothing

    x = pictures(7, 5, 2)
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if first else x
    shape = list(x.shape[1:])
    domain = {**ANY, "shape": shape, "channels_first": first}
    made = CODE["filtered"](same(shape), inputs_of(shape), domain, window)
    theirs = SpatialSmoothing(window_size=window, channels_first=first)(x)[0]
    np.testing.assert_array_equal(through(made, x, inputs_of(shape)), theirs)


def test_rows_may_lie_flat():
    x, domain = pictures(6, 4, 1).reshape(6, 24), {**ANY, "shape": [6, 4]}
    flat, square = (CODE["filtered"](same(s), inputs_of(s), domain, 3) for s in ([24], [6, 4]))
    found = through(flat, x, inputs_of([24]))
    np.testing.assert_array_equal(found, through(square, x, inputs_of([6, 4])).reshape(6, 24))


def agree(mine: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether pictures (n, height, width, c) of 0..255 are the same JPEG but for what libjpeg rounds.

    It computes with whole numbers, so that now and then a wave between two steps falls to the other one: that
    shows in all of a block of 8 by 8, and in few of these.
    """
    apart = np.abs(mine - theirs)
    n, height, width, c = apart.shape
    filled = np.zeros((n, -(-height // 8) * 8, -(-width // 8) * 8, c))
    filled[:, :height, :width] = apart
    blocks = filled.reshape(n, filled.shape[1] // 8, 8, filled.shape[2] // 8, 8, c).max(axis=(2, 4, 5))
    return bool((blocks <= 2).mean() > 0.7 and apart.mean() < 1 and np.median(apart) == 0)


@pytest.mark.parametrize("quality", [10, 50, 90, 100])
def test_jpeg_of_one_channel_is_arts_but_for_rounding(quality):
    """ART's takes whole levels by cutting off, ours by rounding: so whole levels are compared."""
    from art.defences.preprocessor import JpegCompression

    x = (np.rint(pictures(12, 20, 1) * 255)).astype(np.float32)
    shape = [12, 20, 1]
    made = CODE["compressed"](same(shape), inputs_of(shape), {**ANY, "high": 255.0, "shape": shape}, quality)
    theirs = JpegCompression(clip_values=(0, 255), quality=quality)(x)[0]
    assert agree(through(made, x, inputs_of(shape)), theirs)
    if quality == 10:
        assert np.abs(theirs - x).mean() > 5, "it does something"


@pytest.mark.parametrize("first", [False, True])
def test_jpeg_of_colours_is_a_stock_encoders_at_full_resolution(first):
    from PIL import Image

    x = np.rint(pictures(16, 24, 3) * 255).astype(np.uint8)
    theirs = np.empty_like(x)
    for at, each in enumerate(x):
        file = io.BytesIO()
        Image.fromarray(each).save(file, "jpeg", quality=40, subsampling=0)
        theirs[at] = np.array(Image.open(file))
    mine = (x.transpose(0, 3, 1, 2) if first else x).astype(np.float32) / 255
    shape = list(mine.shape[1:])
    domain = {**ANY, "shape": shape, "channels_first": first}
    made = CODE["compressed"](same(shape), inputs_of(shape), domain, 40)
    found = through(made, np.ascontiguousarray(mine), inputs_of(shape))
    found = (found.transpose(0, 2, 3, 1) if first else found) * 255
    assert agree(found, theirs)


def test_rows_that_are_no_such_pictures_are_refused():
    for call in (CODE["filtered"], CODE["compressed"]):
        with pytest.raises(ValueError, match="takes no pictures of shape"):
            call(same([30]), inputs_of([30]), {**ANY, "shape": [4, 4]}, 3)
        with pytest.raises(ValueError, match="are no pictures"):
            call(same([30]), inputs_of([30]), ANY, 3)


@pytest.mark.parametrize(("kind", "setting"), [("median", {"window": 3}), ("jpeg", {"quality": 40})])
def test_the_step_keeps_the_original_behind_it(tmp_path, monkeypatch, kind, setting):
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    x = pictures(5, 6, 1).repeat(10, axis=0).reshape(60, 30)
    y = (x[:, 3] > np.median(x[:, 3])).astype(int)
    table(x, y).to_parquet(tmp_path / "rows", index=False)
    mlflow.onnx.save_model(linear(x, y), str(tmp_path / "original"))
    told = about(30, domain={**ANY, "shape": [5, 6]})
    out = artifact(tmp_path / "made")
    step("preprocess")["preprocess"](
        rows=artifact(tmp_path / "rows"), model=artifact(tmp_path / "original"), about=told,
        settings={"kind": kind, **setting}, eps=0.1, seed=7, hardened=out,
    )  # fmt: skip
    made, original = (CODE["load_graph"](path) for path in (out.path, str(tmp_path / "original")))
    assert {p.key: p.value for p in made.metadata_props}["harden.kind"] == kind
    said, before = (CODE["asked"](graph, told["inputs"])(x)["probabilities"] for graph in (made, original))
    assert np.abs(said - before).max() > 1e-3
    assert [n.op_type for n in made.graph.node if n.op_type == "LinearClassifier"] == ["LinearClassifier"]
