"""Pins: what a run that reproduces another takes from that."""

from __future__ import annotations

from tallystick.core.run.events import Run, Step
from tallystick.core.run.options import Pins
from tallystick.core.values import ArtifactRef, Environment
from tallystick.hub.house.parts import House
from tallystick.hub.house.whole import whole_run

__all__ = ["imported_by", "pins_of"]


async def pins_of(house: House, run: Run) -> Pins:
    """What ``run`` takes from the run that it reproduces; nothing, where it reproduces none.

    Packages are pinned where they were locked. What is installed beside the hub is as it is now.
    """
    if not run.reproduces:
        return Pins()
    steps = (await whole_run(house, run.reproduces)).steps
    found = {d: await house.find("environment", d, Environment) for d in {s.environment for s in steps} if d}
    locked = {digest for digest, environment in found.items() if environment and environment.lock}
    environments = {step.path: step.environment for step in steps if step.environment in locked}
    return Pins(environments, {step.path: step.outputs for step in steps if imported_by(step)})


def imported_by(step: Step) -> list[ArtifactRef]:
    """What an importer brought in: of all that steps put out, only that has a URI."""
    return [ref for refs in step.outputs.artifacts.values() for ref in refs if ref.uri]
