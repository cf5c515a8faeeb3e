"""The routes of the API: each reads a request, calls a verb, and shows the noun that came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from tallystick.core.errors import BadInput, NotFound
from tallystick.core.facts import NOUNS, to_json
from tallystick.core.model import ModelRef
from tallystick.core.names import check_name
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.signal import Signal, drift_words
from tallystick.doors.api import attest, judging, runs
from tallystick.doors.api.wire import answer, file_name, in_file, json_body, number, save_body, text
from tallystick.hub.house import House
from tallystick.hub.house.removal import remove
from tallystick.hub.ingest import ingest
from tallystick.hub.register import admit, register
from tallystick.judging.deploy import deploy, withdraw
from tallystick.routines.attest import attested
from tallystick.routines.served.heal import Hands, begin_remedy, carry, propose_remedy
from tallystick.routines.served.observe import observe

__all__ = ["api_routes"]

LISTING_MAX = 1000


class _Api:
    def __init__(self, house: House, hands: Hands, facts: Mapping[str, Any]) -> None:
        self.house = house
        self.hands = hands
        self.facts = facts

    async def status(self, _: Request) -> Any:
        counts = await self.house.ledger.counts(self.house.tenant)
        facts = {name: await fact() if callable(fact) else fact for name, fact in self.facts.items()}
        return {
            **facts,
            "counts": {n: counts.get(n, 0) for n in NOUNS},
            "under_way": sorted(self.house.tasks),
        }

    async def log(self, request: Request) -> Any:
        noun = request.query_params.get("noun", "")
        if noun and noun not in NOUNS:
            raise BadInput(f"no noun {noun!r}", where="log", hint="one of " + ", ".join(NOUNS))
        key = request.query_params.get("key", "")
        before, limit = number(request, "before", 0, 2**62), number(request, "limit", 50, LISTING_MAX)
        # What the cache keeps is no news: who wants steps says so, by their noun or by a key.
        nouns = [noun] if noun or key else [n for n in NOUNS if n not in ("step", "environment", "probe")]
        found = [
            fact
            for one in nouns
            for fact in await self.house.ledger.history(
                self.house.tenant, noun=one, key=key, before=before, limit=limit
            )
        ]
        return sorted(found, key=lambda fact: -fact.seq)[:limit]

    async def listing(self, request: Request) -> Any:
        noun = _noun(request)
        limit = number(request, "limit", 100, LISTING_MAX)
        facts = await self.house.ledger.listing(self.house.tenant, noun, limit)
        return [self._shown(f.key, f.state) for f in facts]

    async def one(self, request: Request) -> Any:
        noun, key = _noun(request), request.path_params["key"]
        fact = await self.house.ledger.latest(self.house.tenant, noun, key)
        if fact is None:
            raise NotFound(f"no {noun} {key[:100]!r}", hint=f"tally log --noun {noun}")
        state = await runs.shown_run(self.house, key, request) if noun == "run" else fact.state
        return self._shown(key, state)

    def _shown(self, key: str, state: Mapping[str, Any]) -> dict[str, Any]:
        """The noun's state and, while work on it is under way, its progress."""
        share, words = self.house.progress.get(key, (None, ""))
        return {**state, "under_way": {"share": share, "text": words}} if share is not None else dict(state)

    async def traffic(self, request: Request) -> Any:
        name = check_name("endpoint", request.path_params["name"])
        return self.house.traffic.stats(self.house.tenant, name, self.house.clock.now_ms())

    async def ingest(self, request: Request) -> Any:
        query = request.query_params
        table = check_name("table", query.get("table", ""))
        filename = file_name(query.get("filename", ""))
        folder = self.house.folder(f"ingest-{table[:40]}")
        try:
            path = folder / "upload"
            await save_body(request, path, int(self.facts["upload_bytes_max"]))
            return await ingest(self.house, table, path, filename, allow_nan=query.get("allow_nan") == "true")
        except BadInput as wrong:
            raise in_file(wrong, filename) from wrong
        finally:
            await remove(folder)

    async def register(self, request: Request) -> Any:
        body = await json_body(request)
        name, run, output = text(body, "name"), text(body, "run"), text(body, "output")
        return await attested(self.house, await register(self.house, name, run, output))

    async def admit(self, request: Request) -> Any:
        body = await json_body(request)
        return await admit(self.house, ModelRef.parse(text(body, "model")))

    async def deploy(self, request: Request) -> Any:
        body = await json_body(request)
        name = check_name("endpoint", text(body, "name"))
        model = await admit(self.house, ModelRef.parse(text(body, "model")))
        return await deploy(self.house, model, name)

    async def withdraw(self, request: Request) -> Any:
        return await withdraw(self.house, check_name("endpoint", request.path_params["name"]))

    async def observe(self, request: Request) -> Any:
        name = check_name("endpoint", request.path_params["name"])
        body = await json_body(request)
        drift, signal = await observe(self.house, name, text(body, "label", str(self.facts["label"])))
        remedy = await propose_remedy(self.house, signal) if signal else None
        words = signal.text if signal else drift_words(drift, self.house.drift)
        return {"text": words, "drift": to_json(drift), "signal": to_json(signal), "remedy": to_json(remedy)}

    async def propose(self, request: Request) -> Any:
        body = await json_body(request)
        signal = await self.house.get("signal", text(body, "signal"), Signal)
        return await propose_remedy(self.house, signal)

    async def carry(self, request: Request) -> Any:
        remedy = await begin_remedy(self.house, request.path_params["key"])
        self.house.start(remedy.key, carry(self.house, remedy, self.hands))
        return remedy


def _noun(request: Request) -> str:
    noun = str(request.path_params["noun"])
    if noun not in NOUNS:
        raise NotFound(f"no noun {noun[:40]!r}", where="api", hint="one of " + ", ".join(NOUNS))
    return noun


def api_routes(
    house: House,
    hands: Hands,
    read: Callable[[bytes], Pipeline],
    facts: Mapping[str, Any],
) -> list[BaseRoute]:
    """Routes under ``/api/tally``.

    ``read`` makes a pipeline of a file's bytes; ``facts`` are what ``status`` says of this hub (one that is
    an async function is asked each time), and hold the defaults ``label`` and ``upload_bytes_max``.
    """
    api = _Api(house, hands, facts)

    def post(path: str, handler: Any, status: int = 200) -> Route:
        return Route(f"/api/tally{path}", answer(handler, status), methods=["POST"])

    def get(path: str, handler: Any) -> Route:
        return Route(f"/api/tally{path}", answer(handler), methods=["GET"])

    return [
        get("/status", api.status),
        get("/log", api.log),
        get("/traffic/{name}", api.traffic),
        post("/ingest", api.ingest, 201),
        *runs.routes(house, read),
        post("/models", api.register, 201),
        post("/models/admit", api.admit),
        *judging.routes(house, str(facts["label"])),
        *attest.routes(house),
        post("/endpoints", api.deploy, 202),
        post("/endpoints/{name}/withdraw", api.withdraw, 202),
        post("/endpoints/{name}/observe", api.observe),
        post("/remedies", api.propose, 201),
        post("/remedies/{key}/carry", api.carry, 202),
        get("/nouns/{noun}", api.listing),
        get("/nouns/{noun}/{key}", api.one),
    ]
