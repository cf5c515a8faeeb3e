"""Steps forked from a zygote: nothing leaks from one to the next, and nothing is left when any of it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.errors import NotSupported, Unavailable
from tallystick.core.pipeline.spec import Param, ParamType, Resources
from tallystick.core.wall import Wall
from tallystick.ports.executor import Job
from tallystick.ports.tile import Place
from tallystick.proofs.sandbox import TREE, marked
from tallystick.tiles.bases import local as bases
from tallystick.tiles.executor import local, running
from tallystick.tiles.executor.python import HUB, Python
from tallystick.tiles.executor.zygote import CannotFork, Order, start_zygote
from tallystick.tiles.sandbox import process
from tests.fakes.steps import opened, outcome, place_on, step

DEADLINE_S = 60
STRUCT = {"returns": "dict", "out_params": (Param("Output", ParamType.STRUCT),)}
SEEN = """
import os, sys, random, tempfile, resource
numbers = sys.modules.get('numpy.random')
seen = {
    'env': dict(os.environ), 'cwd': os.getcwd(), 'files': os.listdir('/proc/self/fd'),
    'random': random.random(), 'numpy': numbers.rand() if numbers else None,
    'tempdir': tempfile.gettempdir(), 'argv': sys.argv[1:], 'modules': sorted(sys.modules),
    'umask': os.umask(0o777), 'files_max': resource.getrlimit(resource.RLIMIT_NOFILE)[0],
}
os.environ['LEFT'] = 'behind'
os.chdir('/')
sys.modules['left_behind'] = sys
sys.left_behind = True
random.seed(7)
if numbers: numbers.seed(7)
for _ in range(20): os.open('/dev/null', os.O_RDONLY)
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
return seen
"""


async def until_gone(marker):
    async with asyncio.timeout(DEADLINE_S):
        while marked(marker):  # noqa: ASYNC110  other processes' ends set no event here
            await asyncio.sleep(0.01)


def kill(pids, number=signal.SIGKILL):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def open_files():
    return len([*Path("/proc/self/fd").iterdir()])


def zygotes(tmp_path):
    """Processes that carry the zygote's order, keepers and steps included."""
    return marked(str(tmp_path / "zygote-"))


# ---------------------------------------------------------------------- leaks


@pytest.mark.parametrize("imports", ["", "import numpy"])
async def test_nothing_leaks_from_step_to_step(sandbox, tmp_path, imports):
    executor = opened(sandbox, tmp_path)
    what = step(f"{imports}\n{SEEN}", **STRUCT)
    first = (await outcome(executor, tmp_path, what, env={"A": "1"})).params["Output"]
    second = (await outcome(executor, tmp_path, what, env={"B": "2"})).params["Output"]
    assert executor.manner.startswith("each step is forked")
    assert (first["env"].pop("A"), second["env"].pop("B")) == ("1", "2")
    assert first["env"].keys() == second["env"].keys()
    assert "LEFT" not in second["env"]
    assert first["cwd"] != second["cwd"]
    assert second["env"]["HOME"] == second["cwd"] + "/home"
    assert second["tempdir"] == second["env"]["TMPDIR"]
    assert first["random"] != second["random"]
    assert (first["numpy"] != second["numpy"]) is bool(imports)
    assert first["modules"] == second["modules"]
    assert len(first["files"]) == len(second["files"]) == 4  # and one for reading the folder itself
    assert (second["argv"], second["umask"], second["files_max"]) == ([], 0o077, 1024)


async def test_only_what_a_step_imports_is_there_before(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path)
    there = "import sys\nthere = [m for m in ('numpy', 'pandas') if m in sys.modules]\n"
    what = {
        name: step(f"{there}{name}\nreturn {{'there': there}}", **STRUCT) for name in ("", "import numpy")
    }
    for name, expected in (("", []), ("import numpy", ["numpy"]), ("", [])):
        done = await outcome(executor, tmp_path, what[name])
        assert done.params["Output"] == {"there": expected}


