"""A house in memory: every part a fake that passes its port's proof, and nouns to put into it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tallystick.core.errors import Failed
from tallystick.core.facts import Fact, to_json
from tallystick.hub.house import House, Limits
from tallystick.hub.house.route import Routes
from tallystick.judging.recall import Kept, fingerprint
from tallystick.ports.tile import Place
from tallystick.tiles.traffic.files import open_tile as open_traffic
from tests.fakes.artifacts import MemoryArtifacts
from tests.fakes.catalogue import FakeCatalogue
from tests.fakes.clock import FakeClock
from tests.fakes.executor import FakeExecutor
from tests.fakes.house.nouns import (
    LISTED,
    POLICY,
    SEEN,
    add_model,
    add_run,
    add_table,
    add_verdict,
    events,
    evidence,
    folder_of,
    found_evidence,
    keep_steps,
    model_files,
)
from tests.fakes.house.sandbox import Script, ScriptedSandbox
from tests.fakes.ledger import MemoryLedger
from tests.fakes.registry import MemoryRegistry
from tests.fakes.runs.conditions import PlainConditions
from tests.fakes.runs.journal import MemoryJournal

__all__ = [
    "LISTED",
    "POLICY",
    "SEEN",
    "add_model",
    "add_run",
    "add_table",
    "add_verdict",
    "events",
    "evidence",
    "folder_of",
    "found_evidence",
    "keep_steps",
    "make_house",
    "model_files",
    "until",
]


def make_house(
    tmp_path: Path,
    steps: Mapping[str, Callable[..., Any]] | None = None,
    errands: Mapping[str, Script] | None = None,
    **more: Any,
) -> House:
    """A house below ``tmp_path``: ``steps`` are what the executor calls, ``errands`` what the sandbox plays.

    ``more`` takes the place of any other part. Whoever records traffic closes it.
    """
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    parts: dict[str, Any] = {
        "ledger": _ledger(),
        "journal": MemoryJournal(),
        "artifacts": MemoryArtifacts(tmp_path / "artifacts"),
        "catalogue": FakeCatalogue(),
        "executor": FakeExecutor({} if steps is None else steps),
        "sandbox": ScriptedSandbox({"judge": _listed, **(errands or {})}),
        "registry": MemoryRegistry(),
        "traffic": open_traffic(Place(tmp_path)),
        "clock": FakeClock(),
        "conditions": PlainConditions(),
        "routes": Routes(),
        "policy": POLICY,
        "scratch": scratch,
        "limits": Limits(settle_every_s=0.01),
    }
    parts["records"] = parts["registry"]
    return House(**{**parts, **more})


async def _listed(order: Mapping[str, Any], _: Any) -> Mapping[str, Any]:
    """Should something be installed while a test runs: the list of threats, and no judgement."""
    if not order.get("list"):
        raise Failed("this house has nobody to judge", where="judge")
    return dict(to_json(LISTED))


def _ledger() -> MemoryLedger:
    """A ledger that knows which threats there are, so that nobody is sent to look."""
    ledger, installed = MemoryLedger(), fingerprint()
    ledger.know(
        Fact("probe", installed, "listed", to_json(Kept("threats", installed=installed, threats=LISTED)))
    )
    return ledger


async def until(holds: Callable[[], Any]) -> None:
    """Let others run until ``holds()`` (a value, or a coroutine's) is true; a minute at most."""
    async with asyncio.timeout(60):
        while True:
            found = holds()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.001)  # not 0: threads that remove folders want to get on too
