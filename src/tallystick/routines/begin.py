"""Begin: have a run carried out by whatever its options name, an executor of this house or a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.run.events import Run
from tallystick.core.run.options import KUBEFLOW, Pins, RunOptions
from tallystick.hub.execute import execute
from tallystick.hub.house import House
from tallystick.hub.plan import check_honoured, check_told, plan
from tallystick.routines.mirror import check_handed, hand_over, mirror

__all__ = ["carry_on", "check_given", "check_options", "follow", "planned"]


def check_options(house: House, pipeline: Pipeline, options: RunOptions) -> None:
    """Refused is what no run of ``pipeline`` can have where ``options`` say, naming task and construct."""
    check = check_handed if options.on == KUBEFLOW else check_honoured
    check(house, pipeline, options)


async def check_given(
    house: House, pipeline: Pipeline, params: Mapping[str, Any], options: RunOptions, *, later: bool = False
) -> None:
    """The same of what some of its parameters ask for; see :func:`tallystick.hub.plan.check_told`."""
    if options.on != KUBEFLOW:
        await check_told(house, pipeline, params, options, later=later)


async def planned(
    house: House,
    pipeline: Pipeline,
    spec: bytes,
    given: Mapping[str, Any],
    options: RunOptions,
    *,
    key: str = "",
) -> Run:
    """A run, recorded and ready for :func:`carry_on`; see :func:`tallystick.hub.plan.plan`."""
    make = hand_over if options.on == KUBEFLOW else plan
    return await make(house, pipeline, spec, given, options, key=key)


def carry_on(house: House, pipeline: Pipeline, run: Run, pins: Pins | None = None) -> None:
    """Have a run go on in the background to its end, unless it has ended or is under way."""
    if run.state.ended or run.key in house.tasks:
        return
    work = follow(house, run) if run.options.on == KUBEFLOW else execute(house, pipeline, run, pins)
    house.start(run.key, work)


async def follow(house: House, run: Run) -> Run:
    """Submit a run to its cluster unless that was done, and follow it to its end."""
    return await mirror(house, house.cluster_at(run.options.host), run)
