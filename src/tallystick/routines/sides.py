"""Two runs beside each other: all that the house holds of each, and what differs."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable
from dataclasses import replace

from tallystick.core.errors import Damaged, NotFound, NotSupported
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.values import Environment
from tallystick.hub.house import House
from tallystick.hub.house.whole import whole_run
from tallystick.ports.registry import RunData
from tallystick.routines.differ import TOLERANCE, Change, Difference, Side, compare

__all__ = ["PipelineReader", "compare_runs", "compare_sides", "side_of"]

PipelineReader = Callable[[str], Awaitable[Pipeline]]
"""The pipeline of a run's ``spec_digest``."""

LINES_MAX = 1000
"""Lines of a source that is compared line by line: that takes time by their square."""


async def side_of(house: House, read: PipelineReader, key: str) -> Side:
    """All that is known of a run; NotFound for one that nobody knows."""
    run = await whole_run(house, key)
    try:
        pipeline = await read(run.spec_digest)
    except (NotFound, Damaged):
        pipeline = None
    digests = {step.environment for step in run.steps} - {""}
    found = {digest: await house.find("environment", digest, Environment) for digest in digests}
    try:
        logged = await house.registry.run_data(run.record_id) if run.record_id else RunData()
    except NotFound:  # somebody deleted it
        logged = RunData()
    known = {digest: environment for digest, environment in found.items() if environment}
    return Side(run, pipeline, known, logged.metrics, logged.params)


async def compare_runs(
    house: House, read: PipelineReader, before: str, after: str, tolerance: float = TOLERANCE
) -> Difference:
    """Every change from one run to the other, in groups; NotFound for an unknown run."""
    one, two = await side_of(house, read, before), await side_of(house, read, after)
    return await compare_sides(one, two, tolerance)


async def compare_sides(before: Side, after: Side, tolerance: float = TOLERANCE) -> Difference:
    """Every change, in groups; sources line by line. NotSupported for what is nested too deeply."""
    try:
        return await asyncio.to_thread(_compared, before, after, tolerance)
    except RecursionError:
        raise NotSupported("a value in them is nested too deeply", where="compare") from None


def _compared(before: Side, after: Side, tolerance: float) -> Difference:
    difference = compare(before, after, tolerance)
    code = tuple(map(_by_lines, difference.groups["code"]))
    return replace(difference, groups={**difference.groups, "code": code})


def _by_lines(change: Change) -> Change:
    """A change of a source as a unified diff."""
    if change.what != "source" or not isinstance(change.before, str) or not isinstance(change.after, str):
        return change
    one, two = change.before.splitlines(), change.after.splitlines()
    most = max(len(one), len(two))
    lines = difflib.unified_diff(one, two, "before", "after", lineterm="") if most <= LINES_MAX else ()
    text = "\n".join(lines) or f"{most} lines, too many to compare line by line"
    return replace(change, before=None, after=None, diff=text)
