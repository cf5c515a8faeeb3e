"""Another policy, tried on the evidence of past verdicts; nothing is recorded.

A policy is anybody's text, and evidence may be long: both are read and weighed in a thread, one trial at a
time, and a trial that takes too long is ended between two verdicts. So the hub answers meanwhile.
"""

from __future__ import annotations

import asyncio
import time
import tomllib
from collections.abc import Mapping
from typing import Any

from tallystick.core.errors import BadInput, NotFound, TookTooLong
from tallystick.core.facts import to_json
from tallystick.core.verdict import PRODUCTION, Verdict
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.policy import Policy
from tallystick.evidence.weigh import weigh
from tallystick.hub.house import House
from tallystick.judging.weighed import evidence_of

__all__ = ["POLICY_BODY_BYTES_MAX", "POLICY_CHARS_MAX", "TESTED_MAX", "Trials"]

POLICY_CHARS_MAX = 200_000
POLICY_BODY_BYTES_MAX = 2 * 1024 * 1024
"""Of a request: JSON may say a character in twelve."""
DOTS_MAX = 200
"""In one line: Python's reader of TOML takes time by the square of how many parts a key has."""
TESTED_MAX = 1000
"""Verdicts, newest first, whose evidence a policy is tried on."""
TRIAL_S_MAX = 60.0


class Trials:
    """Trials over one house's verdicts, one at a time."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._turn = asyncio.Semaphore(1)

    async def tried(self, said: str) -> Mapping[str, Any]:
        """What the policy that ``said`` writes would make of each verdict that was reached.

        BadInput for what is no policy, with where it is wrong; TookTooLong where it asks for too much.
        """
        async with self._turn:
            now_ms, began_s = self._house.clock.now_ms(), time.monotonic()
            policy = await asyncio.to_thread(_read, said, now_ms)
            rows: list[Mapping[str, Any]] = []
            unread = 0
            for verdict in await self._house.all("verdict", Verdict, TESTED_MAX):
                if time.monotonic() - began_s > TRIAL_S_MAX:
                    text = f"it was tried on {len(rows)} verdicts in {TRIAL_S_MAX:g} s, and there are more"
                    raise TookTooLong(text, where="policy", hint="try one with fewer rules and exceptions")
                if not verdict.reached:
                    continue
                try:
                    evidence = await evidence_of(self._house.artifacts, verdict)
                except NotFound:
                    evidence = None
                if evidence is None:
                    unread += 1
                else:
                    rows.append(await asyncio.to_thread(_row, policy, verdict, evidence, now_ms))
        about = {"name": policy.name, "digest": policy.digest, "in_force": policy == self._house.policy}
        changed = sum(row["changes"] for row in rows)
        return {**about, "verdicts": rows, "changed": changed, "without_evidence": unread}


def _read(said: str, now_ms: int) -> Policy:
    if len(said) > POLICY_CHARS_MAX:
        raise BadInput(f"a policy is at most {POLICY_CHARS_MAX:,} characters", where="policy")
    for number, line in enumerate(said.split("\n"), 1):
        if line.count(".") > DOTS_MAX:
            text = f"line {number} has over {DOTS_MAX} dots"
            raise BadInput(text, where="policy", hint="write a long list in several lines")
    try:
        wire = tomllib.loads(said)
    except (ValueError, OverflowError) as wrong:  # a number of thousands of digits is no TOMLDecodeError
        raise BadInput(f"is not TOML: {wrong}", where="policy") from wrong
    except RecursionError:
        raise BadInput("is nested too deep", where="policy") from None
    return Policy.parse(wire, now_ms)


def _row(policy: Policy, verdict: Verdict, evidence: Evidence, at_ms: int) -> Mapping[str, Any]:
    """What a policy says of evidence that was gathered before, beside what was said then."""
    stage = policy.stage_of(verdict.model, verdict.stage or PRODUCTION, verdict.tenant)
    state, findings = weigh(policy, evidence, at_ms, verdict.model, stage, verdict.tenant)
    before = {f.rule: f.holds or bool(f.exception) for f in verdict.findings}
    after = {f.rule: f.holds or bool(f.exception) for f in findings}
    return {
        "verdict": verdict.key,
        "model": verdict.model,
        "policy": verdict.policy,
        "before": verdict.state,
        "after": state,
        "changes": state != verdict.state,
        "rules": [f.text for f in findings if before.get(f.rule) != after[f.rule]],
        "dropped": sorted(before.keys() - after.keys()),
        "findings": to_json(findings),
    }
