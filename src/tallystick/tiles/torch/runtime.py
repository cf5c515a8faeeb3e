"""MLflow's PyTorch models, loaded as modules: what they predict, and how that changes with their inputs.

A saved module is a pickle or brings code of its own, so it is only ever loaded in a process of its own,
behind a wall. It answers in evaluation mode, on the CPU, in float32.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import BadInput, Failed, MissingTile, NotSupported, TallyError
from tallystick.core.model import TensorSpec
from tallystick.ports.tile import Place
from tallystick.tiles.torch.seeing import seeing

if TYPE_CHECKING:
    import numpy as np

__all__ = ["TorchPredictor", "TorchRuntime", "open_tile"]

THREADS_MAX = 64
MLMODEL_BYTES_MAX = 1024 * 1024
LOADER = "mlflow.pytorch"

COLUMNS: Mapping[str, str] = {"float": "FP32", "double": "FP64", "integer": "INT32", "long": "INT64"}
DATATYPES: Mapping[str, str] = {
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "bool": "BOOL",
}
"""numpy's name of a type to the Open Inference Protocol's."""

TYPES = {datatype: name for name, datatype in DATATYPES.items()}
FLOATS = ("FP16", "FP32", "FP64")

Tensors = Mapping[str, "np.ndarray"]


class TorchPredictor:
    """A module that takes one tensor: of one input, or of a column for each.

    Floats are float32 whatever the signature says, and answers are of the type that it says.
    """

    def __init__(self, module: Any, schema: tuple[Sequence[Any], Sequence[Any]], where: str) -> None:
        inputs, outputs = schema
        self._columns = bool(inputs) and not hasattr(inputs[0], "shape")
        self.inputs = tuple(_spec(spec, "input", where) for spec in inputs)
        self.outputs = tuple(_spec(spec, "output", where) for spec in outputs)
        if len(self.inputs) != 1 and not self._columns:
            text = f"it has {len(self.inputs)} inputs; modules are called with one"
            raise NotSupported(text, where=where)
        self._module = module
        self._where = where

    def predict(self, inputs: Tensors) -> Tensors:
        """See the port."""
        import torch

        given = self._given(inputs)
        with torch.inference_mode(), self._own():
            answer = self._module(given)
        only = self.outputs[0] if len(self.outputs) == 1 else None
        array = self._tensor(answer).numpy()
        kind = TYPES.get(only.datatype, array.dtype.name) if only else array.dtype.name
        if kind not in DATATYPES:
            raise Failed(f"the model answered with {kind}, which cannot be sent", where=self._where)
        return {only.name if only else "output": array.astype(kind, copy=False)}

    def pull(self, inputs: Tensors, weigh: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, Tensors]:
        """See the port. A number by which a row's gradient is infinite or no number is 0."""
        import numpy as np
        import torch

        self._check_floats()
        given = self._given(inputs).requires_grad_(True)
        with torch.enable_grad(), self._own(), seeing() as seen:
            logits = seen.before_softmax(self._tensor(self._module(given), detached=False))
        said = logits.detach().numpy()
        if said.ndim != 2 or said.shape[1] < 2:
            raise NotSupported(f"it answers with {list(said.shape)}, no scores of classes", where="model")
        if not np.isfinite(said).all():
            raise Failed("the model answered with a score that is no finite number", where="model")
        if not logits.requires_grad:
            raise NotSupported("its scores do not follow smoothly from its inputs", where="model")
        weights = np.ascontiguousarray(weigh(said), np.float32)
        if weights.shape != said.shape:
            text = f"the weights are of shape {list(weights.shape)}, the logits of {list(said.shape)}"
            raise BadInput(text, where="weigh")
        with self._own():
            [found] = torch.autograd.grad(logits, given, torch.from_numpy(weights), allow_unused=True)
        if found is None:
            raise NotSupported("its scores do not follow from its inputs", where="model")
        return said, self._by_input(np.nan_to_num(found.numpy(), nan=0.0, posinf=0.0, neginf=0.0), inputs)

    def hidden(self, inputs: Tensors) -> np.ndarray:
        """See the port: what goes into the last linear or convolutional layer that is worked."""
        import torch

        given = self._given(inputs)
        with torch.no_grad(), self._own(), seeing() as seen:
            self._module(given)
        if seen.last is None or len(seen.last) != len(given):
            raise NotSupported("it has no last layer that can be told", where="model")
        found: np.ndarray = seen.last.detach().reshape(len(given), -1).float().numpy()
        return found

    def _check_floats(self) -> None:
        for spec in self.inputs:
            if spec.datatype not in FLOATS:
                text = f"input {spec.name!r} is of {spec.datatype}, not of numbers that change smoothly"
                raise NotSupported(text, where="model")

    def _given(self, inputs: Tensors) -> Any:
        """The module's one argument; BadInput unless ``inputs`` are those of the signature."""
        import numpy as np
        import torch

        _check(self.inputs, inputs)
        arrays = [inputs[spec.name] for spec in self.inputs]
        array = np.stack([a.reshape(-1) for a in arrays], axis=1) if self._columns else arrays[0]
        ready = array.astype(np.float32) if array.dtype.kind == "f" or self._columns else array.copy()
        return torch.from_numpy(np.ascontiguousarray(ready))

    def _by_input(self, gradient: np.ndarray, inputs: Tensors) -> Tensors:
        if not self._columns:
            return {self.inputs[0].name: gradient}
        return {
            spec.name: gradient[:, at].reshape(inputs[spec.name].shape) for at, spec in enumerate(self.inputs)
        }

    def _tensor(self, answer: Any, *, detached: bool = True) -> Any:
        """The answer as a tensor, of float32 where it is of floats."""
        import torch

        if not isinstance(answer, torch.Tensor):
            text = f"the model answered with a {type(answer).__name__}, not with one tensor"
            raise Failed(text, where=self._where)
        ready = answer.float() if answer.is_floating_point() and answer.dtype != torch.float32 else answer
        return ready.detach() if detached else ready

    @contextmanager
    def _own(self) -> Iterator[None]:
        """Whatever the module's own code raises is its failure."""
        try:
            yield
        except TallyError:
            raise
        except Exception as wrong:  # the model's own code: it may raise whatever it likes
            text = f"the model raised {type(wrong).__name__}: {str(wrong)[:500]}"
            raise Failed(text, where=self._where) from wrong


