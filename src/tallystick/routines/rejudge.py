"""Rejudge: what serves is judged again at set times, against what is known by then, and on what it is asked.

An endpoint goes on serving a model that was let in; that an attack which did not exist then turns it now is
for a person to act on. So a model that is refused now raises a signal, as drift does, and a remedy can be
proposed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from tallystick.core.endpoint import Endpoint
from tallystick.core.errors import TallyError
from tallystick.core.facts import to_json
from tallystick.core.model import ModelVersion
from tallystick.core.signal import Drift, Signal
from tallystick.core.verdict import PRODUCTION, Verdict, VerdictState
from tallystick.core.wall import Wall
from tallystick.hub.house import House
from tallystick.hub.house.errand import run_errand
from tallystick.hub.house.removal import remove
from tallystick.hub.house.rows import Rows
from tallystick.judging.judge import begin_judging, begin_on, finish_judging
from tallystick.ports.runs.calendar import Calendar
from tallystick.routines.served.exchanges import copied_exchanges

__all__ = ["LIVE", "OWN_ANSWER", "REFUSED_NOW", "keep_rejudging", "rejudge"]

LIVE = "live traffic"
"""The stage of verdicts on what an endpoint was asked: there are no right answers, so it opens no gate."""

OWN_ANSWER = "the model's own answer"
"""The column that stands for the right answers there: how often an attack turns what the model says."""

REFUSED_NOW = "refused"
"""The kind of signal that a refused model raises."""

TICK_S = 30.0
_log = logging.getLogger(__name__)


async def keep_rejudging(house: House, calendar: Calendar, cron: str, label: str) -> None:
    """Judge again whenever ``cron`` (UTC) is due, until this is cancelled; an empty one is never."""
    if not cron:
        return
    calendar.check(cron)
    due = calendar.following(cron, house.clock.now_ms())
    while due is not None:
        if house.clock.now_ms() < due:  # in small steps: a clock may be set, and a laptop may sleep
            await house.clock.sleep(TICK_S)
            continue
        try:
            await rejudge(house, label)
        except Exception as wrong:  # noqa: BLE001  reason: whatever it is, the next night must come
            _log.error("rejudging: %s", wrong, exc_info=not isinstance(wrong, TallyError))
        due = calendar.following(cron, house.clock.now_ms())


async def rejudge(house: House, label: str) -> Sequence[Verdict]:
    """Judge what every endpoint serves: on the rows of before, and on what it was asked. New verdicts alone.

    ``label`` is the column of right answers where the verdict of before names none. What cannot be judged is
    told as a verdict ``failed`` or, before there is one, in the hub's log; the others are judged none the
    less.
    """
    made: list[Verdict] = []
    for endpoint in await house.all("endpoint", Endpoint):
        if not endpoint.wished.model:
            continue
        for judge in (_on_rows, _on_traffic):
            try:
                verdict = await judge(house, endpoint, label)
            except TallyError as wrong:
                _log.warning("endpoint %s cannot be judged again: %s", endpoint.name, wrong)
                continue
            if verdict is not None:
                made.append(verdict)
                if verdict.state is VerdictState.REFUSED:
                    await _signal(house, endpoint, verdict)
    return made


async def _on_rows(house: House, endpoint: Endpoint, label: str) -> Verdict | None:
    """On the rows that it was let in by; None where nothing has changed since it was judged on them."""
    model = await house.get("model", endpoint.wished.model, ModelVersion)
    before = await house.find("verdict", endpoint.wished.verdict, Verdict)
    data = before.dataset if before and not model.origin.run else ""
    label = (before.label if before else "") or label
    stage = (before.stage if before else "") or PRODUCTION
    verdict, rows = await begin_judging(house, model, data, house.policy, label, stage=stage)
    if verdict.state.ended:
        return None
    return await _finished(house, verdict, model, rows, label)


async def _on_traffic(house: House, endpoint: Endpoint, _: str) -> Verdict | None:
    """On what this generation was asked, with the model's own answers; None where that is too little."""
    model = await house.get("model", endpoint.wished.model, ModelVersion)
    rows = await _sampled(house, endpoint, model)
    if rows is None:
        return None
    verdict = await begin_on(house, model, rows, house.policy, OWN_ANSWER, stage=LIVE)
    if verdict.state.ended:
        return None
    return await _finished(house, verdict, model, rows, OWN_ANSWER)


async def _finished(house: House, verdict: Verdict, model: ModelVersion, rows: Rows, label: str) -> Verdict:
    """Judged to the end under the verdict's key, so that it shows, and can be cancelled, as any other."""
    work = finish_judging(house, verdict, model, rows, house.policy, label)
    house.start(verdict.key, work)
    await asyncio.gather(house.tasks[verdict.key], return_exceptions=True)
    return await house.get("verdict", verdict.key, Verdict)


async def _sampled(house: House, endpoint: Endpoint, model: ModelVersion) -> Rows | None:
    """The newest rows that this generation was asked about; None where they are fewer than drift needs."""
    live = house.routes.find(endpoint.name)
    folder = house.folder("sample")
    try:
        exchanges = await copied_exchanges(house, endpoint.name, folder / "exchanges")
        out = folder / "out"
        out.mkdir(mode=0o700)
        order = {
            "exchanges": [str(path) for path in exchanges],
            "generation": endpoint.wished.generation,
            "rows_max": house.drift.rows_max,
            "inputs": to_json(model.inputs),
            "socket": str(live.socket),
            "name": endpoint.name,
            "label": OWN_ANSWER,
            "out": str(out / "rows.parquet"),
        }
        wall = Wall(
            workdir=str(out),
            readable=(str(folder / "exchanges"),),
            writable=(str(out), str(live.socket.parent)),
            env=house.worker_env(),
            cpu_seconds=house.limits.judge_cpu_s,
            memory_mib=house.limits.memory_mib,
        )
        async with house.errand_slots:
            said = await run_errand(house.sandbox, "measure.sample", order, wall)
        if int(said["rows"]) < house.drift.rows_min:
            return None
        blob = await house.artifacts.put_file(out / "rows.parquet")
        return Rows(f"traffic of endpoint {endpoint.name}", blob.digest, blob.digest)
    finally:
        await remove(folder)


async def _signal(house: House, endpoint: Endpoint, verdict: Verdict) -> Signal | None:
    """The signal of a model that serves and is refused now, once for each generation and policy."""
    async with house.lock("signal", endpoint.name):
        for known in await house.all("signal", Signal):
            if (known.endpoint, known.generation, known.kind) == (
                endpoint.name,
                endpoint.wished.generation,
                REFUSED_NOW,
            ):
                return None
        on = "what it is asked" if verdict.stage == LIVE else verdict.dataset
        signal = Signal(
            key=house.new_key("signal"),
            endpoint=endpoint.name,
            model=verdict.model,
            share=0.0,
            worst=(),
            text=f"{verdict.model}, which endpoint {endpoint.name} serves, is refused now on {on}: "
            + "; ".join(verdict.reasons),
            drift=Drift(verdict.dataset, verdict.dataset_digest, 0, 0, ()),
            kind=REFUSED_NOW,
            generation=endpoint.wished.generation,
            at_ms=house.clock.now_ms(),
            tenant=house.tenant,
        )
        await house.tell("signal", signal.key, "raised", signal, signal.text)
        return signal
