"""A runtime for tests: a folder's own few numbers, multiplied. No library but numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tallystick.core.errors import BadInput, Failed
from tallystick.core.model import TensorSpec

__all__ = ["FakePredictor", "FakeRuntime", "save_fake"]


def save_fake(folder: Path, weights: list[float], *, raises_over: float = 1e9) -> Path:
    """A model folder: ``scores`` of a row are its sum times each weight, ``label`` the largest's place."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_text(json.dumps({"flavors": {"fake": {"data": "weights.json"}}}))
    (folder / "weights.json").write_text(json.dumps({"weights": weights, "raises_over": raises_over}))
    return folder


class FakePredictor:
    """Takes ``x`` FP32 (-1, 2). ``batches`` are the rows of every call that it had."""

    inputs = (TensorSpec("x", "FP32", (-1, 2)),)

    def __init__(self, weights: list[float], raises_over: float) -> None:
        self.outputs = (TensorSpec("label", "INT64", (-1,)), TensorSpec("scores", "FP32", (-1, len(weights))))
        self.batches: list[int] = []
        self._weights = np.array(weights, np.float32)
        self._raises_over = raises_over

    def predict(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        missing, unknown = {"x"} - inputs.keys(), inputs.keys() - {"x"}
        if missing or unknown:
            raise BadInput(f"inputs missing: {sorted(missing)}, unknown: {sorted(unknown)}", where="inputs")
        x = inputs["x"]
        if x.dtype != np.float32 or x.ndim != 2 or x.shape[1] != 2:
            raise BadInput(f"x is {x.dtype} {x.shape}, not float32 (-1, 2)", where="input x")
        self.batches.append(len(x))
        if (x > self._raises_over).any():
            raise Failed(f"a value is over {self._raises_over}", where="fake")
        scores = x.sum(axis=1, dtype=np.float32)[:, None] * self._weights
        return {"label": scores.argmax(axis=1).astype(np.int64), "scores": scores}


class FakeRuntime:
    """Loads what :func:`save_fake` saved."""

    runs_code = False

    def accepts(self, folder: Path) -> bool:
        try:
            self._read(folder)
        except BadInput:
            return False
        return True

    def load(self, folder: Path) -> FakePredictor:
        said = self._read(folder)
        return FakePredictor(said["weights"], said["raises_over"])

    def _read(self, folder: Path) -> dict:
        try:
            flavor = json.loads((folder / "MLmodel").read_text())["flavors"]["fake"]
            return json.loads((folder / flavor["data"]).read_text())
        except (OSError, ValueError, KeyError, TypeError) as wrong:
            raise BadInput(f"not a model: {wrong}", where=str(folder)) from wrong
