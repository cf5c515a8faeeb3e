"""Judging with real processes: killed in the middle, taken up again, and none started where all is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.errors import Unavailable
from tallystick.core.model import ModelVersion, TensorSpec
from tallystick.core.names import digest_of
from tallystick.evidence.domain import Budget
from tallystick.evidence.policy import Policy, Rule
from tallystick.evidence.probe import ProbeState
from tallystick.evidence.threats import ThreatList
from tallystick.hub.house import House
from tallystick.hub.house.rows import Rows
from tallystick.judging.gather import gather, threat_list
from tallystick.judging.recall import keep_threats
from tallystick.ports.tile import Place
from tallystick.wiring.tiles import open_tile
from tests.crew.judging.orders import points, write
from tests.fakes.attack import as_installed
from tests.fakes.house import make_house
from tests.fakes.models import REPOSITORY, build
from tests.fakes.plain_sandbox import PlainSandbox

DONE, FAILED = ProbeState.DONE, ProbeState.FAILED
INSTALLED = digest_of("installed")
OTHERS = ("raises", "kill", "late", "figures")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return build(tmp_path_factory)


class Watched(PlainSandbox):
    """It says which errands were started."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    async def spawn(self, argv, wall):
        self.names.append(argv[-1].rpartition(".")[2])
        return await super().spawn(argv, wall)


@pytest.fixture
async def house(tmp_path: Path, monkeypatch):
    """A house in which somebody's attack tile is installed, which kills its own process if it is told to."""
    site = as_installed(tmp_path / "site")
    monkeypatch.syspath_prepend(site)
    trouble = {"PYTHONPATH": f"{site}:{REPOSITORY}", "TROUBLE": str(tmp_path)}
    plain = House.worker_env
    monkeypatch.setattr(House, "worker_env", lambda self: {**plain(self), **trouble})
    monkeypatch.setattr("tallystick.judging.gather.fingerprint", lambda: INSTALLED)
    house = make_house(tmp_path, sandbox=Watched())
    await keep_threats(house, INSTALLED, await only_trouble(house))
    yield house
    await house.sandbox.close()
    await house.traffic.close()


async def only_trouble(house: House) -> ThreatList:
    """What is installed, as a worker says it, but for the tiles that take long."""
    listed = await threat_list(house)
    assert {p.name for p in listed.probes if p.tile == "trouble"} >= {"grid", *OTHERS}
    return replace(listed, probes=tuple(p for p in listed.probes if p.tile in ("trouble", "clean")))


def policy_of(*named: str) -> Policy:
    rule = Rule("accurate", "clean_accuracy", at_least=0.5)
    return Policy("test", (rule,), Budget(eps=(0.1, 0.2), samples_max=6, queries_max=60), probes=named)


async def judged(house: House, folder: Path, policy: Policy):
    tensor = (TensorSpec("x", "FP32", (-1, 2)),)
    digest = (await house.artifacts.put_folder(folder)).digest
    model = ModelVersion("pair", 1, digest, inputs=tensor, runtime="pyfunc", standing="data")
    path = house.folder("given") / "rows.parquet"
    blob = await house.artifacts.put_file(write(path, points()))
    return await gather(house, "verdict-1", model, Rows("d@1", blob.digest, blob.digest), policy, "label")


async def test_a_worker_killed_halfway_costs_its_probe_alone(house, models: Path, tmp_path: Path) -> None:
    policy = policy_of(*OTHERS)
    (tmp_path / "kill").touch()
    first = await judged(house, models / "pair", policy)
    states = {p.name: p.state for p in first.probes}
    assert states["clean"] is states["grid"] is states["late"] is states["figures"] is DONE
    assert states["raises"] is states["kill"] is FAILED
    assert "ended by signal 9" in next(p.why for p in first.probes if p.name == "kill")
    assert house.sandbox.names.count("judge") == 3  # the list, until it was killed, the rest
    before = len(house.sandbox.names)
    (tmp_path / "kill").unlink()
    second = await judged(house, models / "pair", policy)
    assert {p.name for p in second.probes if p.state is FAILED} == {"raises"}
    assert second.curve == first.curve
    assert house.sandbox.names[before:].count("judge") == 1
    kept = {p.name: p for p in first.probes if p.name in ("clean", "grid")}
    assert {p.name: p for p in second.probes if p.name in kept} == kept


async def test_where_all_is_known_no_process_is_started(house, models: Path) -> None:
    policy = policy_of("late", "white")
    first = await judged(house, models / "pair", policy)
    assert {p.name: p.state for p in first.probes} == {
        "clean": DONE, "worst group": DONE, "latency": DONE, "white": ProbeState.NOT_APPLICABLE,
        "grid": DONE, "late": DONE,
    }  # fmt: skip
    before = len(house.sandbox.names)
    assert await judged(house, models / "pair", policy) == first
    assert len(house.sandbox.names) == before


async def test_behind_each_wall_it_is_the_same(tmp_path: Path, models: Path, monkeypatch) -> None:
    """With the chosen sandboxes as they are: nothing beside what the worker needs is shown to it."""
    for name in ("process", "bubblewrap"):
        (tmp_path / name).mkdir()
        try:
            sandbox = open_tile("sandbox", name, Place(tmp_path / name))
        except Unavailable:
            continue
        monkeypatch.setattr("tallystick.judging.gather.fingerprint", lambda: INSTALLED)
        house = make_house(tmp_path / name, sandbox=sandbox)
        listed = await threat_list(house)
        only = replace(listed, probes=tuple(p for p in listed.probes if p.tile == "clean"))
        await keep_threats(house, INSTALLED, only)
        try:
            evidence = await judged(house, models / "pair", policy_of())
        finally:
            await sandbox.close()
            await house.traffic.close()
        assert (evidence.clean.right, evidence.clean.total) == (54, 60)
        assert {p.name: p.state for p in evidence.probes} == {
            "clean": DONE,
            "worst group": DONE,
            "latency": DONE,
        }
        assert [*house.scratch.glob("judge-*"), *house.scratch.glob("serve-*")] == []
