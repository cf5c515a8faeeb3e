"""The digits' network behind what has no gradient, as MLflow lays out an ONNX model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.tiles.white.nets import digits

__all__ = ["SIDE", "front", "model"]

SIDE = 8


def front(kind: str) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Operators from ``x`` (n, 64) to ``seen`` (n, 64), and their constants."""
    node = helper.make_node
    if kind == "bits":  # to 8 levels, by way of whole numbers: no gradient at all
        told = {"seven": np.float32(7), "half": np.float32(0.5)}
        names = [
            "Mul x seven scaled",
            "Add scaled half up",
            "Cast up whole",
            "Cast whole back",
            "Div back seven seen",
        ]
        kinds = {"whole": TensorProto.UINT8, "back": TensorProto.FLOAT}
        made = []
        for said in names:
            op, *ins, out = said.split()
            made.append(node(op, ins, [out], **({"to": kinds[out]} if op == "Cast" else {})))
        return made, told
    if kind == "quantized":
        told = {"scale": np.float32(1 / 7), "zero": np.uint8(0)}
        return [node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
                node("DequantizeLinear", ["q", "scale", "zero"], ["seen"])], told  # fmt: skip
    if kind == "steps":  # a sum of comparisons: its scores do not follow smoothly from its inputs
        made, told, sums = [], {}, []
        for at in range(1, 8):
            told[f"cut{at}"] = np.float32((at - 0.5) / 7)
            made += [node("Greater", ["x", f"cut{at}"], [f"above{at}"]),
                     node("Cast", [f"above{at}"], [f"one{at}"], to=TensorProto.FLOAT)]  # fmt: skip
            sums.append(f"one{at}")
        return [*made, node("Sum", sums, ["steps"]), node("Div", ["steps", "seven"], ["seen"])], {
            **told, "seven": np.float32(7),
        }  # fmt: skip
    windows = np.zeros((9, 1, 3, 3), np.float32)
    windows.reshape(9, 9)[np.arange(9), np.arange(9)] = 1
    told = {"image": np.array([-1, 1, SIDE, SIDE]), "row": np.array([-1, SIDE * SIDE]), "windows": windows,
            "five": np.array([5]), "fourth": np.array([4])}  # fmt: skip
    return [
        node("Reshape", ["x", "image"], ["picture"]),
        node("Conv", ["picture", "windows"], ["shifted"], pads=[1, 1, 1, 1]),
        node("TopK", ["shifted", "five"], ["highest", "places"], axis=1),
        node("Gather", ["highest", "fourth"], ["middle"], axis=1),
        node("Reshape", ["middle", "row"], ["seen"]),
    ], told  # fmt: skip


def model(kind: str, folder: Path, loud: float = 1.0) -> Path:
    """The digits' network of one hidden layer behind ``kind``, as MLflow lays out an ONNX model."""
    layers, _, _ = digits()
    (first, b), (second, c) = layers
    nodes, told = front(kind) if kind else ([helper.make_node("Identity", ["x"], ["seen"])], {})
    told |= {"w": first, "b": b, "v": second * loud, "c": c * loud}
    nodes += [
        helper.make_node("Gemm", ["seen", "w", "b"], ["inside"]),
        helper.make_node("Relu", ["inside"], ["on"]),
        helper.make_node("Gemm", ["on", "v", "c"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.asarray(v, None if np.asarray(v).dtype.kind in "iu" else np.float32), k)
        for k, v in told.items()
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, ["n", 64])],
                              [value("y", TensorProto.FLOAT, ["n", 10])], constants)  # fmt: skip
    folder.mkdir(exist_ok=True)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save_model(made, folder / "model.onnx")
    (folder / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
    return folder
