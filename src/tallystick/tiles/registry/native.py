"""A run's own record, natively: in a millisecond, and without MLflow's server, which takes seconds."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping

from tallystick.core.names import digest_of
from tallystick.ports.tracking import DEFAULT_WORKSPACE, Tracking
from tallystick.record.asks import CreateExperiment, CreateRun, GetExperiment, GetRun, NotPlain, UpdateRun

__all__ = ["begin_natively", "end_natively"]


async def begin_natively(
    tracking: Tracking, experiment: str, name: str, tags: Mapping[str, str], now_ms: int
) -> tuple[str, str] | None:
    """Ids of an experiment, made when new, and of a run in it; None where MLflow's server is to be asked."""
    try:
        if not await tracking.ready():
            return None
        run_id = _own_id(name, tags)
        number, found = await asyncio.gather(
            _experiment(tracking, experiment, now_ms), _found(tracking, run_id)
        )
        if found:
            return found, run_id
        run_id = run_id or uuid.uuid4().hex
        ask = CreateRun(run_id, number, "", now_ms, name, tuple(tags.items()))
        await tracking.write(ask, DEFAULT_WORKSPACE)
    except NotPlain:
        return None
    return str(number), run_id


def _own_id(name: str, tags: Mapping[str, str]) -> str:
    """The id of what is begun once: a hub that died before it told so finds its record again."""
    own = [tags.get("tally.run", ""), tags.get("tally.study", "")]
    return digest_of(["record", name, *own])[7:39] if any(own) else ""


async def _found(tracking: Tracking, run_id: str) -> str:
    """The experiment of a run; empty where there is no such run."""
    if not run_id:
        return ""
    try:
        return str((await tracking.read(GetRun(run_id), DEFAULT_WORKSPACE)).experiment_id)
    except NotPlain:
        return ""


async def _experiment(tracking: Tracking, name: str, now_ms: int) -> int:
    try:
        found = await tracking.read(GetExperiment(name=name), DEFAULT_WORKSPACE)
    except NotPlain:  # there is none
        return await tracking.write(CreateExperiment(name, "", now_ms), DEFAULT_WORKSPACE)
    return int(found.experiment_id)


async def end_natively(tracking: Tracking, run_id: str, status: str, now_ms: int) -> bool:
    """Whether the run could be ended so."""
    try:
        if not await tracking.ready():
            return False
        await tracking.write(UpdateRun(run_id, status, now_ms), DEFAULT_WORKSPACE)
    except NotPlain:
        return False
    return True
