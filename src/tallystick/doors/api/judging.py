"""Judging over the API: begin, cancel, what a verdict rests on, and the policy with its trials."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from tallystick.core.errors import Conflict
from tallystick.core.facts import to_json
from tallystick.core.model import ModelRef
from tallystick.core.verdict import PRODUCTION, Verdict
from tallystick.doors.api.trial import POLICY_BODY_BYTES_MAX, TESTED_MAX, Trials
from tallystick.doors.api.wire import answer, flag, json_body, text
from tallystick.hub.house import House
from tallystick.hub.register import admit
from tallystick.judging.gather import cancel_gathering, threats_of
from tallystick.judging.judge import (
    begin_endpoint,
    begin_judging,
    expired_now,
    finish_endpoint,
    finish_judging,
)
from tallystick.judging.weighed import evidence_of
from tallystick.routines.attest import attested

__all__ = ["routes"]


class _Judging:
    def __init__(self, house: House, label: str) -> None:
        self.house = house
        self.label = label
        self.trials = Trials(house)

    async def judge(self, request: Request) -> Any:
        body = await json_body(request)
        label, stage = text(body, "label", self.label), text(body, "stage", PRODUCTION)
        again, policy = flag(body, "again"), self.house.policy
        if address := text(body, "endpoint", ""):
            data = text(body, "data", "")
            verdict, rows = await begin_endpoint(self.house, address, data, policy, label)
            self.house.start(verdict.key, finish_endpoint(self.house, verdict, rows, policy, label))
            return verdict
        model = await attested(self.house, await admit(self.house, ModelRef.parse(text(body, "model"))))
        data = text(body, "data", "")
        verdict, rows = await begin_judging(self.house, model, data, policy, label, again, stage)
        if not verdict.state.ended:
            work = finish_judging(self.house, verdict, model, rows, policy, label, again)
            self.house.start(verdict.key, work)
        return verdict

    async def cancel(self, request: Request) -> Any:
        """End a judgement that is under way; Conflict where none is."""
        key = str(request.path_params["key"])
        verdict = await self.house.get("verdict", key, Verdict)
        if verdict.state.ended or not await cancel_gathering(self.house, key):
            raise Conflict(f"it is {verdict.state}: there is nothing to cancel", where=key)
        return await self.house.get("verdict", key, Verdict)

    async def whole(self, request: Request) -> Any:
        """A verdict with its evidence, which rates are ``imprecise``, and why it counts no more."""
        verdict = await self.house.get("verdict", str(request.path_params["key"]), Verdict)
        evidence = await evidence_of(self.house.artifacts, verdict)
        return {
            "verdict": to_json(verdict),
            "evidence": to_json(evidence),
            "imprecise": to_json(list(evidence.shortfalls())) if evidence else [],
            "expired": await expired_now(self.house, verdict) if verdict.reached else "",
        }

    async def standing(self, _: Request) -> Any:
        """Why each verdict that was reached counts no more; an empty text for one that does."""
        found = [v for v in await self.house.all("verdict", Verdict, TESTED_MAX) if v.reached]
        threats = await threats_of(self.house, self.house.policy) if found else ""
        return {verdict.key: await expired_now(self.house, verdict, threats) for verdict in found}

    async def policy(self, _: Request) -> Any:
        """The policy that is in force: its text, and how it was understood."""
        policy = self.house.policy
        return {"digest": policy.digest, "text": self.house.policy_text, "policy": to_json(policy)}

    async def try_policy(self, request: Request) -> Any:
        """Weigh the evidence of past verdicts under another policy; nothing is recorded."""
        return await self.trials.tried(text(await json_body(request, POLICY_BODY_BYTES_MAX), "text"))


def routes(house: House, label: str) -> list[BaseRoute]:
    """Routes under ``/api/tally``; ``label`` is the column of right answers where nothing else is said."""
    api = _Judging(house, label)

    def route(method: str, path: str, handler: Any, status: int = 200) -> Route:
        return Route(f"/api/tally{path}", answer(handler, status), methods=[method])

    return [
        route("POST", "/verdicts", api.judge, 202),
        route("GET", "/verdicts/standing", api.standing),
        route("GET", "/verdicts/{key}", api.whole),
        route("POST", "/verdicts/{key}/cancel", api.cancel),
        route("GET", "/policy", api.policy),
        route("POST", "/policy/test", api.try_policy),
    ]
