"""The sandboxes, and what happens to the confined when the hub, the warden or a keeper is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Unavailable
from tallystick.core.wall import Wall
from tallystick.ports.tile import Place
from tallystick.proofs.sandbox import TREE, SandboxProof, marked
from tallystick.tiles.sandbox import bubblewrap, process
from tests.fakes.plain_sandbox import PlainSandbox
from tests.tiles.conftest import WALLS

SRC = str(Path(process.__file__).parents[3])

HUB = """
import asyncio, sys
from importlib import import_module
from pathlib import Path
from tallystick.core.wall import Wall
from tallystick.ports.tile import Place

async def main(tile, folder, marker, tree):
    sandbox = import_module("tallystick.tiles.sandbox." + tile).open_tile(Place(Path(folder)))
    for _ in range(3):
        process = await sandbox.spawn([sys.executable, "-c", tree, marker], Wall(folder))
        await process.stdout.readline()
    print("running", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


class TestProcess(SandboxProof):
    def open(self, home):
        return process.open_tile(Place(home))


class TestBubblewrap(SandboxProof):
    def open(self, home):
        return bubblewrap.open_tile(Place(home))


@pytest.fixture(params=WALLS)
def tile(request):
    return request.param


async def gone(marker):
    """Until nobody carries the marker any more; how they end is the kernel's to time, so it is polled."""
    async with asyncio.timeout(60):
        while marked(marker):  # noqa: ASYNC110  other processes' ends set no event here
            await asyncio.sleep(0.01)


def children(pid):
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def environment(pid):
    return Path(f"/proc/{pid}/environ").read_bytes()


def exists(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def running(sandbox, folder, marker):
    confined = await sandbox.spawn(
        [sys.executable, "-c", TREE.format(then="time.sleep(600)"), marker], Wall(str(folder))
    )
    assert await confined.stdout.readline() == b"ready\n"
    return confined


async def test_nobody_outlives_a_hub_that_is_killed(tile, tmp_path):
    # The hub itself carries the marker too, as an argument of its own.
    marker, tree = uuid.uuid4().hex, TREE.format(then="time.sleep(600)")
    hub = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", HUB, tile, str(tmp_path), marker, tree),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SRC},
    )
    try:
        assert await hub.stdout.readline() == b"running\n"
        assert len(marked(marker)) >= 1 + 3 * 4
        wardens = children(hub.pid)
        helpers = [*wardens, *children(wardens[0])]
        assert len(helpers) == 4
    finally:
        hub.send_signal(signal.SIGKILL)
        await hub.wait()
    await gone(marker)
    async with asyncio.timeout(60):
        while any(map(exists, helpers)):  # noqa: ASYNC110  as above
            await asyncio.sleep(0.01)


async def test_a_killed_warden_is_replaced_and_its_keepers_go_on(tile, open_sandbox, tmp_path):
    marker = uuid.uuid4().hex
    sandbox = open_sandbox(tile)
    first = await running(sandbox, tmp_path, marker)
    os.kill(sandbox._warden._process.pid, signal.SIGKILL)
    sandbox._warden._process.wait()
    second = await running(sandbox, tmp_path, marker)
    assert await first.end(grace_s=0.1) == -signal.SIGKILL
    await second.end(grace_s=0.1)
    assert marked(marker) == []


async def test_who_loses_a_keeper_is_killed(tile, open_sandbox, tmp_path):
    marker = uuid.uuid4().hex
    sandbox = open_sandbox(tile)
    confined = await running(sandbox, tmp_path, marker)
    [keeper] = children(sandbox._warden._process.pid)
    os.kill(keeper, signal.SIGKILL)
    assert await confined.wait() == -signal.SIGKILL
    await gone(marker)
    await confined.end()


async def test_closing_leaves_no_warden(tile, open_sandbox, tmp_path):
    sandbox = open_sandbox(tile)
    await (await sandbox.spawn(["/bin/true"], Wall(str(tmp_path)))).end()
    warden = sandbox._warden._process
    await sandbox.close()
    await sandbox.close()
    assert warden.returncode == 0


async def test_the_warden_has_nothing_of_the_hubs_environment(tile, open_sandbox, tmp_path, monkeypatch):
    monkeypatch.setenv("HUB_SECRET", "open sesame")
    sandbox = open_sandbox(tile)
    confined = await running(sandbox, tmp_path, "marker")
    warden = sandbox._warden._process.pid
    for pid in (warden, *children(warden), confined.pid):
        assert b"HUB_SECRET" not in environment(pid)
    await confined.end(grace_s=0.1)


async def test_many_starts_wait_for_their_turn(tile, open_sandbox, tmp_path):
    sandbox = open_sandbox(tile)
    started = await asyncio.gather(
        *(sandbox.spawn(["/bin/sh", "-c", f"exit {n}"], Wall(str(tmp_path))) for n in range(40))
    )
    assert [await one.wait() for one in started] == list(range(40))
    await asyncio.gather(*(one.end() for one in started))


def test_without_bubblewrap_the_next_step_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="apt-get install bubblewrap"):
        bubblewrap.open_tile(Place(tmp_path))


