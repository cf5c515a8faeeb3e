"""Slow and malicious clients: whatever they send, or do not send, others are answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes.mlflow.schema import WithRecord
from tests.journeys.conftest import RunningHub, start_hub

pytestmark = pytest.mark.slow

API = "/api/2.0/mlflow"
CONNECTIONS = 10_000
CONNECTIONS_MAX = 2000
"""The hub's own limit; what comes beyond it is told so, and shut."""
MIB = 2**20


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, with_record: WithRecord) -> Iterator[RunningHub]:
    """A hub with an experiment and a run (``hub.run``)."""
    running = start_hub(with_record(tmp_path_factory.mktemp("hostile") / "home"))
    made = httpx.post(f"{running.url}{API}/experiments/create", json={"name": "hostile"}, timeout=120)
    assert made.status_code == 200, made.text
    yield running
    if running.process.poll() is None:
        status, said = running.end()
        assert status == 0, said


def new_run(hub: RunningHub) -> str:
    body = {"experiment_id": "1", "start_time": 1}
    return str(
        httpx.post(f"{hub.url}{API}/runs/create", json=body, timeout=60).json()["run"]["info"]["run_id"]
    )


class Line:
    """A connection of a client that does not behave."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, hub: RunningHub) -> Line:
        host, port = hub.url.removeprefix("http://").split(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def say(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def first(self) -> bytes:
        """The first line of the answer; nothing where the connection was ended without one."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            return await asyncio.wait_for(self.reader.readuntil(b"\r\n"), 120)
        return b""

    def close(self) -> None:
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def lines(hub: RunningHub, count: int) -> AsyncIterator[list[Line]]:
    """So many connections."""
    opened: list[Line] = []
    try:
        while len(opened) < count:
            more = min(200, count - len(opened))
            opened += await asyncio.gather(*(Line.open(hub) for _ in range(more)))
        yield opened
    finally:
        for line in opened:
            line.close()


def head(path: str, length: int | str, method: str = "POST", host: str = "") -> bytes:
    size = "transfer-encoding: chunked" if length == "chunked" else f"content-length: {length}"
    kind = "content-type: application/json"
    return f"{method} {API}/{path} HTTP/1.1\r\nhost: {host}\r\n{kind}\r\n{size}\r\n\r\n".encode()


async def others_are_served(hub: RunningHub, run_id: str, turns: int = 20) -> None:
    """A client that behaves writes and reads, on connections of its own."""
    async with httpx.AsyncClient(base_url=hub.url, timeout=60) as http:
        for step in range(turns):
            body = {"run_id": run_id, "key": "m", "value": step, "timestamp": step, "step": step}
            answer = await http.post(f"{API}/runs/log-metric", json=body)
            assert answer.status_code == 200, answer.text
            answer = await http.get(f"{API}/runs/get", params={"run_id": run_id})
            assert answer.json()["run"]["info"]["run_id"] == run_id
        assert (await http.get("/api/tally/status")).status_code == 200


async def test_requests_that_never_end(hub: RunningHub) -> None:
    """Half a line, half a head, half a body, a body byte by byte, and an answer that nobody reads."""
    run_id, host = new_run(hub), hub.url.removeprefix("http://")
    halves = [
        b"POST /api/2.0/ml",
        f"POST {API}/runs/log-metric HTTP/1.1\r\nhost: {host}\r\nx-slow: ".encode(),
        head("runs/log-metric", 1000, host=host) + b'{"run_id": ',
        head("runs/log-batch", "chunked", host=host) + b'10\r\n{"run_id": "abcd',
        head("runs/log-batch", 900_000, host=host),
        f"GET {API}/experiments/search?max_results=1000 HTTP/1.1\r\nhost: {host}\r\n\r\n".encode() * 50,
    ]
    async with lines(hub, 60 * len(halves)) as slow:
        for n, line in enumerate(slow):
            await line.say(halves[n % len(halves)])
        await others_are_served(hub, run_id)
        for line in slow[2 :: len(halves)]:
            await line.say(b'"')
        await others_are_served(hub, run_id)
    await others_are_served(hub, run_id, 2)


