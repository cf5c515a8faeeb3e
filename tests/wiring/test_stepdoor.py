"""Each step's own door to MLflow: a socket and an instance, apart from every other step's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path

import httpx
import pytest

from tallystick.core.errors import Unavailable
from tallystick.wiring import stepdoor
from tallystick.wiring.home import PATH_BYTES_MAX
from tallystick.wiring.stepdoor import step_doors

API = "/api/2.0/mlflow/"
SOCKET_BYTES_MAX = 107


class Mlflow:
    """As much of MLflow's server as steps ask: it gives ids, and says what it was sent."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict]] = []
        self.held: asyncio.Event | None = None
        self.asked = asyncio.Event()
        self._client = httpx.AsyncClient(transport=httpx.MockTransport(self._say))

    async def client(self, dead: httpx.AsyncClient | None = None) -> httpx.AsyncClient:
        return self._client

    async def _say(self, request: httpx.Request) -> httpx.Response:
        path = request.extensions["target"].decode()
        body = await request.aread()
        self.seen.append((path, json.loads(body or b"{}")))
        self.asked.set()
        if self.held:
            await self.held.wait()
        answer = {}
        if path.endswith("runs/create"):
            run_id = f"{len(self.seen):032x}"
            answer = {"run": {"info": {"run_id": run_id, "artifact_uri": f"mlflow-artifacts:/1/{run_id}/a"}}}
        return httpx.Response(200, stream=Said(json.dumps(answer).encode()))


