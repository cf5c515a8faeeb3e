"""A past run is run again: bit by bit the same, or it is said which step differs, and what is lacking."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tallystick.core.names import DEFAULT_TENANT
from tallystick.ports.tile import Place
from tallystick.tiles.ledger.sqlite import open_tile as open_ledger
from tests.journeys.conftest import RunningHub, start_hub

pytestmark = pytest.mark.journey

PIPELINE = str(Path(__file__).parent / "pipelines" / "again.yaml")
TURNS = tuple(f"for-loop-2[{turn}]/draw" for turn in (0, 1))


def ingest(hub: RunningHub, tmp_path: Path, rows: str) -> None:
    (tmp_path / "rows.csv").write_text(f"a,b\n{rows}\n")
    hub.tally("ingest", "rows", str(tmp_path / "rows.csv"))


def run_it(hub: RunningHub, stamped: bool = False) -> str:
    words = ("-p", "table=tally://tables/rows", "-p", f"stamped={str(stamped).lower()}")
    return str(hub.json("run", PIPELINE, *words)["key"])


def steps_of(hub: RunningHub, key: str) -> dict[str, Any]:
    return {step["path"]: step for step in hub.json("show", "run", key)["steps"]}


def reproduced(hub: RunningHub, key: str, status: int) -> tuple[Any, str]:
    """The report of a reproduction as JSON, and what was said meanwhile."""
    said = hub.tally("reproduce", key, "--json", status=status)
    return json.loads(said.stdout), said.stderr


@pytest.mark.slow
def test_a_run_is_reproduced_bit_by_bit_and_what_differs_is_named(hub: RunningHub, tmp_path: Path) -> None:
    ingest(hub, tmp_path, "1,2")
    steady = run_it(hub)
    ingest(hub, tmp_path, "3,4")

    found, _ = reproduced(hub, steady, 0)
    again = steps_of(hub, found["run"])
    assert (found["alike"], found["reproduces"], found["notes"]) == (True, steady, [])
    assert {path: again[path]["state"] for path in ("count", *TURNS)} == dict.fromkeys(
        ("count", *TURNS), "succeeded"
    ), "nothing comes from the cache"
    hub.tally("diff", steady, found["run"])

    newer = run_it(hub)
    differs = json.loads(hub.tally("diff", steady, newer, "--json", status=1).stdout)
    named = {name: [change["where"] for change in group] for name, group in differs["groups"].items()}
    assert named["data"] == ["importer", "importer"]
    assert set(named["outputs"]) == {"count", *TURNS}
    assert (named["code"], named["packages"], named["params"]) == ([], [], [])

    stamped = run_it(hub, stamped=True)
    found, _ = reproduced(hub, stamped, 1)
    assert found["first"] == "condition-3/stamp"
    assert found["why"][0] == "its source reads the clock"
    assert {change["where"] for change in found["groups"]["outputs"]} == {"condition-3/stamp"}
    text = hub.tally("reproduce", stamped, status=1).stdout
    assert "its source reads the clock" in text


@pytest.mark.slow
def test_what_is_not_as_it_was_is_said_beforehand(hub: RunningHub, tmp_path: Path) -> None:
    ingest(hub, tmp_path, "1,2")
    key = run_it(hub)
    hub.end()
    asyncio.run(doctor(hub.home))
    other = start_hub(hub.home)
    try:
        found, said = reproduced(other, key, 0)
        assert "click was 0.0.1" in said
        assert found["notes"] == [line.strip() for line in said.splitlines() if "runs on" in line]
        pipeline = other.json("show", "run", key)["spec_digest"].removeprefix("sha256:")
        for kept in other.home.rglob(f"*{pipeline[2:]}*"):
            kept.unlink()
        lacking = other.tally("reproduce", key, status=2).stderr
        assert "its pipeline is not to be had any more" in lacking
    finally:
        other.end()


async def doctor(home: Path) -> None:
    """Let what the run ran on have had another version of a package."""
    ledger = open_ledger(Place(home))
    for fact in await ledger.listing(DEFAULT_TENANT, "environment"):
        packages = {**fact.state["packages"], "click": "0.0.1"}
        await ledger.append([replace(fact, state={**fact.state, "packages": packages})])
    await ledger.close()
