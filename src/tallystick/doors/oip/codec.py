"""Tensors of the Open Inference Protocol, version 2, to numpy and back: JSON and the binary data extension.

Strict both ways: whatever does not fit its own description is BadInput, before a model sees it.
Numpy is imported here, so the hub's own process must not import this module.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from tallystick.core.errors import BadInput, Failed
from tallystick.doors.oip.tensors import from_bytes, from_json, to_bytes, to_json

__all__ = [
    "RANK_MAX",
    "TENSORS_MAX",
    "InferRequest",
    "InferResponse",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
]

RANK_MAX = 16
TENSORS_MAX = 4096
DIMENSION_MAX = 2**40
"""Of one axis, and of the product of all that are not 0: far over any body, and no overflow in numpy."""


@dataclass(frozen=True)
class InferRequest:
    """A decoded request. ``outputs`` are the wished names with whether each is to be binary; none: all,
    as ``binary`` says.
    """

    inputs: Mapping[str, np.ndarray]
    id: str = ""
    outputs: Mapping[str, bool] = field(default_factory=dict)
    binary: bool = False


@dataclass(frozen=True)
class InferResponse:
    """A decoded answer: arrays by output name; BYTES are object arrays of ``bytes``."""

    outputs: Mapping[str, np.ndarray]
    model_name: str = ""
    model_version: str = ""
    id: str = ""


def decode_request(body: bytes, json_bytes: int = 0) -> InferRequest:
    """A request's body; ``json_bytes`` is its ``Inference-Header-Content-Length``, 0 when it is all JSON."""
    said, tail = _split(body, json_bytes)
    inputs = _tensors(said, "inputs", tail)
    if not inputs:
        raise BadInput("there are no inputs", where="request")
    binary = _flag(_parameters(said, "request"), "binary_data_output", False)
    return InferRequest(inputs, _text(said, "id"), _wished(said, binary), binary)


def decode_response(body: bytes, json_bytes: int = 0) -> InferResponse:
    """An answer's body, as :func:`decode_request`."""
    said, tail = _split(body, json_bytes)
    outputs = _tensors(said, "outputs", tail)
    return InferResponse(outputs, _text(said, "model_name"), _text(said, "model_version"), _text(said, "id"))


def encode_request(request: InferRequest, *, binary: bool = True) -> tuple[bytes, int]:
    """A body for ``request``, its inputs as binary data or JSON, and the length of its JSON (0: all JSON)."""
    said: dict[str, Any] = {"id": request.id} if request.id else {}
    if request.binary:
        said["parameters"] = {"binary_data_output": True}
    if request.outputs:
        said["outputs"] = [
            {"name": name, "parameters": {"binary_data": flag}} for name, flag in request.outputs.items()
        ]
    return _join(said, "inputs", request.inputs, dict.fromkeys(request.inputs, binary))


def encode_response(response: InferResponse, request: InferRequest) -> tuple[bytes, int]:
    """The body that answers ``request`` with what it asked for, and the length of its JSON (0: all JSON).

    BadInput for an unknown output; Failed for NaN or infinity where JSON was asked for.
    """
    wished = request.outputs or dict.fromkeys(response.outputs, request.binary)
    if unknown := wished.keys() - response.outputs.keys():
        hint = f"the model has {', '.join(response.outputs)}"[:500]
        raise BadInput(f"there is no output {min(unknown)!r:.100}", where="outputs", hint=hint)
    said: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if request.id:
        said["id"] = request.id
    return _join(said, "outputs", {name: response.outputs[name] for name in wished}, wished)


