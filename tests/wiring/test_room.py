"""Who keeps a connection when room is needed: not those who stopped, be it in sending or in taking."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tallystick.wiring import protocol
from tallystick.wiring.protocol import BoundedHttp

LIMIT = 20
PIECE = bytes(128 * 1024)
PIECES = 160
"""20 MiB in all: more than the buffers of both ends hold."""


async def _large(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(PIECES):
            yield PIECE

    return StreamingResponse(pieces(), headers={"content-length": str(len(PIECE) * PIECES)})


async def _at_once(request: Request) -> Response:
    return Response(PIECE * PIECES, headers={"connection": "close"})


async def _size(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(protocol, "STALLED_S", 1.0)
    routes = [
        Route("/large", _large),
        Route("/at-once", _at_once),
        Route("/", _size, methods=["GET", "POST"]),
    ]
    config = uvicorn.Config(
        Starlette(routes=routes),
        http=BoundedHttp,
        lifespan="off",
        log_level="critical",
        limit_concurrency=LIMIT,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110  reason: uvicorn sets a flag and tells nobody
            await asyncio.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def asking(
    port: int, count: int, said: bytes, taking: int = 4096
) -> AsyncIterator[list[socket.socket]]:
    """So many connections that say something, with little room for an answer."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, taking)
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", port))
            await loop.sock_sendall(one, said)
            opened.append(one)
        yield opened


async def answered(port: int) -> None:
    """Others get an answer, sooner or later."""
    async with asyncio.timeout(60):
        for _ in range(5):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    async with httpx.AsyncClient(timeout=60) as http:
                        if (await http.get(f"http://127.0.0.1:{port}/")).status_code == 200:
                            break
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("path", [b"large", b"at-once"])
async def test_those_who_read_nothing_make_room(port: int, path: bytes) -> None:
    """Answers that stream, and answers that were written whole while nobody takes them."""
    async with asking(port, LIMIT - 1, b"GET /%b HTTP/1.1\r\nhost: x\r\n\r\n" % path):
        await answered(port)


async def test_sending_more_is_no_taking(port: int) -> None:
    """Further requests on the same connection do not keep it for an answer that is not read."""
    async with asking(port, LIMIT - 1, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n") as stuck:

        async def go_on() -> None:
            while True:
                for one in stuck:
                    with contextlib.suppress(OSError):
                        one.send(b"\r\n")
                await asyncio.sleep(0.1)

        sending = asyncio.create_task(go_on())
        await answered(port)
        sending.cancel()


async def test_who_reads_slowly_goes_on(port: int) -> None:
    """Room is made meanwhile, again and again: by those who take nothing, not by one who takes a little."""
    loop = asyncio.get_running_loop()
    said = b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    async with asking(port, 1, said, 64 * 1024) as (slow,), asking(port, LIMIT - 2, said):
        others = asyncio.create_task(answered(port))
        got = 0
        while not others.done():
            got += len(await loop.sock_recv(slow, 4096))
            await asyncio.sleep(0.02)
        await others
        async with asyncio.timeout(60):
            while piece := await loop.sock_recv(slow, 1 << 20):
                got += len(piece)
        assert got > len(PIECE) * PIECES


async def test_of_those_who_drip_the_slowest_make_room(port: int) -> None:
    """A byte now and then is a transfer too: so that short calls have room, only the faster ones stay."""
    loop = asyncio.get_running_loop()
    size = 200 * 1024
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    async with asking(port, 1, head % size) as (honest,), asking(port, LIMIT - 2, head % 9999) as drips:
        others = asyncio.create_task(answered(port))
        left = size
        while not others.done():
            for one in drips:
                with contextlib.suppress(OSError):
                    one.send(b"x")
            if left > 1024:
                await loop.sock_sendall(honest, bytes(1024))
                left -= 1024
            await asyncio.sleep(0.1)
        await others
        await loop.sock_sendall(honest, bytes(left))
        async with asyncio.timeout(60):
            assert (await loop.sock_recv(honest, 4096)).startswith(b"HTTP/1.1 200")
