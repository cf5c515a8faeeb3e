"""What every sandbox must do, and what must not be reachable from behind its walls.

Subclass it and say how the tile opens. A promise that the tile's strength does not make is skipped, by name.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tallystick.core.errors import BadInput, TallyError, Unavailable
from tallystick.core.wall import Strength, Wall
from tallystick.ports.sandbox import Confined, Sandbox

__all__ = ["SandboxProof", "marked"]

DEADLINE_S = 30.0
AT_ONCE = 8
LONG_LINE_BYTES = 16 * 1024 * 1024 - 1
KEYS = {"x86_64": (248, 250), "aarch64": (217, 219)}
"""The numbers of the system calls add_key(2) and keyctl(2), by machine."""

TREE = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
there, here = os.pipe()
for flee in (False, True, True):
    if os.fork() == 0:
        if flee:
            os.setsid()
            if os.fork():
                os._exit(0)
        os.write(here, b".")
        time.sleep(600)
for _ in range(3):
    os.read(there, 1)
print("ready", flush=True)
{then}
"""
"""A tree that ignores polite signals, with grandchildren in sessions of their own whose parent is gone."""


def marked(marker: str) -> list[int]:
    """The processes of this machine, ended ones aside, that have ``marker`` among their arguments."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and marker.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


def own_arguments() -> str:
    """The arguments of this process as /proc shows them."""
    return Path("/proc/self/cmdline").read_bytes().decode("latin-1")


class SandboxProof:
    """The conformance suite of :class:`tallystick.ports.sandbox.Sandbox`."""

    def open(self, home: Path) -> Sandbox:
        """Open the tile."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def sandbox(self, tmp_path: Path) -> AsyncIterator[Sandbox]:
        """The tile, closed at the end."""
        (tmp_path / "home").mkdir()
        sandbox = self.open(tmp_path / "home")
        yield sandbox
        await sandbox.close()

    @pytest.fixture
    def wall(self, tmp_path: Path) -> Wall:
        """A wall around an empty folder, with little of everything."""
        (tmp_path / "work").mkdir()
        return Wall(str(tmp_path / "work"), cpu_seconds=20, memory_mib=512, file_mib=64, open_files=64)

    async def python(self, sandbox: Sandbox, wall: Wall, code: str, *args: str) -> Confined:
        """Start Python on ``code``."""
        return await sandbox.spawn([sys.executable, "-I", "-c", code, *args], wall)

    async def ask(self, sandbox: Sandbox, wall: Wall, code: str, *args: str) -> Any:
        """What ``code``, run to its end, prints as JSON."""
        status, out, err = await self.run(sandbox, wall, code, *args)
        assert status == 0, err
        return json.loads(out)

    async def run(self, sandbox: Sandbox, wall: Wall, code: str, *args: str) -> tuple[int, str, str]:
        """Status, standard output and standard error of ``code`` run to its end."""
        process = await self.python(sandbox, wall, code, *args)
        async with asyncio.timeout(DEADLINE_S):
            out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
            status = await process.wait()
        await process.end()
        return status, out.decode(), err.decode()

    def promised(self, sandbox: Sandbox, promise: Callable[[Strength], bool]) -> None:
        """Skip what the tile does not promise here."""
        if not promise(sandbox.strength()):
            pytest.skip(f"not promised: {sandbox.strength()}")

    # ---------------------------------------------------------------------- running

    async def test_status_and_streams_come_through(self, sandbox: Sandbox, wall: Wall) -> None:
        process = await self.python(
            sandbox, wall, "import sys; print(sys.stdin.read()); print('e', file=sys.stderr); sys.exit(7)"
        )
        assert process.pid > 0
        process.stdin.write(b"in")
        process.stdin.close()
        assert (await process.stdout.read(), await process.stderr.read()) == (b"in\n", b"e\n")
        assert await process.wait() == 7
        assert await process.wait() == 7

    async def test_a_signal_is_a_negative_status(self, sandbox: Sandbox, wall: Wall) -> None:
        status, _, _ = await self.run(sandbox, wall, "import os; os.kill(os.getpid(), 9)")
        assert status == -signal.SIGKILL

    async def test_a_program_that_is_not_there(self, sandbox: Sandbox, wall: Wall) -> None:
        try:
            process = await sandbox.spawn(["/no/such/program"], wall)
        except Unavailable as wrong:
            said, status = str(wrong), 127
        else:
            said, status = (await process.stderr.read()).decode(), await process.wait()
            await process.end()
        assert "/no/such/program" in said
        assert status in (1, 126, 127)

    @pytest.mark.parametrize("argv", [[], ["relative"], ["/bin/sh", "a\0b"]])
    async def test_what_is_not_a_command_is_refused(
        self, sandbox: Sandbox, wall: Wall, argv: list[str]
    ) -> None:
        with pytest.raises(BadInput):
            await sandbox.spawn(argv, wall)

    async def test_a_folder_that_is_not_there(self, sandbox: Sandbox, wall: Wall) -> None:
        with pytest.raises(TallyError):
            await sandbox.spawn(["/bin/sh"], replace(wall, workdir=wall.workdir + "/none"))

    async def test_long_lines_come_whole(self, sandbox: Sandbox, wall: Wall) -> None:
        process = await self.python(sandbox, wall, f"print('x' * {LONG_LINE_BYTES})")
        line = await process.stdout.readuntil(b"\n")
        assert len(line) == LONG_LINE_BYTES + 1
        assert await process.wait() == 0
        await process.end()

    async def test_many_at_once(self, sandbox: Sandbox, wall: Wall) -> None:
        asked = [self.ask(sandbox, wall, f"print({number})") for number in range(AT_ONCE)]
        assert await asyncio.gather(*asked) == list(range(AT_ONCE))

    # ---------------------------------------------------------------------- ending

    async def test_ending_is_polite_at_first(self, sandbox: Sandbox, wall: Wall) -> None:
        process = await self.python(
            sandbox,
            wall,
            "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
            "print('ready', flush=True)\nsignal.pause()",
        )
        await process.stdout.readline()
        assert await process.end() == 5
        assert await process.end() == 5

    async def test_ending_leaves_nobody(self, sandbox: Sandbox, wall: Wall) -> None:
        marker = uuid.uuid4().hex
        process = await self.python(sandbox, wall, TREE.format(then="time.sleep(600)"), marker)
        assert await process.stdout.readline() == b"ready\n"
        assert len(marked(marker)) >= 4
        assert await process.end(grace_s=0.1) == -signal.SIGKILL
        assert marked(marker) == []

    async def test_who_ends_by_itself_leaves_nobody(self, sandbox: Sandbox, wall: Wall) -> None:
        marker = uuid.uuid4().hex
        process = await self.python(sandbox, wall, TREE.format(then="sys.exit(3)"), marker)
        assert await process.wait() == 3
        assert marked(marker) == []
        await process.end()

    async def test_output_that_nobody_reads_does_not_hinder_the_end(
        self, sandbox: Sandbox, wall: Wall
    ) -> None:
        marker = uuid.uuid4().hex
        code = "import sys\nwhile True: sys.stdout.write('x' * 65536); sys.stderr.write('y' * 65536)"
        process = await self.python(sandbox, wall, code, marker)
        await process.stdout.readexactly(32 * 1024 * 1024)
        await process.end()
        assert marked(marker) == []

    async def test_closing_ends_all(self, sandbox: Sandbox, wall: Wall) -> None:
        marker = uuid.uuid4().hex
        for _ in range(3):
            process = await self.python(sandbox, wall, TREE.format(then="time.sleep(600)"), marker)
            await process.stdout.readline()
        await sandbox.close()
        assert marked(marker) == []

    async def test_a_start_that_is_cancelled_leaves_nobody(self, sandbox: Sandbox, wall: Wall) -> None:
        marker = uuid.uuid4().hex
        await self.run(sandbox, wall, "pass")
        starts = [
            asyncio.create_task(self.python(sandbox, wall, TREE.format(then="time.sleep(600)"), marker))
            for _ in range(4)
        ]
        for turns, start in enumerate(starts):
            for _ in range(turns):
                await asyncio.sleep(0)
            start.cancel()
        await asyncio.gather(*starts, return_exceptions=True)
        await sandbox.close()
        assert marked(marker) == []

    # ---------------------------------------------------------------------- inheriting

    async def test_the_environment_is_the_walls(
        self, sandbox: Sandbox, wall: Wall, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HUB_SECRET", "open sesame")
        seen = await self.ask(
            sandbox, replace(wall, env={"A": "b c"}), "import json, os; print(json.dumps(dict(os.environ)))"
        )
        assert seen.pop("A") == "b c"
        assert seen.keys() <= {"PWD", "LC_CTYPE"}  # Python's own doing, and a tile's that changes folder

    async def test_no_descriptor_is_inherited(self, sandbox: Sandbox, wall: Wall) -> None:
        with (Path(wall.workdir) / "open").open("w") as file:
            os.set_inheritable(file.fileno(), True)
            code = (
                "import json, os\n"
                "print(json.dumps([n for n in range(3, 60) if os.path.exists(f'/proc/self/fd/{n}')]))"
            )
            assert await self.ask(sandbox, wall, code) == []

    async def test_no_key_of_the_hub_is_inherited(self, sandbox: Sandbox, wall: Wall) -> None:
        """Kernel keyrings pass through namespaces: a key in the hub's session keyring must not be found."""
        add_key, keyctl = KEYS.get(os.uname().machine, (-1, -1))
        name, ask = uuid.uuid4().hex, ctypes.CDLL(None).syscall
        if (key := ask(add_key, b"user", name.encode(), b"secret", 6, -3)) < 0:
            pytest.skip("no kernel keyrings here")
        code = "import ctypes; print(ctypes.CDLL(None).syscall({}, 10, -3, b'user', b'{}', 0))"
        try:
            assert ask(keyctl, 10, -3, b"user", name.encode(), 0) == key
            assert await self.ask(sandbox, wall, code.format(keyctl, name)) == -1
        finally:
            ask(keyctl, 9, key, -3)

    async def test_folder_mask_and_session_are_its_own(self, sandbox: Sandbox, wall: Wall) -> None:
        seen = await self.ask(
            sandbox,
            wall,
            "import json, os\nopen('made', 'w').close()\n"
            "try: os.open('/dev/tty', os.O_RDWR); tty = True\nexcept OSError: tty = False\n"
            "print(json.dumps([os.getcwd(), os.stat('made').st_mode & 0o777, tty]))",
        )
        assert seen == [wall.workdir, 0o600, False]
        assert (Path(wall.workdir) / "made").exists()

    # ---------------------------------------------------------------------- limits

    async def test_memory_is_limited(self, sandbox: Sandbox, wall: Wall) -> None:
        self.promised(sandbox, lambda s: s.limits_resources)
        _, _, err = await self.run(sandbox, wall, "b = bytearray(1 << 30)")
        assert "MemoryError" in err

    async def test_cpu_time_is_limited(self, sandbox: Sandbox, wall: Wall) -> None:
        self.promised(sandbox, lambda s: s.limits_resources)
        status, _, _ = await self.run(sandbox, replace(wall, cpu_seconds=1), "while True: pass")
        assert status == -signal.SIGXCPU

    async def test_files_are_limited(self, sandbox: Sandbox, wall: Wall) -> None:
        self.promised(sandbox, lambda s: s.limits_resources)
        status, _, err = await self.run(sandbox, wall, "open('big', 'wb').write(b'x' * (65 << 20))")
        assert status == 1
        assert "File too large" in err
        status, _, err = await self.run(sandbox, wall, "f = [open('/dev/null') for _ in range(65)]")
        assert status == 1
        assert "Too many open files" in err

    # ---------------------------------------------------------------------- files

    async def test_what_the_wall_shows(self, sandbox: Sandbox, wall: Wall, tmp_path: Path) -> None:
        (tmp_path / "in").write_text("shown")
        (tmp_path / "out").mkdir()
        shows = replace(wall, readable=(str(tmp_path / "in"),), writable=(str(tmp_path / "out"),))
        code = "import sys; open(sys.argv[2] + '/copy', 'w').write(open(sys.argv[1]).read())"
        status, _, err = await self.run(sandbox, shows, code, str(tmp_path / "in"), str(tmp_path / "out"))
        assert (status, err) == (0, "")
        assert (tmp_path / "out" / "copy").read_text() == "shown"

    async def test_what_is_only_readable_stays_as_it_is(
        self, sandbox: Sandbox, wall: Wall, tmp_path: Path
    ) -> None:
        self.promised(sandbox, lambda s: s.hides_files)
        (tmp_path / "in").write_text("shown")
        shows = replace(wall, readable=(str(tmp_path / "in"),))
        for path in (str(tmp_path / "in"), "/usr/planted", "/planted", "/dev/planted", __file__):
            status, _, _ = await self.run(
                sandbox, shows, "import sys; open(sys.argv[1], 'a').write('x')", path
            )
            assert status == 1, path
        assert (tmp_path / "in").read_text() == "shown"

    async def test_the_rest_is_hidden(self, sandbox: Sandbox, wall: Wall, tmp_path: Path) -> None:
        self.promised(sandbox, lambda s: s.hides_files)
        (tmp_path / "hub.db").write_text("secret")
        (Path(wall.workdir) / "link").symlink_to(tmp_path / "hub.db")
        hidden = [str(tmp_path / "hub.db"), "link", "/etc/shadow", "/var", "/boot", "/proc/1/root/var"]
        code = "import json, os, sys; print(json.dumps([p for p in sys.argv[1:] if os.path.exists(p)]))"
        assert await self.ask(sandbox, wall, code, *hidden) == []
        beside = "import json, os, sys; print(json.dumps(os.listdir(sys.argv[1])))"
        assert await self.ask(sandbox, wall, beside, str(tmp_path)) == ["work"]

    async def test_nothing_special_may_be_done(self, sandbox: Sandbox, wall: Wall) -> None:
        self.promised(sandbox, lambda s: s.hides_files)
        code = (
            "import ctypes, json, os\nc = ctypes.CDLL(None)\n"
            "status = dict(l.split(':\\t', 1) for l in open('/proc/self/status') if ':\\t' in l)\n"
            "done = [c.mount(b'x', b'/tmp', b'tmpfs', 0, None), c.unshare(0x10000000), c.chroot(b'/tmp')]\n"
            "print(json.dumps([os.getuid() != 0, status['CapEff'].strip(), status['NoNewPrivs'], done]))"
        )
        assert await self.ask(sandbox, wall, code) == [True, "0" * 16, "1\n", [-1, -1, -1]]

    async def test_no_setting_of_the_kernel_may_be_opened_for_writing(
        self, sandbox: Sandbox, wall: Wall
    ) -> None:
        """Opened, never written: where the wall has a hole, the proof must not be what goes through it."""
        self.promised(sandbox, lambda s: s.hides_files)
        code = (
            "import json, os\nopened = []\n"
            "for folder, _, names in os.walk('/proc/sys'):\n"
            "    for name in names:\n"
            "        try: os.close(os.open(os.path.join(folder, name), os.O_WRONLY)); opened.append(name)\n"
            "        except OSError: pass\n"
            "for name in ('/proc/sysrq-trigger', '/proc/mtrr', '/sys/devices/system/cpu/cpu1/online'):\n"
            "    try: os.close(os.open(name, os.O_WRONLY)); opened.append(name)\n"
            "    except OSError: pass\n"
            "print(json.dumps(opened))"
        )
        assert await self.ask(sandbox, wall, code) == []

    # ---------------------------------------------------------------------- others

    async def test_other_processes_are_hidden(self, sandbox: Sandbox, wall: Wall) -> None:
        self.promised(sandbox, lambda s: s.hides_processes)
        code = (
            "import glob, json; print(json.dumps([open(p, 'rb').read().decode('latin-1') "
            "for p in glob.glob('/proc/[0-9]*/cmdline')]))"
        )
        seen = await self.ask(sandbox, wall, code)
        assert 1 <= len(seen) <= 4
        assert own_arguments() not in seen

    async def test_the_network_is_out_of_reach(self, sandbox: Sandbox, wall: Wall) -> None:
        self.promised(sandbox, lambda s: s.blocks_network)
        abstract = f"\0{uuid.uuid4().hex}"
        tcp = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        unix = await asyncio.start_unix_server(lambda _, writer: writer.close(), abstract)
        async with tcp, unix:
            code = (
                "import json, socket, sys\nwrong = []\n"
                "for kind, where in ((2, ('127.0.0.1', int(sys.argv[1]))), (1, '\\0' + sys.argv[2]), "
                "(2, ('192.0.2.1', 80))):\n"
                "    try: socket.socket(kind).connect(where); wrong.append('reached')\n"
                "    except OSError as e: wrong.append(e.errno)\n"
                "print(json.dumps(wrong))"
            )
            port = tcp.sockets[0].getsockname()[1]
            seen = await self.ask(sandbox, wall, code, str(port), abstract[1:])
        assert "reached" not in seen

    async def test_loopback_and_a_shown_socket_can_be_reached(
        self, sandbox: Sandbox, wall: Wall, tmp_path: Path
    ) -> None:
        path = str(tmp_path / "hub.sock")
        async with await asyncio.start_unix_server(lambda _, writer: writer.close(), path):
            code = (
                "import json, socket, sys\nwithin = socket.create_server(('127.0.0.1', 0))\n"
                "socket.create_connection(within.getsockname())\nsocket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
                "print('true')"
            )
            assert await self.ask(sandbox, replace(wall, writable=(path,)), code, path) is True
