"""The errand ``judge`` as a script: parts are told as by the real one, with figures of the test's choice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tallystick.core.facts import from_json, to_json
from tallystick.evidence.figures import Rate
from tallystick.evidence.probe import Probe, Threat
from tallystick.evidence.threats import BASE, Listed, ThreatList, probe_key
from tests.fakes.house.sandbox import Say, Script

__all__ = ["base_part", "judge_script", "probe_parts", "tell"]


def tell(order: Mapping[str, Any], say: Say, name: str, part: Mapping[str, Any]) -> None:
    """Write a part, with arrays where it speaks of them, and say so."""
    out = Path(order["out"])
    if part.get("arrays"):
        (out / part["arrays"]).write_bytes(b"arrays of " + part["probe"]["key"].encode())
    (out / name).write_text(json.dumps(part))
    say(part=name)


def base_part(order: Mapping[str, Any], clean: int = 95) -> dict[str, Any]:
    """What comes before all probes, ``clean`` right of 100."""
    rate = to_json(Rate(clean, 100))
    base = {"clean": rate, "right": rate, "noise": [rate] * len(order["budget"]["eps"])}
    more = {"classes": ["0", "1"], "domain": order["domain"], "versions": {"python": "3"}}
    probe = Probe(BASE, Threat.CLEAN, library="test", samples=100, queries=100, key=order["base"])
    return {"probe": to_json(probe), "base": {**base, **more}}


def probe_parts(order: Mapping[str, Any], robust: int = 80) -> list[dict[str, Any]]:
    """A part for each probe that is not known, ``robust`` of 100 at every eps."""
    before: list[str] = []
    made = []
    for place, wire in enumerate(order["probes"]):
        listed = from_json(Listed, wire)
        key = probe_key(order["base"], listed, before, order["train_digest"])
        evasion = listed.threat is Threat.EVASION
        if evasion and order["known"].get(key, "") is not None:
            before.append(key)
        if key in order["known"]:
            continue
        probe = Probe(listed.name, listed.threat, library="test", samples=100, queries=500, key=key)
        part: dict[str, Any] = {"probe": to_json(replace(probe, seconds=0.5))}
        if evasion:
            part |= {"robust": [robust] * len(order["budget"]["eps"]), "arrays": f"{place:03d}.npz"}
        made.append(part)
    return made


def judge_script(robust: int = 80, clean: int = 95, threats: ThreatList | None = None) -> Script:
    """A script for ``sandbox.table["judge"]`` that finds ``robust`` and ``clean`` of 100."""
    from tests.fakes.house.nouns import LISTED

    async def judge(order: Mapping[str, Any], say: Say) -> Mapping[str, Any]:
        if order.get("list"):
            return dict(to_json(threats or LISTED))
        say(progress=0.4, text="square at eps 0.1")
        if order["base"] not in order["known"]:
            tell(order, say, "base.json", base_part(order, clean))
        for part in probe_parts(order, robust):
            say(began=part["probe"]["name"])
            tell(order, say, f"{part['probe']['key'][7:20]}.json", part)
        return {"versions": {"python": "3"}, "seconds": 1.0, "notes": []}

    return judge
