"""A value of a pipeline file that knows its line and its place, so that a message can say both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tallystick.core.errors import BadInput, NotSupported

__all__ = ["Node", "Scalar", "Value"]

Scalar = str | int | float | bool | None
Value = dict[str, "Node"] | list["Node"] | Scalar


class Node:
    """One value: a mapping, a list or a scalar, the line it starts at, and the way to it.

    Every reader below either returns a value of the type that it names or raises BadInput with the line.
    """

    __slots__ = ("key", "line", "parent", "value")

    def __init__(
        self,
        value: dict[str, Node] | list[Node] | Scalar,
        line: int,
        parent: Node | None = None,
        key: str = "",
    ) -> None:
        self.value = value
        self.line = line
        self.parent = parent
        self.key = key

    @property
    def where(self) -> str:
        """The line and the dotted path, for example ``line 12, root.dag.tasks.train``."""
        keys: list[str] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            keys.append(node.key)
            node = node.parent
        path = ".".join(reversed(keys))
        return f"line {self.line}, {path[:300]}" if path else f"line {self.line}"

    def wrong(self, what: str, hint: str = "") -> BadInput:
        """The error for a value that cannot be used."""
        return BadInput(what, where=self.where, hint=hint)

    def refuse(self, what: str, hint: str = "") -> NotSupported:
        """The error for a construct that is well formed, but cannot be honoured."""
        return NotSupported(f"{what} is not supported", where=self.where, hint=hint)

    def fields(self, known: frozenset[str], refused: Mapping[str, str] | None = None) -> dict[str, Node]:
        """The mapping's entries, where every key is ``known``; absent ones and null are the same.

        A key of ``refused`` is NotSupported, in the words that stand with it; any other is BadInput:
        nothing that the file says is passed over.
        """
        found: dict[str, Node] = {}
        for name, node in self.mapping().items():
            if refused and name in refused:
                if not node.empty:
                    raise node.refuse(refused[name])
            elif name not in known:
                raise node.wrong(f"unknown field {name[:80]!r}", hint="known: " + ", ".join(sorted(known)))
            elif node.value is not None:
                found[name] = node
        return found

    @property
    def empty(self) -> bool:
        """True for null and for a mapping or list with nothing in it."""
        return self.value is None or (isinstance(self.value, dict | list) and not self.value)

    def mapping(self) -> dict[str, Node]:
        """The entries of a mapping; null has none."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.wrong(f"expected a mapping, got {self.kind}")
        return self.value

    def items(self) -> list[Node]:
        """The elements of a list; null has none."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.wrong(f"expected a list, got {self.kind}")
        return self.value

    def text(self) -> str:
        """A string that is not empty."""
        if not isinstance(self.value, str):
            raise self.wrong(f"expected text, got {self.kind}")
        if not self.value:
            raise self.wrong("expected text, got none")
        return self.value

    def string(self) -> str:
        """A string, which may be empty."""
        if not isinstance(self.value, str):
            raise self.wrong(f"expected text, got {self.kind}")
        return self.value

    def number(self) -> float:
        """A finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.wrong(f"expected a number, got {self.kind}")
        try:
            number = float(self.value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.wrong(f"{self.kind} is not a number that JSON knows")
        return number

    def whole(self) -> int:
        """A whole number, 0 or more, of 63 bits; as text too, as protobuf's JSON has it."""
        value = self.value
        if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) < 20:
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise self.wrong(f"expected a whole number, 0 or more, got {self.kind}")
        return value

    def flag(self) -> bool:
        """``true`` or ``false``."""
        if not isinstance(self.value, bool):
            raise self.wrong(f"expected true or false, got {self.kind}")
        return self.value

    def need(self, name: str) -> Node:
        """The mapping's entry ``name``, which must be there."""
        node = self.mapping().get(name)
        if node is None or node.value is None:
            raise self.wrong(f"field {name!r} is missing")
        return node

    def plain(self) -> Any:
        """The value as plain Python, all the way down."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    @property
    def kind(self) -> str:
        """What it is, in plain words."""
        if isinstance(self.value, dict):
            return "a mapping"
        if isinstance(self.value, list):
            return "a list"
        return "nothing" if self.value is None else repr(self.value)[:80]
