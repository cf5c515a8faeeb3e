"""Memory that a forked process shares with its parent, and what of it is its own."""

from __future__ import annotations

import ctypes
import mmap
import os

import pytest

from tallystick.crew.steps.child import pages_written
from tallystick.crew.steps.pages import (
    PAGE_BYTES,
    Own,
    own_pages,
    private_memory,
    take_pages,
    vectors,
    written,
)
from tallystick.crew.steps.rehearsal import rehearsed

COUNT = 64


@pytest.fixture
def memory():
    """So many pages, and the address of the first."""
    with mmap.mmap(-1, COUNT * PAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        for number in range(COUNT):
            held[number * PAGE_BYTES] = number + 1
        first = ctypes.c_char.from_buffer(held)
        address = ctypes.addressof(first)
        yield held, address
        del first


def told_by(child):
    """What ``child`` puts out, in a process that is forked for it."""
    there, here = os.pipe()
    if (pid := os.fork()) == 0:
        status = 1
        try:
            os.write(here, child())
            status = 0
        finally:
            os._exit(status)
    os.close(here)
    with os.fdopen(there, "rb") as file:
        said = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return said


def test_pages_that_were_written_to_are_told_from_the_others(memory):
    held, address = memory
    whole = [(address, COUNT * PAGE_BYTES)]

    def child():
        for number in (3, 4, 5, 40):
            held[number * PAGE_BYTES + 7] = 1
        return b"".join(own_pages(whole))

    assert written(whole, told_by(child)) == [
        (address + 3 * PAGE_BYTES, 3 * PAGE_BYTES),
        (address + 40 * PAGE_BYTES, PAGE_BYTES),
    ]
    assert held[3 * PAGE_BYTES + 7] == 0


def test_pages_are_taken_as_they_are(memory):
    held, address = memory
    whole, taken = [(address, COUNT * PAGE_BYTES)], [(address + 8 * PAGE_BYTES, 16 * PAGE_BYTES)]

    def child():
        take_pages(taken, vectors(taken))
        return b"".join(own_pages(whole)) + bytes(held[n * PAGE_BYTES] for n in range(COUNT))

    said = told_by(child)
    own = written(whole, said[:-COUNT])
    assert own in (taken, []), "a kernel before 5.14 leaves it at that"
    assert said[-COUNT:] == bytes(range(1, COUNT + 1))


def test_what_a_process_has_written_to_is_its_own_again_after_a_fork(memory):
    held, address = memory
    whole = [(address, COUNT * PAGE_BYTES)]
    pages = [(address + 3 * PAGE_BYTES, 2 * PAGE_BYTES), (address + 40 * PAGE_BYTES, PAGE_BYTES)]

    def child():
        for number in (3, 4, 40):
            held[number * PAGE_BYTES + 7] = 1
        own, (waits, go) = Own(), os.pipe()
        own.note()
        if (pid := os.fork()) == 0:
            os.close(go)
            os.read(waits, 1)
            os._exit(0)
        shared = b"".join(own_pages(whole))
        own.take()
        taken = b"".join(own_pages(whole))
        os.close(go)
        os.waitpid(pid, 0)
        return shared + taken

    said = told_by(child)
    assert written(whole, said[: len(said) // 2]) == []
    own = written(whole, said[len(said) // 2 :])
    assert own in (pages, []), "a kernel before 5.14 leaves it at that"


def test_what_is_not_there_is_left_alone(memory):
    _, address = memory
    nowhere = [(PAGE_BYTES, PAGE_BYTES), (address, PAGE_BYTES)]
    take_pages(nowhere, vectors(nowhere))
    assert written([(address, 2 * PAGE_BYTES)], b"") == []


def test_a_rehearsal_shows_what_steps_write_to(tmp_path, monkeypatch):
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    with rehearsed() as order:
        pages = pages_written(order)
    assert sum(length for _, length in pages) > 50 * PAGE_BYTES
    memory = private_memory()
    for address, length in pages[:20]:
        assert any(start <= address and address + length <= start + size for start, size in memory)


def test_a_step_that_cannot_be_rehearsed_is_no_harm(tmp_path):
    assert pages_written({}) == []
