"""The runtime: loads a model's files and predicts. Used in worker processes, never in the hub's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tallystick.core.model import TensorSpec

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Differentiable", "Predictor", "Runtime"]


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
class Differentiable(Protocol):
    """A loaded classifier that can also say how its answer changes with its inputs."""

    def pull(
        self, inputs: Mapping[str, np.ndarray], weigh: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        """Logits float32 (n, classes), and by input name the gradient of ``sum(weigh(logits) * logits)``.

        One forward and one backward pass. Of a model that ends in a softmax (or gives probabilities) the
        logits are what goes into it, or the logarithms of the probabilities. NotSupported, saying which part
        of the model, where there is no gradient; BadInput and Failed as of ``predict``.
        """
        ...

    def hidden(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """What goes into the last layer, float32 (n, units); NotSupported where that cannot be told."""
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
