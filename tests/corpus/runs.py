"""A house with the real executor, store and conditions, that runs pipelines and shows what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from tallystick.core.errors import Unavailable
from tallystick.core.run.events import Run
from tallystick.core.run.options import RunOptions
from tallystick.core.values import ArtifactRef
from tallystick.doors.kfp.reader import read_pipeline
from tallystick.hub.execute import execute
from tallystick.hub.house import House, Limits
from tallystick.hub.house.removal import remove
from tallystick.hub.plan import plan
from tallystick.ports.sandbox import Sandbox
from tallystick.ports.tile import Place
from tallystick.tiles.artifacts.local import open_tile as open_artifacts
from tallystick.tiles.bases.local import open_tile as open_bases
from tallystick.tiles.clock.system import open_tile as open_clock
from tallystick.tiles.conditions.cel import open_tile as open_conditions
from tallystick.tiles.environments.local import open_tile as open_environments
from tallystick.tiles.executor.local import open_tile as open_executor
from tallystick.tiles.sandbox import bubblewrap, process
from tests.fakes.house import make_house

__all__ = ["content", "opened_house", "run_spec", "shown"]

SAID = re.compile(r"^said: (.*)$", re.MULTILINE)


@contextlib.asynccontextmanager
async def opened_house(folder: Path, index: str = "", *, walls: bool = True) -> AsyncIterator[House]:
    """A house in ``folder``: steps run behind bubblewrap, or as plain processes where there is none.

    With an ``index``, environments are built for components that ask for packages, which takes a network.
    Without ``walls`` they are plain processes anyway, which see the whole machine.
    """
    place = Place(folder)
    sandbox = _sandbox(place) if walls else process.open_tile(place)
    parts: dict[str, Any] = {"sandbox": sandbox}
    if index:
        parts["environments"] = open_environments(
            Place(folder, {"package_indexes": index}, {"process_sandbox": process.open_tile(place)})
        )
    parts["bases"] = open_bases(Place(folder, parts=dict(parts)))
    house = make_house(
        folder,
        sandbox=sandbox,
        executor=open_executor(Place(folder, {"step_folders": [folder]}, parts)),
        artifacts=open_artifacts(place),
        clock=open_clock(place),
        conditions=open_conditions(place),
        limits=Limits(steps_at_once=2),
    )
    try:
        yield house
    finally:
        await house.executor.close()
        await sandbox.close()
        await house.traffic.close()


def _sandbox(place: Place) -> Sandbox:
    try:
        return bubblewrap.open_tile(place)
    except Unavailable:
        return process.open_tile(place)


async def run_spec(
    house: House, spec: bytes, params: Mapping[str, Any], options: RunOptions | None = None
) -> Run:
    """Run a compiled pipeline to its end, whatever that is; a TallyError where it is refused before."""
    pipeline = await asyncio.to_thread(read_pipeline, spec)
    planned = await plan(house, pipeline, spec, params, options or RunOptions())
    return await execute(house, pipeline, planned)


async def shown(house: House, run: Run) -> dict[str, Any]:
    """A run as the corpus writes it down: its state, its outputs, and the lines that its steps said."""
    said: list[str] = []
    for step in run.steps:
        if step.log_digest:
            log = (await house.artifacts.path_of(step.log_digest)).read_text("utf-8")
            said += SAID.findall(log) * step.attempt  # the last try's is kept, and the others said the same
    outputs: dict[str, Any] = dict(run.outputs.params)
    for name, refs in run.outputs.artifacts.items():
        some = [await content(house, ref) for ref in refs]
        outputs[name] = some if len(some) > 1 else some[0]
    return {"state": str(run.state), "outputs": outputs, "said": sorted(said), "error": run.error}


async def content(house: House, ref: ArtifactRef) -> dict[str, Any]:
    """What is in an artifact, and what is said of it."""
    folder = house.folder("shown")
    path, metadata = folder / "it", dict(ref.metadata)
    try:
        await house.artifacts.unpack(ref.digest, path)
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            contents = {str(file.relative_to(path)): file.read_text("utf-8") for file in files}
            return {"files": contents, "metadata": metadata}
        text = path.read_text("utf-8")
        return {"text": text, "metadata": metadata} if text else {"metadata": metadata}
    finally:
        await remove(folder)
