"""Two steps at once, of one zygote: what one can see of the other, and do to it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from dataclasses import dataclass, field

import pytest

from tallystick.core.pipeline.spec import Param, ParamType
from tallystick.core.wall import Wall
from tallystick.crew.steps.kernel import LANDLOCK_SCOPES_SINCE_ABI, landlock_abi
from tallystick.ports.executor import InputFile, Job
from tallystick.proofs.sandbox import marked
from tests.fakes.steps import opened, outcome, step

DEADLINE_S = 60
NESTING = f"{1 << 21 | 1 << 12 | 1 << 31:016x}"
"""CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_SETFCAP."""
ANSWER = {"returns": "dict", "out_params": (Param("Output", ParamType.STRUCT),)}
scoped = pytest.mark.skipif(
    landlock_abi() < LANDLOCK_SCOPES_SINCE_ABI, reason="Landlock of Linux 6.12 or later"
)

VICTIM = """
import contextlib, ctypes, json, os, socket, sys, time
libc = ctypes.CDLL(None)
tcp = socket.create_server(('127.0.0.1', 0))
abstract = socket.socket(socket.AF_UNIX)
abstract.bind('\\0p{name}')
abstract.listen()
named = socket.socket(socket.AF_UNIX)
named.bind('named')
named.listen()
shared = libc.shmget({key}, 4096, 0o1666)
held = bytearray(b'the victim holds this')
master, slave = os.openpty()
places = '/tmp/{name}', '/dev/shm/{name}'
for place in places:
    with contextlib.suppress(OSError): open(place, 'w').write('mine')
open('secret', 'w').write('a secret')
print(json.dumps({{
    'pid': os.getpid(), 'cwd': os.getcwd(), 'port': tcp.getsockname()[1], 'abstract': '{name}',
    'pty': os.ttyname(slave), 'memory': id(held),
}}), flush=True)
while not os.path.exists('enough'): time.sleep(0.01)
libc.shmctl(shared, 0, None)
for place in places:
    with contextlib.suppress(OSError): os.unlink(place)
"""
"""It takes away what it has made: without a wall that is the machine's."""

LOOK = """
import ctypes, errno, glob, json, os, signal, socket
victim = json.loads({victim!r})
libc, seen = ctypes.CDLL(None, use_errno=True), {{}}
def attempt(name, what):
    try: seen[name] = what()
    except OSError as wrong: seen[name] = 'refused'
def connect(kind, where):
    with socket.socket(kind) as mine: mine.connect(where)
    return 'reached'
def call(name, *args):
    ctypes.set_errno(0)
    if getattr(libc, name)(*args) < 0: raise OSError(ctypes.get_errno(), name)
    return 'done'
pid = victim['pid']
abstract = '\\0p' + victim['abstract']
attempt('folder', lambda: os.listdir(victim['cwd']))
attempt('beside', lambda: sorted(os.listdir(os.path.dirname(victim['cwd']))))
attempt('read', lambda: open(victim['cwd'] + '/secret').read())
attempt('write', lambda: open(victim['cwd'] + '/planted', 'w').close())
attempt('stat', lambda: os.stat(victim['cwd'] + '/secret').st_size)
attempt('chmod', lambda: os.chmod(victim['cwd'], 0o700))
attempt('named', lambda: connect(socket.AF_UNIX, victim['cwd'] + '/named'))
attempt('abstract', lambda: connect(socket.AF_UNIX, abstract))
attempt('tcp', lambda: connect(socket.AF_INET, ('127.0.0.1', victim['port'])))
attempt('tmp', lambda: open('/tmp/' + victim['abstract']).read())
attempt('shm', lambda: open('/dev/shm/' + victim['abstract']).read())
attempt('sysv', lambda: call('shmget', {key}, 0, 0))
attempt('pty', lambda: os.stat(victim['pty']).st_mode and 'seen')
attempt('root', lambda: os.listdir(f'/proc/{{pid}}/root') and 'seen')
attempt('memory', lambda: open(f'/proc/{{pid}}/mem', 'rb').close())
attempt('environ', lambda: open(f'/proc/{{pid}}/environ').read())
attempt('files', lambda: os.readlink(f'/proc/{{pid}}/fd/0'))
if {signals}:
    attempt('trace', lambda: call('ptrace', 16, pid, 0, 0))
    attempt('signal', lambda: os.kill(pid, 0) or 'done')
    attempt('keeper', lambda: os.kill(os.getppid(), 0) or 'done')
    attempt('traced keeper', lambda: call('ptrace', 16, os.getppid(), 0, 0))
seen['processes'] = sorted(int(name) for name in os.listdir('/proc') if name.isdigit())
return seen
"""


