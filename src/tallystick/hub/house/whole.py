"""Runs as people look at them: the ledger's run with the journal's steps in it; what others take of one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from tallystick.core.run.events import Run, Step, StepState
from tallystick.core.run.options import Pins
from tallystick.core.run.record import read_step
from tallystick.core.values import ArtifactRef, Environment
from tallystick.hub.house.parts import House
from tallystick.ports.runs.journal import Journal

__all__ = ["ended_with", "imported_by", "pins_of", "run_since", "whole_run", "with_steps"]

LEFT = "the run was given up"


async def whole_run(house: House, key: str) -> Run:
    """A run with its steps; NotFound names some that do exist."""
    return await with_steps(house.journal, await house.get("run", key, Run))


async def run_since(house: House, key: str, mark: int) -> tuple[Run, int]:
    """A run with those of its steps that changed since ``mark`` (0: all), and the mark to ask with next.

    Of a run that nobody executes, because it has ended for example, it is all steps.
    """
    run, inbox = await house.get("run", key, Run), house.inboxes.get(key)
    if inbox is None or run.state.ended:
        return await with_steps(house.journal, run), mark
    mark, steps = inbox.since(mark)
    return replace(run, steps=tuple(steps)), mark


async def with_steps(journal: Journal, run: Run) -> Run:
    """``run`` with the steps of its journal; one from before there were journals has its own."""
    if run.steps:
        return run
    texts = await journal.steps(run.tenant, run.key)
    steps = await asyncio.to_thread(_read, texts)
    return replace(run, steps=tuple(ended_with(run, step) for step in steps))


def _read(texts: Sequence[str]) -> list[Step]:
    return [read_step(text) for text in texts]


def ended_with(run: Run, step: Step) -> Step:
    """A step of a run that has ended has ended too, whatever the journal says: its hub is gone."""
    if step.state.ended or not run.state.ended:
        return step
    error = step.error or LEFT
    return replace(step, state=StepState.CANCELLED, error=error, ended_ms=max(step.started_ms, run.ended_ms))


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