async def test_more_threads_are_for_libraries_that_start_them_in_the_step(sandbox, tmp_path):
    body = "import sys\nthere = 'numpy' in sys.modules\nimport numpy\nreturn {'there': there}"
    done = await outcome(opened(sandbox, tmp_path, step_threads=2), tmp_path, step(body, **STRUCT))
    assert done.params["Output"] == {"there": False}


async def test_a_step_ends_as_python_does(sandbox, tmp_path):
    body = (
        "import atexit, threading, time, sys\natexit.register(print, 'last')\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\n"
        "sys.stdout.write('first')"
    )
    log = []
    assert (await outcome(opened(sandbox, tmp_path), tmp_path, step(body), log)).error == ""
    assert log == ["firstthread", "last"]


async def test_two_hundred_steps_leave_nothing_behind(sandbox, tmp_path):
    executor, gate = opened(sandbox, tmp_path, step_spares=6), asyncio.Semaphore(8)

    async def one():
        async with gate:
            return await outcome(executor, tmp_path, step("print('x')"))

    assert (await one()).error == ""
    before = open_files()
    assert {done.error for done in await asyncio.gather(*(one() for _ in range(200)))} == {""}
    # The wall's own, the zygote, and who waits for a step: keepers, each with a step's process below it.
    most = 4 + 2 * 6
    async with asyncio.timeout(DEADLINE_S):
        while len(zygotes(tmp_path)) > most:  # noqa: ASYNC110  no event tells
            await asyncio.sleep(0.01)
    assert open_files() <= before + 2
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"work"}
    await executor.close()
    assert zygotes(tmp_path) == []


# ---------------------------------------------------------------------- ends


async def running_tree(executor, tmp_path):
    """A step with a tree below it that is not polite: its task, and the tree's marker."""
    marker, begun = uuid.uuid4().hex, asyncio.Event()
    tree = TREE.format(then="time.sleep(600)")
    what = step(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {tree!r}, {marker!r}])")
    job = Job("run/it", what, tmp_path / f"work-{marker}")
    task = asyncio.create_task(executor.run(job, lambda _: begun.set()))
    await asyncio.wait_for(begun.wait(), DEADLINE_S)
    assert len(marked(marker)) >= 4
    return task, marker


async def test_a_zygote_that_is_killed_fails_its_steps_and_no_other(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path)
    task, marker = await running_tree(executor, tmp_path)
    kill(zygotes(tmp_path))
    assert (await task).error == "killed: the process that steps are forked from has ended"
    await until_gone(marker)
    assert (await outcome(executor, tmp_path, step("pass"))).error == ""
    assert executor.manner.startswith("each step is forked")


async def test_a_zygote_that_died_at_rest_is_not_missed(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path)
    for _ in range(3):
        assert (await outcome(executor, tmp_path, step("pass"))).error == ""
        while there := zygotes(tmp_path):  # one may have been forked meanwhile, and would take the next step
            kill(there)


async def test_a_keeper_that_is_killed_takes_its_step_along(sandbox, tmp_path):
    executor, begun = opened(sandbox, tmp_path), asyncio.Event()
    job = Job("run/it", step("import time\nprint('on')\ntime.sleep(600)"), tmp_path / "work")
    task = asyncio.create_task(executor.run(job, lambda _: begun.set()))
    await asyncio.wait_for(begun.wait(), DEADLINE_S)
    kill(keepers_in(tmp_path))
    async with asyncio.timeout(DEADLINE_S):
        assert (await task).error.startswith("killed by SIGKILL")
    assert (await outcome(executor, tmp_path, step("pass"))).error == ""


async def test_an_order_that_nobody_takes_can_be_cancelled(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "GRACE_S", 0.2)
    executor = opened(sandbox, tmp_path)
    assert (await outcome(executor, tmp_path, step("pass"))).error == ""
    waiting = set()
    while fresh := set(zygotes(tmp_path)) - waiting:  # one may have been forked meanwhile
        kill(fresh, signal.SIGSTOP)
        waiting |= fresh
    try:
        task = asyncio.create_task(outcome(executor, tmp_path, step("pass")))
        await asyncio.wait([task], timeout=0.5)
        task.cancel()
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait([task])
        assert task.cancelled()
    finally:
        kill(waiting, signal.SIGCONT)
    assert (await outcome(executor, tmp_path, step("pass"))).error == ""


