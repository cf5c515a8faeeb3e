"""Components that mean no good, or know no better: an error for that step alone, and nothing is left."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace

import pytest

from tallystick.proofs.sandbox import marked
from tallystick.tiles.executor import running
from tallystick.tiles.executor.box import Box
from tests.fakes.steps import opened, outcome, step

DEADLINE_S = 60
SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def limits():
    return {"step_processes": 30, "step_disk_mib": 20, "step_memory_mib": 400, "step_log_bytes_max": 50_000}


@pytest.fixture
async def executor(executor, tmp_path):
    """With small limits; afterwards it must still run a step."""
    yield executor
    async with asyncio.timeout(DEADLINE_S):
        assert (await outcome(executor, tmp_path, step("pass"))).error == ""


async def ran(executor, tmp_path, body, log=None, **changed):
    async with asyncio.timeout(DEADLINE_S):
        return await outcome(executor, tmp_path, replace(step(body), **changed), log)


async def test_it_forks_away(executor, tmp_path):
    marker = uuid.uuid4().hex
    body = (
        "import os, sys\nsys.stdout.flush()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork(): os._exit(0)\n"
        "    os.chdir('/')\n    os.closerange(0, 100)\n"
        f"    os.execv(sys.executable, [sys.executable, '-c', {SLEEP!r}, {marker!r}])\n"
        "os.wait()"
    )
    assert (await ran(executor, tmp_path, body)).error == ""
    assert marked(marker) == []


async def test_it_writes_one_file_of_10_gib(executor, tmp_path):
    body = "with open('large', 'wb') as file:\n    file.seek(10 << 30)\n    file.write(b'x')"
    done = await ran(executor, tmp_path, body)
    assert done.error == "OSError: [Errno 27] File too large"


async def test_it_writes_many_files(executor, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "DISK_LOOK_S", 0.05)
    body = (
        "import os\nos.mkdir('deep')\n"
        "for n in range(100_000):\n"
        "    with open(f'deep/{n}', 'wb') as file: file.write(os.urandom(1 << 20))"
    )
    done = await ran(executor, tmp_path, body)
    assert done.error.startswith("killed: it has left more than 20 MiB in its folder")


async def test_it_allocates_all_memory(executor, tmp_path):
    done = await ran(executor, tmp_path, "held = []\nwhile True: held.append(bytearray(10 << 20))")
    assert done.error == "MemoryError (the step's limit is 400 MiB of memory)"


async def test_it_ignores_sigterm(executor, tmp_path):
    body = "import signal, time\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n"
    body += "    except OSError: pass\nprint('on')\ntime.sleep(600)"
    done = await ran(executor, tmp_path, body, timeout_s=1)
    assert done.error == "killed: it was not done after 1 s"


async def test_it_prints_binary(executor, tmp_path):
    log = []
    body = "import os\nfor n in range(200): os.write(1, bytes(range(256)))\nos.write(1, b'\\n\\xff\\xfe end')"
    assert (await ran(executor, tmp_path, body, log)).error == ""
    assert log
    assert all(line.isprintable() or "\t" in line for line in log)


@pytest.mark.parametrize("piece", ["b'x' * 65536", "b'\\n' * 65536", "os.urandom(65536)"])
async def test_it_prints_for_ever(executor, tmp_path, piece):
    log = []
    body = f"import os\nwhile True: os.write(1, {piece})"
    done, other = await asyncio.gather(
        ran(executor, tmp_path, body, log, timeout_s=2), ran(executor, tmp_path, "print('meanwhile')")
    )
    assert (done.error, other.error) == ("killed: it was not done after 2 s", "")
    assert sum(map(len, log)) < 100_000


@pytest.mark.parametrize("fds", ["1, 3", "0, 100"])
async def test_it_closes_its_output(executor, tmp_path, fds):
    log = []
    done = await ran(executor, tmp_path, f"import os\nprint('before', flush=True)\nos.closerange({fds})", log)
    assert log == ["before"]
    assert "Traceback" not in done.error


async def test_it_kills_its_parent(executor, tmp_path):
    """As far as it can: whether that works depends on the wall, and what comes of it is its own end."""
    marker = uuid.uuid4().hex
    body = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {SLEEP!r}, {marker!r}], start_new_session=True)\n"
        "for number in (15, 9):\n"
        "    try: os.kill(os.getppid(), number)\n"
        "    except PermissionError: print('refused')\n"
        "time.sleep(0.2)"
    )
    done = await ran(executor, tmp_path, body)
    assert done.error == "" or done.error.startswith(("killed by SIGKILL", "ended by SIGTERM"))
    async with asyncio.timeout(DEADLINE_S):
        while marked(marker):  # noqa: ASYNC110  other processes' ends set no event here
            await asyncio.sleep(0.01)


async def test_it_is_a_fork_bomb(executor, tmp_path):
    """128 of them, should nothing hold it up: the machine is shared."""
    marker = uuid.uuid4().hex
    body = (
        "import os, sys, time\nfor _ in range(7): os.fork()\n"
        f"os.execv(sys.executable, [sys.executable, '-c', {SLEEP!r}, {marker!r}])"
    )
    done = await ran(executor, tmp_path, body)
    whys = (
        "killed: it had more than 30 processes at once",
        "killed by SIGKILL",
        "BlockingIOError: [Errno 11]",
    )
    assert done.error.startswith(whys)
    assert marked(marker) == []


async def test_many_bad_ones_at_once_harm_no_good_one(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path, step_memory_mib=400, step_cpu_seconds=2)
    bad = [
        "import os; os._exit(3)",
        "import os; os.kill(os.getpid(), 9)",
        "x = bytearray(1 << 40)",
        "while True: pass",
    ]
    async with asyncio.timeout(DEADLINE_S):
        bad_ones = asyncio.gather(*(outcome(executor, tmp_path, step(body)) for body in bad))
        good_ones = await asyncio.gather(*(outcome(executor, tmp_path, step("pass")) for _ in range(8)))
        assert {done.error for done in good_ones} == {""}
        assert all(done.error for done in await bad_ones)
    await executor.close()


@pytest.mark.parametrize("how", ["os.mkdir(file)", "open(file, 'w').close(); os.chmod(file, 0)"])
async def test_it_makes_its_reason_unreadable(executor, tmp_path, how):
    body = f"import os\nfile = 'out/failure.json'\n{how}\nos._exit(3)"
    assert "status 3" in (await ran(executor, tmp_path, body)).error


@pytest.mark.parametrize("what", ["folder", "link"])
def test_what_may_take_long_to_unpack_is_not_unpacked_in_the_hub_s_own_thread(tmp_path, what):
    """A folder may hold millions of files, and a link lead to a file of 16 MiB."""
    box, component = Box(tmp_path / "work"), step("pass")
    (box.root / "out").mkdir(parents=True)
    assert box.is_soon_unpacked(component)
    box.output.write_text("{}")
    assert box.is_soon_unpacked(component)
    box.output.rename(box.root / "large")
    if what == "folder":
        box.output.mkdir()
    else:
        box.output.symlink_to(box.root / "large")
    assert not box.is_soon_unpacked(component)
