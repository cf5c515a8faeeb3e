"""The local executor's steps: how they fail and end, what they print, and what they see."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
import uuid
from pathlib import Path

import pytest

from tallystick.core.pipeline.spec import Param, ParamType, Slot
from tallystick.crew.ray.door import SocketDoor
from tallystick.crew.relay import same_user
from tallystick.crew.step import lay_out
from tallystick.ports.executor import Job
from tallystick.proofs.sandbox import TREE, marked
from tallystick.rmtree import rmtree
from tallystick.tiles.executor import local
from tests.fakes.steps import opened, outcome, step
from tests.tiles.conftest import WALLS

SRC = str(Path(local.__file__).parents[3])


# ---------------------------------------------------------------------- failing and ending


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("import sys; sys.exit('enough')", "SystemExit: enough"),
        ("import os; print('last words'); os._exit(9)", "ended with status 9: last words"),
        ("import os; print('bye'); os.kill(os.getpid(), 11)", "ended by SIGSEGV: bye"),
        ("def (", "SyntaxError: invalid syntax (component.py, line 8)"),
        ("import json; json.loads('{')", "json.decoder.JSONDecodeError: Expecting property name"),
    ],
)
async def test_how_it_failed_is_said_in_one_line(sandbox, tmp_path, body, error):
    done = await outcome(opened(sandbox, tmp_path), tmp_path, step(body))
    assert done.error.startswith(error)


async def test_the_traceback_begins_with_the_steps_own_code(sandbox, tmp_path):
    log = []
    await outcome(opened(sandbox, tmp_path), tmp_path, step("raise KeyError('k')"), log)
    assert log[0] == "Traceback (most recent call last):"
    assert "component.py" in log[1]
    assert log[-1] == "KeyError: 'k'"


async def test_limits_are_named(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path, step_cpu_seconds=1, step_memory_mib=300)
    done = await outcome(executor, tmp_path, step("while True: pass"))
    assert done.error == "killed: it used up its 1 CPU seconds"
    done = await outcome(executor, tmp_path, step("x = bytearray(1 << 30)"))
    assert done.error == "MemoryError (the step's limit is 300 MiB of memory)"
    done = await outcome(executor, tmp_path, step("import os; os.kill(os.getpid(), 9)"))
    assert done.error.startswith("killed by SIGKILL")


async def test_leaving_early_with_success_is_success(sandbox, tmp_path):
    done = await outcome(opened(sandbox, tmp_path), tmp_path, step("import sys; sys.exit(0)"))
    assert done.error == ""


async def test_cancelling_ends_the_whole_tree(sandbox, tmp_path):
    marker, running = uuid.uuid4().hex, asyncio.Event()
    tree = TREE.format(then="time.sleep(600)")
    what = step(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {tree!r}, {marker!r}])")
    job = Job("run/it", what, tmp_path / "work")
    task = asyncio.create_task(opened(sandbox, tmp_path).run(job, lambda _: running.set()))
    await asyncio.wait_for(running.wait(), 20)
    assert marked(marker)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert marked(marker) == []


HUB = """
import asyncio, sys
from importlib import import_module
from pathlib import Path
from tallystick.core.pipeline.spec import Component, Function
from tallystick.crew.relay import same_user
from tallystick.crew.step import lay_out
from tallystick.ports.executor import Job
from tallystick.ports.tile import Place
from tallystick.tiles.bases import local as bases
from tallystick.tiles.executor import local

async def main(tile, zygotes, folder, source):
    sandbox = import_module("tallystick.tiles.sandbox." + tile).open_tile(Place(Path(folder)))
    options = {"step_folders": [folder], "step_zygotes": int(zygotes)}
    parts = {"sandbox": sandbox, "bases": bases.open_tile(Place(Path(folder)))}
    executor = local.open_tile(Place(Path(folder), options, parts))
    job = Job("run/it", Component("it", Function("it", source)), Path(folder) / "work")
    await executor.run(job, lambda line: print(line, flush=True))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("zygotes", ["2", "0"])
@pytest.mark.parametrize("tile", WALLS)
async def test_no_step_outlives_a_hub_that_is_killed(tile, zygotes, tmp_path):
    marker = uuid.uuid4().hex
    tree = TREE.format(then="time.sleep(600)")
    what = step(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {tree!r}, {marker!r}])")
    hub = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HUB, tile, zygotes, str(tmp_path), what.code.source),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SRC},
    )
    try:
        assert await hub.stdout.readline() == b"ready\n"
        assert len(marked(marker)) >= 4
    finally:
        hub.send_signal(signal.SIGKILL)
        await hub.wait()
    async with asyncio.timeout(60):
        while marked(marker):  # noqa: ASYNC110  other processes' ends set no event here
            await asyncio.sleep(0.01)


# ---------------------------------------------------------------------- what it prints


async def test_both_streams_come_in_order_as_they_are_printed(sandbox, tmp_path):
    log = []
    body = (
        "import sys, logging\nprint('one')\nprint('two', file=sys.stderr)\n"
        "logging.info('three')\nprint('fo', end='ur')"
    )
    await outcome(opened(sandbox, tmp_path), tmp_path, step(body), log)
    assert log == ["one", "two", "INFO root: three", "four"]


async def test_too_much_is_cut_and_said(sandbox, tmp_path):
    log = []
    executor = opened(sandbox, tmp_path, step_log_bytes_max=50_000)
    body = "print('x' * 10_000_000)\nprint('\\x1b[31mred')\nfor n in range(200_000): print(n)"
    done = await outcome(executor, tmp_path, step(body), log)
    assert done.error == ""
    assert log[0].endswith("[line cut at 8192 bytes]")
    assert log[1] == "[31mred"
    assert log[-1].startswith("[log cut at 50000 bytes")
    assert sum(map(len, log)) < 60_000


