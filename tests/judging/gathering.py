"""Gathering in a house of tests: what is installed, what was ordered, and what the worker writes."""

from __future__ import annotations

from pathlib import Path

from tallystick.core.names import digest_of
from tallystick.evidence.probe import ProbeState, Threat
from tallystick.evidence.threats import Listed, ThreatList
from tallystick.judging.gather import gather
from tallystick.judging.recall import keep_threats
from tallystick.judging.rows import rows_for_judging
from tests.fakes.house import POLICY
from tests.fakes.house.judge import judge_script

DONE, FAILED, NOT = ProbeState.DONE, ProbeState.FAILED, ProbeState.NOT_APPLICABLE
EVASION, CORRUPTION = Threat.EVASION, Threat.CORRUPTION

THREE = ThreatList(
    (
        Listed("b", "noise", CORRUPTION, 1, libraries={"b": "2"}),
        Listed("a", "first", EVASION, 1),
        Listed("a", "second", EVASION, 1),
        Listed("a", "extra", EVASION, 1, usual=False),
    ),
    engine={"numpy": "2"},
)


INSTALLED = digest_of("installed")


async def three_probes(house, monkeypatch):
    """Three usual probes are installed in the house, and one more; nothing else is meanwhile."""
    monkeypatch.setattr("tallystick.judging.gather.fingerprint", lambda: INSTALLED)
    await keep_threats(house, INSTALLED, THREE)
    house.sandbox.table["judge"] = judge_script()
    return house


async def gathered(house, model, *, again=False, policy=POLICY, key="verdict-1"):
    rows = await rows_for_judging(house, model)
    return await gather(house, key, model, rows, policy, "label", again)


def orders(house):
    return [p.order for p in house.sandbox.started if p.name == "judge" and not p.order.get("list")]


def content(*path):
    return Path(*path).read_bytes()


def write(order, name, text):
    """A file of the worker's."""
    Path(order["out"], name).write_text(text)


def link(order, name="link.json", to=""):
    """A link of the worker's, to the rows or elsewhere."""
    Path(order["out"], name).symlink_to(to or order["rows"])


def states(evidence):
    return {p.name: p.state for p in evidence.probes}


def order_file(order):
    """The file of arrays that an order hands over."""
    return next(file for file in order["known"].values() if file)
