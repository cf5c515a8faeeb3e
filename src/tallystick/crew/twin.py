"""The errand ``twin``: turn a loaded scikit-learn, XGBoost or LightGBM classifier into an ONNX file.

Order: ``folder`` (an MLflow model), ``out`` (a folder to write ``twin.onnx`` to) and ``features`` (how many
columns a row has). Result: ``file`` (its name), ``flavor`` and ``versions``. The twin has one
float32 input ``X`` (n, features), in the order of the model's own columns, and the outputs ``label`` and
``probabilities`` (n, classes).

It loads the model, so it runs behind the wall of the model's own process, and what it says and writes is the
model's word: see :mod:`tallystick.crew.judging.twins`, which compares the two.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput, Failed, MissingTile, NotSupported, TallyError
from tallystick.crew.desk import Desk, attend
from tallystick.crew.serve import QUIET

__all__ = ["main"]

FILE = "twin.onnx"
FEATURES_MAX = 100_000
FLAVORS = ("sklearn", "xgboost", "lightgbm")
OPSETS: Mapping[str, int] = {"": 15, "ai.onnx.ml": 3}
"""Trees are one operator then, TreeEnsembleClassifier, and its form is the same from all three libraries."""

MACHINES = ("SVC", "NuSVC")
"""Support vector machines of scikit-learn whose scores are of pairs of classes."""

PACKAGES = ("skl2onnx", "onnxmltools", "scikit-learn", "xgboost", "xgboost-cpu", "lightgbm")


def main(desk: Desk) -> Mapping[str, Any]:
    """Load, convert and write; NotSupported where there is no such model or no conversion of it."""
    os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})
    order = desk.order
    try:
        folder, out, features = Path(order["folder"]), Path(order["out"]), int(order["features"])
    except KeyError as missing:
        raise BadInput(f"the order lacks {missing}", where="crew/twin") from None
    if not 1 <= features <= FEATURES_MAX:
        raise BadInput(f"{features} features", where="crew/twin")
    flavor, names = _said(folder, features)
    desk.progress(0.1, "loading the model")
    model = _loaded(flavor, folder)
    desk.progress(0.5, "converting it")
    try:
        twin = _named(_converted(model, flavor, names, features))
    except TallyError:
        raise
    except ImportError as missing:
        raise _missing(missing) from missing
    except Exception as wrong:  # converters raise whatever they like
        first = (str(wrong).splitlines() or [""])[0]
        text = f"it cannot be converted to ONNX: {type(wrong).__name__}: {first[:200]}"
        raise NotSupported(text, where="model") from wrong
    (out / FILE).write_bytes(twin.SerializeToString())
    return {"file": FILE, "flavor": flavor, "versions": _versions()}


def _said(folder: Path, features: int) -> tuple[str, Sequence[str]]:
    """The flavor to load it by, and its columns' names where its signature is of columns."""
    import yaml

    try:
        said = yaml.safe_load((folder / "MLmodel").read_text())
        flavors, signature = said["flavors"], said.get("signature") or {}
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise BadInput("no MLmodel can be read", where=str(folder), hint="save it with MLflow") from None
    found = next((name for name in FLAVORS if name in flavors), "")
    if not found:
        hint = f"converted are models of {', '.join(FLAVORS)}"
        raise NotSupported("there is no twin for a model of this kind", where="model", hint=hint)
    columns = json.loads(signature.get("inputs") or "[]")
    names = [
        c["name"] for c in columns if isinstance(c, dict) and c.get("name") and c.get("type") != "tensor"
    ]
    return found, names if len(names) == features else ()


def _loaded(flavor: str, folder: Path) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        return importlib.import_module(f"mlflow.{flavor}").load_model(str(folder))
    except ImportError as missing:
        raise _missing(missing) from missing
    except Exception as wrong:  # MLflow and the model's own code raise whatever they like
        text = f"MLflow cannot load it: {type(wrong).__name__}: {str(wrong)[:300]}"
        raise Failed(text, where="model") from wrong


def _missing(wrong: ImportError) -> MissingTile:
    hint = "pip install 'tallystick[onnx,trees]'"
    return MissingTile(f"it needs a package that is not there: {str(wrong)[:200]}", where="twin", hint=hint)


def _converted(model: Any, flavor: str, names: Sequence[str], features: int) -> Any:
    """The ModelProto, as the converter makes it; of an input for each column where it knows only those."""
    from skl2onnx.common.data_types import FloatTensorType

    matrix = [("X", FloatTensorType([None, features]))]
    if type(model).__name__ == "Booster":
        import onnxmltools

        convert: Callable[..., Any] = getattr(onnxmltools, f"convert_{flavor}")
        extra = {"zipmap": False} if flavor == "lightgbm" else {}
        return _floored(convert(model, initial_types=matrix, target_opset=OPSETS[""], **extra), model)
    if not hasattr(model, "predict_proba") and not hasattr(model, "decision_function"):
        raise NotSupported("it is no classifier that gives scores", where="model")
    _register()
    try:
        return _floored(_by_skl2onnx(model, matrix), _last(model))
    except Exception:  # skl2onnx says in many ways that the model picks its columns by their names
        if not names:
            raise
    return _split(_by_skl2onnx(model, [(name, FloatTensorType([None, 1])) for name in names]))


