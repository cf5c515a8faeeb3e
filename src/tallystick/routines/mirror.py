"""Mirror: hand a pipeline to a cluster, and keep the record of how it fares there.

The run is recorded before it is submitted, and submitted under its key: a hub that was killed in between
finds it again instead of submitting it twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tallystick.core.errors import Conflict, NotFound, NotSupported, TallyError, Unavailable
from tallystick.core.names import canonical_json
from tallystick.core.pipeline.check import check_pipeline
from tallystick.core.pipeline.params import check_params
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.run.events import CancelAsked, Run, RunState
from tallystick.core.run.options import RunOptions
from tallystick.core.run.record import write_event, write_step
from tallystick.hub.house import House
from tallystick.hub.house.bounds import check_values
from tallystick.hub.house.inbox import STOPPED, Inbox
from tallystick.hub.house.specs import keep_spec, spec_of
from tallystick.hub.house.whole import with_steps
from tallystick.ports.runs.cluster import Cluster, Seen
from tallystick.ports.runs.journal import Entry

__all__ = ["check_handed", "hand_over", "mirror"]

_log = logging.getLogger(__name__)

CANCEL = "cancel asked"
LOOK_EVERY_S = 2.0
AWAY_MS_MAX = 24 * 3600 * 1000
"""A cluster that cannot be reached for this long is given up; its run may go on there."""


_NOT_THERE = {
    "cache_age_ms_max": "an age of what its cache has",
    "verify_share": "a share of its cache to verify",
    "seed": "a seed of a run",
    "no_gpus": "doing without the GPUs that a step asks for",
}
"""Options of ours that a cluster knows nothing of, in words."""


def check_handed(house: House, pipeline: Pipeline, options: RunOptions) -> None:
    """Refused is what no run of ``pipeline`` on a cluster can have. What this house's own executor cannot do
    is no matter, and what the cluster cannot do it says itself.
    """
    options.check()
    house.cluster_at(options.host)
    check_pipeline(pipeline)
    for name, words in _NOT_THERE.items():
        if getattr(options, name):
            raise NotSupported(f"Kubeflow knows nothing of {words}", where=name, hint="leave it out")


async def hand_over(
    house: House,
    pipeline: Pipeline,
    spec: bytes,
    given: Mapping[str, Any],
    options: RunOptions,
    *,
    key: str = "",
) -> Run:
    """A run of ``pipeline`` for the cluster ``options.on``, recorded; :func:`mirror` submits and follows it.

    ``key``, of which there must be no run yet, is made where none is given. See :func:`check_handed`.
    """
    check_handed(house, pipeline, options)
    params = check_params(pipeline, given)
    check_values("parameter", params, "hand it over as an artifact")
    digest = await keep_spec(house, spec)
    key, now = key or house.new_key("run"), house.clock.now_ms()
    run = Run(key, pipeline.name, digest, params, started_ms=now, tenant=house.tenant, options=options)
    await house.tell(
        "run", key, "planned", run, f"pipeline {pipeline.name} on {options.on} at {options.host}"
    )
    return run


async def mirror(house: House, cluster: Cluster, run: Run) -> Run:
    """Submit ``run`` unless that was done, and record how it fares until it has ended there.

    While the cluster cannot be reached it is asked again, and the run's error says so; after a day of that
    the run fails, in our record. Whoever wants the run to end puts that into its inbox. Conflict where
    somebody follows it already.
    """
    if run.key in house.inboxes:
        raise Conflict("it is being followed already", where=run.key)
    inbox = house.inboxes[run.key] = Inbox()
    following = _Following(house, cluster, run, inbox)
    heeding = asyncio.create_task(following.heed(), name=f"{run.key} heed")
    try:
        async with house.lock("run", run.key):  # whoever cancels it now has written, or asks us
            past = await house.journal.events(run.tenant, run.key)
        following.to_stop |= any(json.loads(text)["event"] == CANCEL for text in past)
        inbox.show((await with_steps(house.journal, run)).steps, house.clock.now_ms())
        return await following.go()
    finally:
        heeding.cancel()
        await asyncio.gather(heeding, return_exceptions=True)
        house.inboxes.pop(run.key, None)
        house.locks.pop(("run", run.key), None)
        inbox.close(None if following.run.state.ended else Unavailable(STOPPED, where=run.key))


@dataclass
class _Following:
    """One run, followed: ``known`` are its steps as they stand in the journal, by path."""

    house: House
    cluster: Cluster
    run: Run
    inbox: Inbox
    to_stop: bool = False
    known: dict[str, str] = field(default_factory=dict)

    async def heed(self) -> None:
        """Write down what people want of the run, until this is cancelled."""
        while True:
            with contextlib.suppress(TallyError):  # whoever asked has heard that it cannot be written down
                async with self.inbox.taken() as events:
                    entries = [Entry(write_event(event)) for event in events]
                    await self.house.journal.record(self.run.tenant, self.run.key, entries)
                    self.to_stop |= any(isinstance(event, CancelAsked) for event in events)

    async def go(self) -> Run:
        """Look again and again, until the run has ended."""
        house, reached_ms, stopped = self.house, self.house.clock.now_ms(), False
        while not self.run.state.ended:
            try:
                if self.to_stop and not stopped:
                    if not self.run.away:
                        return await self._end(RunState.CANCELLED, "cancelled before it was handed over")
                    stopped = await self._stop()
                if not self.run.away:
                    await self._submit()
                seen = await self.cluster.look(self.run.away)
                reached_ms = house.clock.now_ms()
                await self._reached("")
                await self._record(seen)
            except Unavailable as wrong:
                if house.clock.now_ms() - reached_ms > AWAY_MS_MAX:
                    return await self._fail(wrong)
                await self._reached(str(wrong))
            except TallyError as wrong:
                return await self._fail(wrong)
            if not self.run.state.ended:
                await house.clock.sleep(LOOK_EVERY_S)
        return self.run

    async def _reached(self, wrong: str) -> None:
        """Have the run say that the cluster cannot be reached, from the first time on until it can be."""
        if bool(wrong) != bool(self.run.error):
            with contextlib.suppress(TallyError):  # where it is our own disk: it is tried again
                await self._tell("not reached" if wrong else "reached", wrong, error=wrong)

    async def _stop(self) -> bool:
        """Ask once: where it will not, the run goes on there, and is followed as before."""
        try:
            await self.cluster.stop(self.run.away)
        except Unavailable:
            raise
        except TallyError as wrong:
            _log.warning("%s cannot be stopped: %s", self.run.key, wrong)
        return True

    async def _submit(self) -> None:
        run, options = self.run, self.run.options
        spec = await spec_of(self.house, run.spec_digest)
        away = await self.cluster.submit(
            run.key, spec, run.params, experiment=options.experiment, cache=options.cache
        )
        await self._tell("submitted", self.cluster.page(away), away=away)

    async def _record(self, seen: Seen) -> None:
        """Write down what has changed since the last look: steps in the journal, the run in the ledger."""
        house, run = self.house, self.run
        changed = [
            (step, text) for step in seen.steps if self.known.get(step.path) != (text := write_step(step))
        ]
        if changed:
            event = canonical_json({"event": "seen", "at_ms": house.clock.now_ms()})
            texts = [(step.path, text) for step, text in changed]
            await house.journal.record(run.tenant, run.key, [Entry(event, texts)])
            self.known.update(texts)
            self.inbox.show([step for step, _ in changed], house.clock.now_ms())
        if seen.state is not run.state:
            ended_ms = (seen.ended_ms or house.clock.now_ms()) if seen.state.ended else 0
            said = {"state": seen.state, "error": seen.error, "ended_ms": ended_ms, "outputs": seen.outputs}
            await self._tell(seen.state, seen.error, **said)

    async def _fail(self, wrong: TallyError) -> Run:
        gone = isinstance(wrong, NotFound)
        error = f"it is not there any more: {wrong}" if gone else str(wrong)
        return await self._end(RunState.FAILED, error)

    async def _end(self, state: RunState, error: str) -> Run:
        await self._tell(state, error, state=state, error=error, ended_ms=self.house.clock.now_ms())
        return self.run

    async def _tell(self, event: str, note: str, **changes: Any) -> None:
        run = replace(self.run, **changes)
        await self.house.tell("run", run.key, event, run, note)
        self.run = run