# ---------------------------------------------------------------------- what it sees


async def test_nothing_of_the_hubs_environment(sandbox, tmp_path, monkeypatch):
    monkeypatch.setenv("HUB_SECRET", "open sesame")
    what = step(
        "import os; return dict(os.environ)", returns="dict", out_params=(Param("Output", ParamType.STRUCT),)
    )
    executor = opened(sandbox, tmp_path, step_threads=3)
    seen = (await outcome(executor, tmp_path, what, env={"GIVEN": "yes"})).params["Output"]
    assert "HUB_SECRET" not in seen
    assert (seen["GIVEN"], seen["OMP_NUM_THREADS"], seen["OPENBLAS_NUM_THREADS"]) == ("yes", "3", "3")
    assert seen["HOME"].startswith(str(tmp_path))


async def test_files_beside_it_cannot_pose_as_modules(sandbox, tmp_path):
    what = step(
        "import subprocess, sys\nopen('json.py', 'w').write('boom')\nimport json\nprint(json.__file__)"
    )
    log = []
    assert (await outcome(opened(sandbox, tmp_path), tmp_path, what, log)).error == ""
    assert "work-" not in log[0]


async def answer(reader, writer):
    """A tiny HTTP server: says back the length of the body and the path."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(
        (int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length")),
        0,
    )
    await reader.readexactly(length)
    body = f"{head.split()[1]} {length}".encode() + b"." * 300_000
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    writer.close()


async def test_the_hub_is_reached_through_its_socket(sandbox, tmp_path):
    path = tmp_path / "hub.sock"
    body = (
        "import os, urllib.request\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "def ask(n):\n"
        "    url = os.environ['MLFLOW_TRACKING_URI'] + f'/api/{n}'\n"
        "    data = b'x' * 400_000 * (n % 2) or None\n"
        "    return urllib.request.urlopen(url, data=data).read().decode().rstrip('.')\n"
        "with ThreadPoolExecutor(50) as pool: return list(pool.map(ask, range(100)))"
    )
    what = step(body, returns="list", out_params=(Param("Output", ParamType.LIST),))
    async with await asyncio.start_unix_server(answer, path):
        done = await outcome(opened(sandbox, tmp_path), tmp_path, what, door=SocketDoor(path))
    assert done.error == ""
    assert done.params["Output"] == [f"/api/{n} {400_000 * (n % 2)}" for n in range(100)]


async def test_a_hub_that_is_gone_is_an_error_of_the_step(sandbox, tmp_path):
    path = tmp_path / "hub.sock"
    async with await asyncio.start_unix_server(answer, path):
        pass
    path.touch()
    what = step("import os, urllib.request\nurllib.request.urlopen(os.environ['MLFLOW_TRACKING_URI'])")
    assert (await outcome(opened(sandbox, tmp_path), tmp_path, what, door=SocketDoor(path))).error


async def test_nothing_else_is_reached_from_bubblewrap(open_sandbox, tmp_path):
    sandbox = open_sandbox("bubblewrap")
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        done = await outcome(
            opened(sandbox, tmp_path),
            tmp_path,
            step(f"import socket\nsocket.create_connection(('127.0.0.1', {port}))"),
        )
    assert done.error == "ConnectionRefusedError: [Errno 111] Connection refused"


def test_the_relay_knows_only_its_own_users_connections():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert same_user(client.getsockname()[1], port)
            assert not same_user(client.getsockname()[1], port + 1)


# ---------------------------------------------------------------------- what it may not do for ever


async def test_a_step_that_only_sleeps_is_ended(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "WAIT_S", -1)
    marker = uuid.uuid4().hex
    sleep = "import time; time.sleep(600)"
    body = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {sleep!r}, {marker!r}])"
    done = await outcome(opened(sandbox, tmp_path, step_cpu_seconds=2), tmp_path, step(body))
    assert done.error == "killed: it was not done after 3 s (twice its 2 CPU seconds and -1 s)"
    assert marked(marker) == []


async def test_an_error_has_nothing_in_it_but_text(sandbox, tmp_path):
    body = "raise ValueError('a\\x1b]0;title\\x07b\\x9bc\\u202ed')"
    done = await outcome(opened(sandbox, tmp_path), tmp_path, step(body))
    assert done.error == "ValueError: a]0;titlebcd"


async def test_folders_in_folders_without_end_are_an_error(sandbox, tmp_path):
    body = (
        "import os\nos.mkdir(made.path)\nos.chdir(made.path)\n"
        "for _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')"
    )
    what = step(body, arguments="made: Output[Dataset]", out_artifacts=(Slot("made", "system.Dataset"),))
    try:
        assert "nested too deeply" in (await outcome(opened(sandbox, tmp_path), tmp_path, what)).error
    finally:
        for left in tmp_path.iterdir():  # pytest itself would fail to sweep it away in a later session
            rmtree(left)


def test_no_part_of_a_component_is_run_where_there_is_no_room_for_all_of_it(tmp_path):
    """A full disk takes what it has room for, and only then says so, as a limit does."""
    order = {
        "root": str(tmp_path),
        "folders": ["tmp"],
        "source": f"{tmp_path}/it.py",
        "code": "pass\n" * 4000,
    }
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, usual[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            lay_out(order)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
