"""Runs as people look at them: the ledger's run with the journal's steps in it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from tallystick.core.run.events import Run, Step, StepState
from tallystick.core.run.record import read_step
from tallystick.hub.house.parts import House
from tallystick.ports.journal import Journal

__all__ = ["whole_run", "with_steps"]

LEFT = "the run was given up"


async def whole_run(house: House, key: str) -> Run:
    """A run with its steps; NotFound names some that do exist."""
    return await with_steps(house.journal, await house.get("run", key, Run))


async def with_steps(journal: Journal, run: Run) -> Run:
    """``run`` with the steps of its journal; one from before there were journals has its own."""
    if run.steps:
        return run
    texts = await journal.steps(run.tenant, run.key)
    steps = await asyncio.to_thread(_read, texts)
    return replace(run, steps=tuple(_ended(step) for step in steps) if run.state.ended else tuple(steps))


def _read(texts: Sequence[str]) -> list[Step]:
    return [read_step(text) for text in texts]


def _ended(step: Step) -> Step:
    """A step of a run that has ended has ended too: the hub that ran it is gone."""
    return step if step.state.ended else replace(step, state=StepState.CANCELLED, error=step.error or LEFT)