@pytest.mark.parametrize("said", ["bwrap: setting up uid map: Permission denied", ""])
def test_where_namespaces_are_forbidden_the_reason_is_said(tmp_path, monkeypatch, said):
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=said or "status 1") as wrong:
        bubblewrap.open_tile(Place(tmp_path))
    assert "unprivileged_userns" in wrong.value.hint


def test_a_trial_that_did_not_end_is_made_again(tmp_path, monkeypatch):
    """A busy machine is not one without walls: only an answer is remembered."""
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\ntest -e {tmp_path}/free || exec sleep 600\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(bubblewrap, "TRIAL_SECONDS_MAX", 0.2)
    with pytest.raises(Unavailable, match=r"it was not done after 0\.2 s"):
        bubblewrap.open_tile(Place(tmp_path))
    monkeypatch.setattr(bubblewrap, "TRIAL_SECONDS_MAX", 60)
    (tmp_path / "free").touch()
    bubblewrap.open_tile(Place(tmp_path))


async def test_bubblewrap_names_the_path_that_is_missing(open_sandbox, tmp_path):
    sandbox = open_sandbox("bubblewrap")
    with pytest.raises(BadInput, match="/no/such"):
        await sandbox.spawn(["/bin/true"], Wall(str(tmp_path), readable=("/no/such",)))


async def test_no_variable_of_the_wall_acts_outside_of_it(open_sandbox, tmp_path):
    """A pipeline says its steps' variables: with LD_PRELOAD, bubblewrap itself would run a file of theirs."""
    (tmp_path / "work").mkdir()
    sandbox = open_sandbox("bubblewrap", tmp_path / "home")
    env = {"LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": str(tmp_path / "outside"), "OWN": "it is there"}
    confined = await sandbox.spawn(
        ["/bin/sh", "-c", 'echo "$LD_DEBUG $OWN"'], Wall(str(tmp_path / "work"), env=env)
    )
    said = await confined.stdout.read()
    assert await confined.wait() == 0
    await confined.end()
    await sandbox.close()
    assert said == b"libs it is there\n"
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


async def test_nobody_sees_a_walls_variables_among_the_arguments(open_sandbox, tmp_path):
    sandbox = open_sandbox("bubblewrap", tmp_path / "home")
    wall = Wall(str(tmp_path), env={"PASSWORD": "open-sesame"})
    confined = await sandbox.spawn(["/bin/sh", "-c", "echo ready; exec sleep 60"], wall)
    await confined.stdout.readline()
    assert marked("/bin/sh") or marked("sleep")
    assert not marked("open-sesame")
    await confined.end(grace_s=0.1)


