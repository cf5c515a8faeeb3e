"""The recorder: a run's steps on their way to MLflow, many at once and beside the run's own work."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from tallystick.core.errors import NotFound, TallyError
from tallystick.core.run.events import Run, RunState, Step
from tallystick.hub.house.parts import House
from tallystick.ports.runs.records import StepRecords, has_child

__all__ = ["MARK", "Recorder", "begin_record", "end_record"]

EVERY_S = 0.5
AT_ONCE_MAX = 500

MARK = "record-"
"""So begins the name of a file in the scratch folder that stays until MLflow knows all of a run's end."""
_STATUS = {RunState.SUCCEEDED: "FINISHED", RunState.FAILED: "FAILED", RunState.CANCELLED: "KILLED"}

_log = logging.getLogger(__name__)


class Recorder:
    """Takes steps that have ended; ``again`` says that a hub before may have told some of them."""

    def __init__(self, records: StepRecords, run: Run, again: bool) -> None:
        self._records = records
        self._run = run
        self._again = again
        self._waiting: list[Step] = []
        self._closing = asyncio.Event()
        self._going: asyncio.Task[None] | None = None

    def add(self, step: Step) -> None:
        """Have ``step`` told soon, once it has ended; one that was skipped never ran."""
        if has_child(step):
            self._waiting.append(step)
            self._going = self._going or asyncio.create_task(self._go(), name=f"{self._run.key} records")

    async def close(self) -> bool:
        """Tell what waits; whether that could be done."""
        self._closing.set()
        if self._going:
            await self._going
        if self._waiting:
            _log.error("%d steps of %s are not in MLflow's record", len(self._waiting), self._run.key)
        return not self._waiting

    async def _go(self) -> None:
        last = False
        while not last:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), EVERY_S)
            last = self._closing.is_set()
            try:
                await self._tell()
            except TallyError as wrong:
                _log.warning("MLflow's record of %s has to wait: %s", self._run.key, wrong)
                self._again = True

    async def _tell(self) -> None:
        while self._waiting:
            steps = self._waiting[:AT_ONCE_MAX]
            await self._records.record_steps(self._run, steps, again=self._again)
            del self._waiting[: len(steps)]
        self._again = False


def begin_record(house: House, run: Run, again: bool) -> Recorder | None:
    """What takes the steps of a run that has a record; ``again`` as in :class:`Recorder`."""
    if not (house.records and run.record_id):
        return None
    with contextlib.suppress(OSError):  # without the mark, only a hub that dies leaves the record unfinished
        (house.scratch / f"{MARK}{run.key}").touch()
    return Recorder(house.records, run, again)


async def end_record(house: House, run: Run, recorder: Recorder | None) -> None:
    """End MLflow's copy. The run is in the ledger, so that the copy may lag: what it lacks now, the next hub
    tells it.
    """
    whole = recorder is None or await recorder.close()
    if not run.state.ended:
        return
    try:
        if run.record_id:
            await house.registry.end_run(run.record_id, _STATUS[run.state])
    except TallyError as wrong:
        whole = whole and isinstance(wrong, NotFound)  # somebody deleted it
    if whole:
        (house.scratch / f"{MARK}{run.key}").unlink(missing_ok=True)
