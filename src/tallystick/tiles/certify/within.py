"""The model inside a smoothed one, as ``tally harden --how smooth`` makes them.

Such an ONNX graph answers with the mean over rows of noise that stand in it, and says so in its metadata
(``harden.how``, ``harden.sigma``). What it says of itself is not believed: the model inside is cut out, and
its mean over that very noise must be what the whole graph answers, before anything is certified of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tallystick.core.errors import NotSupported

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Within", "look_within"]

APART = 1e-4
"""By so much scores of the whole and of the mean inside may differ, as both are float32."""

COMPARED = 16
"""Rows that are compared."""


@dataclass(frozen=True)
class Within:
    """A smoothed model: its ``sigma`` in the unit of eps, and the model inside it.

    ``noise`` (draws, features) is the noise that it answers with, ``low`` and ``high`` (features,) where it
    cuts noisy rows off, all in the data's own units.
    """

    sigma: float
    noise: np.ndarray
    low: np.ndarray
    high: np.ndarray
    _session: Any

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """What the model inside says of rows float32 (n, features), (n, classes)."""
        said: np.ndarray = self._session.run(None, {"asked": np.clip(rows, self.low, self.high)})[0]
        return said

    def mean(self, rows: np.ndarray) -> np.ndarray:
        """The mean of :meth:`scores` over the noise, as the whole model answers, (n, classes)."""
        noisy = (rows[:, None] + self.noise[None]).reshape(-1, rows.shape[1]).astype(np.float32)
        said = self.scores(noisy)
        found: np.ndarray = said.reshape(len(rows), len(self.noise), -1).mean(axis=1)
        return found

    def check(self, x: np.ndarray, said: np.ndarray) -> None:
        """NotSupported unless :meth:`mean` is what the whole model ``said`` (n, classes) of rows ``x``."""
        mine, theirs = self.mean(x[:COMPARED]), said[:COMPARED]
        if mine.shape != theirs.shape or not np.allclose(mine, theirs, atol=APART, rtol=APART):
            what = "the mean over its own noise of the model inside is not what the whole model answers"
            raise NotSupported(what, where="twin")


def look_within(file: Path | None) -> Within | None:
    """The model inside, or None for a file that does not say that it is a smoothed model.

    NotSupported where it says so and is built otherwise.
    """
    if file is None:
        return None
    import onnx

    try:
        proto = onnx.load(str(file), load_external_data=False)
    except Exception as wrong:  # those of protobuf, of which there is one for each of its own makings
        raise NotSupported(f"it is not an ONNX model: {str(wrong)[:200]}", where="twin") from wrong
    props = {p.key: p.value for p in proto.metadata_props}
    if props.get("harden.how") != "smooth":
        return None
    try:
        # Of files beside it only such are read as lie in its folder: onnx sees to that.
        onnx.load_external_data_for_model(proto, str(file.parent))
        return _within(proto, float(props["harden.sigma"]))
    except Exception as wrong:  # noqa: BLE001  reason: onnxruntime has kinds of its own; what says that it is smoothed and is not
        what = f"it says that it is a smoothed model, and is built otherwise: {type(wrong).__name__} {wrong}"
        raise NotSupported(f"{what:.300}", where="twin") from None


def _within(proto: Any, sigma: float) -> Within:
    """Cut the model out between the rows that are asked (``asked``) and what is averaged (into ``each``)."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    held = {i.name: i for i in proto.graph.initializer}
    noise, low, high = (numpy_helper.to_array(held[name]) for name in ("noise", "low", "high"))
    right = noise.ndim == 3 and len(noise) == 1 and low.shape == high.shape == noise.shape[2:]
    if not (right and np.isfinite(sigma) and sigma > 0):
        raise ValueError("its noise has no such shape")
    made = {out: node for node in proto.graph.node for out in node.output}
    scores = next(node.input[0] for node in proto.graph.node if list(node.output) == ["each"])
    wanted, nodes = [scores], []
    while wanted:
        node = made.get(wanted.pop())
        if node is not None and "asked" not in node.output and node not in nodes:
            nodes.append(node)
            wanted.extend(node.input)
    kept = [node for node in proto.graph.node if node in nodes]
    used = {name for node in kept for name in node.input}
    graph = helper.make_graph(
        kept, "within", [helper.make_tensor_value_info("asked", TensorProto.FLOAT, ["n", len(low)])],
        [helper.make_tensor_value_info(scores, _kind(proto), ["n", "classes"])],
        [i for i in proto.graph.initializer if i.name in used],
        sparse_initializer=[s for s in proto.graph.sparse_initializer if s.values.name in used],
    )  # fmt: skip
    cut = helper.make_model(
        graph, opset_imports=list(proto.opset_import), ir_version=proto.ir_version,
        functions=list(proto.functions),
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        cut.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return Within(sigma, noise[0], low, high, session)


def _kind(proto: Any) -> int:
    """The type of the scores: of the outputs, the one with two dimensions."""
    return next(
        int(o.type.tensor_type.elem_type)
        for o in proto.graph.output
        if len(o.type.tensor_type.shape.dim) == 2
    )