async def test_memory_folders_of_bubblewrap_are_limited(open_sandbox, tmp_path):
    sandbox = open_sandbox("bubblewrap")
    for folder in ("/tmp", "/dev/shm", "/home/tally"):  # noqa: S108  those inside the wall
        confined = await sandbox.spawn(
            ["/bin/dd", "if=/dev/zero", f"of={folder}/big", "bs=1M", "count=80"],
            Wall(str(tmp_path), memory_mib=64),
        )
        assert b"No space left" in await confined.stderr.read()
        assert await confined.wait() == 1
        await confined.end()


async def test_memory_folders_stay_small_where_the_wall_has_much(open_sandbox, tmp_path):
    sandbox = open_sandbox("bubblewrap")
    confined = await sandbox.spawn(
        ["/bin/df", "--output=size", "-m", "/tmp", "/dev/shm", "/home/tally"],  # noqa: S108  inside the wall
        Wall(str(tmp_path), memory_mib=4096),
    )
    assert (await confined.stdout.read()).split()[1:] == [b"512"] * 3
    assert await confined.wait() == 0
    await confined.end()


LOOK = """
cat "$1/hub.db" "$2/hub.db"
ls "$1"
echo mine > "$1/scratch/w/made" && cat "$1/scratch/w/made"
touch "$1/planted" || echo closed
cat "$1/../pyvenv.cfg"
"""


@pytest.mark.parametrize("linked", [False, True])
async def test_a_home_inside_pythons_own_folder_is_hidden(open_sandbox, tmp_path, monkeypatch, linked):
    """As it is after ``python -m venv .`` with ``./tally-home``: that folder is shown to every step."""
    real = tmp_path / "project"
    work = real / "home" / "scratch" / "w"
    work.mkdir(parents=True)
    (real / "pyvenv.cfg").write_text("venv\n")
    (real / "home" / "hub.db").write_text("secret")
    (tmp_path / "link").symlink_to(real)
    prefix = tmp_path / "link" if linked else real
    monkeypatch.setattr(sys, "prefix", str(prefix))
    sandbox = open_sandbox("bubblewrap", real / "home")
    confined = await sandbox.spawn(
        ["/bin/sh", "-c", LOOK, "sh", str(prefix / "home"), str(real / "home")], Wall(str(work))
    )
    said = (await confined.stdout.read()).decode()
    await confined.end()
    await sandbox.close()
    assert "secret" not in said
    assert said.split() == (["closed", "venv"] if linked else ["scratch", "mine", "closed", "venv"])
    assert not (real / "home" / "planted").exists()


async def test_a_home_that_every_wall_shows_is_refused(open_sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    sandbox = open_sandbox("bubblewrap")
    with pytest.raises(BadInput, match="cannot be the home"):
        await sandbox.spawn(["/bin/true"], Wall(str(tmp_path)))


async def test_bubblewrap_reaches_the_network_when_the_wall_lets_it(open_sandbox, tmp_path):
    sandbox = open_sandbox("bubblewrap")
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
        code = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])))"
        port = str(server.sockets[0].getsockname()[1])
        confined = await sandbox.spawn(
            [sys.executable, "-I", "-c", code, port], Wall(str(tmp_path), network=True)
        )
        assert await confined.wait() == 0
        await confined.end()


@pytest.mark.parametrize("turns", range(6))
async def test_a_start_of_the_fake_that_is_cancelled_leaves_nobody_either(tmp_path, turns):
    marker = uuid.uuid4().hex
    argv = [sys.executable, "-I", "-c", "import time; time.sleep(600)", marker]
    start = asyncio.create_task(PlainSandbox().spawn(argv, Wall(str(tmp_path))))
    for _ in range(turns):
        await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert marked(marker) == []


def test_what_is_not_done_is_said():
    assert all(process.NOT_DONE)
    assert any("system calls" in text for text in bubblewrap.NOT_DONE)
    for tile in (process, bubblewrap):
        assert any("shared memory (mmap, memfd) is not limited" in text for text in tile.NOT_DONE)