@dataclass
class Victim:
    """A step that goes on until it is let go."""

    executor: object
    folder: object
    key: int = field(default_factory=lambda: int.from_bytes(os.urandom(3)) + 1)

    async def __aenter__(self):
        body = VICTIM.format(name=uuid.uuid4().hex, key=self.key)
        told = asyncio.get_running_loop().create_future()
        job = Job("run/it", step(body), self.folder)
        log = []

        def on_log(line):
            log.append(line)
            if line.startswith("{"):
                told.set_result(json.loads(line))

        self.task = asyncio.create_task(self.executor.run(job, on_log))
        await asyncio.wait({self.task, told}, timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
        assert told.done(), (log, self.task)  # with its outcome, should it have ended before
        self.seen = told.result()
        return self

    async def __aexit__(self, *_):
        (self.folder / "enough").touch()
        assert (await asyncio.wait_for(self.task, DEADLINE_S)).error == ""

    async def looked_at(self, tmp_path, *, signals):
        body = LOOK.format(victim=json.dumps(self.seen), key=self.key, signals=signals)
        done = await outcome(self.executor, tmp_path, step(body, **ANSWER))
        assert done.error == ""
        assert not self.task.done(), self.task  # who is gone would refuse everything
        return done.params["Output"]


@pytest.mark.parametrize("zygotes", [2, 0])
async def test_behind_bubblewrap_a_step_knows_of_no_other(open_sandbox, tmp_path, zygotes):
    """With a fence as with a wall of its own."""
    sandbox = open_sandbox("bubblewrap")
    executor = opened(sandbox, tmp_path, step_zygotes=zygotes)
    async with Victim(executor, tmp_path / "work-victim") as victim:
        seen = await victim.looked_at(tmp_path, signals=False)
    own = seen.pop("processes")
    beside = seen.pop("beside")
    assert len(beside) == 1  # its own folder
    for alike in (
        "memory",
        "environ",
        "files",
        "root",
    ):  # the victim's number is that of a process of its own
        seen.pop(alike)
    assert len(own) <= 3
    assert set(seen.values()) == {"refused"}, seen


async def test_behind_bubblewrap_a_step_has_no_power_over_its_keeper(open_sandbox, tmp_path):
    sandbox = open_sandbox("bubblewrap")
    body = (
        "import ctypes, os, signal\nlibc, seen = ctypes.CDLL(None), {}\n"
        "assert os.getppid() == 1\n"
        "for number in (9, 15, 19, 11, 17, 2): os.kill(1, number)\n"
        "seen['trace'] = libc.ptrace(16, 1, 0, 0)\n"
        "looks = {'fd/0': os.readlink, 'root': os.listdir, 'ns/mnt': os.readlink}\n"
        "for name in ('mem', 'environ', 'maps', *looks):\n"
        "    try: looks.get(name, lambda path: open(path, 'rb').read(1))(f'/proc/1/{name}')\n"
        "    except OSError: seen[name] = 'refused'\n"
        "    else: seen[name] = 'read'\n"
        "return seen"
    )
    done = await outcome(opened(sandbox, tmp_path), tmp_path, step(body, **ANSWER))
    assert done.error == ""
    assert done.params["Output"].pop("trace") == -1
    assert set(done.params["Output"].values()) == {"refused"}


async def test_behind_the_fence_nothing_special_may_be_done(open_sandbox, tmp_path):
    """What the sandbox's own proof asks of a wall."""
    sandbox = open_sandbox("bubblewrap")
    body = (
        "import ctypes, os\nc = ctypes.CDLL(None)\n"
        "status = dict(l.split(':\\t', 1) for l in open('/proc/self/status') if ':\\t' in l)\n"
        "spaces = (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000)\n"
        "done = [c.mount(b'x', b'/tmp', b'tmpfs', 0, None), c.umount2(b'/proc', 2), c.chroot(b'/tmp'),\n"
        "        c.sethostname(b'x', 1), *(c.unshare(space) for space in spaces)]\n"
        "opened = []\n"
        "def writable(path):\n"
        "    try: os.close(os.open(path, os.O_WRONLY)); opened.append(path)\n"
        "    except OSError: pass\n"
        "for folder, _, names in os.walk('/proc/sys'):\n"
        "    for name in names: writable(os.path.join(folder, name))\n"
        "for path in ('/proc/sysrq-trigger', '/proc/mtrr', '/sys/devices/system/cpu/cpu1/online',\n"
        "             '/proc/self/uid_map', '/etc/passwd', '/usr/bin/env'): writable(path)\n"
        "for folder in ('/', '/usr', '/etc', '/dev', os.path.dirname(os.getcwd())):\n"
        "    try: open(folder + '/planted', 'w').close(); opened.append(folder)\n"
        "    except OSError: pass\n"
        "return {'uid': os.getuid(), 'done': done, 'opened': opened, 'new': status['NoNewPrivs'].strip(),\n"
        "        'powers': [status[k].strip() for k in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')],\n"
        "        'files': sorted(os.listdir('/proc/self/fd'))}"
    )
    executor = opened(sandbox, tmp_path)
    seen = (await outcome(executor, tmp_path, step(body, **ANSWER))).params["Output"]
    assert executor.manner.endswith("put behind a fence of its own")
    assert set(seen.pop("opened")) <= {str(tmp_path)}  # where that lies in /tmp: the step's own, in memory
    assert not (tmp_path / "planted").exists()
    assert seen == {
        "uid": 1000,
        "done": [-1] * 10,
        "new": "1",
        "powers": ["0" * 16] * 5,
        "files": ["0", "1", "2", "3"],
    }


async def test_behind_the_fence_the_rest_of_the_shared_folders_is_hidden(open_sandbox, tmp_path):
    sandbox = open_sandbox("bubblewrap")
    (tmp_path / "hub.db").write_text("secret")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "file").write_text("shown")
    body = (
        f"import os\nroot = {str(tmp_path)!r}\nseen = {{'all': sorted(os.listdir(root))}}\n"
        "os.symlink(root + '/hub.db', 'link')\n"
        "try: open(given.path + '/planted', 'w'); seen['written'] = True\n"
        "except OSError: seen['written'] = False\n"
        "return {**seen, 'text': open(given.path + '/file').read(), 'link': os.path.exists('link'),\n"
        "        'hidden': [p for p in ('/etc/shadow', '/var', '/boot', '/root') if os.path.exists(p)]}"
    )
    what = step(body, arguments="given: Input[Dataset]", **ANSWER)
    given = {"given": (InputFile(tmp_path / "given", "system.Dataset"),)}
    seen = (await outcome(opened(sandbox, tmp_path), tmp_path, what, artifacts=given)).params["Output"]
    assert [name.partition("-")[0] for name in seen.pop("all")] == ["given", "work"]
    seen.pop("hidden")  # a Python in somebody's home is shown with the folders above it
    assert seen == {"written": False, "text": "shown", "link": False}
    assert not (tmp_path / "given" / "planted").exists()


