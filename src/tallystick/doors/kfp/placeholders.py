"""``{{$...}}``: what stands in texts of a pipeline file for what is known only when it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from tallystick.core.pipeline.spec import Constant, Template
from tallystick.core.run.bind import Facts
from tallystick.doors.kfp.definitions import Interface
from tallystick.doors.kfp.node import Node

__all__ = ["CHANNEL", "Names", "check_text", "holds_placeholder", "read_text", "read_words"]

CHANNEL = "{{channel:"
"""The compiler's own name for an input. It leaves that in texts where it does not look for one."""
_FACTS = frozenset(Facts().of("", "")) | {"pipeline_root", "workspace_path"}
"""What stands in an input for a fact of the run."""

# Others may stand in a text and mean nothing: `{{$x}}` is what Go's templates write.
_FOUND = re.compile(r"\{\{\$(?:\}\}|\.((?:[^{}]|\{(?!\{)|\}(?!\}))*)\}\})")
_PARAM = re.compile(r"""inputs\.parameters\[(?:'([^']+)'|"([^"]+)")\]""")
_COMMAND = re.compile(
    r"""(?P<side>inputs|outputs)\.(?P<kind>parameters|artifacts)\[(?P<quote>['"])(?P<name>[^'"]+)(?P=quote)\]"""
    r"""(?P<rest>|\.output_file|\.uri|\.path|\.metadata|\.metadata\[(?:'[^']+'|"[^"]+")\])"""
)
_RESTS = {
    ("inputs", "parameters"): lambda rest: rest == "",
    ("outputs", "parameters"): lambda rest: rest == ".output_file",
    ("inputs", "artifacts"): lambda rest: rest != ".output_file",
    ("outputs", "artifacts"): lambda rest: rest != ".output_file",
}
_STRUCT = re.compile(r'\s*\{\s*"(?:Concat|IfPresent)"\s*:')
_DEPTH_MAX = 20


@dataclass(frozen=True, slots=True)
class Names:
    """What a command may name: what its component declares, and inputs that only its task has."""

    face: Interface
    given: Collection[str] = ()

    def of(self, side: str, kind: str) -> Collection[str]:
        """The names of ``inputs`` or ``outputs``, of ``parameters`` or ``artifacts``."""
        if side == "outputs":
            return self.face.out_params if kind == "parameters" else self.face.out_artifacts
        return {*self.face.params, *self.given} if kind == "parameters" else self.face.artifacts


def holds_placeholder(value: Any) -> bool:
    """Whether ``{{$}}`` or ``{{$.name}}`` stands anywhere in ``value``."""
    return any(_FOUND.search(text) for text in _texts(value))


def read_text(value: Any, node: Node, inputs: Collection[str]) -> Constant | Template:
    """A value as it is, or as a template of ``inputs`` and facts; NotSupported for any other placeholder."""
    if not holds_placeholder(value):
        return Constant(value)
    check_text(value, node, inputs)
    return Template(value)


def check_text(value: Any, node: Node, inputs: Collection[str]) -> set[str]:
    """The inputs that templates in ``value`` name; NotSupported for a placeholder of anything else."""
    named = set[str]()
    for text in _texts(value):
        for found in _FOUND.finditer(text):
            param = _PARAM.fullmatch(found[1] or "")
            if param:
                named.add(param[1] or param[2])
            elif found[1] not in _FACTS:
                raise node.refuse(f"the placeholder {found[0][:80]} here")
    for name in sorted(named):
        if name not in inputs:
            raise node.wrong(f"a placeholder names an input that the task does not have: {name[:80]!r}")
    return named


def read_words(node: Node, names: Names) -> tuple[Any, ...]:
    """The words of a command or of its arguments, with Concat and IfPresent taken apart."""
    return tuple(_word(item, names) for item in node.items())


def _word(node: Node, names: Names) -> Any:
    text = node.string()
    if not _STRUCT.match(text):
        return _checked(text, node, names)
    try:
        struct = json.loads(text)
    except (ValueError, RecursionError):
        raise node.wrong("this Concat or IfPresent is not JSON") from None
    return _struct(struct, node, names, 0)


def _struct(word: Any, node: Node, names: Names, depth: int) -> Any:
    """A word that may be Concat or IfPresent, checked all the way down."""
    if isinstance(word, str):
        return _checked(word, node, names)
    if depth > _DEPTH_MAX:
        raise node.wrong(f"Concat and IfPresent are nested deeper than {_DEPTH_MAX}")
    if isinstance(word, dict) and [*word] == ["Concat"] and isinstance(word["Concat"], list):
        return {"Concat": [_struct(part, node, names, depth + 1) for part in word["Concat"]]}
    if isinstance(word, dict) and [*word] == ["IfPresent"] and isinstance(word["IfPresent"], dict):
        return {"IfPresent": _if_present(word["IfPresent"], node, names, depth)}
    raise node.wrong("a command's word must be text, Concat or IfPresent")


def _if_present(said: dict[str, Any], node: Node, names: Names, depth: int) -> dict[str, Any]:
    if not {"InputName", "Then"} <= {*said} <= {"InputName", "Then", "Else"}:
        raise node.wrong("IfPresent has InputName, Then and Else, and nothing else")
    name = said["InputName"]
    if not isinstance(name, str) or (name not in names.face.params and name not in names.face.artifacts):
        raise node.wrong(f"IfPresent asks for {str(name)[:80]!r}, which is no input of the component")
    found: dict[str, Any] = {"InputName": name}
    for arm in ("Then", "Else"):
        words = said.get(arm)
        if isinstance(words, list):
            found[arm] = [_struct(word, node, names, depth + 1) for word in words]
        elif words is not None or arm == "Then":
            found[arm] = _struct(words, node, names, depth + 1)
    return found


def _checked(text: str, node: Node, names: Names) -> str:
    for found in _FOUND.finditer(text):
        inner = found[1]
        if inner is None or inner in _FACTS or inner in {"outputs.output_file", "outputMetadataUri"}:
            continue
        part = _COMMAND.fullmatch(inner)
        if not part or not _RESTS[part["side"], part["kind"]](part["rest"]):
            raise node.refuse(f"the placeholder {found[0][:80]}")
        if part["name"] not in names.of(part["side"], part["kind"]):
            raise node.wrong(f"{found[0][:80]} names nothing that the component has")
    return text


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys included."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list):
            waiting += part
