"""MLmodel files as clients before MLflow 3 send them, as far as they are plain; MLflow keeps little of one.

A signature is kept nowhere, but MLflow reads it and refuses what it cannot read. So what is taken here is
what surely can be read: columns and tensors of the usual types, without params.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

from tallystick.doors.tracking import plain
from tallystick.record.asks import NotPlain
from tallystick.record.rules import TAG_CHARS_MAX

__all__ = ["kept_of"]

_KEPT = ("run_id", "artifact_path", "utc_time_created", "model_uuid")


class _Column(plain.Body):
    """A column of a table."""

    type: Literal["boolean", "integer", "long", "float", "double", "string", "binary", "datetime"]
    name: str | None = None
    required: bool = True


class _Shape(plain.Body):
    """What a tensor is made of."""

    dtype: Literal[
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64", "str", "object",
    ]  # fmt: skip
    shape: list[int]


class _Tensor(plain.Body, rename={"spec": "tensor-spec"}):
    """A tensor."""

    type: Literal["tensor"]
    spec: _Shape
    name: str | None = None


class _Signature(plain.Body):
    """What a model takes and gives, as JSON in JSON."""

    inputs: str | None = None
    outputs: str | None = None
    params: None = None


_ModelFile = plain.body(
    run_id=str,
    artifact_path=str,
    utc_time_created=str,
    model_uuid=(str | None, None),
    flavors=dict[str, Any],
    mlflow_version=(str | None, None),
    signature=(_Signature | None, None),
    is_signature_from_type_hint=(bool, False),
    type_hint_from_example=(bool, False),
    saved_input_example_info=(dict[str, Any] | None, None),
    model_size_bytes=(int | None, None),
    metadata=(dict[str, Any] | None, None),
    env_vars=(list[str] | None, None),
    prompts=(list[str] | None, None),
    model_id=(str | None, None),
    resources=(None, None),
    auth_policy=(None, None),
)
_read = msgspec.json.Decoder(_ModelFile).decode
_read_columns = msgspec.json.Decoder(list[_Column]).decode
_read_tensors = msgspec.json.Decoder(list[_Tensor]).decode


def kept_of(model_json: str) -> str:
    """What MLflow keeps of a file, in its order, as JSON; NotPlain, or msgspec's error, for what is odd."""
    model: Any = _read(model_json)
    plain.text(model.utc_time_created, 250, 1)
    if model.signature is not None:
        _check_signature(model.signature)
    kept: dict[str, Any] = {name: getattr(model, name) for name in _KEPT}
    kept["flavors"] = {
        name: {k: v for k, v in flavor.items() if k != "config"} if isinstance(flavor, dict) else flavor
        for name, flavor in json.loads(model_json)["flavors"].items()
    }
    return plain.text(json.dumps(kept), TAG_CHARS_MAX)


def _check_signature(signature: _Signature) -> None:
    sides = [side for side in (signature.inputs, signature.outputs) if side]
    for side in sides:
        _check_side(side)
    if not sides:
        raise NotPlain


def _check_side(side: str) -> None:
    """A table or tensors: all of them named, or none, and then none is optional, and a tensor is alone."""
    try:
        columns = _read_columns(side)
        names, odd = [column.name for column in columns], any(not column.required for column in columns)
    except msgspec.ValidationError:
        names = [tensor.name for tensor in _read_tensors(side)]
        odd = len(names) > 1
    named = len(names) - names.count(None)
    if not names or named not in (0, len(names)) or (odd and not named):
        raise NotPlain
