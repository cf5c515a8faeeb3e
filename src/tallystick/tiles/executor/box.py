"""A step's folder: where everything lies in it, what goes in, and what may come out."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallystick.core.errors import NotSupported
from tallystick.core.pipeline.params import is_of
from tallystick.core.pipeline.spec import Command, Component, Function, Param, ParamType
from tallystick.ports.executor import InputFile, Job, Outcome, OutputFile
from tallystick.tiles.executor.command import argv_of, check_command

__all__ = ["OUTPUT_BYTES_MAX", "Box", "BrokenOutput", "bytes_on_disk", "check_shape"]

_METRICS = {f"system.{kind}Metrics" for kind in ("", "Classification", "SlicedClassification")}
"""What is all metadata: nobody writes a file for it."""
OUTPUT_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of a step's output parameters and metadata as JSON, and of one parameter written to a file."""
SMALL_BYTES = 16 * 1024
NAME_CHARS_MAX = 100
_PLAINLY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
ENTRY_BYTES = 512
"""What an empty file counts for."""


class BrokenOutput(Exception):
    """An output cannot be taken; the message is the step's error. It never leaves the executor."""


def check_shape(component: Component, *, commands: bool) -> None:
    """NotSupported when a name cannot be a file's, or for a kind of body or output that has no local form."""
    code = component.code
    if isinstance(code, Command):
        check_command(component.name, code, allowed=commands)
    params = (p.name for p in (*component.params, *component.out_params))
    slots = (s.name for s in (*component.artifacts, *component.out_artifacts))
    own = [code.name] if isinstance(code, Function) else []
    for name in (*own, *params, *slots):
        if not name.isidentifier() or len(name) > NAME_CHARS_MAX:
            raise NotSupported(
                f"{name[:60]!r} is not a name of a Python function or argument", where=component.name
            )
    for slot in component.out_artifacts:
        if slot.is_list:
            raise NotSupported(f"output {slot.name!r} is a list of artifacts", where=component.name)