def _by_skl2onnx(model: Any, inputs: Sequence[tuple[str, Any]]) -> Any:
    from skl2onnx import to_onnx

    plain: dict[str, Any] = {"initial_types": inputs, "target_opset": dict(OPSETS)}
    last, options = _last(model), {"zipmap": False}
    if type(last).__name__ in MACHINES and last.probability is not True:
        options["raw_scores"] = (
            True  # without it skl2onnx 1.20 gives those of two classes the other way round
        )
    with _whole_numbers():
        try:
            return to_onnx(model, options={id(last): options}, **plain)
        except NameError:  # of an estimator without probabilities: one score for each class is asked of it
            return to_onnx(model, options={id(last): {"raw_scores": True}}, **plain)


@contextlib.contextmanager
def _whole_numbers() -> Iterator[None]:
    """Meanwhile truth values in a list of an attribute become 0 and 1.

    skl2onnx 1.20 says by them where a missing value goes in the trees of HistGradientBoostingClassifier, and
    onnx 1.23 refuses them.
    """
    from onnx import helper

    given: Any = helper.make_attribute

    def made(key: str, value: Any, *rest: Any, **more: Any) -> Any:
        if isinstance(value, list) and any(isinstance(item, bool) for item in value):
            value = [int(item) for item in value]
        return given(key, value, *rest, **more)

    helper.make_attribute = made
    try:
        yield
    finally:
        helper.make_attribute = given


def _floored(twin: Any, model: Any) -> Any:
    """The twin of a LightGBM model, each threshold the largest float32 that is not over the model's own.

    Its rows are float32 and its thresholds are float64, often halfway between two values that data has: one
    that was rounded up takes the other branch there.
    """
    booster = getattr(model, "booster_", model)
    if type(booster).__module__.partition(".")[0] != "lightgbm":
        return twin
    import numpy as np

    exact = np.array(sorted(_thresholds(booster.dump_model()["tree_info"])), np.float64)
    near = exact.astype(np.float32)
    over = near > exact
    floor = dict(
        zip(near[over].tolist(), np.nextafter(near[over], np.float32(-np.inf)).tolist(), strict=True)
    )
    for node in twin.graph.node:
        for attribute in node.attribute if node.op_type.startswith("TreeEnsemble") else ():
            if attribute.name == "nodes_values":
                attribute.floats[:] = [floor.get(value, value) for value in attribute.floats]
    return twin


def _thresholds(part: Any) -> set[float]:
    """Of all trees in LightGBM's own description of them."""
    found, waiting = set[float](), [part]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict) and isinstance(part.get("threshold"), float):
            found.add(part["threshold"])
        if isinstance(part, dict | list):
            waiting.extend(part.values() if isinstance(part, dict) else part)
    return found


def _last(model: Any) -> Any:
    """The estimator that answers: of a pipeline its last step."""
    return model.steps[-1][1] if hasattr(model, "steps") else model


def _register() -> None:
    """Make skl2onnx know XGBoost's and LightGBM's classifiers, also inside pipelines."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes as shapes

    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    with contextlib.suppress(ImportError):
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
        from xgboost import XGBClassifier

        update_registered_converter(
            XGBClassifier, "XGBoostXGBClassifier", shapes, convert_xgboost, options=options
        )
    with contextlib.suppress(ImportError):
        from lightgbm import LGBMClassifier
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        update_registered_converter(
            LGBMClassifier, "LightGbmLGBMClassifier", shapes, convert_lightgbm, options=options
        )


def _split(model: Any) -> Any:
    """The same with one input ``X``, whose columns are what its inputs were, in their order."""
    from onnx import TensorProto, helper

    names = [value.name for value in model.graph.input]
    widths = helper.make_tensor("tally widths", TensorProto.INT64, [len(names)], [1] * len(names))
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("tally X", TensorProto.FLOAT, [None, len(names)]))
    model.graph.initializer.append(widths)
    model.graph.node.insert(0, helper.make_node("Split", ["tally X", widths.name], names, axis=1))
    return model


def _named(model: Any) -> Any:
    """With the input ``X`` and the outputs ``label`` and ``probabilities``; or NotSupported."""
    from onnx import TensorProto

    def kind(value: Any) -> Any:
        return value.type.tensor_type.elem_type

    floats = (TensorProto.FLOAT, TensorProto.DOUBLE)
    outputs = list(model.graph.output)
    labels = [value for value in outputs if kind(value) in (TensorProto.INT64, TensorProto.STRING)]
    scores = [value for value in outputs if kind(value) in floats]
    if len(outputs) != 2 or len(labels) != 1 or len(scores) != 1 or len(model.graph.input) != 1:
        raise NotSupported("its conversion has not one input, a label and scores", where="model")
    _rename(
        model.graph,
        {model.graph.input[0].name: "X", labels[0].name: "label", scores[0].name: "probabilities"},
    )
    scores[0].type.tensor_type.shape.dim[1].Clear()  # skl2onnx says 1 of what are two classes
    del model.graph.output[:]
    model.graph.output.extend([*labels, *scores])
    return model


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    """Rename tensors wherever they occur; a name that is wanted and already taken gets out of the way."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    away = {
        new: f"{new} of the model" for old, new in names.items() if old != new and new in taken - names.keys()
    }
    every = {**away, **names}
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = every.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [every.get(name, name) for name in node.input]
        node.output[:] = [every.get(name, name) for name in node.output]


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


if __name__ == "__main__":
    attend(main)
