"""Observe: measure how far what an endpoint is asked has drifted from what its model was made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tallystick.core.data import TableRef
from tallystick.core.endpoint import Endpoint
from tallystick.core.errors import Conflict, Damaged, NotFound, NotSupported
from tallystick.core.facts import from_json, to_json
from tallystick.core.model import ModelVersion
from tallystick.core.signal import Drift, Signal, drift_words, weigh_drift
from tallystick.core.wall import Wall
from tallystick.hub.house import House
from tallystick.hub.house.errand import run_errand
from tallystick.hub.house.removal import remove
from tallystick.hub.house.rows import Rows, export_table
from tallystick.routines.served.exchanges import copied_exchanges

__all__ = ["observe"]


async def observe(house: House, name: str, label: str) -> tuple[Drift, Signal | None]:
    """The drift of endpoint ``name``, and the signal that it raises, if it is enough for one.

    Counted is what the present generation was asked and could answer, against the first snapshot that
    its model was made from; column ``label`` of that is no input. A generation that raised a signal
    keeps that one: what it calls for is a remedy, not another signal. NotFound when nothing was
    asked yet, Conflict when nothing is served, NotSupported when nobody knows what the model was made from.
    """
    endpoint = await house.get("endpoint", name, Endpoint)
    if not endpoint.wished.model:
        hint = f"tally deploy MODEL --name {name}"
        raise Conflict("it serves nothing, so nothing can drift", where=f"endpoint {name}", hint=hint)
    model = await house.get("model", endpoint.wished.model, ModelVersion)
    found = await _measure(house, endpoint, model, await _reference(house, model), label)
    drift = from_json(Drift, found, "drift")
    if not drift.rows_live:
        raise _nothing_asked(name, int(found["skipped"]))
    return drift, await _signal(house, endpoint, drift)


def _nothing_asked(name: str, skipped: int) -> NotFound:
    what = "this generation was asked nothing yet that it could answer"
    if skipped:
        what += f", and {skipped:,} of its requests could not be read"
    hint = f"send requests to /v2/models/{name}/infer, then observe again"
    return NotFound(what, where=f"endpoint {name}", hint=hint)


async def _reference(house: House, model: ModelVersion) -> Rows:
    """The rows of the first snapshot that the model was made from, checked against what is known of it."""
    if not model.origin.snapshots:
        raise NotSupported(
            "nobody knows which data it was made from, so there is nothing to compare with",
            where=f"model {model.key}",
            hint="register a model from a run whose pipeline imports a table",
        )
    key, digest = next(iter(model.origin.snapshots.items()))
    snapshot, rows = await export_table(house, TableRef.parse(key))
    if digest and snapshot.digest != digest:
        raise Damaged(f"its content is not that which {model.key} was made from", where=f"data {key}")
    return rows


async def _measure(
    house: House, endpoint: Endpoint, model: ModelVersion, reference: Rows, label: str
) -> Mapping[str, Any]:
    """What the errand found: a :class:`Drift` as JSON, and how many requests it had to skip."""
    folder = house.folder("observe")
    try:
        exchanges = await copied_exchanges(house, endpoint.name, folder / "exchanges")
        await house.artifacts.unpack(reference.artifact, folder / "reference.parquet")
        work = folder / "work"
        work.mkdir(mode=0o700)
        order = {
            "exchanges": [str(path) for path in exchanges],
            "generation": endpoint.wished.generation,
            "rows_max": house.drift.rows_max,
            "reference": str(folder / "reference.parquet"),
            "label": label,
            "reference_name": reference.name,
            "reference_digest": reference.digest,
            "inputs": to_json(model.inputs),
        }
        wall = Wall(
            workdir=str(work),
            readable=(str(folder / "exchanges"), str(folder / "reference.parquet")),
            env=house.worker_env(),
            cpu_seconds=house.limits.judge_cpu_s,
            memory_mib=house.limits.memory_mib,
        )
        async with house.errand_slots:
            return await run_errand(house.sandbox, "observe", order, wall)
    finally:
        await remove(folder)


async def _signal(house: House, endpoint: Endpoint, drift: Drift) -> Signal | None:
    """The signal that ``drift`` raises, told; a generation that goes on drifting keeps the one it has."""
    model = endpoint.wished.model
    raised, share, drifted = weigh_drift(drift, house.drift)
    if not raised:
        return None
    async with house.lock("signal", endpoint.name):
        before = [
            s for s in await house.all("signal", Signal) if (s.endpoint, s.model) == (endpoint.name, model)
        ]
        newest = max(before, key=lambda s: s.at_ms, default=None)
        if newest and newest.generation == endpoint.wished.generation:
            return newest
        signal = Signal(
            key=house.new_key("signal"),
            endpoint=endpoint.name,
            model=model,
            share=share,
            worst=tuple(c.column for c in drifted),
            text=f"endpoint {endpoint.name} is asked about other data: {drift_words(drift, house.drift)}",
            drift=drift,
            generation=endpoint.wished.generation,
            at_ms=house.clock.now_ms(),
            tenant=house.tenant,
        )
        await house.tell("signal", signal.key, "raised", signal, signal.text)
    return signal