class Said(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content


@contextlib.asynccontextmanager
async def through(path: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
        yield client


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return folder


async def make_run(client):
    made = await client.post(API + "runs/create", json={"experiment_id": "1"})
    assert made.status_code == 200, made.text
    return made.json()["run"]["info"]["run_id"]


async def test_only_its_owner_reaches_a_socket_and_it_goes_with_the_step(run):
    async with step_doors(Mlflow(), run)("run-1 train") as door:
        path = await door.path()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        async with through(path) as client:
            assert (await client.get("/health")).status_code == 200
    assert list(run.iterdir()) == []
    async with through(path) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/health")


async def test_the_socket_of_the_longest_home_is_short_enough(run):
    async with step_doors(Mlflow(), run)("run-1 train") as door:
        path = await door.path()
        below_home = len(os.fsencode(path.relative_to(run.parent)))
    assert PATH_BYTES_MAX + 1 + below_home <= SOCKET_BYTES_MAX


async def test_a_step_writes_to_its_own_runs_and_not_to_another_steps(run):
    mlflow = Mlflow()
    opened = step_doors(mlflow, run)
    async with contextlib.AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(opened(k)) for k in ("run-1 train", "run-2 loop[0]/train")
        ]
        async with through(await one.path()) as mine, through(await two.path()) as theirs:
            run_id = await make_run(mine)
            body = {"run_id": run_id, "key": "a", "value": "b"}
            assert (await mine.post(API + "runs/set-tag", json=body)).status_code == 200
            assert (await theirs.post(API + "runs/set-tag", json=body)).status_code == 403
            address = f"/api/2.0/mlflow-artifacts/artifacts/1/{run_id}/a/x"
            assert (await mine.put(address, content=b"{}")).status_code == 200
            assert (await theirs.put(address, content=b"{}")).status_code == 403
            await make_run(theirs)
    made = [body["tags"] for path, body in mlflow.seen if path.endswith("runs/create")]
    assert made == [
        [{"key": "tally.run", "value": "run-1"}, {"key": "tally.step", "value": "train"}],
        [{"key": "tally.run", "value": "run-2"}, {"key": "tally.step", "value": "loop[0]/train"}],
    ]


async def test_a_step_that_shuts_its_door_shuts_no_other(run):
    """The socket is writable for the step, so that it can connect: it can take every right off it too."""
    opened = step_doors(Mlflow(), run)
    async with opened("run-1 evil") as evil, opened("run-1 beside") as beside:
        (await evil.path()).chmod(0)
        async with through(await beside.path()) as client:
            await make_run(client)
    async with opened("run-1 after") as after, through(path := await after.path()) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await make_run(client)


async def test_calls_that_a_step_left_behind_do_not_hold_up_its_end(run, monkeypatch):
    monkeypatch.setattr(stepdoor, "GRACE_S", 0.05)
    mlflow = Mlflow()
    mlflow.held = asyncio.Event()
    async with asyncio.timeout(60):
        async with (
            step_doors(mlflow, run)("run-1 train") as door,
            through(path := await door.path()) as client,
        ):
            call = asyncio.create_task(client.post(API + "runs/create", json={}))
            idle = await asyncio.open_unix_connection(str(path))
            await mlflow.asked.wait()
            left = (call, idle)
    assert list(run.iterdir()) == []
    with contextlib.suppress(httpx.TransportError):
        assert (await left[0]).status_code >= 500
    assert await left[1][0].read() == b""
    left[1][1].close()


async def _end_of(reader):
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""


async def test_a_step_does_not_take_all_of_the_hubs_files(run, monkeypatch):
    monkeypatch.setattr(stepdoor, "CONNECTIONS_MAX", 4)
    async with asyncio.timeout(60), step_doors(Mlflow(), run)("run-1 train") as door:
        path = await door.path()
        opened = [await asyncio.open_unix_connection(str(path)) for _ in range(8)]
        ends = [asyncio.create_task(_end_of(reader)) for reader, _ in opened]
        for end in islice(asyncio.as_completed(ends), 4):  # the idle ones make room for the new
            await end
        assert not ends[-1].done()
        for end in ends:
            end.cancel()
        for _, writer in opened:
            writer.close()
    assert list(run.iterdir()) == []


async def test_a_step_that_fails_or_is_cancelled_leaves_no_socket(run):
    opened = step_doors(Mlflow(), run)

    async def failing():
        async with opened("run-1 train") as door:
            await door.path()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await failing()
    inside = asyncio.Event()

    async def step():
        async with opened("run-1 train") as door:
            await door.path()
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(step())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(run.iterdir()) == []


async def test_what_a_killed_hub_left_is_removed_and_nothing_else(run):
    (run / "0a1b2c3d").mkdir()
    (run / "0a1b2c3d" / "s").touch()
    (run / "mlflow").mkdir()
    (run / "mlflow.sock").touch()
    step_doors(Mlflow(), run)
    assert {p.name for p in run.iterdir()} == {"mlflow", "mlflow.sock"}


async def test_a_folder_that_is_gone_is_said(run):
    opened = step_doors(Mlflow(), run)
    run.rmdir()
    with pytest.raises(Unavailable, match="no socket can be made"):
        async with opened("run-1 train") as door:
            await door.path()


@contextlib.asynccontextmanager
async def accepted(door) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose connections are accepted elsewhere, and handed over to the door."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        loop, served = asyncio.get_running_loop(), set()

        async def accept():
            while True:
                connection, _ = await loop.sock_accept(listener)
                served.add(asyncio.create_task(door.serve(connection)))

        accepting = asyncio.create_task(accept())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            yield client
        await asyncio.gather(*served)
        accepting.cancel()


async def test_a_connection_that_was_accepted_elsewhere_is_the_steps_too(run):
    mlflow = Mlflow()
    async with step_doors(mlflow, run)("run-1 train") as door:
        async with accepted(door) as client:
            run_id = await make_run(client)
        async with through(await door.path()) as same:
            body = {"run_id": run_id, "key": "a", "value": "b"}
            assert (await same.post(API + "runs/set-tag", json=body)).status_code == 200
    (made,) = [body["tags"] for path, body in mlflow.seen if path.endswith("runs/create")]
    assert made == [{"key": "tally.run", "value": "run-1"}, {"key": "tally.step", "value": "train"}]


async def test_a_door_that_nobody_goes_through_leaves_no_trace(run):
    async with step_doors(Mlflow(), run)("run-1 train"):
        assert list(run.iterdir()) == []


async def test_a_step_s_end_ends_the_connections_that_were_handed_over(run):
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    async with asyncio.timeout(60), step_doors(Mlflow(), run)("run-1 train") as door:
        serving = asyncio.create_task(door.serve(theirs))
        ours.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        said = b""
        while not said.endswith(b"0\r\n\r\n"):
            said += await asyncio.to_thread(ours.recv, 1000)
        assert said.startswith(b"HTTP/1.1 200")
    async with asyncio.timeout(60):
        await serving
    with ours:
        assert ours.recv(1000) == b""
