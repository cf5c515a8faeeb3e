"""Rules of MLflow's that need no record: where artifacts lie, how a value is kept, what a history holds.

Each is MLflow's own for what is plain; anything else raises NotPlain.
"""

from __future__ import annotations

import json
import re
from math import isfinite, isnan

from tallystick.record.asks import NotPlain

__all__ = ["LARGEST", "MODELS_LOGGED", "RUN_NAME", "TAG_CHARS_MAX", "kept", "under", "with_model"]

RUN_NAME = "mlflow.runName"
"""The tag that names a run."""
MODELS_LOGGED = "mlflow.log-model.history"
"""The tag that lists the models that a run logged."""
TAG_CHARS_MAX = 8000

LARGEST = 1.7976931348623157e308
"""What stands in the database for an infinite value."""

_ODD = re.compile(r"[?#;\\\x00-\x1f\x7f]|^\s")
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):(?P<rest>.*)")
_PLACED = re.compile(r"(?P<place>//[A-Za-z0-9.\-_~%+:@]+)(?P<path>/.*)?")
_FILE = re.compile(r"///(?!/).*")
_PLACELESS = ("mlflow-artifacts", "dbfs")
"""Schemes whose paths begin right after them."""


def under(location: str | None, *parts: str) -> str:
    """``parts`` as a path below ``location``, as MLflow appends them: a folder, or a URL of a usual form."""
    if not location or _ODD.search(location):
        raise NotPlain
    below = "/".join(parts)
    found = _SCHEME.fullmatch(location)
    if found is None:
        return _joined(location, below)
    scheme, rest = found["scheme"], found["rest"]
    if placed := _PLACED.fullmatch(rest):
        whole = f"{scheme}:{placed['place']}{_joined(placed['path'] or '/', below)}"
    elif (scheme == "file" and _FILE.fullmatch(rest)) or (scheme in _PLACELESS and re.match("/(?!/)", rest)):
        whole = f"{scheme}:{_joined(rest, below)}"
    else:
        raise NotPlain
    if scheme != scheme.lower():  # MLflow would write it in another way
        raise NotPlain
    return whole


def _joined(folder: str, below: str) -> str:
    return f"{folder}{below}" if folder.endswith("/") else f"{folder}/{below}"


def kept(value: float) -> tuple[float, int]:
    """What is kept of a metric's value, and whether it is NaN, which is kept as 0."""
    if isfinite(value):
        return value, 0
    if isnan(value):
        return 0.0, 1
    return (LARGEST if value > 0 else -LARGEST), 0


def with_model(history: str | None, model_json: str) -> str:
    """The history of models that a run logged, with one more; NotPlain if it is none, or becomes too long."""
    try:
        told = json.loads(history) if history is not None else []
    except ValueError:
        raise NotPlain from None
    if not isinstance(told, list):
        raise NotPlain
    text = json.dumps([*told, json.loads(model_json)])
    if len(text) > TAG_CHARS_MAX:
        raise NotPlain
    return text
