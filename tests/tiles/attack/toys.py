"""Models whose truth is known, and cases made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tallystick.evidence.domain import Budget, Domain
from tallystick.ports.models.attack import Case, Weigh


class Linear:
    """Scores ``weights`` (classes, features) x + ``bias``; ``asked`` counts rows by their bytes' owner."""

    twin: Path | None = None

    def __init__(self, weights: Any, bias: Any, gives: str = "logits", gradients: bool = False) -> None:
        self.weights, self.bias = np.asarray(weights, np.float64), np.asarray(bias, np.float64)
        self.classes, self.gives, self.gradients = len(self.bias), gives, gradients
        self.asked = self.pulled = 0
        self.seen: list[np.ndarray] = []

    def scores(self, rows: np.ndarray) -> np.ndarray:
        assert rows.dtype == np.float32
        assert rows.ndim == 2
        self.asked += len(rows)
        self.seen.append(rows.copy())
        z = rows @ self.weights.T + self.bias
        if self.gives == "labels":
            return np.eye(self.classes, dtype=np.float32)[z.argmax(axis=1)]
        if self.gives == "probabilities":
            odds = np.exp(z - z.max(axis=1, keepdims=True))
            z = odds / odds.sum(axis=1, keepdims=True)
        return z.astype(np.float32)

    def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
        assert self.gradients
        self.pulled += len(rows)
        z = (rows @ self.weights.T + self.bias).astype(np.float32)
        return z, (weigh(z) @ self.weights).astype(np.float32)

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def nearest(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The exact L-infinity distance (n,) to the next class, were there no range."""
        z = x @ self.weights.T + self.bias
        gaps = z[np.arange(len(x)), y][:, None] - z
        steep = np.abs(self.weights[y][:, None] - self.weights[None]).sum(axis=2)
        steep[np.arange(len(x)), y] = np.nan
        return np.nanmin(gaps / steep, axis=1)


class Onnx:
    """An ONNX classifier by onnxruntime, its second output the probabilities."""

    gradients = False
    gives = "probabilities"

    def __init__(self, twin: Path) -> None:
        import onnxruntime

        self.twin: Path | None = twin
        self._session = onnxruntime.InferenceSession(str(twin), providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name
        self._out = [o.name for o in self._session.get_outputs() if "float" in o.type][-1]
        self.asked = 0
        self.classes = self._session.run([self._out], {self._name: np.zeros((1, self._width), np.float32)})[
            0
        ].shape[1]

    @property
    def _width(self) -> int:
        return int(self._session.get_inputs()[0].shape[1])

    def scores(self, rows: np.ndarray) -> np.ndarray:
        self.asked += len(rows)
        return np.asarray(self._session.run([self._out], {self._name: rows})[0], np.float32)

    def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def to_onnx(model: Any, features: int, folder: Path, name: str = "twin.onnx") -> Path:
    """A fitted scikit-learn model as an ONNX file, without a ZipMap."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    made = convert_sklearn(
        model,
        initial_types=[("x", FloatTensorType([None, features]))],
        options={id(model): {"zipmap": False}},
    )
    path = folder / name
    path.write_bytes(made.SerializeToString())
    return path


def case_of(
    victim: Any,
    x: np.ndarray,
    y: np.ndarray,
    domain: Domain | None = None,
    budget: Budget | None = None,
    features: Sequence[str] = (),
) -> Case:
    """A case as the judge makes it: nothing known yet but whether the clean answers are right."""
    budget = budget or Budget()
    scores = victim.scores(x)
    attacked = np.random.default_rng(budget.seed).permutation(len(x))[: budget.samples_max]
    right = scores[attacked].argmax(axis=1) == y[attacked]
    victim.asked = 0
    return Case(
        victim=victim,
        x=x,
        y=y,
        scores=scores,
        attacked=attacked,
        distance=np.where(right, np.inf, 0.0),
        adversarial=np.full((len(attacked), x.shape[1]), np.nan, np.float32),
        domain=domain or Domain(low=budget.low, high=budget.high),
        budget=budget,
        features=tuple(features) or tuple(f"f{i}" for i in range(x.shape[1])),
        classes=tuple(str(c) for c in range(victim.classes)),
    )
