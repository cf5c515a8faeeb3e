"""The ways to harden: what each can be told, in what bounds, and what it needs of a model."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from typing import Any

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.model import ModelVersion
from tallystick.evidence.domain import Domain, DomainKind

__all__ = ["SCORES", "How", "check_applies", "settings_of"]

SCORES = ("FP16", "FP32", "FP64")
"""Datatypes of the Open Inference Protocol that a score can have."""
WINDOWS_MAX = 5


class How(enum.StrEnum):
    """The ways; the first trains a new network on its own attacks, the last two can keep the model itself."""

    ADVERSARIAL = "adversarial"
    DISTILL = "distill"
    SMOOTH = "smooth"
    PREPROCESS = "preprocess"


_RANGES: Mapping[str, tuple[type, float, float]] = {
    "epochs": (int, 4, 10_000),
    "temperature": (float, 1, 1000),
    "bits": (int, 1, 16),
    "window": (int, 2, WINDOWS_MAX),
    "quality": (int, 1, 100),
    "sigma": (float, 1e-9, 1e9),
    "draws": (int, 1, 1000),
}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "base": ("network", "original"),
    "kind": ("squeeze", "median", "jpeg"),
}
_PLATE = ("sklearn", "xgboost", "lightgbm")


def settings_of(how: How, said: Mapping[str, str], share: float, eps: float) -> Mapping[str, Any]:
    """The way's settings with what was ``said``; ``share`` is eps as a share of a feature's range.

    BadInput names a setting that the way does not have, or what it can be.
    """
    mine = _usual(how, said.get("kind", "squeeze"), share, eps)
    for name, text in said.items():
        if name not in mine:
            kind = f" of kind {mine['kind']}" if "kind" in mine else ""
            hint = "it has " + ", ".join(mine)
            raise BadInput(f"{how}{kind} has no setting {name!r:.50}", where="settings", hint=hint)
        mine[name] = _setting(name, text)
    return mine


def _usual(how: How, kind: str, share: float, eps: float) -> dict[str, Any]:
    if how is How.ADVERSARIAL:
        return {"epochs": 100}
    if how is How.DISTILL:
        return {"epochs": 100, "temperature": 20.0}
    if how is How.SMOOTH:
        return {"epochs": 100, "sigma": 2 * eps, "draws": 32, "base": "network"}
    bits = max(1, min(8, math.floor(math.log2(1 + 1 / (2 * share)))))
    own = {"squeeze": {"bits": bits}, "median": {"window": 3}, "jpeg": {"quality": 50}}
    return {"kind": kind, **own.get(kind, {})}


def _setting(name: str, text: str) -> Any:
    if name in _CHOICES:
        if text not in _CHOICES[name]:
            *others, last = _CHOICES[name]
            what = f"{name} is {', '.join(others)} or {last}, not {text!r:.50}"
            raise BadInput(what, where="settings")
        return text
    kind, low, high = _RANGES[name]
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    right = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not right or (kind is int and not isinstance(value, int)):
        whole = "a whole number" if kind is int else "a number"
        raise BadInput(f"{name} is {whole} from {low:g} to {high:g}, not {text!r:.50}", where="settings")
    return kind(value)


def check_applies(model: ModelVersion, how: How, settings: Mapping[str, Any], domain: Domain) -> None:
    """NotSupported where a way needs what the model has not; what it names applies to every model."""
    keeps = how in (How.PREPROCESS, How.DISTILL) or settings.get("base") == "original"
    hint = "adversarial, and smooth on a network of its own, train a new network: they apply"
    if keeps and "onnx" not in model.flavors:
        what = f"{how} needs the model as ONNX, and it is {', '.join(model.flavors) or 'of no known kind'}"
        raise NotSupported(what, where=model.key, hint=f"{hint}; or {_as_onnx(model)}")
    if how is How.PREPROCESS:
        _check_preprocess(model, settings, domain, hint)
    elif keeps:
        if not any(len(o.shape) == 2 and o.datatype in SCORES for o in model.outputs):
            what = f"it gives labels alone, and {how} needs a score for each class"
            raise NotSupported(what, where=model.key, hint=hint)
        if any(i.shape and i.shape[0] >= 0 for i in model.inputs):
            what = "it takes a fixed number of rows at once"
            raise NotSupported(what, where=model.key, hint=hint)


def _as_onnx(model: ModelVersion) -> str:
    """How the model itself can be had as ONNX, as far as its kind says."""
    if any(kind in model.flavors for kind in _PLATE):
        return "convert it (skl2onnx, onnxmltools) and register that: then the model itself can be kept"
    if "pytorch" in model.flavors:
        return "export it (torch.onnx.export) and register that: then the model itself can be kept"
    return "register it as ONNX: then the model itself can be kept"


def _check_preprocess(model: ModelVersion, settings: Mapping[str, Any], domain: Domain, hint: str) -> None:
    whole = next((i for i in model.inputs if i.datatype not in SCORES), None)
    if whole:
        what = f"its input {whole.name!r:.100} takes {whole.datatype}: there is nothing to round"
        raise NotSupported(what, where=model.key, hint=hint)
    if settings["kind"] != "squeeze" and (domain.kind is not DomainKind.IMAGE or len(model.inputs) > 1):
        what = f"{settings['kind']} is for pictures, and the policy says that its rows are {domain.kind}"
        told = f'say it in the policy: [domain.{model.name}] kind = "image", shape = [height, width]'
        raise NotSupported(what, where=model.key, hint=f"{told}; or --set kind=squeeze")
