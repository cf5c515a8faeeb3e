"""Clients that send or read slowly: the few connections of MLflow's own server stay free for others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tallystick.doors.mlflow import answer, bodies, relay
from tallystick.doors.mlflow.proxy import mlflow_routes
from tallystick.tiles.registry import life
from tests.doors.mlflow.house import API, MIB, served

CONNECTIONS = 8
LONG = 3 * MIB
WRITE = API + "registered-models/create"


@dataclass
class Mlflow:
    """As much of MLflow's server as it takes, on a socket, with few connections; and the lane beside it."""

    url: str = ""
    http: Any = None
    heads: list[dict[str, str]] = field(default_factory=list)
    relayed: int = 0
    seen: list[int] = field(default_factory=list)
    held: asyncio.Event | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def __hash__(self) -> int:
        return id(self)

    async def client(self, dead: httpx.AsyncClient | None = None) -> httpx.AsyncClient:
        return self.http  # type: ignore[no-any-return]  # it is one

    def find(self, method: str, path: bytes) -> Any:
        return None

    async def answer(self, route: Any, headers: Any, query: bytes, body: bytes) -> None:
        return None

    @contextlib.contextmanager
    def relaying(self) -> Iterator[None]:
        self.relayed += 1
        try:
            yield
        finally:
            self.relayed -= 1

    async def app(self, request: Request) -> Response:
        self.heads.append(dict(request.headers))
        said = await request.body()
        self.seen.append(self.relayed)
        self.asked.set()
        if self.held:
            await self.held.wait()
        if request.url.path.startswith("/static-files/"):
            return Response(bytes(10 * LONG))
        return PlainTextResponse(str(len(said)))


