"""A container's command as a command of this machine: its words, once what they stand for is known.

The image is not fetched and no container is made: the programs are those of this machine. That is why a
person has to ask for it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.names import canonical_json
from tallystick.core.pipeline.spec import Command
from tallystick.ports.runs.bases import PROGRAMS

__all__ = ["argv_of", "check_command"]

_PLACEHOLDER = re.compile(r"\{\{\$(?:\}\}|\.((?:[^{}]|\{(?!\{)|\}(?!\}))*)\}\})")
_PART = re.compile(
    r"""(?P<side>inputs|outputs)\.(?P<kind>parameters|artifacts)\[(?P<quote>['"])(?P<name>[^'"]+)(?P=quote)\]"""
    r"""(?:\.(?P<what>output_file|uri|path|metadata)(?:\[(?P<q>['"])(?P<key>[^'"]+)(?P=q)\])?)?"""
)
_SH_KNOWS_MORE = re.compile(
    r"(?:^|[/:-])(?:alpine|busybox|bash|ubi\d*|fedora|centos|rockylinux|almalinux|amazonlinux)(?:[/:@.\d-]|$)"
)
"""Images whose ``sh`` is bash or busybox's, and knows ``[[`` and ``pipefail``; Debian's does not."""


def check_command(where: str, command: Command, *, allowed: bool) -> None:
    """NotSupported where no person has allowed it, or where there is nothing that could be run here."""
    if not allowed:
        raise NotSupported(
            f"a container's command ({command.image[:60]}) is not run unless somebody asks for it",
            where=where,
            hint="--allow-commands runs it with the programs of this machine, without its image; "
            "or write the step as a @dsl.component function",
        )
    if not command.command and not command.args:
        raise NotSupported(
            f"what the image {command.image[:60]} runs by itself is not known here: images are not fetched",
            where=where,
            hint="name a command in the component",
        )
    if not command.command:
        raise NotSupported(
            f"the arguments are for what the image {command.image[:60]} runs, which is not known here",
            where=where,
            hint="name a command in the component",
        )


def argv_of(command: Command, given: Mapping[str, Any], facts: Mapping[str, str]) -> list[str]:
    """The words to run, with ``given``, KFP's ExecutorInput, and ``facts`` put in for placeholders.

    BadInput for a placeholder with nothing to put in.
    """
    filler = _Filler(given, facts)
    words = [word for part in (*command.command, *command.args) for word in filler.words(part)]
    if not words or any("\0" in word for word in words):
        raise BadInput("the command has no word left, or one with a NUL in it", where="command")
    return [*_shell(words[0], command.image), *words[1:]]


def _shell(program: str, image: str) -> list[str]:
    """The program, or for ``sh`` of an image whose ``sh`` knows more, bash where this machine has it."""
    if program in ("sh", "/bin/sh") and _SH_KNOWS_MORE.search(image) and shutil.which("bash", path=PROGRAMS):
        return ["bash", "--posix"]
    return [program]


class _Filler:
    def __init__(self, given: Mapping[str, Any], facts: Mapping[str, str]) -> None:
        self._given = given
        self._facts = facts

    def words(self, part: Any) -> Iterator[str]:
        """One word, or those of an IfPresent: none, one or more."""
        if isinstance(part, str):
            yield _PLACEHOLDER.sub(self._told, part)
        elif isinstance(part, list):
            for inner in part:
                yield from self.words(inner)
        elif "Concat" in part:
            yield "".join(word for inner in part["Concat"] for word in self.words(inner))
        else:
            asked = part["IfPresent"]
            arm = asked["Then"] if self._is_present(asked["InputName"]) else asked.get("Else")
            yield from self.words(arm) if arm is not None else ()

    def _is_present(self, name: str) -> bool:
        inputs = self._given["inputs"]
        if inputs["parameterValues"].get(name) is not None:
            return True
        return bool(inputs["artifacts"].get(name, {}).get("artifacts"))

    def _told(self, found: re.Match[str]) -> str:
        inner = found[1]
        if inner is None:
            return canonical_json(self._given)
        if inner in ("outputs.output_file", "outputMetadataUri"):
            return str(self._given["outputs"]["outputFile"])
        if inner in self._facts:
            return self._facts[inner]
        part = _PART.fullmatch(inner)
        if part is None:
            raise BadInput(f"there is nothing to put in for {found[0][:80]}", where="command")
        return self._part(part)

    def _part(self, part: re.Match[str]) -> str:
        name = part["name"]
        if part["kind"] == "parameters":
            if part["side"] == "outputs":
                return str(self._given["outputs"]["parameters"][name]["outputFile"])
            return _text(self._given["inputs"]["parameterValues"].get(name))
        artifacts = self._given[part["side"]]["artifacts"].get(name, {}).get("artifacts", [])
        if not artifacts:
            raise BadInput(f"there is no artifact {name!r} to put into the command", where="command")
        if part["what"] is None:
            return canonical_json(artifacts[0] if len(artifacts) == 1 else artifacts)
        if part["what"] == "metadata":
            known = artifacts[0]["metadata"]
            return _text(known.get(part["key"]) if part["key"] else known)
        return str(artifacts[0]["uri"])


def _text(value: Any) -> str:
    """As Kubeflow writes it: nothing for what is absent, whole numbers without a point, the rest as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return canonical_json(value)
