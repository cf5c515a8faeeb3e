"""Vouching over the API: papers of a model, signatures, trusted keys, consent."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from tallystick.core.data import TRAINING, TableRef
from tallystick.core.errors import BadInput, MissingTile
from tallystick.core.facts import to_json
from tallystick.core.model import ModelRef, ModelVersion
from tallystick.core.verdict import Verdict
from tallystick.doors.api.wire import answer, flag, json_body, text
from tallystick.hub.house import House
from tallystick.hub.register import admit
from tallystick.ports.models.signing import Signing
from tallystick.routines.attest import (
    bill,
    consent,
    draft,
    newest_verdict,
    refresh,
    take_signed,
    vouch_for,
    withdraw_consent,
)

__all__ = ["routes"]


class _Vouching:
    def __init__(self, house: House) -> None:
        self.house = house

    async def papers(self, request: Request) -> Any:
        """What goes with a model as it is handed out: digests of its papers, by their files' names."""
        model = await self._model(await json_body(request))
        attestation = await refresh(self.house, model)
        verdict: Verdict | None = await newest_verdict(self.house, model)
        papers = {"verdict.json": verdict.envelope} if verdict else {}
        if attestation:
            papers |= {"provenance.json": attestation.statement, "model.sig": attestation.signature}
            papers |= {"bom.json": attestation.bom}
        return {
            "model": to_json(model),
            "attestation": to_json(attestation),
            "papers": {name: digest for name, digest in papers.items() if digest},
            "verdict": {"key": verdict.key, "state": str(verdict.state)} if verdict else None,
        }

    async def sign(self, request: Request) -> Any:
        body = await json_body(request)
        return await vouch_for(self.house, ModelRef.parse(text(body, "model")))

    async def draft(self, request: Request) -> Any:
        made = await draft(self.house, await self._model(await json_body(request)))
        payloads = {"statement": made.statement, "signature": made.signature}
        encoded = {name: base64.b64encode(raw).decode("ascii") for name, raw in payloads.items()}
        return {"model": made.model, "bom": made.bom, **encoded}

    async def signed(self, request: Request) -> Any:
        body = await json_body(request)
        model = await self._model(body)
        if not isinstance(envelope := body.get("envelope"), Mapping):
            raise BadInput("'envelope' must be an object", where="body")
        bundle = body.get("bundle")
        if bundle is not None and not isinstance(bundle, Mapping):
            raise BadInput("'bundle' must be an object", where="body")
        return await take_signed(self.house, model, envelope, bundle, text(body, "bom"))

    async def bom(self, request: Request) -> Any:
        return await bill(self.house, await self._model(await json_body(request)))

    async def keys(self, _: Request) -> Any:
        return to_json(await asyncio.to_thread(self._signing.keys))

    async def trust(self, request: Request) -> Any:
        body = await json_body(request)
        name, pem, now = text(body, "name"), text(body, "pem"), self.house.clock.now_ms()
        return await asyncio.to_thread(self._signing.trust, name, pem, now)

    async def distrust(self, request: Request) -> Any:
        name = str(request.path_params["name"])
        await asyncio.to_thread(self._signing.distrust, name)
        return {"name": name}

    async def consent(self, request: Request) -> Any:
        body = await json_body(request)
        ref, use = TableRef.parse(text(body, "table")), text(body, "use", TRAINING)
        if flag(body, "withdraw"):
            return await withdraw_consent(self.house, ref, use)
        return await consent(self.house, ref, use, text(body, "owner"))

    async def _model(self, body: Mapping[str, Any]) -> ModelVersion:
        return await admit(self.house, ModelRef.parse(text(body, "model")))

    @property
    def _signing(self) -> Signing:
        if self.house.signing is None:
            hint = "pip install 'tallystick[supply]'"
            raise MissingTile("there are no keys here", where="signing", hint=hint)
        return self.house.signing


def routes(house: House) -> list[BaseRoute]:
    """Routes under ``/api/tally``: papers, attestations, bom, keys, consents."""
    api = _Vouching(house)

    def post(path: str, handler: Any, status: int = 200) -> Route:
        return Route(f"/api/tally{path}", answer(handler, status), methods=["POST"])

    return [
        post("/papers", api.papers),
        post("/attestations", api.sign, 201),
        post("/attestations/draft", api.draft),
        post("/attestations/signed", api.signed, 201),
        post("/bom", api.bom),
        Route("/api/tally/keys", answer(api.keys), methods=["GET"]),
        post("/keys", api.trust, 201),
        post("/keys/{name}/remove", api.distrust),
        post("/consents", api.consent, 201),
    ]
