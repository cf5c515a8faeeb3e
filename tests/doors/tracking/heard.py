"""What stands around the native lane in its tests: a record that only listens, and a door behind it."""

from __future__ import annotations

import json
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from tallystick.doors.mlflow.relay import error_answer
from tallystick.doors.tracking.front import NativeFront
from tallystick.doors.tracking.lane import Lane
from tallystick.record.asks import NotPlain
from tests.fakes.clock import FakeClock

RUN = "0123456789abcdef0123456789abcdef"
HOST = "http://127.0.0.1:5000"
NOW_MS = 1_700_000_000_000


class Heard:
    """A record that keeps what it was asked, and answers ``answer``, or raises it."""

    def __init__(self, answer: Any = None) -> None:
        self.asked: list[tuple[Any, str]] = []
        self.answer = answer
        self.readies = 0
        self.is_ready = True
        self.yielded: list[int] = []

    async def ready(self) -> bool:
        self.readies += 1
        return self.is_ready

    async def write(self, ask: Any, workspace: str) -> Any:
        self.asked.append((ask, workspace))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    read = write

    def yield_to(self, others: int) -> None:
        self.yielded.append(others)

    async def close(self) -> None:
        pass


class Behind:
    """The doors behind: they keep what reached them, and answer 299."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b"behind"})


def client(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST)


class Hub:
    """A native front on ``record``, with a client."""

    def __init__(self, record: Any, *, workspaces: bool = False) -> None:
        self.record = record
        self.behind = Behind()
        self.lane = Lane(record, FakeClock(NOW_MS), workspaces)
        self.http = client(NativeFront(self.behind, self.lane, error_answer))

    async def call(
        self, method: str, path: str, said: Any = None, *, raw: bytes | None = None, **headers: str
    ) -> httpx.Response:
        """``said`` as JSON, or as a query for GET; ``path`` below MLflow's API, or a whole one."""
        where = path if path.startswith("/") else f"/api/2.0/mlflow/{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if method == "GET":
            return await self.http.get(where, params=said, headers=named)
        if said is None and raw is None:
            return await self.http.request(method, where, headers=named)
        body = json.dumps(said).encode() if raw is None else raw
        return await self.http.request(
            method, where, content=body, headers={"content-type": "application/json", **named}
        )


async def asked(method: str, path: str, said: Any, **headers: str) -> Any:
    """The ask that a call makes; None where it is relayed."""
    record = Heard(NotPlain())
    hub = Hub(record)
    assert (await hub.call(method, path, said, **headers)).status_code == 299
    return record.asked[0][0] if record.asked else None
