"""The native lane: a call that is plain is asked of the record; all else is MLflow's own server's."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from tallystick.core.errors import TallyError, Unavailable
from tallystick.doors.tracking import answers, columns
from tallystick.doors.tracking.table import Ask, Route, find
from tallystick.ports.clock import Clock
from tallystick.ports.tracking import DEFAULT_WORKSPACE, Tracking
from tallystick.record.asks import GetExperiment, NotPlain, Read, SearchExperiments
from tallystick.record.entries import Page
from tallystick.record.search import Condition

__all__ = ["Lane"]

A = TypeVar("A")
Headers = Iterable[tuple[bytes, bytes]]
_LONG_BODY = 128 * 1024
LONG_BODIES_MAX = 2
_MANY = 250
_WORKSPACE = re.compile(rb"[a-z0-9][-a-z0-9]{0,61}[a-z0-9]")
_NEAR = (b"none", b"same-origin")
_LOOKED_AT = frozenset(
    b"host origin sec-fetch-site content-type content-encoding transfer-encoding x-mlflow-workspace".split()
)
_UNREAD = (msgspec.MsgspecError, ValueError, IndexError, RecursionError)


class Lane:
    """Answers native calls from ``tracking``; ``workspaces`` is whether requests may name one."""

    def __init__(self, tracking: Tracking, clock: Clock, workspaces: bool) -> None:
        self._tracking = tracking
        self._now = clock.now_ms
        self._workspaces = workspaces
        self._ready = False
        self._relayed = 0
        self._long = asyncio.Semaphore(LONG_BODIES_MAX)

    def find(self, method: str, path: bytes) -> Route | None:
        """The route of an undecoded path, if it is native."""
        return find(method, path)

    @contextmanager
    def relaying(self) -> Iterator[None]:
        """While MLflow's own server writes, the record leaves it gaps."""
        self._relayed += 1
        self._tracking.yield_to(self._relayed)
        try:
            yield
        finally:
            self._relayed -= 1
            self._tracking.yield_to(self._relayed)

    async def answer(
        self, route: Route, headers: Headers, query: bytes, body: bytes
    ) -> tuple[int, bytes] | None:
        """Status and JSON, or None: nothing was changed, and MLflow's own server is to be asked.

        Unavailable and other errors as the record raises them, for MLflow's form of an error.
        """
        ask: Ask | None = None
        workspace = DEFAULT_WORKSPACE
        try:
            if not self._ready:  # once it is, nobody asks again
                self._ready = await self._tracking.ready()
                if not self._ready:
                    raise NotPlain
            workspace = self._workspace(route, headers)
            ask = await self._read(route, query, body)
            return 200, await self._carried_out(route, ask, workspace)
        except NotPlain:
            if route.own:
                raise await self._refusal(ask, workspace) from None
            return await self._absent(ask, workspace)

    async def _absent(self, ask: Ask | None, workspace: str) -> tuple[int, bytes] | None:
        """MLflow's answer where no experiment has a name, which clients ask before they make one; or None."""
        if not isinstance(ask, GetExperiment) or not ask.name or workspace != DEFAULT_WORKSPACE:
            return None
        named = SearchExperiments(
            (Condition("attribute", "name", "=", ask.name),), ("active", "deleted"), (), 1
        )
        try:
            found = await self._tracking.read(named, workspace)
        except NotPlain:
            return None
        return None if found.items else (404, answers.no_experiment(ask.name))

    async def _refusal(self, ask: Ask | None, workspace: str) -> TallyError:
        if not self._ready:
            return Unavailable("MLflow's record is not ready yet", where="MLflow", hint="try again shortly")
        return await columns.refusal(ask, self._tracking, workspace)

    def _workspace(self, route: Route, headers: Headers) -> str:
        """Whose call it is; NotPlain where a header says more than is understood here."""
        said: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in _LOOKED_AT:
                if name in said:
                    raise NotPlain
                said[name] = value
        if b"content-encoding" in said or b"transfer-encoding" in said:
            raise NotPlain
        if not route.gets:
            own = b"http://" + said.get(b"host", b"")
            if said.get(b"origin", own) != own or said.get(b"sec-fetch-site", b"none") not in _NEAR:
                raise NotPlain
        if route.has_body and said.get(b"content-type", b"").partition(b";")[0] != b"application/json":
            raise NotPlain
        workspace = said.get(b"x-mlflow-workspace")
        if workspace is None:
            return DEFAULT_WORKSPACE
        if not self._workspaces or not _WORKSPACE.fullmatch(workspace):
            raise NotPlain
        return workspace.decode()

    async def _read(self, route: Route, query: bytes, body: bytes) -> Ask:
        """:meth:`_asked`, of long bodies a few at a time: what they become weighs a dozen times as much."""
        if len(body) <= _LONG_BODY:
            return self._asked(route, query, body)
        async with self._long:
            return await asyncio.to_thread(self._asked, route, query, body)

    def _asked(self, route: Route, query: bytes, body: bytes) -> Ask:
        """The ask that a call makes; NotPlain where it cannot be read in one way, and the usual one."""
        if (query and (route.has_body or route.path_id)) or (body and not route.has_body):
            raise NotPlain
        try:
            said = route.read(body if route.has_body else route.path_query or query)
            if route.path_id:
                _name(said, route.path_id)
            return route.ask(said, self._now)
        except _UNREAD:
            raise NotPlain from None

    async def _carried_out(self, route: Route, ask: Ask, workspace: str) -> bytes:
        if isinstance(ask, Read):
            found = await self._tracking.read(ask, workspace)
        else:
            found = await self._tracking.write(ask, workspace)
        many = found.items if isinstance(found, Page) else found if isinstance(found, list) else ()
        return await _off_loop(len(many) > _MANY, route.write, ask, found)


def _name(said: Any, model_id: str) -> None:
    """The model that a path names is the one that is meant; a body that names another is odd."""
    if said.model_id not in (None, model_id):
        raise NotPlain
    said.model_id = model_id


async def _off_loop(long: bool, do: Callable[..., A], *what: Any) -> A:
    """``do`` at once, or, where it takes ``long``, in a thread, so that others need not wait."""
    return await asyncio.to_thread(do, *what) if long else do(*what)
