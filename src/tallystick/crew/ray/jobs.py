"""Jobs and outcomes as plain JSON, between the hub, the driver and the keepers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tallystick.core.facts import from_json, to_json
from tallystick.core.pipeline.spec import Component
from tallystick.core.values import Environment
from tallystick.crew.ray.door import SocketDoor
from tallystick.ports.executor import InputFile, Job, Outcome

__all__ = ["identity", "input_files", "read_job", "write_outcome"]


def input_files(job: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The input files of a job as it was written, in its order."""
    for files in job["artifacts"].values():
        yield from files


def read_job(said: Mapping[str, Any], workdir: Path, inputs: list[Path], hub_socket: Path | None) -> Job:
    """The job that was written, with its folder, input files and socket as this machine has them."""
    paths = iter(inputs)
    artifacts = {
        name: tuple(InputFile(next(paths), file["schema"], file["metadata"]) for file in files)
        for name, files in said["artifacts"].items()
    }
    environment = said.get("environment")
    return Job(
        key=said["key"],
        component=from_json(Component, said["component"]),
        workdir=workdir,
        params=said["params"],
        artifacts=artifacts,
        env=said["env"],
        door=SocketDoor(hub_socket) if hub_socket else None,
        environment=from_json(Environment, environment) if environment else None,
        commands=bool(said["commands"]),
        facts=said["facts"],
    )


def write_outcome(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain JSON."""
    said: dict[str, Any] = to_json(outcome)
    for file in said["artifacts"].values():
        file["path"] = str(file["path"])
    return said


def identity(path: Path) -> list[int]:
    """What tells whether two machines, or two views of one, see the same file under the same name."""
    found = path.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]
