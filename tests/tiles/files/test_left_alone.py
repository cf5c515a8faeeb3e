"""Artifacts in a folder, where who asked goes away while a thread still works, or waits for one."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from tallystick.ports.tile import Place
from tallystick.proofs.files import MIB, pieces, read_all, some_bytes
from tallystick.tiles.files.local import LocalFiles, open_tile
from tallystick.tiles.files.tree import Tree


class Slow:
    """A function of the disk's that waits until it may go on; ``went`` is what came of each call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        self.entered, self.go = threading.Semaphore(0), threading.Event()
        self.went: list[object] = []
        real = getattr(owner, name)

        def slow(*given: object, **named: object) -> object:
            self.entered.release()
            assert self.go.wait(60)
            try:
                self.went.append(real(*given, **named))
            except OSError as wrong:
                self.went.append(wrong)
                raise
            return self.went[-1]

        monkeypatch.setattr(owner, name, slow)

    async def left_alone(self, *asking: asyncio.Task[object], busy: int = 1) -> None:
        """Once so many threads wait, cancel who asked, again and again, as anyio does."""
        for _ in range(busy):
            assert await asyncio.to_thread(self.entered.acquire, timeout=60)
        while not all(task.done() for task in asking):
            for task in asking:
                task.cancel()
            await asyncio.sleep(0)

    async def goes_on(self, files: LocalFiles) -> None:
        """To the end of all that was begun."""
        self.go.set()
        await files.close()


def opened_below(root: Path) -> list[str]:
    there = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [path for path in there if path.startswith(f"{root}/")]


async def test_no_file_is_closed_under_a_read_that_still_waits(
    files: LocalFiles, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.put("a", pieces(b"mine"))
    slow = Slow(monkeypatch, os, "pread")
    asking = [asyncio.create_task(read_all(files, "a")) for _ in range(30)]
    await slow.left_alone(*asking, busy=8)
    await slow.goes_on(files)
    assert set(slow.went) == {b"mine"}, "30 readers, 8 threads: most wait for a thread"
    assert opened_below(root) == []


async def test_an_upload_given_up_writes_to_no_strangers_file(
    files: LocalFiles, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch, os, "write")
    putting = asyncio.create_task(files.put("a", pieces(some_bytes(MIB))))
    await slow.left_alone(putting)
    for _ in range(50):  # others are served meanwhile, by the other threads
        assert await files.partial("other") == 0
    with (tmp_path / "stranger").open("wb"):
        await slow.goes_on(files)
    assert (tmp_path / "stranger").read_bytes() == b""
    assert not any(isinstance(what, OSError) for what in slow.went)
    assert opened_below(root) == []
    again = open_tile(Place(root.parent, {"artifact_store": root}))
    kept = await again.partial("a")
    assert (await again.put("a", pieces(b"end"), offset=kept)).size == kept + 3, "and its lock is free"
    await again.close()


@pytest.mark.parametrize("name", ["check_free", "open"])
async def test_what_was_just_being_opened_is_closed_again(
    files: LocalFiles, root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    await files.put("a", pieces(b"mine"))
    asked = read_all(files, "a") if name == "open" else files.put("b", pieces(b"x"))
    slow = Slow(monkeypatch, Tree, name)
    await slow.left_alone(asyncio.create_task(asked))
    await slow.goes_on(files)
    assert opened_below(root) == []
