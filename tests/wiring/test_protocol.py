"""The front door's HTTP against clients that send too much, too slowly, or nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tallystick.wiring import protocol
from tallystick.wiring.protocol import HEAD_BYTES_MAX, BoundedHttp


async def _size(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def _names(request: Request) -> PlainTextResponse:
    """The headers, once the body is read; a body of one byte is answered without the rest."""
    async for chunk in request.stream():
        if len(chunk) == 1:
            break
    return PlainTextResponse(" ".join(sorted(request.headers)))


async def _late(request: Request) -> PlainTextResponse:
    """An answer that comes when whoever asked may be gone."""
    await asyncio.sleep(0.05)
    return PlainTextResponse("late")


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    app = Starlette(
        routes=[
            Route("/", _size, methods=["GET", "POST"]),
            Route("/names", _names, methods=["POST"]),
            Route("/late", _late),
        ]
    )
    config = uvicorn.Config(app, http=BoundedHttp, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110  reason: uvicorn sets a flag and tells nobody
            await asyncio.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        await serving


async def _send(port: int, *parts: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(60):
            return await reader.read(4096)
    except ConnectionError:
        return b"closed"
    finally:
        writer.close()


async def test_a_usual_request_and_a_large_body(port: int) -> None:
    assert b"200 OK" in await _send(port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    body = b"x" * (4 * HEAD_BYTES_MAX)
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    answer = await _send(port, head + body)
    assert answer.endswith(str(len(body)).encode())


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\n"])
async def test_a_head_that_does_not_end_is_cut_off(port: int, start: bytes) -> None:
    more = [b"a: b\r\n" * 4096 if start.endswith(b"\r\n") else b"y" * 24_576] * 8
    assert (await _send(port, start, *more))[:12] in (b"HTTP/1.1 431", b"closed")


CHUNKED = b"POST /names HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"2\r\n{}\r\n0\r\n", b"a: b\r\n" * 4096),
        (b"0\r\na", b"y" * 24_576),
        (b"0\r\na: ", b"y" * 24_576),
        (b"2;", b"y" * 24_576),
        (b"2\r\n{}\r\n3;y=", b"y" * 24_576),
        (b"1\r\n \r\n0\r\n", b"a: b\r\n" * 4096),
    ],
)
async def test_what_follows_a_body_without_end_is_cut_off(port: int, start: bytes, more: bytes) -> None:
    """Trailers, and what a chunk says of itself: neither may be as long as the sender likes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(60):
            writer.write(CHUNKED.replace(b"connection: close\r\n", b"") + start)
            while not writer.is_closing() and sent < 64 * 2**20:
                writer.write(more)
                await writer.drain()
                sent += len(more)
    writer.transport.abort()
    assert sent < 64 * 2**20
    del reader


async def test_a_trailer_is_no_header(port: int) -> None:
    answer = await _send(port, CHUNKED + b"2\r\n{}\r\n0\r\nx-mlflow-workspace: other\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nconnection host transfer-encoding")


async def test_many_small_chunks_pass(port: int) -> None:
    """What chunks say of themselves is counted from one piece of the body to the next, not in all."""
    chunks = b"1;some=extension\r\nx\r\n" * 20_000
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert (await _send(port, head, chunks, b"0\r\nsum: 1\r\n\r\n")).endswith(b"20000")


async def test_a_head_that_takes_too_long_is_ended(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    assert (await _send(port, b"GET / HTTP/1.1\r\nx: "))[:12] == b"HTTP/1.1 408"


async def test_nonsense_is_a_bad_request(port: int) -> None:
    assert (await _send(port, b"\x00\x01\x02\r\n\r\n"))[:12] == b"HTTP/1.1 400"


async def test_a_connection_that_never_asks_is_ended(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    assert (await _send(port))[:12] == b"HTTP/1.1 408"


async def test_those_who_ask_for_nothing_make_room_for_others() -> None:
    app = Starlette(routes=[Route("/", _size, methods=["GET", "POST"])])
    config = uvicorn.Config(app, http=BoundedHttp, lifespan="off", log_level="critical", limit_concurrency=20)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110  reason: uvicorn sets a flag and tells nobody
            await asyncio.sleep(0.01)
        at = listener.getsockname()[1]
        idle = [await asyncio.open_connection("127.0.0.1", at) for _ in range(60)]
        for _, writer in idle[::2]:
            writer.write(b"GET / HTTP/1.1\r\nx: ")
        for _ in range(5):
            assert b"200 OK" in await _send(at, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        for _, writer in idle:
            writer.transport.abort()
        server.should_exit = True
        await serving


async def test_many_who_come_at_once_do_not_stay_beyond_the_limit() -> None:
    """All are let in within one turn of the loop: room is made by ending others, not one again and again."""
    config = uvicorn.Config(
        Starlette(), http=BoundedHttp, lifespan="off", log_level="critical", limit_concurrency=20, backlog=200
    )
    server = uvicorn.Server(config)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=200))
        for _ in range(100):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with asyncio.timeout(60):
            while not 15 <= len(server.server_state.connections) <= 20:  # noqa: ASYNC110  reason: as above
                await asyncio.sleep(0.01)
        server.should_exit = True
        await serving


@pytest.mark.parametrize("count", [1 + protocol.PIPELINED_MAX, 5000])
async def test_only_so_many_requests_wait_for_the_answer_to_an_earlier_one(
    port: int, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """For each there is a moment in which nobody else is served. Ending them is no error of the house's."""
    log = logging.getLogger("uvicorn.error")
    log.setLevel(logging.ERROR)
    log.addHandler(caplog.handler)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /late HTTP/1.1\r\nhost: x\r\n\r\n" * (count - 1))
    writer.write(b"GET /late HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answered = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(60):
            while piece := await reader.read(65536):
                answered += piece
    writer.close()
    await asyncio.sleep(0.2)  # for the late answers that nobody is there for
    there = answered.count(b"200 OK")
    assert there == count if count < 100 else there <= 1 + protocol.PIPELINED_MAX
    log.removeHandler(caplog.handler)
    assert caplog.text == ""
