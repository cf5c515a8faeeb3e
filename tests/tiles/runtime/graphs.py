"""Small ONNX models for tests, and their gradients by finite differences of what ONNX Runtime says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tallystick.ports.tile import Place
from tallystick.tiles.runtime.onnx import open_tile

__all__ = ["STEP", "agrees", "load", "node", "save"]

STEP = 2e-3
"""Of the finite differences: float32 leaves about four digits of them."""


def node(op, inputs="x", outputs="y", domain="", **attributes):
    """A node; inputs and outputs as names with spaces between, ``_`` for one that is left out."""
    names = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), domain=domain, **attributes)


def save(folder: Path, nodes, shape, *, opset=18, constants=None, kind=TensorProto.FLOAT, rank=2):
    """A model of MLflow's layout with the input ``x`` (n, *shape) and the output ``y`` of ``rank``."""
    folder.mkdir(parents=True, exist_ok=True)
    x = helper.make_tensor_value_info("x", kind, ["n", *shape])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", *[None] * (rank - 1)])
    told = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", [x], [y], told)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    (folder / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
    onnx.save_model(model, folder / "model.onnx")
    return folder


def load(folder: Path):
    return open_tile(Place(folder)).load(folder)


def agrees(predictor, x, seed=0):
    """See that the gradient along any direction is the finite difference of ONNX Runtime's own answers."""
    draw = np.random.default_rng(seed)
    [output] = predictor.outputs
    weights = draw.normal(size=predictor.predict({"x": x})[output.name].shape).astype(np.float32)
    logits, gradients = predictor.pull({"x": x}, lambda found: weights)
    np.testing.assert_allclose(logits, predictor.predict({"x": x})[output.name], rtol=1e-4, atol=1e-5)
    gradient = gradients["x"]
    assert gradient.shape == x.shape
    assert gradient.dtype == np.float32
    for _ in range(3):
        way = draw.choice(np.array([-1, 1], np.float32), x.shape)
        there, back = (
            predictor.predict({"x": (x + s * way).astype(np.float32)})[output.name] for s in (STEP, -STEP)
        )
        wanted = ((there.astype(np.float64) - back) * weights).sum() / (2 * STEP)
        found = (gradient.astype(np.float64) * way).sum()
        scale = max(1.0, np.abs(gradient).sum() / 10, np.abs(weights * logits).sum() / 10)
        assert abs(found - wanted) <= 0.01 * scale, (found, wanted)