def _split(body: bytes, json_bytes: int) -> tuple[Mapping[str, Any], memoryview]:
    if not 0 <= json_bytes <= len(body):
        raise BadInput(
            f"Inference-Header-Content-Length {json_bytes} is over the body's length", where="request"
        )
    head = body[:json_bytes] if json_bytes else body
    try:
        said = json.loads(head, parse_constant=_no_constant)
    except (ValueError, RecursionError) as wrong:
        raise BadInput(f"the body is not JSON: {str(wrong)[:200]}", where="request") from None
    if not isinstance(said, dict):
        raise BadInput("the body is not a JSON object", where="request")
    return said, memoryview(body)[len(head) :]


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _tensors(said: Mapping[str, Any], key: str, tail: memoryview) -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {}
    for item in _list(said, key):
        name = item.get("name")
        if not isinstance(name, str) or not name or name in made:
            raise BadInput(f"{name!r:.100} is missing, not text or there twice", where=f"name in {key}")
        where = f"{key} {name[:100]}"
        shape = _shape(item.get("shape"), where)
        size = _parameters(item, where).get("binary_data_size")
        if size is None:
            made[name] = from_json(item.get("data"), item.get("datatype"), shape, where)
        elif "data" in item or type(size) is not int or not 0 <= size <= len(tail):
            raise BadInput(f"binary_data_size {size!r:.50} does not fit what was sent", where=where)
        else:
            made[name] = from_bytes(tail[:size], item.get("datatype"), shape, where)
            tail = tail[size:]
    if len(tail):
        raise BadInput(f"{len(tail)} bytes at the end belong to no tensor", where=key)
    return made


def _list(said: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    items = said.get(key, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise BadInput(f"{key} is not a list of objects", where="request")
    if len(items) > TENSORS_MAX:
        raise BadInput(f"over {TENSORS_MAX} tensors", where=key)
    return items


def _shape(shape: Any, where: str) -> tuple[int, ...]:
    if (
        not isinstance(shape, list)
        or len(shape) > RANK_MAX
        or not all(type(d) is int and d >= 0 for d in shape)
    ):
        raise BadInput(f"shape {shape!r:.100} is not a list of at most {RANK_MAX} lengths", where=where)
    if math.prod(d for d in shape if d) > DIMENSION_MAX:
        raise BadInput(f"shape {shape!r:.100} is too large", where=where)
    return tuple(shape)


def _parameters(said: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    found = said.get("parameters", {})
    if not isinstance(found, dict):
        raise BadInput("parameters is not an object", where=where)
    if unknown := [key for key in found if key.startswith("shared_memory") or key == "classification"]:
        raise BadInput(f"the extension behind {unknown[0]!r} is not offered", where=where)
    return found


def _flag(parameters: Mapping[str, Any], key: str, otherwise: bool) -> bool:
    found = parameters.get(key, otherwise)
    if not isinstance(found, bool):
        raise BadInput(f"{key} is {found!r:.50}, not true or false", where="parameters")
    return found


def _text(said: Mapping[str, Any], key: str) -> str:
    found = said.get(key, "")
    if not isinstance(found, str):
        raise BadInput(f"{key} is {found!r:.50}, not text", where="request")
    return found


def _wished(said: Mapping[str, Any], binary: bool) -> dict[str, bool]:
    wished: dict[str, bool] = {}
    for item in _list(said, "outputs"):
        name = item.get("name")
        if not isinstance(name, str) or name in wished:
            raise BadInput(f"{name!r:.100} is missing, not text or there twice", where="name in outputs")
        wished[name] = _flag(_parameters(item, f"outputs {name[:100]}"), "binary_data", binary)
    return wished


def _join(
    said: dict[str, Any], key: str, arrays: Mapping[str, np.ndarray], binary: Mapping[str, bool]
) -> tuple[bytes, int]:
    items, blobs = [], []
    for name, array in arrays.items():
        if binary[name]:
            datatype, blob = to_bytes(array, f"{key} {name}")
            part: dict[str, Any] = {"parameters": {"binary_data_size": len(blob)}}
            blobs.append(blob)
        else:
            datatype, data = to_json(array, f"{key} {name}")
            part = {"data": data}
        items.append({"name": name, "shape": list(array.shape), "datatype": datatype, **part})
    said[key] = items
    try:
        head = json.dumps(said, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        hint = "ask for binary data"
        raise Failed("it holds NaN or infinity, which JSON cannot carry", where=key, hint=hint) from None
    return (b"".join((head, *blobs)), len(head)) if blobs else (head, 0)
