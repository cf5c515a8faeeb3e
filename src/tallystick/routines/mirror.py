"""Mirror: hand a pipeline to a cluster, and keep the record of how it fares there.

The run is recorded before it is submitted, and submitted under its key: a hub that was killed in between
finds it again instead of submitting it twice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tallystick.core.errors import NotFound, TallyError, Unavailable
from tallystick.core.names import canonical_json
from tallystick.core.pipeline.check import check_pipeline
from tallystick.core.pipeline.params import check_params
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.run.events import Run, RunState
from tallystick.core.run.options import RunOptions
from tallystick.core.run.record import write_step
from tallystick.hub.house import House
from tallystick.hub.house.bounds import check_values
from tallystick.hub.house.specs import keep_spec, spec_of
from tallystick.ports.runs.cluster import Cluster, Seen
from tallystick.ports.runs.journal import Entry

__all__ = ["hand_over", "mirror"]

_log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
AWAY_MS_MAX = 24 * 3600 * 1000
"""A cluster that cannot be reached for this long is given up; its run may go on there."""


async def hand_over(
    house: House, pipeline: Pipeline, spec: bytes, given: Mapping[str, Any], options: RunOptions
) -> Run:
    """A run of ``pipeline`` for the cluster ``options.on``, recorded; :func:`mirror` submits and follows it.

    What this house's own executor cannot do is no matter. BadInput for what is wrong in the pipeline.
    """
    check_pipeline(pipeline)
    params = check_params(pipeline, given)
    check_values("parameter", params, "hand it over as an artifact")
    digest = await keep_spec(house, spec)
    key, now = house.new_key("run"), house.clock.now_ms()
    run = Run(key, pipeline.name, digest, params, started_ms=now, tenant=house.tenant, options=options)
    await house.tell(
        "run", key, "planned", run, f"pipeline {pipeline.name} on {options.on} at {options.host}"
    )
    return run


async def mirror(house: House, cluster: Cluster, run: Run) -> Run:
    """Submit ``run`` unless that was done, and record how it fares until it has ended there.

    While the cluster cannot be reached it is asked again; after a day of that the run fails, in our record.
    Whoever wants the run to end has put that in its journal.
    """
    reached_ms, known, stopped = house.clock.now_ms(), dict[str, str](), False
    while not run.state.ended:
        try:
            if not stopped and await _is_to_stop(house, run):
                if not run.away:
                    return await _end(house, run, RunState.CANCELLED, "cancelled before it was handed over")
                stopped = await _stop(cluster, run)
            if not run.away:
                run = await _submit(house, cluster, run)
            seen = await cluster.look(run.away)
            reached_ms = house.clock.now_ms()
            run = await _record(house, run, seen, known)
        except Unavailable as wrong:
            if house.clock.now_ms() - reached_ms > AWAY_MS_MAX:
                return await _fail(house, run, wrong)
        except TallyError as wrong:
            return await _fail(house, run, wrong)
        if not run.state.ended:
            await house.clock.sleep(LOOK_EVERY_S)
    return run


async def _is_to_stop(house: House, run: Run) -> bool:
    events = await house.journal.events(run.tenant, run.key)
    return any(json.loads(text)["event"] == "cancel asked" for text in events)


async def _stop(cluster: Cluster, run: Run) -> bool:
    """Ask once: where it will not, the run goes on there, and is followed as before."""
    try:
        await cluster.stop(run.away)
    except Unavailable:
        raise
    except TallyError as wrong:
        _log.warning("%s cannot be stopped: %s", run.key, wrong)
    return True


async def _submit(house: House, cluster: Cluster, run: Run) -> Run:
    options = run.options
    spec = await spec_of(house, run.spec_digest)
    away = await cluster.submit(run.key, spec, run.params, experiment=options.experiment, cache=options.cache)
    run = replace(run, away=away)
    await house.tell("run", run.key, "submitted", run, cluster.page(away))
    return run


async def _record(house: House, run: Run, seen: Seen, known: dict[str, str]) -> Run:
    """Write down what has changed since the last look: steps in the journal, the run in the ledger."""
    steps = [(step.path, write_step(step)) for step in seen.steps]
    changed = [(path, text) for path, text in steps if known.get(path) != text]
    if changed:
        event = canonical_json({"event": "seen", "at_ms": house.clock.now_ms()})
        await house.journal.record(run.tenant, run.key, [Entry(event, changed)])
        known.update(changed)
    state = seen.state
    if state is run.state:
        return run
    ended_ms = (seen.ended_ms or house.clock.now_ms()) if state.ended else 0
    run = replace(run, state=state, error=seen.error, ended_ms=ended_ms)
    await house.tell("run", run.key, state, run, seen.error)
    return run


async def _fail(house: House, run: Run, wrong: TallyError) -> Run:
    gone = isinstance(wrong, NotFound)
    error = f"it is not there any more: {wrong}" if gone else str(wrong)
    return await _end(house, run, RunState.FAILED, error)


async def _end(house: House, run: Run, state: RunState, error: str) -> Run:
    run = replace(run, state=state, error=error, ended_ms=house.clock.now_ms())
    await house.tell("run", run.key, state, run, error)
    return run
