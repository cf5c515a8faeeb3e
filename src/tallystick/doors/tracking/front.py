"""In front of all doors: native calls are answered here, without a router; all else goes on as it came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallystick.core.errors import BadInput, TallyError, TooLarge, Unavailable
from tallystick.doors.tracking.lane import Lane
from tallystick.doors.tracking.table import Route

__all__ = ["BODY_S", "NativeFront"]

BODY_S = 30.0
"""For a body that does not come in one piece."""
HELD_BYTES_MAX = 128 * 1024 * 1024
"""Of bodies that came in pieces, all together, until each has its answer; whatever comes then streams to
MLflow's own server, or is told to come again."""
_HEAD: list[tuple[bytes, bytes]] = [
    (b"content-type", b"application/json"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
]


Taken = tuple[Message, tuple[int, bytes] | None]
"""What came, as far as it was read, and the lane's answer, if it has one."""
ErrorAnswer = Callable[[Request, TallyError], ASGIApp]
"""An error as MLflow's clients read it."""


class NativeFront:
    """Asks ``lane`` what it answers; the rest reaches ``app``, with the body that was read meanwhile.

    Origins were checked before (``wiring/guard.py``); the lane leaves what looks foreign to the door behind.
    """

    def __init__(self, app: ASGIApp, lane: Lane, error_answer: ErrorAnswer) -> None:
        self._app = app
        self._lane = lane
        self._error_answer = error_answer
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer natively, or hand the request on."""
        route = self._lane.find(scope["method"], scope["raw_path"]) if scope["type"] == "http" else None
        if route is None or (_length_of(scope) > route.body_bytes_max and not route.own):
            await self._app(
                scope, receive, send
            )  # what is too long is refused, or streams, without being held
            return
        try:
            message = await receive()
            take = self._pieces if message.get("more_body") else self._answer
            message, answer = await take(route, scope, message, receive)
        except TallyError as wrong:
            await self._error_answer(Request(scope), wrong)(scope, receive, send)
            return
        if message["type"] == "http.disconnect":
            return
        if answer is None:
            await self._app(scope, _replayed(message, receive), send)
            return
        status, told = answer
        head = [*_HEAD, (b"content-length", b"%d" % len(told))]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": told})

    async def _answer(self, route: Route, scope: Scope, message: Message, _: Receive) -> Taken:
        """What the lane says to a body that came in one piece."""
        if message["type"] == "http.disconnect":
            return message, None
        body = message.get("body", b"")
        return message, await self._lane.answer(route, scope["headers"], scope["query_string"], body)

    async def _pieces(self, route: Route, scope: Scope, message: Message, receive: Receive) -> Taken:
        """The same for a body in pieces; one that is too long to be held goes on as far as it came."""
        parts: list[bytes] = [message["body"]]
        held = len(message["body"])
        self._held += held
        try:
            async with asyncio.timeout(BODY_S):
                while (
                    message.get("more_body") and held <= route.body_bytes_max and self._held <= HELD_BYTES_MAX
                ):
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return message, None
                    parts.append(message.get("body", b""))
                    held += len(parts[-1])
                    self._held += len(parts[-1])
            more = message.get("more_body", False)
            if route.own and held > route.body_bytes_max:
                raise TooLarge(f"a body is at most {route.body_bytes_max} bytes here", where="columns")
            if route.own and more:
                raise Unavailable("too much arrives at once", where="columns", hint="try again in a moment")
            whole: Message = {"type": "http.request", "body": b"".join(parts), "more_body": more}
            return (whole, None) if more else await self._answer(route, scope, whole, receive)
        except TimeoutError:
            raise BadInput("the body did not arrive in time", where="MLflow") from None
        finally:
            self._held -= held


def _length_of(scope: Scope) -> int:
    """How long a request says that its body is; 0 where it says nothing."""
    said = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(said) if said.isdigit() else 0


def _replayed(message: Message, receive: Receive) -> Receive:
    """``receive`` from the start again."""
    waiting = [message]

    async def again() -> Any:
        return waiting.pop() if waiting else await receive()

    return again