async def test_cancelling_while_the_first_zygote_starts(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path)
    runs = [asyncio.create_task(outcome(executor, tmp_path, step("pass"))) for _ in range(4)]
    for turns, run in enumerate(runs[:3]):
        await asyncio.sleep(0.02 * turns)
        run.cancel()
    assert (await runs[3]).error == ""
    await asyncio.gather(*runs, return_exceptions=True)
    await executor.close()
    assert zygotes(tmp_path) == []


async def test_a_zygote_rests_after_a_while(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path, step_zygote_rest_seconds=1)
    assert (await outcome(executor, tmp_path, step("pass"))).error == ""
    assert zygotes(tmp_path)
    await until_gone(str(tmp_path / "zygote-"))
    assert (await outcome(executor, tmp_path, step("pass"))).error == ""


async def test_no_more_are_alive_than_were_asked_for(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path, step_zygotes=1)
    for body in ("pass", "import numpy", "pass"):
        assert (await outcome(executor, tmp_path, step(body))).error == ""
        async with asyncio.timeout(DEADLINE_S):
            while len({_order_of(pid) for pid in zygotes(tmp_path)} - {b""}) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_one_that_is_new_has_its_step_where_all_others_are_at_work(sandbox, tmp_path):
    executor, begun = opened(sandbox, tmp_path, step_zygotes=1), asyncio.Event()
    body = "import os, time\nprint('on')\nwhile not os.path.exists('enough'): time.sleep(0.01)"
    job = Job("run/it", step(body), tmp_path / "work")
    task = asyncio.create_task(executor.run(job, lambda _: begun.set()))
    await asyncio.wait_for(begun.wait(), DEADLINE_S)
    what = step("import sys\nthere = 'numpy' in sys.modules\nimport numpy\nreturn {'there': there}", **STRUCT)
    for _ in range(3):
        done = await outcome(executor, tmp_path, what)
        assert (done.error, done.params.get("Output")) == ("", {"there": True})
    (job.workdir / "enough").touch()
    async with asyncio.timeout(DEADLINE_S):
        assert (await task).error == ""


def parents(tmp_path):
    """By Python of the zygote's: its parent."""
    found = {}
    for pid in zygotes(tmp_path):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(sys.executable.encode()):
                found[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def keepers_in(tmp_path):
    """Who has been forked from the zygote and has a child: waits for a step, or has one."""
    found = parents(tmp_path)
    return [pid for pid, parent in found.items() if parent in found and pid in found.values()]


def _order_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2]
    except (OSError, IndexError):
        return b""


async def test_new_packages_make_a_new_zygote(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "LOOK_EVERY_S", 0)
    place, seen = place_on(sandbox, tmp_path, {"step_folders": [tmp_path]}), set()
    executor = local.open_tile(place)
    for stamp in ("before", "before", "after"):
        monkeypatch.setattr(bases, "environment_stamp", lambda now=stamp: now)
        assert (await outcome(executor, tmp_path, step("pass"))).error == ""
        seen |= {_order_of(pid) for pid in zygotes(tmp_path)} - {b""}
    assert len(seen) == 2


# ---------------------------------------------------------------------- without


async def test_what_python_reads_as_it_starts_makes_a_new_python(sandbox, tmp_path):
    what = replace(step("import sys\nreturn {'hash': sys.flags.hash_randomization}", **STRUCT))
    done = await outcome(
        opened(sandbox, tmp_path), tmp_path, replace(what, env={"PYTHONHASHSEED": "0", "MORE": "x"})
    )
    assert done.params["Output"] == {"hash": 0}


async def test_a_component_s_environment_stands_under_the_hub_s(sandbox, tmp_path):
    what = step("import os\nreturn dict(os.environ)", **STRUCT)
    what = replace(what, env={"OWN": "1", "BOTH": "component", "HOME": "/elsewhere"})
    seen = (await outcome(opened(sandbox, tmp_path), tmp_path, what, env={"BOTH": "hub"})).params["Output"]
    assert (seen["OWN"], seen["BOTH"]) == ("1", "hub")
    assert seen["HOME"].startswith(str(tmp_path))


