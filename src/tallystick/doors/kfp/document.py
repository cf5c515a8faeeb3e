"""YAML to nodes, within limits: no aliases, no doubled keys, no tags that run code, not too large or deep.

Works through the parser's events, one at a time and without recursion, so that no file can exhaust
the stack. JSON is YAML too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from tallystick.core.errors import BadInput, NotSupported, TooLarge
from tallystick.doors.kfp.node import Node, Scalar, Value

__all__ = ["BYTES_MAX", "DEPTH_MAX", "VALUES_MAX", "read_documents"]

BYTES_MAX = 10 * 1024 * 1024
DEPTH_MAX = 100
VALUES_MAX = 500_000
"""Mappings, lists and scalars in one file: 10 MiB of ``[1,1,1...`` would otherwise take a gigabyte."""

_CORE = "tag:yaml.org,2002:"
_LOADER: type[yaml.CSafeLoader] | type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Any = yaml.resolver.Resolver()  # its stubs leave `resolve` untyped
_MAKER = yaml.constructor.SafeConstructor()


def read_documents(data: str | bytes) -> list[Node]:
    """The documents of a YAML file; TooLarge over a limit, BadInput with the line for anything broken."""
    text = _decode(data)
    builder = _Builder()
    try:
        for event in _events(text):
            builder.take(event)
    except yaml.MarkedYAMLError as broken:
        mark = broken.problem_mark or broken.context_mark
        where = f"line {mark.line + 1}" if mark else "pipeline"
        raise BadInput(f"this is not YAML: {broken.problem or broken.context}", where=where) from None
    except yaml.YAMLError as broken:
        said = str(broken).splitlines() or ["it cannot be read"]
        raise BadInput(f"this is not YAML: {said[0][:200]}", where="pipeline") from None
    return builder.documents


def _events(text: str) -> Iterator[yaml.Event]:
    # yaml.parse is not typed: each event comes from PyYAML's own classes.
    yield from yaml.parse(text, Loader=_LOADER)


def _decode(data: str | bytes) -> str:
    """As text, within the limit, and surely encodable again."""
    if len(data) > BYTES_MAX:
        raise TooLarge(f"the file is larger than {BYTES_MAX // 1024 // 1024} MiB", where="pipeline")
    try:
        raw = data if isinstance(data, bytes) else data.encode()
        text = raw.decode("utf-8-sig")
    except UnicodeError:
        raise BadInput("the file is not UTF-8 text", where="pipeline") from None
    if len(raw) > BYTES_MAX:
        raise TooLarge(f"the file is larger than {BYTES_MAX // 1024 // 1024} MiB", where="pipeline")
    return text


class _Builder:
    """Takes the parser's events in order and grows the documents from them."""

    def __init__(self) -> None:
        self.documents: list[Node] = []
        self._open: list[Node] = []
        self._key: list[str | None] = []
        self._count = 0

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            raise NotSupported(
                f"the alias *{event.anchor} is not supported",
                where=f"line {line}",
                hint="write the value out",
            )
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._begin(event, line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._open.pop()
            self._key.pop()

    def _begin(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, line: int) -> None:
        is_map = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", f"{_CORE}{'map' if is_map else 'seq'}"):
            raise BadInput(f"the tag {event.tag[:80]!r} is not read", where=f"line {line}")
        if len(self._open) >= DEPTH_MAX:
            raise TooLarge(f"values are nested deeper than {DEPTH_MAX}", where=f"line {line}")
        node = self._place({} if is_map else [], line)
        self._open.append(node)
        self._key.append(None)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        if self._open and isinstance(self._open[-1].value, dict) and self._key[-1] is None:
            # A key is its text as written: `on:` and `1:` are names here, never True and 1.
            if event.value in self._open[-1].value:
                raise BadInput(f"the key {event.value[:80]!r} stands here twice", where=f"line {line}")
            self._key[-1] = event.value
        else:
            self._place(_value(event, line), line)

    def _place(self, value: Value, line: int) -> Node:
        self._count += 1
        if self._count > VALUES_MAX:
            raise TooLarge(f"the file has more than {VALUES_MAX:,} values", where=f"line {line}")
        if not self._open:
            self.documents.append(Node(value, line))
            return self.documents[-1]
        parent, key = self._open[-1], self._key[-1]
        if isinstance(parent.value, list):
            node = Node(value, line, parent, str(len(parent.value)))
            parent.value.append(node)
            return node
        if key is None or not isinstance(parent.value, dict):
            raise BadInput("a mapping's key must be text", where=f"line {line}")
        node = parent.value[key] = Node(value, line, parent, key)
        self._key[-1] = None
        return node


def _value(event: yaml.ScalarEvent, line: int) -> Scalar:
    """The scalar in JSON's types; a date stays the text that it was."""
    tag = event.tag if event.tag not in (None, "!") else None
    if tag is None:
        tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)
    elif tag.removeprefix(_CORE) not in ("str", "int", "float", "bool", "null"):
        raise BadInput(f"the tag {tag[:80]!r} is not read", where=f"line {line}")
    node = yaml.ScalarNode(tag, event.value)
    try:
        if tag == f"{_CORE}int":
            return int(_MAKER.construct_yaml_int(node))
        if tag == f"{_CORE}float":
            return float(_MAKER.construct_yaml_float(node))
        if tag == f"{_CORE}bool":
            return bool(_MAKER.construct_yaml_bool(node))
    except (ValueError, LookupError):
        raise BadInput(f"{event.value[:80]!r} is not a value of its type", where=f"line {line}") from None
    return None if tag == f"{_CORE}null" else str(event.value)
