"""``MLmodel``, the file that tells MLflow how to load a model: what it would have MLflow import or run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tallystick.evidence.files.found import Found, No
from tallystick.evidence.files.source import Source
from tallystick.evidence.supply import Standing
from tallystick.tiles.inspection.jsons import check_type
from tallystick.tiles.inspection.texts import yaml_value

__all__ = ["KERAS", "PICKLE_MODULES", "mlmodel"]

LOADERS = frozenset(
    f"mlflow.{name}"
    for name in ("sklearn", "onnx", "xgboost", "lightgbm", "pytorch", "tensorflow", "keras", "prophet",
                 "statsmodels", "pmdarima")
)  # fmt: skip
"""Loaders of MLflow's own that load the files inspected here, and nothing else that the MLmodel names."""

PICKLE_MODULES = frozenset({"mlflow.pytorch.pickle_module", "pickle", "cloudpickle"})
XGBOOST = frozenset(
    ("xgboost.core.Booster",
     *(f"xgboost.sklearn.XGB{kind}" for kind in ("Classifier", "Model", "RFClassifier", "RFRegressor",
                                                 "Ranker", "Regressor")))
)  # fmt: skip
"""What ``mlflow.xgboost`` may be told to call: whatever stands there it imports and calls before it loads."""

KERAS = frozenset({"keras", "keras._tf_keras.keras", "keras.api._v2.keras", "tensorflow.keras", "tf_keras"})
"""What ``mlflow.tensorflow`` may be told to import as Keras, in ``MLmodel`` or in ``keras_module.txt``."""

CODE_KEYS = ("code", "python_model", "loader_module", "model_code_path", "custom_objects", "artifacts")


def mlmodel(source: Source) -> Found:
    """Data where only loaders of MLflow's own are named, code where one of the model's is."""
    said = yaml_value(source)
    flavors = said.get("flavors") if isinstance(said, dict) else None
    if not isinstance(flavors, dict):
        raise No("mlmodel", "it has no flavors")
    for settings in _maps(flavors):
        _check(settings)
    why = next(_runs(said, flavors), "")
    return Found("mlmodel", Standing.CODE if why else Standing.DATA, why)


def _maps(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping, at any depth; YAML with aliases was refused, so there is an end."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _check(settings: Mapping[str, Any]) -> None:
    named = settings.get("pickle_module_name", "pickle")
    if named not in PICKLE_MODULES:
        raise No("mlmodel", f"it has MLflow import {str(named)[:100]!r} to unpickle with")
    keras = settings.get("keras_module", "keras")
    if not isinstance(keras, str) or keras not in KERAS:
        raise No("mlmodel", f"it has MLflow import {str(keras)[:100]!r} as Keras")
    trusted = settings.get("skops_trusted_types")
    if trusted is not None and not isinstance(trusted, list):
        raise No("mlmodel", "its skops_trusted_types are no list")
    for name in trusted or ():
        try:
            check_type(str(name))
        except No as wrong:
            raise No("mlmodel", f"it asks skops to trust types of its own choice: {wrong.why}") from None


def _runs(said: Mapping[str, Any], flavors: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about what it brings that runs."""
    for name, settings in flavors.items():
        if not isinstance(settings, dict):
            continue
        loader = settings.get("loader_module")
        if loader is not None and loader not in LOADERS:
            yield f"its loader {str(loader)[:100]!r} is none of those that load plain files"
        called = settings.get("model_class")
        if name == "xgboost" and called is not None and not (isinstance(called, str) and called in XGBOOST):
            yield f"its flavor 'xgboost' has MLflow call {str(called)[:100]!r}"
        for key in CODE_KEYS:
            if settings.get(key) and key != "loader_module":
                yield f"its flavor {str(name)[:50]!r} brings {key}"
    if said.get("model_code_path"):
        yield "it is a model from code"
