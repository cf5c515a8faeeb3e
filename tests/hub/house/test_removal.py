"""What removes beside the hub's own work, and goes on when that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tallystick import rmtree as program
from tallystick.hub.house import removal
from tallystick.hub.house.removal import Remover, remove


@pytest.fixture
async def remover():
    remover = Remover()
    yield remover
    remover.close()


def full(path: Path) -> Path:
    (path / "folder").mkdir(parents=True)
    (path / "folder" / "file").touch()
    return path


def hands() -> list[int]:
    """Processes of this one that remove."""
    asked = ["pgrep", "-P", str(os.getpid()), "-f", str(program.__file__)]
    return [int(pid) for pid in subprocess.run(asked, capture_output=True, check=False).stdout.split()]


async def test_several_at_once(remover, tmp_path, caplog):
    """Each of them goes, whatever happens to the others."""
    (tmp_path / "file").touch()
    assert await remover.removing(tmp_path / "file", full(tmp_path / "folder"), tmp_path / "never")
    (tmp_path / "file").touch()
    assert not await remover.removing(Path("/proc/self"), tmp_path / "file")
    assert "/proc/self" in caplog.text
    assert list(tmp_path.iterdir()) == []
    assert len(hands()) == 1


async def test_ctrl_c_is_for_the_hub_alone(remover, tmp_path):
    """A terminal sends it to all of a process group, and the hub has things to remove yet."""
    await remover.removing(tmp_path / "never")
    assert [os.getpgid(hand) == os.getpgid(0) for hand in hands()] == [False]


async def test_many_do_not_wait_for_one_that_takes_long(remover, tmp_path):
    (slow := tmp_path / "slow").mkdir()
    for number in range(3):
        await remover.removing(full(tmp_path / f"{number}"))
    (hand,) = hands()
    os.kill(hand, signal.SIGSTOP)
    try:
        stuck = [remover.removing(slow) for _ in range(removal.BUSY)]
        await asyncio.sleep(3 * removal.GATHER_S)
        for number in range(10):
            assert await remover.removing(full(tmp_path / f"{number}"))
        assert not any(one.done() for one in stuck)
        assert len(hands()) == 2
    finally:
        os.kill(hand, signal.SIGCONT)
    assert all(await asyncio.gather(*stuck))
    assert list(tmp_path.iterdir()) == []


async def test_what_was_asked_of_one_that_is_killed_is_done_all_the_same(remover, tmp_path):
    await remover.removing(tmp_path / "never")
    (hand,) = hands()
    os.kill(hand, signal.SIGSTOP)
    asked = [remover.removing(full(tmp_path / f"{number}")) for number in range(3)]
    await asyncio.sleep(3 * removal.GATHER_S)
    os.kill(hand, signal.SIGKILL)
    assert await asyncio.gather(*asked) == [True] * 3
    assert await remover.removing(full(tmp_path / "after"))
    assert list(tmp_path.iterdir()) == []
    assert hands() != [hand]


async def test_more_than_a_process_is_told_at_once(remover, tmp_path):
    asked = [remover.removing(full(tmp_path / f"{number}-{'long' * 40}")) for number in range(40)]
    assert await asyncio.gather(*asked) == [True] * 40
    assert list(tmp_path.iterdir()) == []


async def test_where_no_process_can_be_started(remover, tmp_path, monkeypatch, caplog):
    def refuse(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert await remover.removing(full(tmp_path / "folder"))
    assert "no process can be started that removes" in caplog.text
    assert list(tmp_path.iterdir()) == []


async def test_closing_does_what_was_asked(tmp_path):
    remover = Remover()
    await remover.removing(tmp_path / "never")
    remover.removing(full(tmp_path / "folder"))
    remover.close()
    assert list(tmp_path.iterdir()) == []
    assert hands() == []
    assert await remover.removing(full(tmp_path / "after"))
    remover.close()


async def test_closing_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(removal, "END_S", 0.1)
    remover = Remover()
    await remover.removing(tmp_path / "never")
    os.kill(hands()[0], signal.SIGSTOP)
    remover.removing(full(tmp_path / "folder"))
    remover.close()
    assert hands() == []


async def test_the_event_loop_goes_on(tmp_path, monkeypatch):
    turns, real = [], removal.rmtree
    until, held = threading.Event(), asyncio.Event()

    def slow(path, stopped):
        loop.call_soon_threadsafe(held.set)
        assert until.wait(60)
        turns.append(threading.current_thread().name)
        return real(path, stopped)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(removal, "rmtree", slow)
    removing = asyncio.create_task(remove(full(tmp_path / "tree")))
    await held.wait()
    until.set()
    assert await removing
    assert turns[0].startswith("remove")


async def test_a_removal_heeds_who_stops_it(tmp_path, caplog):
    (stop := threading.Event()).set()
    assert not await remove(full(tmp_path / "tree"), stop)
    assert "it was interrupted" in caplog.text
