"""ONNX models, read as protocol-buffer fields without building the model: tensors are passed over.

After onnx-ml.proto (ONNX 1.23). A field that ONNX does not define is refused, as a reader would skip it and
anything could lie in it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from tallystick.evidence.files.found import Found, No, Unlike
from tallystick.evidence.files.source import Cursor, Source

__all__ = ["onnx_model"]

FIELDS_MAX = 20_000_000
DEEP_MAX = 100
TEXT_BYTES_MAX = 4096
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft")
"""Whose operators ONNX Runtime brings; all others need a library, or are functions of the model."""

_TEXT = "text"
_ENTRY = "StringStringEntry"
# By message, what each field holds: a message by its name, a text that matters, or anything else ("").
MESSAGES: Mapping[str, Mapping[int, str]] = {
    "Model": {1: "", 2: "", 3: "", 4: "", 5: "", 6: "", 7: "Graph", 8: "OpsetId", 14: _ENTRY, 20: "Training",
              25: "Function", 26: "Device"},
    "Graph": {1: "Node", 2: "", 5: "Tensor", 10: "", 11: "ValueInfo", 12: "ValueInfo", 13: "ValueInfo",
              14: "Annotation", 15: "Sparse", 16: _ENTRY},
    "Node": {1: "", 2: "", 3: "", 4: _TEXT, 5: "Attribute", 6: "", 7: _TEXT, 8: "", 9: _ENTRY,
             10: "NodeDevice"},
    "Attribute": {1: "", 2: "", 3: "", 4: "", 5: "Tensor", 6: "Graph", 7: "", 8: "", 9: "", 10: "Tensor",
                  11: "Graph", 13: "", 14: "Type", 15: "Type", 20: "", 21: "", 22: "Sparse", 23: "Sparse"},
    "Tensor": {1: "", 2: "", 3: "Segment", 4: "", 5: "", 6: "", 7: "", 8: "", 9: "", 10: "", 11: "", 12: "",
               13: "External", 14: "", 16: _ENTRY},
    "External": {1: _TEXT, 2: _TEXT},
    "Sparse": {1: "Tensor", 2: "Tensor", 3: ""},
    "ValueInfo": {1: "", 2: "Type", 3: "", 4: _ENTRY},
    "Type": {1: "TensorType", 4: "Inner", 5: "MapType", 6: "", 7: "Opaque", 8: "TensorType", 9: "Inner"},
    "TensorType": {1: "", 2: "Shape"},
    "Inner": {1: "Type"},
    "MapType": {1: "", 2: "Type"},
    "Opaque": {1: "", 2: ""},
    "Shape": {1: "Dimension"},
    "Dimension": {1: "", 2: "", 3: ""},
    "OpsetId": {1: _TEXT, 2: ""},
    "Training": {1: "Graph", 2: "Graph", 3: _ENTRY, 4: _ENTRY},
    "Function": {1: _TEXT, 4: "", 5: "", 6: "", 7: "Node", 8: "", 9: "OpsetId", 10: _TEXT, 11: "Attribute",
                 12: "ValueInfo", 13: "", 14: _ENTRY},
    "Annotation": {1: "", 2: _ENTRY},
    "Segment": {1: "", 2: ""},
    "Device": {1: "", 2: "", 3: ""},
    "NodeDevice": {1: "", 2: "Sharding", 3: ""},
    "Sharding": {1: "", 2: "", 3: "IntInt", 4: "ShardedDim"},
    "IntInt": {1: "", 2: ""},
    "ShardedDim": {1: "", 2: "SimpleDim"},
    "SimpleDim": {1: "", 2: "", 3: ""},
    _ENTRY: {1: "", 2: ""},
}  # fmt: skip


@dataclass(slots=True)
class _Seen:
    fields: int = 0
    top: set[int] = field(default_factory=set)
    used: dict[tuple[str, str], None] = field(default_factory=dict)
    functions: set[tuple[str, str]] = field(default_factory=set)
    external: dict[str, None] = field(default_factory=dict)


def onnx_model(source: Source) -> tuple[Found, tuple[str, ...]]:
    """What an ONNX model is, and the files of its own folder that it keeps tensors in.

    Unlike where it is none (not to the last byte); No where it reaches outside its folder or needs operators
    that ONNX Runtime does not bring.
    """
    seen = _Seen()
    try:
        _message(Cursor(source), source.size, "Model", seen, 0)
    except (EOFError, ValueError):
        raise Unlike from None
    if not {1, 7, 8} <= seen.top:
        raise Unlike
    for domain, operator in seen.used:
        known = domain in DOMAINS or (domain, operator) in seen.functions
        if not known or operator in ("PyOp", "PythonOp", "CustomOp"):
            why = f"it needs operator {operator[:100]!r} of {domain[:100]!r}, which only a library brings"
            raise No("onnx", why)
    for location in seen.external:
        _check_location(location)
    return Found("onnx"), tuple(seen.external)


def _check_location(location: str) -> None:
    """No for what leads outside, and for ``*/_ORT_MEM_ADDR_/*``: to ONNX Runtime an address in its memory."""
    parts = location.split("/")
    outside = location.startswith(("/", "*")) or ".." in parts or "\\" in location or "\0" in location
    if outside or not location or posixpath.normpath(location) != location:
        raise No("onnx", f"it keeps a tensor in {location[:200]!r}, which is no plain path inside its folder")


def _varint(read: Cursor) -> int:
    value = shift = 0
    while shift < 70:
        byte = read.byte()
        value |= (byte & 127) << shift
        if byte < 128:
            return value
        shift += 7
    raise ValueError("no varint")


def _message(read: Cursor, end: int, name: str, seen: _Seen, deep: int) -> None:
    """Go through one message up to ``end``; EOFError or ValueError where it is not one."""
    if deep > DEEP_MAX:
        raise ValueError("too deep")
    known, texts = MESSAGES[name], dict[int, str]()
    while read.at < end:
        seen.fields += 1
        if seen.fields > FIELDS_MAX:
            raise ValueError("too many fields")
        tag = _varint(read)
        number, wire = tag >> 3, tag & 7
        held = known.get(number)
        if held is None:
            raise ValueError("no field of ONNX")
        if deep == 0:
            seen.top.add(number)
        if wire == 2:
            _lengthy(read, end, (name, number, held), texts, (seen, deep))
        elif held and wire != 2:
            raise ValueError("a number where a message should be")
        elif wire == 0:
            _varint(read)
        elif wire in (1, 5):
            read.skip(8 if wire == 1 else 4)
        else:
            raise ValueError("no wire type of today")
    if read.at != end:
        raise ValueError("a field reaches beyond its message")
    _noted(name, texts, seen)


def _lengthy(
    read: Cursor, end: int, what: tuple[str, int, str], texts: dict[int, str], about: tuple[_Seen, int]
) -> None:
    size = _varint(read)
    if size > end - read.at:
        raise EOFError
    _, number, held = what
    if held == _TEXT:
        if size > TEXT_BYTES_MAX:
            raise ValueError("a name without end")
        texts[number] = read.take(size).decode("utf-8")
    elif held:
        _message(read, read.at + size, held, *_deeper(about))
    else:
        read.skip(size)


def _deeper(about: tuple[_Seen, int]) -> tuple[_Seen, int]:
    return about[0], about[1] + 1


def _noted(name: str, texts: Mapping[int, str], seen: _Seen) -> None:
    """Remember of a message what is to be judged once all of the model was seen."""
    if name == "Node":
        seen.used[texts.get(7, ""), texts.get(4, "")] = None
    elif name == "Function":
        seen.functions.add((texts.get(10, ""), texts.get(1, "")))
    elif name == "External":
        if texts.get(1) == "location":
            seen.external[texts.get(2, "")] = None
        elif texts.get(1) not in ("offset", "length", "checksum"):
            raise No(
                "onnx", f"it keeps a tensor outside by {texts.get(1, '')[:100]!r}, which ONNX does not know"
            )
