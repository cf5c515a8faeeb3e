"""What passes to MLflow's server and back, and what happens when it breaks."""

from __future__ import annotations

import asyncio
import filecmp
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from tallystick.core.errors import MissingTile
from tallystick.doors.mlflow import relay
from tallystick.doors.mlflow.proxy import mlflow_routes
from tests.doors.mlflow.house import API, FILES, MIB, Echo, House, raw, served

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_who_asks_and_where_is_not_passed_on() -> None:
    echo = Echo()
    lines = [
        "POST /mlflow/api/2.0/mlflow/runs/search?a=%2F&b=c HTTP/1.1",
        "Host: hub.example:9",
        "Origin: http://hub.example:9",
        "Authorization: Bearer secret",
        "Proxy-Authorization: Basic x",
        "Cookie: tally=secret",
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-Host: evil",
        "Forwarded: for=1.2.3.4",
        "X-Real-IP: 1.2.3.4",
        "Referer: http://hub.example/secret",
        "TE: trailers",
        "X-Named: gone",
        "X-Kept: yes",
        "Content-Type: application/json",
        "Content-Length: 2",
    ]
    async with served(Starlette(routes=mlflow_routes(echo))) as url:
        head = "\r\n".join(lines) + "\r\nConnection: x-named"
        answer = await raw(url, head, b"{}")
    assert answer.status == 200
    (request,) = echo.seen
    assert dict(request.headers) == {
        "host": "localhost",
        "x-kept": "yes",
        "content-type": "application/json",
        "content-length": "2",
    }
    assert request.extensions["target"] == b"/api/2.0/mlflow/runs/search?a=%2F&b=c"
    assert echo.bodies == [b"{}"]


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            b"0\r\n\r\nGET /api/2.0/mlflow/x HTTP/1.1\r\n\r\n",
        ),
        ("Transfer-Encoding: chunked\r\nContent-Length: 40", b"0\r\n\r\n"),
        ("Content-Length: 4\r\nContent-Length: 40", b"abcd"),
        ("Content-Length: +4", b"abcd"),
        ("Transfer-Encoding: xchunked", b"0\r\n\r\n"),
        ("Transfer-Encoding : chunked", b"0\r\n\r\n"),
        ("X: a\r\n y: b\r\nContent-Length: 0", b""),
        ("X: a\0b\r\nContent-Length: 0", b""),
    ],
)
async def test_a_second_request_cannot_be_smuggled(head: str, body: bytes) -> None:
    """Either the request is refused, or MLflow's server sees one request with one body of one length."""
    echo = Echo()
    async with served(Starlette(routes=mlflow_routes(echo))) as url:
        answer = await raw(url, f"POST /api/2.0/mlflow/runs/search HTTP/1.1\r\nHost: x\r\n{head}", body)
    assert answer.status in (200, 400)
    for request, got in zip(echo.seen, echo.bodies, strict=True):
        assert request.url.path == "/"
        assert request.extensions["target"] == b"/api/2.0/mlflow/runs/search"
        lengths = ("content-length" in request.headers, "transfer-encoding" in request.headers)
        assert lengths != (True, True)
        assert b"GET" not in got
    assert len(echo.seen) <= 1


async def test_the_answer_is_cleaned_too() -> None:
    headers = {
        "Location": "http://localhost/x",
        "Set-Cookie": "a=b",
        "Server": "other",
        "Keep-Alive": "timeout=1",
        "X-Kept": "yes",
    }
    echo = Echo(308, headers, b"moved")
    async with served(Starlette(routes=mlflow_routes(echo))) as url, httpx.AsyncClient(base_url=url) as http:
        answer = await http.get("/mlflow/api/x")
    assert answer.headers["location"] == "/mlflow/x"
    assert "set-cookie" not in answer.headers
    assert answer.headers.get_list("server") == ["uvicorn"]
    assert len(answer.headers.get_list("date")) == 1
    assert answer.headers["x-kept"] == "yes"
    assert answer.content == b"moved"


class Refusing:
    """A server that does not start."""

    def __init__(self, wrong: Callable[[], Any]) -> None:
        self._wrong = wrong

    async def client(self, dead: httpx.AsyncClient | None = None) -> httpx.AsyncClient:
        return await self._wrong()  # type: ignore[no-any-return]  # it never returns