LEAVE = """
import ctypes, os, socket, subprocess, sys, time
libc, marker = ctypes.CDLL(None, use_errno=True), {marker!r}
found = {{
    'memory': len(open('/proc/sysvipc/shm').readlines()) - 1,
    'processes': sorted(int(name) for name in os.listdir('/proc') if name.isdigit()),
    'files': [name for folder in ('/tmp', '/dev/shm', '/home/tally', os.environ['HOME'], os.environ['TMPDIR'])
              for name in os.listdir(folder) if name.startswith('left')],
    'sockets': [line for name in ('unix', 'tcp') for line in open('/proc/net/' + name)
                if 'left' in line or ' 06 ' in line],
    'mounts': sorted(line.split()[4] for line in open('/proc/self/mountinfo')),
    'cwd': os.getcwd(),
}}
assert libc.shmget(7, 4096, 0o1666) >= 0
for folder in ('/tmp', '/dev/shm', '/home/tally', os.environ['HOME'], os.environ['TMPDIR']):
    open(folder + '/left', 'w').write('behind')
daemon = "import os, signal, socket, time\\nos.setsid()\\nsignal.signal(15, signal.SIG_IGN)\\n" \\
    "if os.fork(): os._exit(0)\\n" \\
    "s = socket.socket(socket.AF_UNIX); s.bind('\\\\0left'); s.listen(); print('there', flush=True)\\n" \\
    "time.sleep(600)"
subprocess.Popen([sys.executable, '-c', daemon, marker], stdout=subprocess.PIPE).stdout.readline()
with socket.create_server(('127.0.0.1', 0)) as server:  # leaves a connection that waits for its time
    with socket.create_connection(server.getsockname()) as mine: server.accept()[0].close()
return {{**found, 'keeper': os.readlink('/proc/self/ns/pid')}}
"""


