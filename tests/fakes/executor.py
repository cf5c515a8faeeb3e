"""An executor without processes: a table of Python callables by component name."""

from __future__ import annotations

import asyncio
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tallystick.core.errors import NotFound, NotSupported
from tallystick.core.pipeline.spec import Component, Function, Param, ParamType
from tallystick.core.values import Environment
from tallystick.ports.executor import Job, Outcome, OutputFile

__all__ = ["FakeArtifact", "FakeExecutor"]

_KINDS: dict[ParamType, type] = {
    ParamType.STRING: str,
    ParamType.INTEGER: int,
    ParamType.DOUBLE: float,
    ParamType.BOOLEAN: bool,
    ParamType.LIST: list,
    ParamType.STRUCT: dict,
    ParamType.FINAL_STATUS: dict,
}


@dataclass
class FakeArtifact:
    """What a callable gets for an artifact: as much of KFP's as most components use."""

    name: str
    uri: str
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return self.uri

    def log_metric(self, metric: str, value: float) -> None:
        self.metadata[metric] = value


class FakeExecutor:
    """Calls ``table[component.name]`` with parameters and artifacts by name, as KFP would.

    One return value is the output ``Output``; several are a named tuple's fields. ``ran`` lists the jobs'
    keys in the order in which they began. A cancelled run's callable goes on: threads cannot be ended.
    """

    manner = "each step is a call in this process, with nothing between"

    def __init__(self, table: Mapping[str, Callable[..., Any]], environment: str = "fake") -> None:
        self._table = table
        self._environment = environment
        self.ran: list[str] = []

    def check(self, component: Component, *, commands: bool = False) -> None:
        if not isinstance(component.code, Function):
            raise NotSupported("a container's command is not run here", where=component.name)
        for package in component.code.packages:
            raise NotSupported(f"it needs the package {package!r}", where=component.name)

    async def environment(self, component: Component) -> Environment:
        return Environment("3.11", "here", {"it": self._environment})

    async def run(self, job: Job, on_log: Callable[[str], None]) -> Outcome:
        if job.component.name not in self._table:
            raise NotFound("no such callable in the fake's table", where=job.component.name)
        if job.kept:
            await job.kept.wait()
        self.ran.append(job.key)
        loop = asyncio.get_running_loop()
        lines: list[str] = []

        def say(*values: object, **_: Any) -> None:
            lines.append(" ".join(map(str, values)))
            loop.call_soon_threadsafe(lambda: on_log(lines.pop(0)))

        outcome = await asyncio.to_thread(self._call, job, say)
        await asyncio.sleep(0)
        return outcome

    async def close(self) -> None:
        """Nothing of it stays."""

    def _call(self, job: Job, say: Callable[..., None]) -> Outcome:
        function = self._table[job.component.name]
        if isinstance(function, types.FunctionType):  # its print becomes the log, whatever else runs
            function = _with_print(function, say)
        made = {s.name: FakeArtifact(s.name, str(job.workdir / s.name)) for s in job.component.out_artifacts}
        try:
            returned = function(**_arguments(job), **made)
            return self._outcome(job, returned, made)
        except Exception as wrong:  # noqa: BLE001  whatever a step raises is its outcome
            message = " ".join(str(wrong).split())
            return Outcome(error=f"{type(wrong).__name__}: {message}" if message else type(wrong).__name__)

    def _outcome(self, job: Job, returned: Any, made: Mapping[str, FakeArtifact]) -> Outcome:
        component = job.component
        fields = getattr(returned, "_fields", None)
        values = returned._asdict() if fields else {"Output": returned}
        params = {p.name: _checked(p, values.get(p.name)) for p in component.out_params}
        schemas = {s.name: s.schema for s in component.out_artifacts}
        artifacts = {}
        for name, artifact in made.items():
            _check_output(name, Path(artifact.path), job.workdir.resolve())
            artifacts[name] = OutputFile(Path(artifact.path), schemas[name], artifact.metadata)
        return Outcome(params, artifacts)


def _with_print(function: types.FunctionType, say: Callable[..., None]) -> types.FunctionType:
    names = {**function.__globals__, "print": say}
    new = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    new.__kwdefaults__ = function.__kwdefaults__
    return new


def _arguments(job: Job) -> dict[str, Any]:
    kinds = {p.name: p.type for p in job.component.params}
    given: dict[str, Any] = {}
    for name, value in job.params.items():
        if value is not None:
            given[name] = float(value) if kinds.get(name) is ParamType.DOUBLE else value
    for slot in job.component.artifacts:
        files = job.artifacts.get(slot.name, ())
        some = [FakeArtifact(slot.name, str(f.path), dict(f.metadata)) for f in files]
        if some:
            given[slot.name] = some if slot.is_list else some[0]
    return given


def _checked(param: Param, value: Any) -> Any:
    if param.type is ParamType.DOUBLE and isinstance(value, int):
        value = float(value)
    wrong_bool = isinstance(value, bool) and param.type is not ParamType.BOOLEAN
    nan = isinstance(value, float) and not math.isfinite(value)
    if not isinstance(value, _KINDS[param.type]) or wrong_bool or nan:
        raise TypeError(f"output {param.name!r} is declared {param.type}, got {value!r}")
    return value


def _check_output(name: str, path: Path, workdir: Path) -> None:
    for one in (path, *path.rglob("*")):
        real = one.resolve()
        if not real.is_relative_to(workdir):
            raise ValueError(f"output {name!r} is a link out of the step's folder")
        if not real.is_file() and not real.is_dir():
            raise ValueError(f"output {name!r} was not written, or is neither a file nor a folder")
