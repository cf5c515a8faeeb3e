"""The memory that every step writes to, made a step's own before it has anything to do.

A forked process shares its memory with its parent, and what it writes to the kernel copies for it, a page at
a time, in about 1 us: 400 pages from a step's order to the end of a small component. Its process is there
before its order, and takes these pages meanwhile. Which ones those are, one that runs a rehearsal shows.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["PAGE_BYTES", "Pages", "own_pages", "private_memory", "take_pages", "written"]

Pages = list[tuple[int, int]]
"""Addresses, each with a length in bytes."""
POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE of madvise(2), since Linux 5.14."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PRESENT, OF_A_FILE, EXCLUSIVE = 1 << 63, 1 << 61, 1 << 56
"""Bits of /proc/PID/pagemap; see admin-guide/mm/pagemap.rst of the kernel."""
_madvise = ctypes.CDLL(None)["madvise"]
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


def take_pages(pages: Pages) -> None:
    """Have them copied now. What this kernel cannot do is done as they are written to."""
    for address, length in pages:
        if _madvise(address, length, POPULATE_WRITE):
            return