class TorchRuntime:
    """Loads what ``mlflow.pytorch`` saved, and is loaded by it again as a pyfunc."""

    runs_code = True

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    def accepts(self, folder: Path) -> bool:
        """See the port. A model that MLflow would load by other code is not only a module: not accepted."""
        try:
            return bool(_flavors(folder)["python_function"]["loader_module"] == LOADER)
        except (BadInput, KeyError, TypeError):
            return False

    def load(self, folder: Path) -> TorchPredictor:
        """See the port; BadInput for a model without a signature."""
        where = str(folder)
        if "pytorch" not in _flavors(folder):
            raise BadInput("the model has no pytorch flavor", where=where)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            import torch
            from mlflow import pytorch
            from mlflow.models import Model
        except ImportError as missing:
            hint = "pip install 'tallystick[torch,mlflow]'"
            text = f"it needs the Python package {missing.name or missing}"
            raise MissingTile(text, where="tile runtime/torch", hint=hint) from missing
        torch.set_num_threads(self.threads or len(os.sched_getaffinity(0)))
        try:
            signature = Model.load(where).signature
            module = pytorch.load_model(where, map_location="cpu", weights_only=False)
            _settle(module)
        except Exception as wrong:  # MLflow and the model's own code raise whatever they like
            text = f"MLflow cannot load it: {type(wrong).__name__}: {str(wrong)[:500]}"
            raise BadInput(text, where=where) from wrong
        if signature is None or signature.inputs is None:
            hint = "save it with signature=mlflow.models.infer_signature(x, model(x).numpy())"
            raise BadInput("the model says nothing about its inputs", where=where, hint=hint)
        outputs = signature.outputs.inputs if signature.outputs else ()
        return TorchPredictor(module, (signature.inputs.inputs, outputs), where)