async def missing() -> Any:
    raise MissingTile("MLflow is not installed", hint="pip install 'tallystick[mlflow]'")


async def never() -> Any:
    await asyncio.Event().wait()


async def test_without_mlflow_the_command_is_said() -> None:
    transport = httpx.ASGITransport(Starlette(routes=mlflow_routes(Refusing(missing))))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as http:
        api = await http.get(API + "experiments/search")
        page = await http.get("/mlflow/", headers={"accept": "text/html"})
    assert api.status_code == page.status_code == 503
    assert "pip install 'tallystick[mlflow]'" in api.json()["message"]
    assert api.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert page.text.endswith("(pip install 'tallystick[mlflow]')\n")


async def test_a_start_that_takes_too_long_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "START_S_MAX", 0.05)
    transport = httpx.ASGITransport(Starlette(routes=mlflow_routes(Refusing(never))))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as http:
        answer = await http.get(API + "experiments/search")
    assert answer.status_code == 503
    assert "still starting" in answer.json()["message"]
    assert answer.headers["retry-after"] == "1"


async def test_after_a_kill_the_next_requests_are_answered(house: House) -> None:
    await house.http.get("/version")
    before = house.pid
    os.kill(before, signal.SIGKILL)
    answers = await asyncio.gather(
        *(house.http.get(API + "experiments/get?experiment_id=0") for _ in range(8))
    )
    assert {a.status_code for a in answers} == {200}
    assert house.pid != before


async def test_a_kill_in_the_middle_of_an_answer_breaks_it_off(house: House) -> None:
    experiment_id, run_id = await house.new_run()
    path = f"{FILES}/{experiment_id}/{run_id}/artifacts/big"
    await house.http.put(path, content=b"x" * (64 * MIB))
    async with house.http.stream("GET", path) as answer:
        chunks = answer.aiter_raw()
        await anext(chunks)
        os.kill(house.pid, signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):
            await drained(chunks)
    assert (await house.http.get(API + "experiments/get?experiment_id=0")).is_success


async def drained(chunks: AsyncIterator[bytes]) -> None:
    async for _ in chunks:
        continue


async def test_who_goes_away_is_not_waited_for(house: House) -> None:
    """An upload that is cut off leaves no artifact, and the server goes on."""
    experiment_id, run_id = await house.new_run()
    path = f"/{experiment_id}/{run_id}/artifacts/cut"
    reader, writer = await asyncio.open_connection(*house.url.removeprefix("http://").split(":"))
    head = f"PUT {FILES}{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {MIB}\r\n\r\n"
    writer.write(head.encode() + b"x" * 1000)
    await writer.drain()
    writer.transport.abort()
    assert (await house.http.get(API + "experiments/get?experiment_id=0")).is_success
    assert (await house.http.get(FILES + path)).status_code == 404
    del reader


async def test_a_body_over_the_limit_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.doors.mlflow.paths.BODY_BYTES_MAX", 1000)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    told = await house.http.post(API + "runs/search", content=b"x" * 1001)
    streamed = await house.http.post(API + "runs/search", content=endless())
    assert (told.status_code, streamed.status_code) == (413, 413)
    assert (await house.http.post(API + "runs/search", json={"experiment_ids": ["0"]})).is_success


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


@pytest.mark.slow
async def test_large_artifacts_pass_in_little_memory(house: House, tmp_path: Path) -> None:
    """200 MiB up by curl and down again: this process, the hub's here, does not grow by a quarter of it."""
    experiment_id, run_id = await house.new_run()
    url = f"{house.url}{FILES}/{experiment_id}/{run_id}/artifacts/large"
    source, back = tmp_path / "large", tmp_path / "back"
    with source.open("wb") as file:
        for i in range(200):
            file.write(i.to_bytes(2, "big") * (MIB // 2))
    before = peak = resident_bytes()
    for command in (["-T", str(source), url], ["-o", str(back), url]):
        moving = await asyncio.create_subprocess_exec("curl", "-sSf", "--noproxy", "*", *command)
        waiting = asyncio.create_task(moving.wait())
        while not waiting.done():
            peak = max(peak, resident_bytes())
            await asyncio.wait([waiting], timeout=0.02)
        assert waiting.result() == 0
    assert peak - before < 50 * MIB
    assert filecmp.cmp(source, back, shallow=False)
