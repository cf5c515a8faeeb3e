"""How these tests ask, where no client would."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from pathlib import Path

import httpx
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tallystick.evidence.policy import Gate
from tallystick.judging.seals import Seals
from tallystick.record.entries import Held


def unsealed() -> Seals:
    """Where no version stands in production."""

    async def held() -> list[Held]:
        return []

    return Seals(Gate, held)


async def relayed(request: Request) -> Response:
    """Stands where MLflow's own server does."""
    return PlainTextResponse("relayed", 299)


def below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


async def spoken(url: str, method: bytes, target: bytes, body: bytes) -> bytes:
    """What is answered to a request that no client would have put right."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
    head = b"%s %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % (method, target, len(body)) + body)
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    await writer.wait_closed()
    return answer


async def cut_off(url: str, path: str, sent: bytes, total: int) -> None:
    """An upload whose connection ends after ``sent``, of ``total`` bytes."""
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) as connection:
        head = f"PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {total}\r\n\r\n"
        await asyncio.to_thread(connection.sendall, head.encode() + sent)


async def kept(http: httpx.AsyncClient, path: str, wanted: int) -> int:
    """The offset to go on from, once the hub has seen that the connection is gone."""
    for _ in range(600):
        said = await http.head(path, params={"upload": ""})
        assert said.status_code == 204
        if int(said.headers["upload-offset"]) == wanted:
            break
        await asyncio.sleep(0.1)
    return int(said.headers["upload-offset"])
