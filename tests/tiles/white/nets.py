"""Small networks with exact gradients in numpy, and the same behind defences that only hide them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tallystick.ports.models.attack import Weigh


class Net:
    """One hidden layer of rectified units; ``loud`` multiplies its logits, until cross-entropy saturates."""

    classes, gives, gradients = 10, "logits", True
    twin: Path | None = None

    def __init__(self, layers: Any, loud: float = 1.0) -> None:
        (self.first, self.b), (self.second, self.c) = layers
        self.loud = loud
        self.asked = self.pulled = 0

    def see(self, rows: np.ndarray) -> np.ndarray:
        """What stands before the network."""
        return rows

    def scores(self, rows: np.ndarray) -> np.ndarray:
        assert rows.dtype == np.float32
        self.asked += len(rows)
        return self.answer(self.see(rows))[0]

    def answer(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inside = np.maximum(rows.astype(np.float64) @ self.first + self.b, 0)
        return ((inside @ self.second + self.c) * self.loud).astype(np.float32), inside

    def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
        assert rows.dtype == np.float32
        self.pulled += len(rows)
        z, inside = self.answer(self.see(rows))
        back = (weigh(z).astype(np.float64) @ self.second.T * (inside > 0)) @ self.first.T
        return z, (self.back(back) * self.loud).astype(np.float32)

    def back(self, slopes: np.ndarray) -> np.ndarray:
        """The gradient through :meth:`see`."""
        return slopes

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        return self.answer(rows)[1].astype(np.float32)


class Rounded(Net):
    """Sees inputs rounded to fourths: as good against small changes as it looks, and without a gradient."""

    def see(self, rows: np.ndarray) -> np.ndarray:
        return np.rint(rows * 4) / 4

    def back(self, slopes: np.ndarray) -> np.ndarray:
        return np.zeros_like(slopes)


class Misled(Net):
    """Answers gradients that point the other way."""

    def back(self, slopes: np.ndarray) -> np.ndarray:
        return -slopes


class Noisy(Net):
    """Adds noise to its input, another each time."""

    draw = np.random.default_rng(5)

    def see(self, rows: np.ndarray) -> np.ndarray:
        return rows + self.draw.normal(0, 0.1, rows.shape).astype(np.float32)


@cache
def digits() -> tuple[Any, np.ndarray, np.ndarray]:
    """Layers fitted to scikit-learn's digits, and 200 rows that they did not see, 0 to 1."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    net = MLPClassifier((48,), max_iter=60, random_state=0, tol=0, n_iter_no_change=1000)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is stopped before it has converged
        net.fit(x[:1200], y[:1200])
    layers = tuple(zip(net.coefs_, net.intercepts_, strict=True))
    return layers, np.ascontiguousarray(x[1200:1400]), y[1200:1400].astype(np.int64)
