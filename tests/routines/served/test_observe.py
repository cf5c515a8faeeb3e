"""Observing an endpoint: what counts, when a signal is raised, and that it is raised once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tallystick.core.endpoint import Endpoint, Wish
from tallystick.core.errors import BadInput, Conflict, Damaged, NotFound, NotSupported
from tallystick.core.model import ModelVersion, Origin, TensorSpec
from tallystick.core.names import digest_of
from tallystick.core.signal import Signal
from tallystick.doors.oip.codec import InferRequest, encode_request
from tallystick.evidence.policy import Policy, Rule
from tallystick.hub.house import House
from tallystick.hub.house.route import Routes
from tallystick.ports.tile import Place
from tallystick.ports.traffic import Exchange
from tallystick.routines.served.observe import observe
from tallystick.tiles.traffic.files import open_tile
from tests.fakes.artifacts import MemoryArtifacts
from tests.fakes.catalogue import FakeCatalogue
from tests.fakes.clock import FakeClock
from tests.fakes.executor import FakeExecutor
from tests.fakes.ledger import MemoryLedger
from tests.fakes.plain_sandbox import PlainSandbox
from tests.fakes.registry import MemoryRegistry
from tests.fakes.runs.conditions import PlainConditions
from tests.fakes.runs.journal import MemoryJournal

SPECS = (TensorSpec("x", "FP32", (-1, 4)),)
DIGEST = digest_of(b"model")


@dataclass
class Stage:
    """A house with a table, a model made from it and an endpoint that serves it."""

    house: House
    model: ModelVersion
    endpoint: Endpoint

    async def ask(self, mean: float, rows: int = 200, generation: int = 0, **other: int) -> None:
        """Record one request of normal numbers around ``mean``."""
        now = self.house.clock.now_ms()
        drawn = np.random.default_rng(now % 1000).normal(mean, 1, (rows, 4)).astype(np.float32)
        body, json_bytes = encode_request(InferRequest({"x": drawn}))
        said = {"generation": generation or self.endpoint.wished.generation, "status": 200, **other}
        self.house.traffic.record(
            "default", "e", Exchange(now, latency_ms=1.0, body=body, json_bytes=json_bytes, **said)
        )
        await self.house.clock.sleep(1)

    async def tell(self, **changes: object) -> None:
        """Change the endpoint or (``model=...``) the model, in the ledger."""
        if "origin" in changes:
            self.model = replace(self.model, **changes)
            await self.house.tell("model", self.model.key, "changed", self.model)
        else:
            self.endpoint = replace(self.endpoint, **changes)
            await self.house.tell("endpoint", "e", "changed", self.endpoint)

    async def signals(self) -> Mapping[str, int]:
        """How often each signal was told."""
        facts = await self.house.ledger.history("default", noun="signal")
        return {f.key: sum(g.key == f.key for g in facts) for f in facts}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    catalogue, traffic = FakeCatalogue(), open_tile(Place(tmp_path))
    draw = np.random.default_rng(1)
    columns = {n: draw.normal(0, 1, 1000) for n in "abcd"} | {"label": draw.integers(0, 2, 1000)}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    snapshot = await catalogue.append("t", tmp_path / "t.parquet", "t.parquet")
    sandbox = PlainSandbox()
    house = House(
        ledger=MemoryLedger(),
        journal=MemoryJournal(),
        artifacts=MemoryArtifacts(tmp_path / "artifacts"),
        catalogue=catalogue,
        executor=FakeExecutor({}),
        sandbox=sandbox,
        registry=MemoryRegistry(),
        traffic=traffic,
        clock=FakeClock(),
        conditions=PlainConditions(),
        routes=Routes(),
        policy=Policy("p", (Rule("r", "clean_accuracy", 0.5),)),
        scratch=tmp_path / "scratch",
    )
    origin = Origin(run="run-1", output="best", snapshots={snapshot.key: snapshot.digest})
    stage = Stage(
        house,
        ModelVersion("m", 1, DIGEST, inputs=SPECS, origin=origin),
        Endpoint("e", Wish(3, "m@1", DIGEST)),
    )
    await stage.tell()
    await stage.tell(origin=origin)
    yield stage
    await traffic.close()
    await sandbox.close()
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_what_was_asked_as_before_is_no_signal(stage: Stage) -> None:
    for _ in range(2):
        await stage.ask(0)
    drift, signal = await observe(stage.house, "e", "label")
    assert signal is None
    assert (drift.rows_live, drift.rows_reference, len(drift.columns)) == (400, 1000, 4)
    assert drift.reference.startswith("t@")
    assert await stage.signals() == {}


async def test_a_drift_is_a_signal_once(stage: Stage) -> None:
    await stage.ask(3)
    drift, signal = await observe(stage.house, "e", "label")
    assert signal
    assert (signal.endpoint, signal.model, signal.share) == ("e", "m@1", 1.0)
    assert sorted(signal.worst) == ["a", "b", "c", "d"]
    assert signal.drift == drift
    for words in ("4 of 4 columns have drifted (100%)", "200 rows", "1,000 of t@", "KS 0."):
        assert words in signal.text
    again = await observe(stage.house, "e", "label")
    assert again == (drift, signal)
    assert await stage.signals() == {signal.key: 1}
    assert await stage.house.get("signal", signal.key, Signal) == signal


async def test_more_of_the_same_keeps_the_signal_that_it_has(stage: Stage) -> None:
    await stage.ask(3)
    first = (await observe(stage.house, "e", "label"))[1]
    await stage.ask(3)
    second = (await observe(stage.house, "e", "label"))[1]
    assert first
    assert second
    assert first.key == second.key
    assert (await observe(stage.house, "e", "label"))[1] == second


async def test_two_who_observe_at_once_raise_one_signal(stage: Stage) -> None:
    import asyncio

    await stage.ask(3)
    found = await asyncio.gather(*(observe(stage.house, "e", "label") for _ in range(3)))
    assert len({signal.key for _, signal in found if signal}) == 1
    assert len(await stage.signals()) == 1


async def test_few_rows_say_nothing(stage: Stage) -> None:
    await stage.ask(3, rows=20)
    drift, signal = await observe(stage.house, "e", "label")
    assert (drift.rows_live, signal) == (20, None)


async def test_only_the_present_generation_counts(stage: Stage) -> None:
    await stage.ask(3)
    await stage.tell(wished=Wish(4, "m@1", DIGEST))
    await stage.ask(3, status=500)
    with pytest.raises(NotFound, match="asked nothing yet"):
        await observe(stage.house, "e", "label")
    await stage.ask(0)
    drift, signal = await observe(stage.house, "e", "label")
    assert (drift.rows_live, signal) == (200, None)


async def test_what_cannot_be_observed_says_why(stage: Stage) -> None:
    with pytest.raises(NotFound, match="no endpoint 'other'"):
        await observe(stage.house, "other", "label")
    with pytest.raises(NotFound, match="asked nothing yet"):
        await observe(stage.house, "e", "label")
    await stage.ask(0)
    with pytest.raises(BadInput, match="no column 'target'"):
        await observe(stage.house, "e", "target")
    origin = stage.model.origin
    key = next(iter(origin.snapshots))
    await stage.tell(origin=replace(origin, snapshots={key: DIGEST}))
    with pytest.raises(Damaged):
        await observe(stage.house, "e", "label")
    await stage.tell(origin=replace(origin, snapshots={}))
    with pytest.raises(NotSupported, match="nobody knows which data"):
        await observe(stage.house, "e", "label")
    await stage.tell(wished=Wish(5))
    with pytest.raises(Conflict, match="serves nothing"):
        await observe(stage.house, "e", "label")


async def test_measuring_waits_for_its_turn(stage):
    await stage.ask(mean=0)
    slots = stage.house.errand_slots
    for _ in range(stage.house.limits.steps_at_once):
        await slots.acquire()
    observing = asyncio.create_task(observe(stage.house, "e", "label"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(observing), 0.5)
    assert stage.house.sandbox._started == []
    slots.release()
    assert (await observing)[0].rows_live == 200
    assert not slots.locked()
