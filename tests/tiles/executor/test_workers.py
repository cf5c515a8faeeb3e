"""Several workers of one step: they find each other, and end together."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.pipeline.spec import Param, ParamType, Resources, Slot
from tallystick.ports.executor import Job
from tallystick.proofs.sandbox import TREE, marked
from tests.fakes.steps import outcome, step

DEADLINE_S = 60
TORCH = bool(importlib.util.find_spec("torch"))
ALL_REDUCE = """
import os, pickle, socket, time
rank, world = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
place = (os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']))
mine = [float(rank + 1)] * 4
def told(connection):
    with connection.makefile('rb') as file: return pickle.load(file)
if rank == 0:
    with socket.create_server(place) as server:
        others = [server.accept()[0] for _ in range(world - 1)]
        total = [sum(values) for values in zip(mine, *map(told, others))]
        for other in others:
            with other.makefile('wb') as file: pickle.dump(total, file)
else:
    while True:
        try: connection = socket.create_connection(place); break
        except ConnectionRefusedError: time.sleep(0.01)
    with connection.makefile('wb') as file: pickle.dump(mine, file)
    total = told(connection)
print('sum', total[0])
"""
GLOO = """
import os, torch
import torch.distributed as together
together.init_process_group('gloo')
given = torch.full((4,), float(together.get_rank() + 1))
together.all_reduce(given)
total = given.tolist()
together.destroy_process_group()
"""
STRUCT = {"returns": "dict", "out_params": (Param("Output", ParamType.STRUCT),)}


def workers(count, body, **fields):
    asked = Resources(workers=count, cpus=fields.pop("cpus", 0.0))
    return replace(step(body, **fields), resources=asked)


async def test_they_find_each_other_and_the_first_one_s_outputs_count(executor, tmp_path):
    body = (
        f"{ALL_REDUCE}\nopen(made.path, 'w').write(f'of {{rank}}')\nmade.metadata['rank'] = rank\n"
        "keys = ('LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'WORLD_SIZE')\n"
        "return {'total': total, 'rank': rank, **{key: os.environ[key] for key in keys}}"
    )
    what, log = workers(3, body, arguments="made: Output[Dataset]", **STRUCT), []
    what = replace(what, out_artifacts=(Slot("made", "system.Dataset"),))
    executor.check(what)
    done = await outcome(executor, tmp_path, what, log)
    assert done.error == ""
    assert done.params["Output"] == {
        "total": [6.0] * 4,
        "rank": 0,
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "3",
        "WORLD_SIZE": "3",
    }
    made = done.artifacts["made"]
    assert (made.path.read_text(), made.metadata) == ("of 0", {"rank": 0})
    assert sorted(log) == [f"[rank {rank}] sum 6.0" for rank in range(3)]


@pytest.mark.skipif(not TORCH, reason="torch is not installed here")
async def test_gloo_sums_over_two_workers(executor, tmp_path):
    done = await outcome(executor, tmp_path, workers(2, f"{GLOO}\nreturn {{'total': total}}", **STRUCT))
    assert (done.error, done.params) == ("", {"Output": {"total": [3.0] * 4}})


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        ("raise ValueError('it broke')", "rank 1: ValueError: it broke"),
        ("os._exit(7)", "rank 1: ended with status 7: going on"),
        ("os.kill(os.getpid(), 11)", "rank 1: ended by SIGSEGV: going on"),
        ("bytearray(1 << 40)", "rank 1: MemoryError (the step's limit is 4096 MiB of memory)"),
        ("sys.exit('enough')", "rank 1: SystemExit: enough"),
    ],
)
async def test_one_that_fails_ends_all_and_is_named(executor, tmp_path, failing, error):
    marker = uuid.uuid4().hex
    sleep = "import time; time.sleep(600)"
    body = (
        "import os, signal, subprocess, sys, time\nprint('going on', flush=True)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"if os.environ['RANK'] == '1': {failing}\n"
        f"subprocess.run([sys.executable, '-c', {sleep!r}, {marker!r}])"
    )
    async with asyncio.timeout(DEADLINE_S):
        assert (await outcome(executor, tmp_path, workers(3, body))).error == error
    assert marked(marker) == []


async def test_cancelling_ends_all_of_them(executor, tmp_path):
    marker, begun = uuid.uuid4().hex, []
    tree = TREE.format(then="time.sleep(600)")
    what = workers(2, f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {tree!r}, {marker!r}])")
    both = asyncio.Event()

    def on_log(line):
        begun.append(line)
        if len(begun) == 2:
            both.set()

    task = asyncio.create_task(executor.run(Job("run/it", what, tmp_path / "work"), on_log))
    await asyncio.wait_for(both.wait(), DEADLINE_S)
    assert sorted(begun) == ["[rank 0] ready", "[rank 1] ready"]
    assert len(marked(marker)) >= 8
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert marked(marker) == []


async def test_sigterm_reaches_each_of_them(executor, tmp_path):
    body = (
        "import os, signal, sys, time\n"
        "def leave(*_): open('left-' + os.environ['RANK'], 'w'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, leave)\nprint('on', flush=True)\ntime.sleep(600)"
    )
    log, both = [], asyncio.Event()

    def on_log(line):
        log.append(line)
        if len(log) == 2:
            both.set()

    job = Job("run/it", workers(2, body), tmp_path / "work")
    task = asyncio.create_task(executor.run(job, on_log))
    await asyncio.wait_for(both.wait(), DEADLINE_S)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert {path.name for path in (tmp_path / "work").glob("left-*")} == {"left-0", "left-1"}


async def test_their_lines_stay_apart_however_they_print(executor, tmp_path):
    body = (
        "import os, sys, threading\nrank = os.environ['RANK']\n"
        "for n in range(2000): print(rank * 20)\n"
        "sys.stdout.write(rank * 100_000)\nsys.stderr.write('\\n' + rank + ' at last')\n"
        "os.write(1, b'\\xff\\x00\\n\\n')"
    )
    log = []
    async with asyncio.timeout(DEADLINE_S):
        assert (await outcome(executor, tmp_path, workers(3, body), log)).error == ""
    for rank in range(3):
        own = [line.removeprefix(f"[rank {rank}] ") for line in log if line.startswith(f"[rank {rank}] ")]
        assert own[:2000] == [str(rank) * 20] * 2000
        assert {*"".join(own[2000:-1])} <= {*f"{rank}[line cut at 8192 bytes]"}
        assert own[-1].startswith(f"{rank} at last")
    assert len(log) == sum(line.startswith("[rank ") for line in log)


async def test_each_has_its_own_limits_and_cores(executor, tmp_path):
    body = (
        "import os, resource\n"
        "memory = resource.getrlimit(resource.RLIMIT_DATA)[0]\n"
        "return {'memory': memory, 'cores': len(os.sched_getaffinity(0))}"
    )
    done = await outcome(executor, tmp_path, workers(2, body, cpus=1, **STRUCT))
    assert done.error == ""
    assert done.params["Output"]["memory"] == 4096 << 20
    assert done.params["Output"]["cores"] <= len(os.sched_getaffinity(0))


async def test_a_worker_that_is_left_behind_does_not_hold_up_the_end(executor, tmp_path):
    marker = uuid.uuid4().hex
    sleep = "import time; time.sleep(600)"
    body = (
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {sleep!r}, {marker!r}], start_new_session=True)"
    )
    async with asyncio.timeout(DEADLINE_S):
        assert (await outcome(executor, tmp_path, workers(2, body))).error == ""
    assert marked(marker) == []


def test_the_gang_needs_no_package():
    """It runs in environments that have nothing of the hub's."""
    from tallystick.crew import gang

    names = Path(gang.__file__).read_text().splitlines()
    imported = {line.split()[1].partition(".")[0] for line in names if line.startswith(("import ", "from "))}
    assert imported - {"__future__", "tallystick"} <= sys.stdlib_module_names
