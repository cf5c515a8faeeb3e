"""In front of all doors: native calls are answered here, without a router; all else goes on as it came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallystick.core.errors import BadInput, TallyError, TooLarge
from tallystick.doors.tracking.lane import Lane
from tallystick.doors.tracking.table import Route

__all__ = ["BODY_S", "NativeFront"]

BODY_S = 30.0
"""For a body that does not come in one piece."""
HELD_BYTES_MAX = 128 * 1024 * 1024
"""Of bodies that are still arriving, all together; beyond it they stream to MLflow's own server."""
_HEAD: list[tuple[bytes, bytes]] = [
    (b"content-type", b"application/json"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
]


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
            if message.get("more_body"):
                message = await self._whole(route, message, receive)
            if message["type"] == "http.disconnect":
                return
            answer = None
            if not message.get("more_body"):
                body = message.get("body", b"")
                answer = await self._lane.answer(route, scope["headers"], scope["query_string"], body)
        except TallyError as wrong:
            await self._error_answer(Request(scope), wrong)(scope, receive, send)
            return
        if answer is None:
            await self._app(scope, _replayed(message, receive), send)
            return
        status, told = answer
        head = [*_HEAD, (b"content-length", b"%d" % len(told))]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": told})

    async def _whole(self, route: Route, message: Message, receive: Receive) -> Message:
        """The rest of a body as one message; with ``more_body`` where it is too long to be held."""
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
                        return message
                    parts.append(message.get("body", b""))
                    held += len(parts[-1])
                    self._held += len(parts[-1])
        except TimeoutError:
            raise BadInput("the body did not arrive in time", where="MLflow") from None
        finally:
            self._held -= held
        too_long = held > route.body_bytes_max or message.get("more_body", False)
        if too_long and route.own:
            raise TooLarge(f"a body is at most {route.body_bytes_max} bytes here", where="columns")
        return {"type": "http.request", "body": b"".join(parts), "more_body": message.get("more_body", False)}


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
