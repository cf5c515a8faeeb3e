"""Any MLflow model, as MLflow itself loads it: this may run code of the model's own.

Only for worker processes behind a wall. The signature that the model was saved with says what it
takes; a model without one is refused, as nothing then tells a good request from a bad one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import BadInput, Failed, MissingTile, NotSupported
from tallystick.core.model import TensorSpec
from tallystick.ports.tile import Place
from tallystick.tiles.runtime.frames import answers_of, assemble
from tallystick.tiles.runtime.mlmodel import check_paths, flavor, has_flavor, read_mlmodel
from tallystick.tiles.runtime.tensors import DATATYPES, as_text, check_inputs

if TYPE_CHECKING:
    import numpy as np

__all__ = ["PyfuncPredictor", "PyfuncRuntime", "open_tile"]

MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}(\.[A-Za-z_][A-Za-z0-9_]{0,99}){0,9}")
"""A module's name, dotted."""

COLUMNS: Mapping[str, str] = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
    "datetime": "BYTES",
}
"""MLflow's column types to datatypes; a datetime travels as text after ISO 8601."""


class PyfuncPredictor:
    """A loaded MLflow model. One of columns takes an input for each, or all of them as one 2-D input."""

    def __init__(self, model: Any, where: str) -> None:
        schema = model.metadata.get_input_schema()
        if schema is None:
            hint = "save it with signature=mlflow.models.infer_signature(x, model.predict(x))"
            raise BadInput("the model says nothing about its inputs", where=where, hint=hint)
        self._model = model
        self._where = where
        self._columns: tuple[tuple[str, str, bool], ...] = ()
        if not schema.is_tensor_spec():
            self._columns = tuple(_column(spec, where) for spec in schema.inputs)
        self.inputs = _specs(schema, "input", where)
        answer = model.metadata.get_output_schema()
        self.outputs = _specs(answer, "output", where) if answer is not None else ()

    def predict(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See the port."""
        data = assemble(self._columns, self.inputs, inputs) if self._columns else self._tensors(inputs)
        try:
            answer = self._model.predict(data)
        except Exception as wrong:  # the model's own code: whatever it raises is its failure
            raise Failed(
                f"the model raised {type(wrong).__name__}: {str(wrong)[:500]}", where=self._where
            ) from wrong
        only = self.outputs[0].name if len(self.outputs) == 1 else "output"
        return answers_of(answer, only, self._where)

    def _tensors(self, inputs: Mapping[str, np.ndarray]) -> Any:
        check_inputs(self.inputs, inputs)
        ready = {
            spec.name: as_text(inputs[spec.name], f"input {spec.name}")
            if spec.datatype == "BYTES"
            else inputs[spec.name]
            for spec in self.inputs
        }
        return next(iter(ready.values())) if len(ready) == 1 and not self._named() else ready

    def _named(self) -> bool:
        return bool(self._model.metadata.get_input_schema().has_input_names())


class PyfuncRuntime:
    """Loads every model that MLflow has a ``python_function`` flavor for."""

    runs_code = True

    def accepts(self, folder: Path) -> bool:
        """See the port."""
        return has_flavor(folder, "python_function")

    def load(self, folder: Path) -> PyfuncPredictor:
        """See the port; Refused when ``MLmodel`` names a path outside ``folder``."""
        said = read_mlmodel(folder)
        check_paths(said, folder)
        flavor(said, "python_function", folder)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            from mlflow import pyfunc
        except ImportError as missing:
            raise _missing(missing) from None
        try:
            model = pyfunc.load_model(str(folder), suppress_warnings=True)
        except ImportError as missing:
            raise _missing(missing) from missing
        except Exception as wrong:  # MLflow and the model's own code raise whatever they like
            text = f"MLflow cannot load it: {type(wrong).__name__}: {str(wrong)[:500]}"
            raise BadInput(text, where=str(folder)) from wrong
        return PyfuncPredictor(model, str(folder))


def _missing(wrong: ImportError) -> MissingTile:
    """The model's own code may raise this, with any name: a hint takes what a module can be called."""
    name = wrong.name if isinstance(wrong.name, str) else ""
    where = "tile runtime/pyfunc"
    if not MODULE.fullmatch(name):
        return MissingTile(f"the model cannot import what it needs: {str(wrong)[:200]}", where=where)
    package = "'tallystick[mlflow]'" if name.split(".")[0] == "mlflow" else name.split(".")[0]
    return MissingTile(
        f"the model needs the Python package {name}", where=where, hint=f"pip install {package}"
    )


def _specs(schema: Any, unnamed: str, where: str) -> tuple[TensorSpec, ...]:
    """TensorSpecs of an MLflow schema, of tensors or of columns; a nameless one is called ``unnamed``."""
    if schema.is_tensor_spec():
        return tuple(_tensor(spec, unnamed, where) for spec in schema.inputs)
    columns: Sequence[Any] = schema.inputs
    return tuple(TensorSpec(c.name or unnamed, _column(c, where)[1], (-1,)) for c in columns)


def _tensor(spec: Any, unnamed: str, where: str) -> TensorSpec:
    name = "object" if spec.type.kind in "US" else spec.type.name
    if name not in DATATYPES:
        raise NotSupported(f"a tensor of {spec.type} cannot be served", where=where)
    return TensorSpec(spec.name or unnamed, DATATYPES[name], tuple(int(d) for d in spec.shape))


def _column(spec: Any, where: str) -> tuple[str, str, bool]:
    """``(MLflow's type, datatype, required)`` of a column; NotSupported for lists and objects in cells."""
    kind = str(getattr(spec.type, "name", spec.type))
    if kind not in COLUMNS:
        hint = "save the model with a signature of plain columns or tensors"
        raise NotSupported(f"column {spec.name!r} of {spec.type} cannot be served", where=where, hint=hint)
    return kind, COLUMNS[kind], bool(spec.required)


def open_tile(place: Place) -> PyfuncRuntime:
    """No options: a model's libraries take theirs from the worker's environment."""
    return PyfuncRuntime()