@dataclass(frozen=True, slots=True)
class Box:
    """The layout of a step's folder. ``root`` is absolute, in a folder that is reached without links."""

    root: Path

    @property
    def order(self) -> Path:
        """What the step's process is told, where it is a Python of its own."""
        return self.root / "order.json"

    @property
    def failure(self) -> Path:
        """Where the step's process says why it failed."""
        return self.root / "out" / "failure.json"

    @property
    def output(self) -> Path:
        """KFP's executor output."""
        return self.root / "out" / "executor_output.json"

    @property
    def temporary(self) -> Path:
        """For temporary files, on disk."""
        return self.root / "tmp"

    @property
    def home(self) -> Path:
        """The home folder that the component sees."""
        return self.root / "home"

    def artifact(self, name: str) -> Path:
        """Where output artifact ``name`` is to be put."""
        return self.root / "out" / "artifacts" / name

    def param(self, name: str) -> Path:
        """Where output parameter ``name`` is to be put by a component that asks for a path."""
        return self.root / "out" / "params" / name

    def open(self) -> None:
        """Make the folder, which must be empty if it is there; the step's own process lays it out."""
        try:
            there = os.listdir(self.root)  # noqa: PTH208  pathlib would be felt in a step of a few ms
        except FileNotFoundError:
            os.makedirs(self.root)  # noqa: PTH103  as above
        else:
            if there:
                raise FileExistsError(errno.EEXIST, "it is not empty", there[0])

    def order_of(self, job: Job, cores: Sequence[int] = (), hub_socket: Path | None = None) -> dict[str, Any]:
        """What the step's process is told: ``cores`` it is to run on, if any, and where it is to make itself
        a way to the hub.
        """
        code, root = job.component.code, str(self.root)
        given = self._executor_input(job, f"{root}/out")
        told: dict[str, Any] = {
            "root": root,
            "folders": ["tmp", "home", "out"],
            "source": f"{root}/component.py",
            "code": "",
            "function": "",
            "argv": [],
            "failure": f"{root}/out/failure.json",
            "hub_socket": str(hub_socket.absolute()) if hub_socket else "",
            "cores": list(cores),
            "workers": job.component.resources.workers,
            "out": f"{root}/out",
            "aside": f"{root}/workers",
            "executor_input": given,
        }
        if isinstance(code, Function):  # the folders of its outputs KFP makes
            return {**told, "code": code.source, "function": code.name}
        folders = [*told["folders"], "out/artifacts", "out/params"]
        return {**told, "folders": folders, "image": code.image, "argv": argv_of(code, given, job.facts)}

    def _executor_input(self, job: Job, out: str) -> dict[str, Any]:
        """KFP v2's ExecutorInput, with paths of this machine as addresses, those of outputs below ``out``."""
        component = job.component
        declared = {p.name: p for p in component.params}
        params = {n: _widened(declared.get(n), value) for n, value in job.params.items()}
        return {
            "inputs": {
                "parameterValues": params,
                "artifacts": {n: {"artifacts": _artifacts(n, files)} for n, files in job.artifacts.items()},
            },
            "outputs": {
                "parameters": {
                    p.name: {"outputFile": f"{out}/params/{p.name}"} for p in component.out_params
                },
                "artifacts": {
                    s.name: {"artifacts": [_artifact(s.name, self.artifact(s.name), s.schema, {})]}
                    for s in component.out_artifacts
                },
                "outputFile": f"{out}/executor_output.json",
            },
        }

    def is_soon_unpacked(self, component: Component) -> bool:
        """Whether that takes less than finding a thread for it: a few parameters, and nothing else."""
        out = f"{self.root}/out"
        if component.out_artifacts or os.path.lexists(f"{out}/params"):
            return False
        try:
            found = os.lstat(f"{out}/executor_output.json")
            return stat.S_ISREG(found.st_mode) and found.st_size <= SMALL_BYTES
        except OSError:
            return True

    def unpack(self, component: Component) -> Outcome:
        """The outputs that a step left behind; BrokenOutput names the first that cannot be taken."""
        try:
            return self._unpack(component)
        except RecursionError:
            raise BrokenOutput("the step's outputs are nested too deeply") from None
        except (AttributeError, KeyError, TypeError, ValueError) as wrong:
            # The step's code can write this file itself, with anything in it.
            raise BrokenOutput(f"the step's outputs are not as KFP writes them: {wrong}") from None

    def _unpack(self, component: Component) -> Outcome:
        written = self._json(self.output, "the step's outputs") if os.path.lexists(self.output) else {}
        values, artifacts = written.get("parameterValues") or {}, written.get("artifacts") or {}
        params = {}
        for param in component.out_params:
            found, value = self._value(param, values)
            if found:
                params[param.name] = value
        taken = {}
        for slot in component.out_artifacts:
            said = (artifacts.get(slot.name) or {}).get("artifacts") or [{}]
            path = Path(said[0].get("custom_path") or said[0].get("uri") or self.artifact(slot.name))
            if not os.path.lexists(path):
                if slot.optional:
                    continue
                if path == self.artifact(slot.name) and (said[0].get("metadata") or slot.schema in _METRICS):
                    self._check_one(f"output {slot.name!r}", path.parent)  # a link may have taken its place
                    path.touch()
            self._check_tree(f"output {slot.name!r}", path)
            taken[slot.name] = OutputFile(path, slot.schema, dict(said[0].get("metadata") or {}))
        return Outcome(params, taken)

    def _value(self, param: Param, values: Mapping[str, Any]) -> tuple[bool, Any]:
        if values.get(param.name) is not None:
            return True, _checked(param, values[param.name])
        if os.path.lexists(self.param(param.name)):
            text = self._text(self.param(param.name), f"output {param.name!r}")
            return True, _checked(param, text if param.type is ParamType.STRING else _parsed(param, text))
        if param.optional:
            return False, None
        raise BrokenOutput(f"output {param.name!r} was not written")

    def failed(self) -> dict[str, Any]:
        """What the step said of its own failure; empty when it said nothing that can be read."""
        try:
            return self._json(self.failure, "failure")
        except (BrokenOutput, OSError):  # a folder may lie there, or what cannot be read
            return {}

    def _json(self, path: Path, what: str) -> dict[str, Any]:
        try:
            text = self._small(path.name)
            said = json.loads(text or self._text(path, what), parse_constant=_refuse_constant)
        except RecursionError:
            raise BrokenOutput(f"{what}: nested too deeply") from None
        except ValueError as wrong:
            raise BrokenOutput(f"{what}: {wrong}") from None
        if not isinstance(said, dict):
            raise BrokenOutput(f"{what}: not an object")
        return said

    def _small(self, name: str) -> str:
        """What the small file of that name in ``out`` says, as most are: sooner read than :meth:`_text` does.

        Empty where it is anything else, a link among these; who wrote it is gone, and changes it no more.
        """
        try:
            out = os.open(f"{self.root}/out", os.O_PATH | _PLAINLY | os.O_DIRECTORY)
            try:
                fd = os.open(name, os.O_RDONLY | _PLAINLY, dir_fd=out)
            finally:
                os.close(out)
        except OSError:
            return ""
        try:
            found = os.fstat(fd)
            small = stat.S_ISREG(found.st_mode) and found.st_size <= SMALL_BYTES
            return os.read(fd, SMALL_BYTES).decode("utf-8", "replace") if small else ""
        except OSError:
            return ""
        finally:
            os.close(fd)

    def _text(self, path: Path, what: str) -> str:
        self._check_tree(what, path)
        with path.open("rb") as file:
            raw = file.read(OUTPUT_BYTES_MAX + 1)
        if len(raw) > OUTPUT_BYTES_MAX:
            raise BrokenOutput(f"{what} is over {OUTPUT_BYTES_MAX} bytes")
        return raw.decode("utf-8", "replace")

    def _check_tree(self, what: str, path: Path) -> None:
        """Refuse what is missing, leads out of the folder, or is neither a file nor a folder."""
        if not path.is_absolute():
            raise BrokenOutput(f"{what} is at {str(path)[:200]!r}, which is not a path of this step")
        self._check_one(what, path)
        inside = os.walk(path, followlinks=False, onerror=_raise) if path.is_dir() else ()
        for folder, folders, files in inside:
            for name in (*folders, *files):
                kind = os.lstat(f"{folder}/{name}").st_mode
                if stat.S_ISLNK(kind):  # nothing else leads out of a folder that does not
                    self._check_one(what, Path(folder, name))
                else:
                    _check_kind(what, name, kind)

    def _check_one(self, what: str, path: Path) -> None:
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(self.root):
            raise BrokenOutput(f"{what} is a link out of the step's folder, or a path outside of it")
        if not real.exists():
            raise BrokenOutput(f"{what} was not written")
        _check_kind(what, path.name, real.stat().st_mode)


