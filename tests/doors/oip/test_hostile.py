"""A serving process that the model has taken over: nothing it answers is a page, and no link is followed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from tallystick.core.errors import Unavailable
from tallystick.doors.oip.app import oip_routes
from tallystick.doors.oip.lines import Lines
from tallystick.hub.house.route import Live, Routes
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
