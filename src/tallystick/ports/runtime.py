"""The runtime: loads a model's files and predicts. Used in worker processes, never in the hub's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tallystick.core.model import TensorSpec

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Predictor", "Runtime"]


@runtime_checkable
class Predictor(Protocol):
    """A loaded model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def predict(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Predict for a batch: arrays by input name, first axis the rows, to arrays by output name.

        BadInput for a missing or unknown input, a wrong shape or type; Failed when the model raises.
        """
        ...


@runtime_checkable
class Runtime(Protocol):
    """One way to load models.

    ``runs_code`` is True when loading or asking a model may run code that came with it: such a model is
    never loaded in a process that measures it.
    """

    runs_code: bool

    def accepts(self, folder: Path) -> bool:
        """True when the model in ``folder`` (an MLflow model, with its ``MLmodel``) is of this kind.

        Nothing of the model is loaded for the answer, and no code of its own is run.
        """
        ...

    def load(self, folder: Path) -> Predictor:
        """Load it; BadInput when the files are not what they say, MissingTile when a library is absent."""
        ...