def bytes_on_disk(folder: Path) -> int:
    """What a folder takes up, about; what cannot be looked at is left out."""
    total, waiting = 0, [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    total += max(entry.stat(follow_symlinks=False).st_blocks * 512, ENTRY_BYTES)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:  # it has gone meanwhile, or is deeper than a path can be long
            continue
    return total


def _check_kind(what: str, name: str, kind: int) -> None:
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise BrokenOutput(f"{what} holds {name!r}, which is neither a file nor a folder")


def _raise(wrong: OSError) -> None:
    raise wrong


def _refuse_constant(text: str) -> Any:
    raise BrokenOutput(f"an output parameter or its metadata is {text}, which JSON cannot say")


def _artifacts(name: str, files: tuple[InputFile, ...]) -> list[dict[str, Any]]:
    return [_artifact(name, file.path, file.schema, file.metadata) for file in files]


def _artifact(name: str, path: Path, schema: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    kind = {"schemaTitle": schema, "schemaVersion": "0.0.1"}
    return {"name": name, "type": kind, "uri": str(path.absolute()), "metadata": dict(metadata)}


def _widened(param: Param | None, value: Any) -> Any:
    """Whole numbers where a double is declared become doubles, and the other way about if nothing is lost."""
    if param is None or isinstance(value, bool):
        return value
    if param.type is ParamType.DOUBLE and isinstance(value, int):
        return float(value)
    if param.type is ParamType.INTEGER and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _parsed(param: Param, text: str) -> Any:
    """A parameter from the text that a component wrote to a file: JSON, or Python's way to print a bool."""
    text = text.strip()
    if param.type is ParamType.BOOLEAN and text in ("True", "False"):
        return text == "True"
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BrokenOutput(f"output {param.name!r} is declared {param.type}, got {text[:80]!r}") from None


def _checked(param: Param, value: Any) -> Any:
    value = _widened(param, value)
    if not is_of(param.type, value):
        raise BrokenOutput(f"output {param.name!r} is declared {param.type}, got {str(value)[:80]!r}")
    return value
