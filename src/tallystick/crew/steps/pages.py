"""The memory that every step writes to, made a step's own before it has anything to do.

A forked process shares its memory with its parent, and what it writes to the kernel copies for it, a page at
a time, in about 1 us: 400 pages from a step's order to the end of a small component. Its process is there
before its order, and takes these pages meanwhile, all at once, in half the time. Which ones those are, one
that runs a rehearsal shows.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["PAGE_BYTES", "Own", "Pages", "own_pages", "private_memory", "take_pages", "vectors", "written"]

Pages = list[tuple[int, int]]
"""Addresses, each with a length in bytes."""
POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE of madvise(2), since Linux 5.14."""
PROCESS_MADVISE = 440
"""The number of process_madvise(2), the same on every architecture; of many pages at once, and on oneself by
anybody, since Linux 6.13.
"""
AT_ONCE = 1024
"""IOV_MAX."""
VECTOR = struct.Struct("@PN")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PRESENT, OF_A_FILE, EXCLUSIVE = 1 << 63, 1 << 61, 1 << 56
"""Bits of /proc/PID/pagemap; see admin-guide/mm/pagemap.rst of the kernel."""
_libc = ctypes.CDLL(None)
_madvise, _syscall = _libc["madvise"], _libc["syscall"]
_madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


def private_memory() -> Pages:
    """All that this process can write to, and shares with nobody but those that it forks."""
    found = []
    for line in Path("/proc/self/maps").read_text("utf-8", "surrogateescape").splitlines():
        where, may = line.split(maxsplit=2)[:2]
        if may.startswith("rw") and may.endswith("p"):
            start, end = (int(address, 16) for address in where.split("-"))
            found.append((start, end - start))
    return found


def own_pages(memory: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """What :func:`written` reads: the kernel's word on each page of ``memory``, piece by piece."""
    fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    for start, length in memory:
        count = length // PAGE_BYTES * 8
        yield os.pread(fd, count, start // PAGE_BYTES * 8).ljust(count, b"\0")
    os.close(fd)


def written(memory: Iterable[tuple[int, int]], said: bytes) -> Pages:
    """The pages that a forked process does not share any more, by what that said of the ``memory``."""
    found: Pages = []
    words = struct.iter_unpack("=Q", said)
    for start, length in memory:
        for address in range(start, start + length, PAGE_BYTES):
            (word,) = next(words, (0,))
            if not (word & PRESENT and word & EXCLUSIVE) or word & OF_A_FILE:
                continue
            if found and sum(found[-1]) == address:
                found[-1] = found[-1][0], found[-1][1] + PAGE_BYTES
            else:
                found.append((address, PAGE_BYTES))
    return found


def vectors(pages: Pages) -> bytes:
    """As an array of ``struct iovec``."""
    return b"".join(VECTOR.pack(*each) for each in pages)


def take_pages(pages: Pages, packed: bytes) -> None:
    """Have them copied now; ``packed`` are their :func:`vectors`, made before, as that takes a while.

    What this kernel cannot do is done as they are written to.
    """
    if not pages or _taken_at_once(packed):
        return
    for address, length in pages:
        # To ask for a page alone costs as much as to have it copied as it is written to.
        if length > PAGE_BYTES and _madvise(address, length, POPULATE_WRITE):
            return


class Own:
    """The memory that a process has written to itself: it does so again and again, and shares it with each
    child that it forks.
    """

    def __init__(self) -> None:
        self._pages: Pages = []
        self._packed = b""

    def note(self) -> None:
        """Find out which that is, the first time; to be called where nothing waits, as it takes a few ms."""
        if not self._pages:
            memory = private_memory()
            self._pages = written(memory, b"".join(own_pages(memory)))
            self._packed = vectors(self._pages)

    def take(self) -> None:
        """Have it for itself again, after a fork."""
        take_pages(self._pages, self._packed)


def _taken_at_once(packed: bytes) -> bool:
    """Whether this kernel can do that."""
    own = os.pidfd_open(os.getpid())
    try:
        for at in range(0, len(packed), AT_ONCE * VECTOR.size):
            some = packed[at : at + AT_ONCE * VECTOR.size]
            count, advice, flags = len(some) // VECTOR.size, POPULATE_WRITE, 0
            asked = [ctypes.c_long(number) for number in (count, advice, flags)]
            if _syscall(ctypes.c_long(PROCESS_MADVISE), ctypes.c_long(own), some, *asked) < 0:
                return False
    finally:
        os.close(own)
    return True
