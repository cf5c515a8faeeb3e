"""One keeper has one step after another: what a step does to its keeper is not for the next one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tallystick.core.pipeline.spec import Param, ParamType
from tests.fakes.steps import opened, outcome, step
from tests.tiles.conftest import WALLS

ROUNDS = 8
"""More than there are keepers: with ``FEW`` one that waits, one at work, and one that is about to rest."""
FEW = {"step_spares": 1}
ANSWER = {"returns": "dict", "out_params": (Param("Output", ParamType.STRUCT),)}
SCAN = """
import ctypes, re
found = []
for line in open('/proc/self/maps'):
    span, mode = line.split()[:2]
    if mode[:2] != 'rw': continue
    start, end = (int(number, 16) for number in span.split('-'))
    found += re.findall(rb'of-step-[0-9]+-in-[a-z]+', ctypes.string_at(start, end - start))
return {'found': sorted({text.decode() for text in found})}
"""
MEDDLE = """
import os, resource
keeper, resources, seen = os.getppid(), {}, {}
for name in ('RLIMIT_FSIZE', 'RLIMIT_CPU', 'RLIMIT_NOFILE', 'RLIMIT_CORE'):
    seen[name] = resource.getrlimit(getattr(resource, name))
seen['cores'] = sorted(os.sched_getaffinity(0))
seen['nice'] = os.getpriority(os.PRIO_PROCESS, 0)
seen['policy'] = os.sched_getscheduler(0)
resource.prlimit(keeper, resource.RLIMIT_CORE, (0, 0))
resource.prlimit(keeper, resource.RLIMIT_FSIZE, (5000, 5000))
resource.prlimit(keeper, resource.RLIMIT_CPU, (7, 7))
resource.prlimit(keeper, resource.RLIMIT_NOFILE, (500, 500))
for meddle in (
    lambda: os.sched_setaffinity(keeper, {seen['cores'][0]}),
    lambda: os.setpriority(os.PRIO_PROCESS, keeper, 19),
    lambda: os.sched_setscheduler(keeper, os.SCHED_BATCH, os.sched_param(0)),
):
    try: meddle()
    except OSError: pass  # behind a fence
return seen
"""


@pytest.fixture(params=WALLS)
def fenced(request, open_sandbox):
    return open_sandbox(request.param)


async def test_a_step_does_not_find_the_order_of_the_one_before_it_in_its_memory(fenced, tmp_path):
    """Parameters and variables are in orders, passwords among them."""
    executor = opened(fenced, tmp_path, **FEW)
    named = {"arguments": "word: str", "params": (Param("word", ParamType.STRING),)}
    for number in range(ROUNDS):
        given = {
            "env": {"TOKEN": f"of-step-{number}-in-env"},
            "params": {"word": f"of-step-{number}-in-params"},
        }
        assert (await outcome(executor, tmp_path, step("print(word)", **named), **given)).error == ""
    for _ in range(ROUNDS // 2):
        assert (await outcome(executor, tmp_path, step(SCAN, **ANSWER))).params["Output"] == {"found": []}


async def test_what_a_step_lowers_of_its_keeper_is_not_lowered_for_the_next(fenced, tmp_path):
    executor = opened(fenced, tmp_path, **FEW)
    seen = []
    for _ in range(ROUNDS):
        done = await outcome(executor, tmp_path, step(MEDDLE, **ANSWER))
        assert done.error == ""
        seen.append(done.params["Output"])
    assert seen == [seen[0]] * ROUNDS


async def test_a_step_shares_no_open_file_with_the_one_before_it(fenced, tmp_path):
    """Flags and locks are of an open file, however many processes have it, and outlast all but the last."""
    body = (
        "import fcntl, os\n"
        "seen = [fcntl.fcntl(file, fcntl.F_GETFL) & ~0o100000 for file in (0, 1, 2)]\n"
        "for file in (0, 1, 2): fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)\n"
        "return {'seen': seen}"
    )
    executor = opened(fenced, tmp_path, **FEW)
    for _ in range(ROUNDS):
        done = await outcome(executor, tmp_path, step(body, **ANSWER))
        assert done.params["Output"] == {"seen": [os.O_RDONLY, os.O_WRONLY, os.O_WRONLY]}


HELD = """
import os, socket, struct
from tallystick.crew.steps.keeper import HEAD, _Step
from tallystick.crew.warden import watch_children
wake, (hub, life), (tell, told) = watch_children(), socket.socketpair(), socket.socketpair()
if (pid := os.fork()) == 0:
    tell.close()
    with socket.create_server(('127.0.0.1', 0)) as door: socket.send_fds(told, [b'+'], [door.fileno()])
    while told.recv(100): pass
    os._exit(7)
hub.sendall(HEAD.pack(2, 0, False) + b'{}')
out = os.open(os.devnull, os.O_WRONLY)
_Step('', pid, tell).keep([out, os.open(os.devnull, os.O_RDONLY)], life, wake, lambda: None, fenced=True)
print(hub.recv(1000).decode())  # and ``told`` is still open here
"""


def test_a_keeper_does_not_wait_for_who_holds_what_its_step_has_given_away():
    """A step may hand descriptors to another one of its run, through a socket in their workspace."""
    ran = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, timeout=60, check=True)
    assert [json.loads(line) for line in ran.stdout.split("\n") if line] == [{"status": 7}]