async def test_a_step_with_something_elsewhere_is_a_new_python(open_sandbox, tmp_path):
    sandbox = open_sandbox("bubblewrap")
    executor = opened(sandbox, tmp_path, step_folders=[tmp_path / "shared"])
    assert (await outcome(executor, tmp_path, step("pass"))).error == ""
    assert zygotes(tmp_path / "shared") == []


class Unnesting:
    """A sandbox that promises walls, and none within another."""

    def __init__(self, sandbox):
        self._sandbox = sandbox
        self.strength = sandbox.strength
        self.refused = 0

    async def spawn(self, argv, wall):
        if wall.nests:
            self.refused += 1
            raise Unavailable("no room for namespaces", where="sandbox")
        return await self._sandbox.spawn(argv, wall)


async def test_where_none_can_be_forked_each_is_a_new_python(open_sandbox, tmp_path, caplog):
    sandbox = open_sandbox("bubblewrap")
    unnesting = Unnesting(sandbox)
    executor = opened(unnesting, tmp_path)
    for _ in range(2):
        assert (await outcome(executor, tmp_path, step("pass"))).error == ""
    assert unnesting.refused == 1
    assert executor.manner.endswith("it cannot be forked: sandbox: no room for namespaces")
    assert "no room for namespaces" in caplog.text


async def test_a_fence_that_cannot_be_put_up_is_found_before_any_step(open_sandbox, tmp_path):
    sandbox = open_sandbox("bubblewrap")
    order = Order(HUB, frozenset(), (str(tmp_path),), fence=True, memory_folder_bytes=1 << 20, spares=1)
    wall = Wall(str(tmp_path), env=HUB.path(), nests=False)
    with pytest.raises(CannotFork, match="steps cannot be fenced off: unshare: Operation not permitted"):
        await start_zygote(sandbox, order, wall)


async def test_modules_that_start_threads_are_left_to_the_step(sandbox, tmp_path, monkeypatch, caplog):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "threaded_thing.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    monkeypatch.setattr(running, "modules_of", lambda _: frozenset({"threaded_thing"}))
    usual = Python.path
    monkeypatch.setattr(Python, "path", lambda python, more="": usual(python, str(tmp_path / "lib")))
    executor = opened(sandbox, tmp_path)
    done = await outcome(executor, tmp_path, step("import sys\nassert 'threaded_thing' not in sys.modules"))
    assert done.error == ""
    assert "with threaded_thing: importing threaded_thing starts threads" in caplog.text


# ---------------------------------------------------------------------- limits of a component's own


async def test_a_component_s_own_time_is_kept(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path)
    what = replace(step("import time\nprint('on')\ntime.sleep(600)"), timeout_s=1)
    assert (await outcome(executor, tmp_path, what)).error == "killed: it was not done after 1 s"


async def test_a_component_s_own_memory_is_kept(sandbox, tmp_path):
    what = replace(step("x = bytearray(300 << 20)"), resources=Resources(memory_bytes=200 << 20))
    done = await outcome(opened(sandbox, tmp_path), tmp_path, what)
    assert done.error == "MemoryError (the step's limit is 200 MiB of memory)"


@pytest.mark.parametrize("zygotes_max", [2, 0])
async def test_a_component_s_own_cores_are_kept(sandbox, tmp_path, zygotes_max):
    what = step("import os\nreturn {'n': len(os.sched_getaffinity(0)), **os.environ}", **STRUCT)
    what = replace(what, resources=Resources(cpus=0.5))
    executor = opened(sandbox, tmp_path, step_threads=3, step_zygotes=zygotes_max)
    seen = (await outcome(executor, tmp_path, what)).params["Output"]
    assert (seen["n"], seen["OMP_NUM_THREADS"]) == (1, "1")


@pytest.mark.parametrize("asked", [Resources(gpus=1), Resources(workers=65)])
def test_what_cannot_be_had_is_refused_before(tmp_path, asked):
    executor = opened(process.open_tile(Place(tmp_path)), tmp_path)
    with pytest.raises(NotSupported, match="it asks for"):
        executor.check(replace(step("pass"), resources=asked))
