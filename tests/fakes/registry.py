"""A registry in memory: what MLflow's does, as far as the hub asks."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.core.run.events import Run, Step
from tallystick.ports.registry import Registered, RunData
from tallystick.tiles.registry.steps import told_of

__all__ = ["MemoryRegistry"]


@dataclass
class _Run:
    experiment: str
    name: str
    tags: Mapping[str, str]
    status: str = "RUNNING"
    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)


class MemoryRegistry:
    """Runs, logged models and versions, in dictionaries."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, _Run] = {}
        self.logged: dict[str, dict[str, bytes]] = {}
        self.registered: list[Registered] = []

    async def begin_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> tuple[str, str]:
        experiment_id = self.experiments.setdefault(experiment, str(len(self.experiments) + 1))
        run_id = secrets.token_hex(16)
        self.runs[run_id] = _Run(experiment_id, name, dict(tags))
        return experiment_id, run_id

    async def end_run(self, run_id: str, status: str) -> None:
        if status not in ("FINISHED", "FAILED", "KILLED"):
            raise BadInput(f"{status!r} is no way for a run to end")
        self._run(run_id).status = status

    async def register(
        self, name: str, folder: Path, tags: Mapping[str, str], *, run_id: str = ""
    ) -> Registered:
        if not name or "/" in name or ":" in name:
            raise BadInput(f"{name!r} is not a valid model name", where="registry")
        if run_id:
            self._run(run_id)
        model_id = self.log_model(folder)
        version = 1 + sum(v.name == name for v in self.registered)
        made = Registered(name, version, run_id, model_id, dict(tags))
        self.registered.append(made)
        return made

    async def versions(self, name: str = "") -> Sequence[Registered]:
        found = [v for v in reversed(self.registered) if name in ("", v.name)]
        if name and not found:
            raise NotFound(f"no model {name!r}", where="registry")
        return found

    async def fetch(self, name: str, version: int, dest: Path) -> Registered:
        found = self._version(name, version)
        self._unpack(found.model_id, dest)
        return found

    async def point(self, name: str, alias: str, version: int) -> None:
        wanted = self._version(name, version)
        for i, each in enumerate(self.registered):
            if each.name == name:
                rest = tuple(a for a in each.aliases if a != alias)
                self.registered[i] = replace(each, aliases=(*rest, alias) if each == wanted else rest)

    async def run_data(self, run_id: str) -> RunData:
        run = self._run(run_id)
        metrics = {k: v for k, v in run.metrics.items() if math.isfinite(v)}
        return RunData(metrics, dict(run.params), dict(run.tags))

    async def record_steps(self, run: Run, steps: Sequence[Step], *, again: bool = False) -> None:
        for step in steps:
            told = told_of(run, step)
            tags = {**told.tags, "mlflow.parentRunId": run.record_id}
            assert again or told.run_id not in self.runs, f"{step.path} is there already"
            figures = dict(told.metrics), dict(told.params)
            self.runs[told.run_id] = _Run(run.experiment_id, told.name, tags, told.status, *figures)

    def log_figures(self, run_id: str, metrics: Mapping[str, float], params: Mapping[str, str]) -> None:
        """Log as a client would."""
        self._run(run_id).metrics |= metrics
        self._run(run_id).params |= params

    def log_model(self, folder: Path) -> str:
        """Log ``folder`` as a client would; its id."""
        paths = sorted(folder.rglob("*"))
        if any(p.is_symlink() or not (p.is_file() or p.is_dir()) for p in paths):
            raise BadInput("a model's files are plain files and folders", where=str(folder))
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths if p.is_file()}
        if not files:
            raise BadInput("there are no files", where=str(folder))
        model_id = f"m-{secrets.token_hex(16)}"
        self.logged[model_id] = files
        return model_id

    def _unpack(self, model_id: str, dest: Path) -> None:
        if dest.exists():
            raise Conflict("it exists already", where=str(dest))
        for path, content in self.logged[model_id].items():
            (dest / path).parent.mkdir(parents=True, exist_ok=True)
            (dest / path).write_bytes(content)

    def _run(self, run_id: str) -> _Run:
        if run_id not in self.runs:
            raise NotFound(f"no run {run_id}", where="registry")
        return self.runs[run_id]

    def _version(self, name: str, version: int) -> Registered:
        found = next((v for v in self.registered if (v.name, v.version) == (name, version)), None)
        if found is None:
            raise NotFound(f"no version {version} of model {name!r}", where="registry")
        return found
