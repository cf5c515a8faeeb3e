"""The Adversarial Robustness Toolbox (ART), as far as it is used, with its habits kept in check."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np

__all__ = ["LIBRARY", "estimator", "evasion", "seeded"]

LIBRARY = "adversarial-robustness-toolbox"


def evasion() -> Any:
    """ART's module of evasion attacks.

    As it is imported it writes a settings folder into the user's home, so it is shown another one, and
    warns that torch is absent, which we do not need.
    """
    before = os.environ.get("HOME")
    with tempfile.TemporaryDirectory(prefix="tally-art-") as home, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["HOME"] = home
        try:
            from art.attacks import evasion as attacks
        finally:
            if before is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = before
    return attacks


def estimator(ask: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...], classes: int) -> Any:
    """A model behind ``ask`` as ART's attacks want one: features from 0 to 1, ``shape`` without the rows."""
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    return BlackBoxClassifierNeuralNetwork(ask, shape, classes, channels_first=True, clip_values=(0.0, 1.0))


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