def _settle(module: Any) -> None:
    """Evaluation mode, float32, and no gradients of weights: nobody here trains."""
    import torch

    if not isinstance(module, torch.nn.Module):
        raise BadInput(f"it is a {type(module).__name__}, not a module", where="model")
    if not type(module).__module__.startswith("torch.fx"):  # an exported program is what it was when exported
        module.float().eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def _flavors(folder: Path) -> Mapping[str, Any]:
    """The flavors in ``MLmodel``, read without MLflow."""
    import yaml

    where = str(folder / "MLmodel")
    try:
        with (folder / "MLmodel").open("rb") as file:
            text = file.read(MLMODEL_BYTES_MAX + 1)
        flavors = yaml.safe_load(text)["flavors"] if len(text) <= MLMODEL_BYTES_MAX else None
    except (OSError, yaml.YAMLError, RecursionError, ValueError, KeyError, TypeError) as wrong:
        raise BadInput(f"no MLmodel can be read: {type(wrong).__name__}", where=where) from None
    if not isinstance(flavors, dict):
        raise BadInput("it has no flavors", where=where, hint="save the model with MLflow")
    return flavors


def _spec(spec: Any, unnamed: str, where: str) -> TensorSpec:
    """From MLflow's spec of a tensor or of a column."""
    if hasattr(spec, "shape"):
        datatype = DATATYPES.get(spec.type.name)
        shape = tuple(int(n) for n in spec.shape)
    else:
        datatype, shape = COLUMNS.get(str(getattr(spec.type, "name", spec.type))), (-1,)
    if datatype is None:
        raise NotSupported(f"{spec.name or unnamed!r} of {spec.type} is no tensor of numbers", where=where)
    return TensorSpec(spec.name or unnamed, datatype, shape)


def _check(specs: Sequence[TensorSpec], inputs: Tensors) -> None:
    """BadInput unless ``inputs`` are exactly those of ``specs``, in type and in shape."""
    wanted = {spec.name: spec for spec in specs}
    hint = f"the model takes {', '.join(wanted)}"[:500]
    if missing := wanted.keys() - inputs.keys():
        raise BadInput(f"input {min(missing)!r} is missing", where="inputs", hint=hint)
    if unknown := inputs.keys() - wanted.keys():
        raise BadInput(f"there is no input {min(unknown)!r:.100}", where="inputs", hint=hint)
    for name, spec in wanted.items():
        array = inputs[name]
        if DATATYPES.get(array.dtype.name) != spec.datatype:
            text = f"it is {array.dtype.name}, the model takes {spec.datatype}"
            raise BadInput(text, where=f"input {name}")
        shape = (array.shape[0],) if spec.shape == (-1,) and array.shape[1:] == (1,) else array.shape
        fits = [want in (-1, have) for want, have in zip(spec.shape, shape, strict=False)]
        if len(shape) != len(spec.shape) or not all(fits):
            text = f"its shape is {list(array.shape)}, not {list(spec.shape)}"
            raise BadInput(text, where=f"input {name}", hint="-1 is any length")
    if len({len(array) for array in inputs.values()}) > 1:
        raise BadInput("the columns are of different lengths", where="inputs")


def open_tile(place: Place) -> TorchRuntime:
    """Option ``threads``: how many work on one call, 1 (the default) to 64; 0: one for each core there is."""
    threads = place.options.get("threads", 1)
    if type(threads) is not int or not 0 <= threads <= THREADS_MAX:
        raise BadInput(f"threads is {threads!r:.50}, not 0 to {THREADS_MAX}", where="tile runtime/torch")
    return TorchRuntime(threads)
