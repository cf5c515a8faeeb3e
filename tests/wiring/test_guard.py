"""The guard: a web page of another origin gets nothing, tools and our own pages get everything."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message

from tallystick.wiring.guard import Guard


async def _hello(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


APP = Guard(
    Starlette(routes=[Route("/", _hello, methods=["GET", "POST"])]),
    ["127.0.0.1:5000", "localhost:5000", "[::1]:5000"],
)


async def _ask(method: str, headers: list[tuple[str, str]]) -> int:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(APP), base_url="http://127.0.0.1:5000"
    ) as client:
        return (await client.request(method, "/", headers=headers)).status_code


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", [("Host", "127.0.0.1:5000")]),
        ("POST", [("Host", "LOCALHOST:5000"), ("Origin", "http://localhost:5000")]),
        ("POST", [("Host", "[::1]:5000"), ("Sec-Fetch-Site", "same-origin")]),
        ("GET", [("Host", "localhost:5000"), ("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate")]),
        (
            "GET",
            [("Host", "localhost:5000"), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")],
        ),
    ],
)
async def test_let_in(method: str, headers: list[tuple[str, str]]) -> None:
    assert await _ask(method, headers) == 200


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", [("Host", "evil.example")]),
        ("GET", [("Host", "evil.example:5000")]),
        ("GET", [("Host", "127.0.0.1")]),
        ("GET", [("Host", "127.0.0.1:5001")]),
        ("GET", [("Host", "127.0.0.1:5000.evil.example")]),
        ("GET", [("Host", "127.0.0.1:5000"), ("Host", "evil.example")]),
        ("GET", [("Host", "127.0.0.1:5000"), ("Host", "127.0.0.1:5000")]),
        ("GET", [("Host", "127.0.0.1:5000, 127.0.0.1:5000")]),
        ("GET", [("Host", "")]),
        (
            "POST",
            [
                ("Host", "127.0.0.1:5000"),
                ("Origin", "http://127.0.0.1:5000"),
                ("Origin", "http://evil.example"),
            ],
        ),
        ("POST", [("Host", "127.0.0.1:5000"), ("Origin", "")]),
        (
            "POST",
            [("Host", "127.0.0.1:5000"), ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")],
        ),
        (
            "GET",
            [
                ("Host", "127.0.0.1:5000"),
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Mode", "navigate"),
                ("Sec-Fetch-Mode", "cors"),
            ],
        ),
        ("POST", [("Host", "127.0.0.1:5000"), ("Origin", "http://evil.example")]),
        ("POST", [("Host", "127.0.0.1:5000"), ("Origin", "null")]),
        ("POST", [("Host", "127.0.0.1:5000"), ("Origin", "http://https://127.0.0.1:5000")]),
        ("POST", [("Host", "127.0.0.1:5000"), ("Origin", "https://127.0.0.1:5000")]),
        ("POST", [("Host", "127.0.0.1:5000"), ("Origin", "127.0.0.1:5000")]),
        ("POST", [("Host", "127.0.0.1:5000"), ("Origin", "http://127.0.0.1:5001")]),
        ("GET", [("Host", "127.0.0.1:5000"), ("Origin", "http://evil.example")]),
        ("POST", [("Host", "127.0.0.1:5000"), ("Sec-Fetch-Site", "cross-site")]),
        (
            "POST",
            [("Host", "127.0.0.1:5000"), ("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "navigate")],
        ),
        (
            "GET",
            [("Host", "127.0.0.1:5000"), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")],
        ),
    ],
)
async def test_kept_out(method: str, headers: list[tuple[str, str]]) -> None:
    assert await _ask(method, headers) == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 403),
        ([(b"Host", b" LocalHost:5000 ")], 200),
        ([(b"HOST", b"localhost:5000"), (b"oRIGIN", b"http://evil.example")], 403),
        ([(b"host", b"localhost:5000"), (b"Host", b"localhost:5000")], 403),
        ([(b"host", b"localhost:5000\xff")], 403),
        ([(b"host", b"localhost:5000"), (b"user-agent", b"\xff"), (b"x", b"http://evil.example")], 200),
    ],
)
async def test_names_count_however_they_are_spelled(headers: list[tuple[bytes, bytes]], status: int) -> None:
    """As they arrive, when no client and no server has put them in order."""
    said: list[Message] = []

    async def send(message: Message) -> None:
        said.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers}
    await APP(scope, receive, send)
    assert said[0]["status"] == status