@pytest.fixture
async def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mlflow]:
    monkeypatch.setattr(life, "CONNECTIONS_MAX", CONNECTIONS)
    monkeypatch.setattr(bodies, "UPLOADS_MAX", 2)
    monkeypatch.setattr(bodies, "DOWNLOADS_MAX", 2)
    mlflow = Mlflow()
    app = Starlette(routes=[Route("/{rest:path}", mlflow.app, methods=["GET", "POST", "PUT"])])
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "s"))
        door.listen()
        serving = asyncio.create_task(server.serve(sockets=[door]))
        mlflow.http = httpx.AsyncClient(transport=life.Requests(tmp_path / "s"))
        async with mlflow.http, served(Starlette(routes=mlflow_routes(mlflow, mlflow))) as mlflow.url:
            yield mlflow
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def lines(mlflow: Mlflow, count: int, said: bytes) -> AsyncIterator[list[socket.socket]]:
    """So many connections that say something, and have little room for an answer."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", httpx.URL(mlflow.url).port))
            await loop.sock_sendall(one, said)
            opened.append(one)
        yield opened


def head(path: str, length: int, method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode()


async def heard(line: socket.socket) -> bytes:
    """The first line of an answer."""
    async with asyncio.timeout(60):
        return (await asyncio.get_running_loop().sock_recv(line, 4096)).partition(b"\r\n")[0]


async def others_are_answered(mlflow: Mlflow) -> None:
    async with httpx.AsyncClient(base_url=mlflow.url, timeout=50) as http:
        assert (await http.get("/version")).status_code == 200
        assert (await http.post("/graphql", content=b"{}")).text == "2"


async def test_short_bodies_that_stop_in_the_middle_take_no_connection(
    mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lines(mlflow, 2 * CONNECTIONS, head("/graphql", 1000) + b"{") as stopped:
        await others_are_answered(mlflow)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(stopped[0], b" " * 999)
        assert await heard(stopped[0]) == b"HTTP/1.1 200 OK"
    monkeypatch.setattr(bodies, "STALLED_S", 0.2)
    async with lines(mlflow, 1, head("/graphql", 1000) + b"{") as (stopped_too,):
        assert await heard(stopped_too) == b"HTTP/1.1 504 Gateway Timeout"


async def test_long_bodies_that_stop_take_some_of_the_connections_and_for_a_while(
    mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lines(mlflow, 2 * CONNECTIONS, head("/graphql", LONG) + b"{"):
        await others_are_answered(mlflow)
    monkeypatch.setattr(bodies, "STALLED_S", 0.2)
    async with lines(mlflow, 6, head("/graphql", LONG) + b"{") as stopped:
        said = {await heard(line) for line in stopped}
    assert said <= {b"HTTP/1.1 504 Gateway Timeout", b"HTTP/1.1 503 Service Unavailable"}
    monkeypatch.setattr(bodies, "STALLED_S", 60.0)
    async with httpx.AsyncClient(base_url=mlflow.url, timeout=60) as http:
        assert (await http.post("/graphql", content=bytes(LONG))).text == str(LONG)


async def test_an_upload_over_a_slow_line_goes_on(mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lasts longer than it may stall, several times over."""
    monkeypatch.setattr(bodies, "STALLED_S", 1.0)
    async with lines(mlflow, 1, head("/graphql", LONG)) as (slow,):
        for _ in range(30):
            await asyncio.get_running_loop().sock_sendall(slow, bytes(LONG // 30))
            await asyncio.sleep(0.1)
        await asyncio.get_running_loop().sock_sendall(slow, bytes(LONG % 30))
        assert await heard(slow) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("length", [100, 300_000])
async def test_a_body_without_a_length_reaches_mlflow_so(mlflow: Mlflow, length: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield bytes(length)

    async with httpx.AsyncClient(base_url=mlflow.url, timeout=60) as http:
        assert (await http.post("/graphql", content=pieces())).text == str(length)
    assert mlflow.heads[-1]["transfer-encoding"] == "chunked"
    assert "content-length" not in mlflow.heads[-1]


async def test_bodies_that_arrive_slowly_do_not_fill_the_memory(
    mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest makes room; one that comes at once is taken."""
    monkeypatch.setattr(bodies, "HELD_BYTES_MAX", MIB)
    part = head("/graphql", MIB) + bytes(MIB // 4)
    async with lines(mlflow, 1, part) as (oldest,), lines(mlflow, 6, part):
        assert await heard(oldest) == b"HTTP/1.1 503 Service Unavailable"
        async with httpx.AsyncClient(base_url=mlflow.url, timeout=60) as http:
            assert (await http.post("/graphql", content=bytes(MIB // 2))).text == str(MIB // 2)
    async with asyncio.timeout(60):
        while bodies.turns_of(mlflow)._held_bytes:  # noqa: ASYNC110  reason: nobody tells
            await asyncio.sleep(0.01)


async def test_answers_that_nobody_reads_take_some_of_the_connections_and_for_a_while(
    mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = b"GET /static-files/main.js HTTP/1.1\r\nhost: x\r\n\r\n"
    async with lines(mlflow, 2 * CONNECTIONS, asked):
        await others_are_answered(mlflow)
    monkeypatch.setattr(answer, "STALLED_S", 0.2)
    async with lines(mlflow, 2 * CONNECTIONS, asked), httpx.AsyncClient(timeout=60) as http:
        async with asyncio.timeout(60):
            while (got := await http.get(f"{mlflow.url}/static-files/main.js")).status_code == 503:
                assert got.headers["retry-after"] == "1"
                await asyncio.sleep(0.05)
    assert len(got.content) == 10 * LONG


@pytest.mark.parametrize("length", [1000, LONG])
async def test_no_gaps_are_left_for_a_write_that_is_not_sent_yet(mlflow: Mlflow, length: int) -> None:
    """Gaps slow all other writes: there are some from when the body is through until it is answered."""
    mlflow.held = asyncio.Event()
    async with lines(mlflow, 1, head(WRITE, length) + b"{") as (one,):
        await others_asked(mlflow)
        assert mlflow.relayed == 0
        await asyncio.get_running_loop().sock_sendall(one, bytes(length - 1))
        async with asyncio.timeout(60):
            await mlflow.asked.wait()
        assert mlflow.relayed == 1
        mlflow.held.set()
        assert await heard(one) == b"HTTP/1.1 200 OK"
    assert mlflow.relayed == 0


async def others_asked(mlflow: Mlflow) -> None:
    """Something else is on its way meanwhile, so that what was said before has reached the hub."""
    assert mlflow.held
    async with httpx.AsyncClient(timeout=60) as http:
        asking = asyncio.create_task(http.get(f"{mlflow.url}/version"))
        async with asyncio.timeout(60):
            await mlflow.asked.wait()
        mlflow.asked.clear()
        mlflow.held.set()
        assert (await asking).status_code == 200
    mlflow.held = asyncio.Event()


async def test_gaps_for_one_write_have_an_end(mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "GAPS_S_MAX", 0.2)
    mlflow.held = asyncio.Event()
    async with lines(mlflow, 1, head(WRITE, 2) + b"{}") as (one,):
        async with asyncio.timeout(60):
            await mlflow.asked.wait()
            while mlflow.relayed:  # noqa: ASYNC110  reason: nobody tells
                await asyncio.sleep(0.01)
        mlflow.held.set()
        assert await heard(one) == b"HTTP/1.1 200 OK"
    assert mlflow.relayed == 0