async def test_behind_the_fence_a_step_finds_nothing_of_the_one_before_it(open_sandbox, tmp_path):
    """A keeper has one step after another: nothing but the namespace that its processes are in stays."""
    sandbox = open_sandbox("bubblewrap")
    executor, seen, marker = opened(sandbox, tmp_path), [], uuid.uuid4().hex
    for _ in range(12):
        done = await outcome(executor, tmp_path, step(LEAVE.format(marker=marker), **ANSWER))
        seen.append({**done.params.get("Output", {}), "error": done.error, "alive": marked(marker)})
    assert {one["error"] for one in seen} == {""}
    assert len({one["keeper"] for one in seen}) < len(seen)
    for one in seen:
        assert (one["memory"], one["files"], one["sockets"], one["alive"]) == (0, [], [], [])
        assert len(one["processes"]) == 2
        assert [place.replace(one["cwd"], "") for place in one["mounts"]] == [
            place.replace(seen[0]["cwd"], "") for place in seen[0]["mounts"]
        ]


@scoped
async def test_without_a_wall_no_step_can_signal_or_trace_another(open_sandbox, tmp_path):
    sandbox = open_sandbox("process")
    executor = opened(sandbox, tmp_path)
    async with Victim(executor, tmp_path / "work-victim") as victim:
        seen = await victim.looked_at(tmp_path, signals=True)
    kept = ("trace", "signal", "keeper", "traced keeper", "memory", "files", "root", "abstract")
    assert {name: seen[name] for name in kept} == dict.fromkeys(kept, "refused")


async def test_the_zygote_s_own_wall_is_no_weaker_outwards(open_sandbox, tmp_path):
    """It has capabilities of its own namespaces: the machine's settings and files are as far as ever."""
    sandbox = open_sandbox("bubblewrap")
    code = (
        "import ctypes, json, os\nc = ctypes.CDLL(None)\n"
        "status = dict(l.split(':\\t', 1) for l in open('/proc/self/status') if ':\\t' in l)\n"
        "opened = []\n"
        "for path in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/usr/bin/env', '/planted'):\n"
        "    try: os.close(os.open(path, os.O_WRONLY | os.O_CREAT)); opened.append(path)\n"
        "    except OSError: pass\n"
        "words = [status[name].strip() for name in ('CapEff', 'CapBnd', 'NoNewPrivs')]\n"
        "print(json.dumps([*words, opened,\n"
        "    c.swapon(b'/x', 0), c.sethostname(b'x', 1), c.chroot(b'/'),\n"
        "    os.path.exists('/etc/shadow')]))"
    )
    wall = Wall(str(tmp_path), env={}, nests=True)
    confined = await sandbox.spawn([sys.executable, "-I", "-c", code], wall)
    seen = json.loads(await confined.stdout.read())
    await confined.end()
    assert seen[:4] == [NESTING, NESTING, "1", []]
    assert seen[4:] == [-1, 0, -1, False]  # a name of its own it may have
