"""A serving process that the model has taken over: nothing it answers is a page, and no link is followed."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from tallystick.core.errors import Unavailable
from tallystick.doors.oip.app import oip_routes
from tallystick.doors.oip.lines import Lines
from tallystick.hub.house.route import Live, Routes
from tests.doors.mlflow.house import raw, served
from tests.fakes.clock import FakeClock
from tests.fakes.serving import Record

PAGE = b"<script>fetch('/api/tally/runs')</script>"
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _answering(headers: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%s\r\n" % (len(PAGE), headers) + PAGE)
        await writer.drain()
        writer.close()

    return answer


async def _ask(socket: Path) -> httpx.Response:
    routes, lines = Routes(), Lines()
    routes.put("e", Live(socket, 1, "m", "1"))
    app = Starlette(routes=oip_routes(routes, Record(), FakeClock(), body_bytes_max=1000, lines=lines))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        try:
            return await client.get("/v2/models/e")
        finally:
            lines.close()


@pytest.mark.parametrize(
    "headers",
    [
        b"content-type: text/html\r\n",
        b"content-type: image/svg+xml\r\n",
        b"content-type: application/json;x=text/html\r\n",
        b"content-type: text/html\r\ncontent-security-policy: default-src *\r\nset-cookie: a=b\r\n",
        b"",
    ],
)
async def test_no_answer_of_a_model_is_a_page(tmp_path: Path, headers: bytes) -> None:
    server = await asyncio.start_unix_server(_answering(headers), tmp_path / "m")
    async with server:
        answer = await _ask(tmp_path / "m")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert "set-cookie" not in answer.headers


async def test_a_link_in_the_place_of_the_socket_is_not_followed(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def somebody_elses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()

    server = await asyncio.start_unix_server(somebody_elses, tmp_path / "other")
    (tmp_path / "m").symlink_to(tmp_path / "other")
    async with server:
        answer = await _ask(tmp_path / "m")
    assert answer.status_code == Unavailable.http_status
    assert not asked.is_set()


async def test_a_file_in_the_place_of_the_socket_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("nothing")
    assert (await _ask(tmp_path / "m")).status_code == Unavailable.http_status


ODD = [
    "m/pull", "m/hidden", "m/pull/0", "m/versions/1/pull", "m/versions/1/hidden", "m/versions/1/pull/0",
    "m%2Fpull", "m%2Fpull/infer", "m/pull%2Finfer", "m/pull/infer", "m/infer/pull", "m/infer/../pull",
    "m/infer/%2e%2e/pull", "m/pull%3F/infer", "m/pull?/infer", "m/pull%23/infer", "m/pull%00/infer",
    "m/versions/1%2Fpull/infer", "m/versions/pull/infer", "m/versions/1%2F..%2Fpull", "m//pull", "./m/pull",
    "m/PULL", "m/pull/", "m/%70ull", "m%252Fpull/infer", "m/pull%20HTTP/1.1/infer", "m/pull;/infer",
]  # fmt: skip
_PLAIN = re.compile(rb"(GET|POST) /v2/models/[^/ ]+(/versions/[^/ ]+)?(/infer|/ready)? HTTP/1\.1")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "HEAD", "pull"])
async def test_no_gradient_of_a_served_model_is_to_be_had_from_outside(tmp_path: Path, method: str) -> None:
    """The process would answer: whatever is asked here, it is asked only what the protocol has."""
    seen: list[bytes] = []

    async def tells_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                seen.append(head.partition(b"\r\n")[0])
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}"
                )
        writer.close()

    routes, lines = Routes(), Lines()
    for name in ("m", "m/pull", "infer", "pull"):
        routes.put(name, Live(tmp_path / "m", 1, name, "1"))
    app = Starlette(routes=oip_routes(routes, Record(), FakeClock(), body_bytes_max=1000, lines=lines))
    server = await asyncio.start_unix_server(tells_all, tmp_path / "m")
    async with server, served(app) as url:
        for path in ODD:
            head = f"{method} /v2/models/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0"
            answer = await raw(url, head)
            assert answer.status >= 400 or _asks_plainly(seen), (path, answer)
        asked_before = len(seen)
        assert all(_PLAIN.fullmatch(line) for line in seen), seen
        card = await raw(url, "GET /v2/models/infer HTTP/1.1\r\nHost: x")
        assert (card.status, seen[asked_before:]) == (200, [b"GET /v2/models/infer HTTP/1.1"])
        lines.close()


def _asks_plainly(seen: list[bytes]) -> bool:
    return bool(seen) and _PLAIN.fullmatch(seen[-1]) is not None
