"""A cluster without machines: a run goes on until it is stopped, or a test ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tallystick.core.errors import Unavailable
from tallystick.core.run.events import RunState, Step, StepState
from tallystick.ports.runs.cluster import Seen

__all__ = ["FakeCluster"]


class FakeCluster:
    """Nobody can reach it while it is ``away``. ``ended`` holds how runs ended, by their ids."""

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.stopped: list[str] = []
        self.ended: dict[str, RunState] = {}
        self.looked = 0
        self.away = False

    async def submit(
        self, name: str, spec: bytes, params: Mapping[str, Any], *, experiment: str = "", cache: bool = True
    ) -> str:
        await self._reached()
        self.submitted += [] if name in self.submitted else [name]
        return f"id-{name}"

    async def look(self, run: str) -> Seen:
        await self._reached()
        self.looked += 1
        state = self.ended.get(run, RunState.RUNNING)
        return Seen(state, [Step("a", StepState(state) if state.ended else StepState.RUNNING)])

    async def stop(self, run: str) -> None:
        await self._reached()
        self.stopped.append(run)
        self.ended[run] = RunState.CANCELLED

    def page(self, run: str) -> str:
        return run

    async def close(self) -> None:
        """Nothing of it stays."""

    async def _reached(self) -> None:
        await asyncio.sleep(0.001)
        if self.away:
            raise Unavailable("nobody is there")
