"""The errand ``inspect``: look at a model's files, load it once, say what it takes and gives, and try it.

Order: ``folder`` (an MLflow model) and ``vouched`` (whether somebody trusted vouches for its code). Result:
``inspected`` (an :class:`Inspected`, cut to its worst files) and ``versions`` of what looked; and only where
its files are data, or code that is vouched for, ``loaded``, ``flavors`` (names in its ``MLmodel``),
``inputs`` and ``outputs`` (TensorSpecs), ``has_input_example``, ``example`` (what came of it: ``predicted``,
``none`` or ``not read``, for the kinds of example that only MLflow can read), ``runtime`` (the tile's name)
and ``runs_code`` (whether that tile may run code which came with the model).

The files are looked at before anything of them is loaded. What is said of them is to be believed where
nothing was loaded, or data alone: so the hub asks first without ``vouched``, and again with it.

Unlike ``judge``, this errand does load a model that runs code in its own process, behind its wall, and such
a model can put any result it likes in place of this one. It can lie about itself and nothing else: its
flavors, signature, example and runtime. The hub takes the answer as the model's own words: it checks types
and sizes, and nothing that must be safe hangs on it (``judge`` looks for itself whether code would be run).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import BadInput, Failed
from tallystick.core.facts import to_json
from tallystick.core.model import TensorSpec
from tallystick.crew.desk import Desk, attend
from tallystick.crew.serve import choose_runtime
from tallystick.doors.oip.tensors import DATATYPES
from tallystick.evidence.supply import Inspected, Standing
from tallystick.ports.models.inspection import Inspection
from tallystick.ports.models.runtime import Predictor
from tallystick.ports.tile import Place
from tallystick.wiring.tiles import open_tile

if TYPE_CHECKING:
    import numpy as np

__all__ = ["main", "read_example"]

INSPECTION = "strict"
FILES_TOLD = 2000
EXAMPLE_BYTES_MAX = 64 * 1024 * 1024
MLMODEL_BYTES_MAX = 1024 * 1024
MEND = "save the model again with an input example that fits its signature"

Tensors = Mapping[str, "np.ndarray"]


def main(desk: Desk) -> Mapping[str, Any]:
    """Look, load, try, and tell; BadInput when it does not load, Failed when it does not predict."""
    if "folder" not in desk.order:
        raise BadInput("the order lacks 'folder'", where="crew/inspect")
    folder = Path(desk.order["folder"])
    inspection: Inspection = open_tile("inspection", INSPECTION, Place(home=folder))
    found = inspection.inspect(folder, lambda share, text: desk.progress(share / 2, text))
    looked = {"inspected": to_json(_cut(found)), "versions": inspection.versions()}
    allowed = found.standing is Standing.DATA or (
        found.standing is Standing.CODE and desk.order.get("vouched") is True
    )
    return {**looked, **(_loaded(desk, folder) if allowed else {"loaded": False})}


def _cut(found: Inspected) -> Inspected:
    """With the worst files first, and no more of them than a line of the protocol holds."""
    rest = [looked for looked in found.files if looked.standing is Standing.DATA]
    return Inspected((*found.worst, *rest)[:FILES_TOLD], found.advice[:FILES_TOLD], found.advisors)


def _loaded(desk: Desk, folder: Path) -> Mapping[str, Any]:
    said = _mlmodel(folder)
    desk.progress(0.6, "loading the model")
    name, runtime = choose_runtime(folder, "", {})
    predictor = runtime.load(folder)
    outputs, example = predictor.outputs, "none"
    info = said.get("saved_input_example_info")
    if info:
        desk.progress(0.7, "predicting on the model's own input example")
        inputs = read_example(folder, info, predictor)
        example = "not read" if inputs is None else "predicted"
        if inputs is not None:
            answers = _try(predictor, inputs, folder)
            outputs = outputs or _seen(answers)
    return {
        "flavors": sorted(map(str, said["flavors"])),
        "inputs": to_json(predictor.inputs),
        "outputs": to_json(outputs),
        "has_input_example": bool(info),
        "example": example,
        "runtime": name,
        "runs_code": runtime.runs_code,
        "loaded": True,
    }


def _mlmodel(folder: Path) -> dict[str, Any]:
    import yaml

    where = str(folder / "MLmodel")
    try:
        with (folder / "MLmodel").open("rb") as file:
            said = yaml.safe_load(file.read(MLMODEL_BYTES_MAX))
    except OSError as wrong:
        hint = "save the model with MLflow"
        raise BadInput(f"no MLmodel can be read: {wrong.strerror}", where=where, hint=hint) from None
    except (yaml.YAMLError, RecursionError, ValueError) as wrong:
        raise BadInput(f"it is not plain YAML: {str(wrong)[:200]}", where=where) from None
    if not isinstance(said, dict) or not isinstance(said.get("flavors"), dict):
        raise BadInput("it has no flavors", where=where, hint="save the model with MLflow")
    return said


def read_example(folder: Path, info: Any, predictor: Predictor) -> Tensors | None:
    """The saved input example as the model's inputs; None for a kind that is not read here.

    Read are MLflow's ``ndarray`` (one array, or one for each input by name) and its ``dataframe`` in split
    orientation. BadInput when the file is not what it says, or does not fit the signature.
    """
    where = f"{folder.name}/input example"
    name = info.get("artifact_path") if isinstance(info, dict) else None
    if not isinstance(name, str) or Path(name).name != name:
        raise BadInput(f"{name!r:.100} is not the name of a file in the model", where=where)
    if info.get("type") not in ("ndarray", "dataframe"):
        return None
    try:
        if (folder / name).stat().st_size > EXAMPLE_BYTES_MAX:
            return None
        said = json.loads((folder / name).read_bytes())
    except (OSError, ValueError, RecursionError) as wrong:
        raise BadInput(f"it cannot be read: {str(wrong)[:200]}", where=where) from None
    values = _values(said, predictor)
    if values is None:
        return None
    return {spec.name: _array(spec, values[spec.name], where) for spec in predictor.inputs}


def _values(said: Any, predictor: Predictor) -> Mapping[str, Any] | None:
    """Nested lists by input name; None where they are not all there."""
    names = [spec.name for spec in predictor.inputs]
    if isinstance(said, dict) and said.keys() == {"inputs"} and names != ["inputs"]:
        said = said["inputs"]  # as MLflow 1 and 2 wrote it
    if isinstance(said, list):
        return {names[0]: said} if len(names) == 1 else None
    if not isinstance(said, dict) or set(names) <= said.keys():
        return said if isinstance(said, dict) else None
    rows, columns = said.get("data"), said.get("columns")
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        return None
    if isinstance(columns, list) and set(names) <= set(columns):
        return {name: [row[columns.index(name)] for row in rows] for name in names}
    return {names[0]: rows} if len(names) == 1 else None


def _array(spec: TensorSpec, values: Any, where: str) -> np.ndarray:
    import numpy as np

    try:
        made = np.array(values, DATATYPES[spec.datatype])
    except (TypeError, ValueError, OverflowError) as wrong:
        text = f"its {spec.name!r} is not {spec.datatype}: {str(wrong)[:200]}"
        raise BadInput(text, where=where, hint=MEND) from None
    if spec.datatype == "BYTES":
        texts = [item if isinstance(item, bytes) else str(item).encode() for item in made.ravel()]
        made = np.array([*texts, None], object)[:-1].reshape(made.shape)  # None: lest numpy make it all bytes
    return made


def _try(predictor: Predictor, inputs: Tensors, folder: Path) -> Tensors:
    try:
        return predictor.predict(inputs)
    except (BadInput, Failed) as wrong:
        raise type(wrong)(
            f"the model does not predict on its own input example: {wrong.what}",
            where=wrong.where or str(folder),
            hint=MEND,
        ) from wrong


def _seen(answers: Tensors) -> tuple[TensorSpec, ...]:
    """What the model gives, as it gave it once: for a model whose signature does not say."""
    datatypes = {dtype: name for name, dtype in DATATYPES.items()}
    return tuple(
        TensorSpec(name, datatypes[array.dtype], (-1, *map(int, array.shape[1:])))
        for name, array in answers.items()
        if array.dtype in datatypes
    )


if __name__ == "__main__":
    attend(main)