def resident_mib(hub: RunningHub) -> int:
    """Memory of the hub's own process."""
    status = Path(f"/proc/{hub.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


async def test_a_body_over_the_limit_is_refused_before_it_is_read(hub: RunningHub) -> None:
    run_id, host = new_run(hub), hub.url.removeprefix("http://")
    async with lines(hub, 4) as huge:
        for line in huge:
            await line.say(head("runs/log-batch", 10 * 2**30, host=host) + b'{"run_id": "')
        await others_are_served(hub, run_id, 5)
        for line in huge:
            said = await line.first()
            assert b" 413 " in said, said
    assert resident_mib(hub) < 400


async def test_bodies_without_end_are_cut_off(hub: RunningHub) -> None:
    """Chunks and chunks, with no length said: refused at the limit, and the hub holds no more than that."""
    run_id, host = new_run(hub), hub.url.removeprefix("http://")
    piece = b"%x\r\n" % MIB + b" " * MIB + b"\r\n"
    async with lines(hub, 3) as endless:

        async def pour(line: Line) -> int:
            await line.say(head("runs/log-batch", "chunked", host=host))
            for n in range(200):
                if line.reader.at_eof() or line.writer.is_closing():
                    return n
                await line.say(piece)
            return 200

        pouring = [asyncio.create_task(pour(line)) for line in endless]
        await others_are_served(hub, run_id)
        await asyncio.wait_for(asyncio.gather(*pouring), 120)
        said = await asyncio.gather(*(line.first() for line in endless))
    assert all(b" 413 " in answer or answer == b"" for answer in said), said
    await others_are_served(hub, run_id, 2)


DEEP = 100_000
ODD_BODIES = {
    "deep lists": b"[" * DEEP,
    "deep lists, closed": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep within a field": b'{"run_id": "x", "metrics": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep in a field nobody knows": b'{"run_id": "x", "nobody": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "a long number": b'{"run_id": "x", "metrics": [{"key": "k", "timestamp": 1, "value": '
    + b"9" * 500_000
    + b"}]}",
    "many keys": b"{" + b",".join(b'"k%d": 1' % n for n in range(60_000)) + b"}",
    "one key often": b"{" + b",".join([b'"run_id": "x"'] * 50_000) + b"}",
    "no UTF-8": b'{"run_id": "\xff\xfe"}',
    "NULs": b"\0" * 100_000,
}


@pytest.mark.parametrize("name", ODD_BODIES)
async def test_a_body_of(hub: RunningHub, name: str) -> None:
    run_id = new_run(hub)
    async with httpx.AsyncClient(base_url=hub.url, timeout=120) as http:
        headers = {"content-type": "application/json"}
        odd = [
            asyncio.create_task(http.post(f"{API}/{route}", content=ODD_BODIES[name], headers=headers))
            for route in ("runs/log-batch", "runs/search", "runs/log-metric")
        ]
        await others_are_served(hub, run_id, 5)
        for answer in await asyncio.gather(*odd):
            # As MLflow's own server says it: to a search, a body that is no JSON is an empty one.
            assert answer.status_code in (200, 400, 404, 500), (answer.status_code, answer.text[:300])
            assert "Traceback" not in answer.text
    assert hub.process.poll() is None


async def test_searches_that_are_long_to_read(hub: RunningHub) -> None:
    """Filters with thousands of parts, and patterns made to be slow: others need not wait for them."""
    run_id = new_run(hub)
    filters = [
        " AND ".join(f"params.p{n} = 'x'" for n in range(3000)),
        "params.p LIKE '" + "%a" * 5000 + "%b'",
        "(" * 5000,
        "tags.`" + "a" * 100_000 + "` = 'x'",
        "metrics.m IN (" + ", ".join(map(str, range(20_000))) + ")",
    ]
    async with httpx.AsyncClient(base_url=hub.url, timeout=180) as http:
        body = {"experiment_ids": ["1"], "order_by": ["metrics.m DESC"]}
        asked = [
            asyncio.create_task(http.post(f"{API}/runs/search", json={**body, "filter": text}))
            for text in filters
        ]
        await others_are_served(hub, run_id, 10)
        answers = await asyncio.gather(*asked)
    assert all(a.status_code in (200, 400, 500) for a in answers), [a.status_code for a in answers]
    assert hub.process.poll() is None


@pytest.fixture
def many() -> Iterator[int]:
    """How many connections there may be: this process and the hub have the same limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(CONNECTIONS, hard - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_thousands_of_connections(hub: RunningHub, many: int) -> None:
    """Up to the limit all is as always; beyond it a request is told so with 503; then all is as before."""
    run_id = new_run(hub)
    async with lines(hub, CONNECTIONS_MAX - 100):
        await others_are_served(hub, run_id, 5)
    await asyncio.sleep(0)
    async with httpx.AsyncClient(base_url=hub.url, timeout=60) as http:
        assert (await http.get("/api/tally/status")).status_code == 200
        async with lines(hub, many):
            answer = await http.get(f"{API}/runs/get", params={"run_id": run_id})
            assert answer.status_code in (200, 503)
            if answer.status_code == 503:
                assert answer.headers["connection"] == "close"
                assert answer.text
    await back_to_rest(hub, run_id)


async def test_a_low_limit_of_open_files_is_raised(tmp_path: Path) -> None:
    """Most systems start a process with 1024: that many idle connections must not fill the hub."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    low = start_hub(tmp_path / "home")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        async with lines(low, min(1500, soft - 200)), httpx.AsyncClient(base_url=low.url, timeout=60) as http:
            assert (await http.get("/api/tally/status")).status_code == 200
    finally:
        status, said = low.end()
    assert status == 0
    assert "Too many open files" not in said


async def back_to_rest(hub: RunningHub, run_id: str) -> None:
    """The hub answers again once the connections are gone: it is asked until it does."""
    async with asyncio.timeout(60), httpx.AsyncClient(base_url=hub.url, timeout=60) as http:
        while (await http.get("/api/tally/status")).status_code == 503:  # noqa: ASYNC110  reason: nobody tells
            await asyncio.sleep(0.1)
    await others_are_served(hub, run_id, 5)


async def test_what_was_written_meanwhile_is_there(hub: RunningHub) -> None:
    """Clients that hang up in the middle of an answer do not disturb the batch their write was in."""
    run_id, host = new_run(hub), hub.url.removeprefix("http://")
    body = json.dumps({"run_id": run_id, "key": "gone", "value": 1, "timestamp": 1}).encode()
    async with lines(hub, 100) as rude:
        for line in rude:
            await line.say(head("runs/log-metric", len(body), host=host) + body)
        await asyncio.gather(*(others_are_served(hub, run_id, 3) for _ in range(8)))
    async with httpx.AsyncClient(base_url=hub.url, timeout=60) as http:
        answer = await http.get(f"{API}/runs/get", params={"run_id": run_id})
    assert "m" in {metric["key"] for metric in answer.json()["run"]["data"]["metrics"]}
