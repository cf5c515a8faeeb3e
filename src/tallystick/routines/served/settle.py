"""Settle: bring what is served into line with what is wished, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

from tallystick.core.endpoint import Action, Endpoint, EndpointState, Observed, settle
from tallystick.core.errors import Failed, Refused, TallyError
from tallystick.core.model import ModelVersion
from tallystick.hub.house import House
from tallystick.hub.house.errand import Errand
from tallystick.hub.house.removal import remove
from tallystick.hub.house.route import Live
from tallystick.hub.house.serving import serve_order
from tallystick.hub.loading import check_loadable

__all__ = ["Settler"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Server:
    """A serving process for one generation of one endpoint."""

    generation: int
    model: str
    folder: Path
    errand: Errand | None = None
    answers: bool = False
    error: str = ""
    watching: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Settler:
    """Holds the serving processes; one of it in a house.

    A new generation is started beside the old one, which goes on answering until the new one does.
    """

    house: House
    serving: dict[str, _Server] = field(default_factory=dict)
    starting: dict[str, _Server] = field(default_factory=dict)

    async def run(self) -> None:
        """Settle whenever something woke us, and every so often anyway, until cancelled."""
        while True:
            self.house.wake.clear()
            with contextlib.suppress(TallyError):  # the ledger cannot be read now: it is asked again soon
                for endpoint in await self.house.all("endpoint", Endpoint):
                    await self._try(endpoint.name)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.house.wake.wait(), self.house.limits.settle_every_s)

    async def _try(self, name: str) -> None:
        """Settle one endpoint; what goes wrong with it must not keep the others from being settled."""
        try:
            await self.settle_one(name)
        except TallyError as wrong:
            self.house.routes.trouble(name, str(wrong))
        except Exception as wrong:  # noqa: BLE001  reason: the loop's edge; it is all that keeps endpoints going
            self.house.routes.trouble(name, f"{type(wrong).__name__}: {wrong}")
            _log.error("endpoint %s cannot be settled", name, exc_info=wrong)

    async def settle_one(self, name: str) -> Endpoint:
        """Compare wish and truth of one endpoint, once, and do the one next thing."""
        async with self.house.lock("endpoint", name):
            endpoint = await self.house.get("endpoint", name, Endpoint)
            settled, action = settle(endpoint, self._observe(endpoint), self.house.clock.now_ms())
            if settled != endpoint:
                note = (
                    settled.error
                    or f"{settled.wished.model or 'nothing'}, generation {settled.wished.generation}"
                )
                await self.house.tell("endpoint", name, settled.state, settled, note)
        if action is Action.START:
            await self._start(settled)
        elif action is Action.STOP:
            await self._stop(name)
        elif settled.state is EndpointState.READY:
            await self._switch(settled)
        self._route_trouble(settled)
        return settled

    def _observe(self, endpoint: Endpoint) -> Observed:
        old = self.serving.get(endpoint.name)
        server = self.starting.get(endpoint.name) or old
        if server is None:
            return Observed()
        if server.error:
            self.starting.pop(endpoint.name, None)
        if old and old.error:
            del self.serving[endpoint.name]
            self.house.routes.drop(endpoint.name)
        wished_generation = endpoint.wished.generation
        if server.generation != wished_generation and endpoint.wished.model:
            return Observed()
        return Observed(server.generation, server.answers, server.error)

    async def _start(self, endpoint: Endpoint) -> None:
        old = self.starting.pop(endpoint.name, None)
        if old:
            await self._end(old)
        wished = endpoint.wished
        folder = self.house.folder("serve")
        server = _Server(wished.generation, wished.model, folder)
        self.starting[endpoint.name] = server
        try:
            await self._check(wished.model, wished.model_digest)
            await self.house.artifacts.unpack(wished.model_digest, folder / "model")
            limit = self.house.limits.infer_bytes_max
            order, wall = serve_order(self.house, folder, endpoint.name, wished.model, body_bytes_max=limit)
            server.errand = await Errand.start(self.house.sandbox, "serve", order, wall)
        except TallyError as wrong:
            server.error = str(wrong)
            await remove(folder)
            self.house.wake.set()
            return
        server.watching = asyncio.create_task(self._watch(server), name=f"serve {endpoint.name}")

    async def _check(self, key: str, digest: str) -> None:
        """Refused where these are not the version's files, or nobody vouches for their code any more."""
        model = await self.house.get("model", key, ModelVersion)
        if model.digest != digest:
            raise Refused("its files are not those that were let in", where=key, hint=f"tally deploy {key}")
        await check_loadable(self.house, model)

    async def _watch(self, server: _Server) -> None:
        """Note when the process is ready, and why it ended once nothing is left of it."""
        errand, error = server.errand, ""
        if errand is None:
            return
        try:
            async with asyncio.timeout(self.house.limits.start_s) as limit:
                async for said in errand.lines():
                    if "ready" in said:
                        limit.reschedule(None)
                        server.answers = True
                        self.house.wake.set()
            raise Failed("the serving process ended", where=server.model)
        except TimeoutError:
            error = f"it was not ready within {self.house.limits.start_s:g} s"
        except TallyError as wrong:
            error = str(wrong)
        server.answers = False
        await errand.end()
        await remove(server.folder)
        server.error = error
        self.house.wake.set()

    async def _switch(self, endpoint: Endpoint) -> None:
        """Let the process that became ready take the traffic, then end the one before."""
        server = self.starting.pop(endpoint.name, None)
        if server is None:
            return
        old = self.serving.get(endpoint.name)
        self.serving[endpoint.name] = server
        name, _, version = server.model.partition("@")
        self.house.routes.put(
            endpoint.name, Live(server.folder / "s" / "m", server.generation, name, version)
        )
        if old:
            await self._end(old)

    async def _stop(self, name: str) -> None:
        self.house.routes.drop(name)
        for group in (self.starting, self.serving):
            server = group.pop(name, None)
            if server:
                await self._end(server)
        self.house.wake.set()

    async def _end(self, server: _Server) -> None:
        if server.watching:
            server.watching.cancel()
            await asyncio.gather(server.watching, return_exceptions=True)
        if server.errand:
            await server.errand.end()
        await remove(server.folder)

    def _route_trouble(self, endpoint: Endpoint) -> None:
        if endpoint.name not in self.serving and endpoint.state is not EndpointState.READY:
            why, soon = _trouble_words(endpoint)
            self.house.routes.trouble(endpoint.name, why, soon=soon)

    async def close(self) -> None:
        """End every serving process."""
        for server in [*self.starting.values(), *self.serving.values()]:
            await self._end(server)
        self.starting.clear()
        self.serving.clear()


def _trouble_words(endpoint: Endpoint) -> tuple[str, bool]:
    """Why an endpoint does not answer, and whether it may do so by itself soon."""
    if endpoint.state is EndpointState.FAILED:
        return f"it could not be started: {endpoint.error}", False
    again = f" again, as it came to nothing: {endpoint.error}" if endpoint.error else ""
    return f"it is {endpoint.state}{again}", endpoint.state is EndpointState.STARTING
