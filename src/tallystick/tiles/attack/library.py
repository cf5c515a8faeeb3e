"""The Adversarial Robustness Toolbox (ART), as far as it is used, with its habits kept in check.

ART 1.20 has no estimator for ONNX, and its own for PyTorch would take the model away from where it runs: so
its attacks see a :class:`tallystick.ports.models.attack.Victim` through :func:`estimator`. Whatever they
send, the model gets float32, and whatever labels they have in mind (numbers, one-hot, float or not) are read
alike.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from tallystick.core.errors import NotSupported
from tallystick.ports.models.attack import Victim, Weigh

__all__ = ["LEFT_OUT", "LIBRARY", "estimator", "evasion", "seeded", "versions"]

LIBRARY = "adversarial-robustness-toolbox"

LEFT_OUT = {
    "GeoDA": "calls np.mat, which numpy 2 has not",
    "NewtonFool": "takes what it is given for chances, and says nothing where they are logits",
    "Wasserstein": "its projection overflows",
    "BrendelBethgeAttack": "needs numba, which ART does not ask for",
    "AutoAttack": "needs multiprocess, which ART does not ask for; the white tile's ensemble is stronger",
}
"""Attacks of ART that are not offered, each with the reason."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """As it is imported, ART writes a settings folder into the user's home and warns about what it lacks."""
    before = os.environ.get("HOME")
    with tempfile.TemporaryDirectory(prefix="tally-art-") as home, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["HOME"] = home
        try:
            yield
        finally:
            if before is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = before


def evasion() -> Any:
    """ART's module of evasion attacks."""
    with _quiet():
        from art.attacks import evasion as attacks
    return attacks


def _softmax(z: np.ndarray) -> np.ndarray:
    odds = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _one_hot(y: np.ndarray, classes: int) -> np.ndarray:
    """Labels as ART's attacks hand them over, float64 (n, classes): numbers (n,) or (n, 1), or a row each."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == classes:
        return y.astype(np.float64)
    return np.eye(classes)[y.reshape(-1).astype(np.int64)]


class _Answers:
    """What ART asks of a classifier with gradients, answered by a victim: cross-entropy of its logits."""

    def __init__(self, victim: Victim, shape: tuple[int, ...], low: float, high: float) -> None:
        super().__init__(model=victim, clip_values=(low, high), channels_first=True)  # type: ignore[call-arg]  # reason: ART's, see estimator()
        self._victim, self._input_shape, self.nb_classes = victim, shape, victim.classes
        self.asked = self.pulled = 0

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of a row."""
        return self._input_shape

    def predict(self, x: np.ndarray, batch_size: int = 128, **kwargs: Any) -> np.ndarray:
        """Logits, or what scores the victim gives where it has no gradients."""
        self.asked += len(x)
        victim, rows = self._victim, _rows(x)
        if not victim.gradients:
            return np.asarray(victim.scores(rows))
        made = victim.pull(rows, np.zeros_like)[0]
        # Logits are what they are up to a constant: below 0, none of ART's attacks takes them for chances.
        return np.asarray(made - made.max(axis=1, keepdims=True) - 1)

    def loss_gradient(self, x: np.ndarray, y: np.ndarray, **kwargs: Any) -> np.ndarray:
        """Of cross-entropy by rows, in the shape of ``x``."""
        right = _one_hot(y, self.nb_classes)
        return self._slopes(x, lambda z: _softmax(z) - right)

    def class_gradient(self, x: np.ndarray, label: Any = None, **kwargs: Any) -> np.ndarray:
        """Of each logit, or of that of one class for all or for each row: (n, classes or 1, ...)."""
        if label is None:
            wanted = np.broadcast_to(np.arange(self.nb_classes), (len(x), self.nb_classes))
        else:
            wanted = np.broadcast_to(np.asarray(label).reshape(-1, 1), (len(x), 1))
        parts = [self._slopes(x, partial(_classes_of, of)) for of in wanted.T]
        return np.stack(parts, axis=1)

    def compute_loss(self, x: np.ndarray, y: np.ndarray, reduction: str = "none", **kwargs: Any) -> Any:
        """Cross-entropy, of each row, their mean or their sum."""
        chances = np.log(np.maximum(_softmax(self.predict(x).astype(np.float64)), 1e-300))
        loss = -(chances * _one_hot(y, self.nb_classes)).sum(axis=1)
        return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]

    def fit(self, x: np.ndarray, y: np.ndarray, **kwargs: Any) -> None:
        """Never: NotSupported."""
        raise NotSupported("a victim is attacked, not trained", where="attack")

    def get_activations(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """Never: NotSupported."""
        raise NotSupported("what its layers say is asked of the victim itself", where="attack")

    def _slopes(self, x: np.ndarray, weigh: Weigh) -> np.ndarray:
        self.pulled += len(x)
        made = self._victim.pull(_rows(x), lambda z: weigh(z.astype(np.float64)).astype(np.float32))[1]
        slopes: np.ndarray = np.asarray(made).reshape(np.shape(x))
        return slopes


def _classes_of(of: np.ndarray, z: np.ndarray) -> np.ndarray:
    wanted: np.ndarray = np.eye(z.shape[1])[of]
    return wanted


def _rows(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(x, np.float32).reshape(len(x), -1))


def estimator(victim: Victim, shape: tuple[int, ...], low: float, high: float) -> Any:
    """The victim as ART's attacks want one: rows of ``shape``, values from ``low`` to ``high``, logits out.

    Its ``asked`` and ``pulled`` count rows.
    """
    with _quiet():
        from art.estimators.classification.classifier import ClassGradientsMixin, ClassifierMixin
        from art.estimators.estimator import BaseEstimator, LossGradientsMixin, NeuralNetworkMixin

    bases = (_Answers, ClassGradientsMixin, ClassifierMixin, LossGradientsMixin, NeuralNetworkMixin)
    parameters = [*BaseEstimator.estimator_params, "channels_first", "nb_classes"]
    made = type("VictimClassifier", (*bases, BaseEstimator), {"estimator_params": parameters})
    return made(victim, shape, low, high)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """ART draws from numpy's global state: set it, and put it back afterwards. Not for several threads."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        np.random.set_state(state)


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    return {name: version(name) for name in (LIBRARY, "numpy", "scipy")}
