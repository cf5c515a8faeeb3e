"""The fence of one step, inside the wall around the zygote: what a wall of its own would keep from it.

Namespaces of its own for mounts, processes, the network, IPC and users. Of the folders that all steps share
it sees its own alone; /tmp, the home, /dev/shm, /dev/pts and /proc are new. In the end the step is an
ordinary user without a capability, in a user namespace where no other can be made.

The zygote's wall must let it: capabilities of its own namespace, and no more than that (``Wall.nests``).
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tallystick.crew.steps.kernel import (
    Mount,
    Space,
    drop_capabilities,
    known_capabilities,
    mount,
    setns,
    unshare,
)

__all__ = ["Bare", "Fence", "Shown", "lower"]

MEMORY_FOLDERS = ("/tmp", "/home/tally", "/dev/shm")  # noqa: S108  inside the fence each is new
UID = 1000
COVER_BYTES = 1024 * 1024
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
_HARMLESS = Mount.NO_SETUID | Mount.NO_DEVICES
_PROC = _HARMLESS | Mount.NO_PROGRAMS
_READ_ONLY = Mount.REMOUNT | Mount.BIND | Mount.READ_ONLY
_NOT_USERS = Space.MOUNTS | Space.IPC | Space.NAMES | Space.NETWORK
_HELD = os.O_PATH | os.O_CLOEXEC
_OWN_USERS = (
    ("self/setgroups", b"deny"),
    ("self/uid_map", b"%d 0 1" % UID),
    ("self/gid_map", b"%d 0 1" % UID),
    ("sys/user/max_user_namespaces", b"0"),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A path of one step, below the folders that all share."""

    path: str
    writable: bool


class Fence:
    """What is the same for all steps of a zygote. ``roots``: the folders that they share.

    ``memory_bytes`` is how large each folder in memory may mostly become.
    """

    def __init__(self, roots: Sequence[str], memory_bytes: int) -> None:
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._roots = tuple(roots)
        self._covered = tuple(root for root in roots if not _is_below(root, MEMORY_FOLDERS))
        self._kept = tuple(Shown(path, True) for path in _mounts_below(MEMORY_FOLDERS, but=roots))
        self._memory_bytes = memory_bytes
        known_capabilities()  # counted here, once, for all who are forked

    def fork(self) -> int:
        """fork(2), the child being the first process of a namespace: with it all in there ends."""
        unshare(Space.PROCESSES)  # for children alone, and once: hence back again
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid:
                setns(self._own, Space.PROCESSES)
        return pid

    def enter(self) -> int:
        """In that first process: mounts of its own, with a /proc that shows what it is the first of.

        A descriptor comes back that :func:`lower` needs, and nobody else may have: of a /proc that can be
        written. It lies under the one that steps see, where no path leads.
        """
        unshare(Space.MOUNTS)
        mount(None, "/", None, Mount.RECURSIVE | Mount.PRIVATE)
        mount("proc", "/proc", "proc", _PROC)
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # To the kernel the user of a hub that runs as root stays root, and root may write settings in /proc.
        mount("proc", "/proc", "proc", _PROC | Mount.READ_ONLY)
        return proc

    def bare(self) -> Bare:
        """In a step's process, forked from that one: new namespaces, and everything shut that can be."""
        unshare(_NOT_USERS)
        _loopback_up()
        ptys = Mount.NO_SETUID | Mount.NO_PROGRAMS
        mount("devpts", "/dev/pts", "devpts", ptys, "newinstance,ptmxmode=0666,mode=620")
        # What lies below a folder that is about to be covered is held open, and found again through /proc.
        roots = {root: os.open(root, _HELD | os.O_DIRECTORY) for root in self._roots}
        kept = [(place, os.open(place.path, _HELD)) for place in self._kept]
        for folder in MEMORY_FOLDERS:
            mount("tmpfs", folder, "tmpfs", _HARMLESS, f"size={self._memory_bytes},mode=0700")
        for root in self._covered:
            mount("tmpfs", root, "tmpfs", _HARMLESS, f"size={COVER_BYTES},mode=0700")
        for place, fd in sorted(kept, key=lambda one: one[0].path):
            _show(place, fd)
        return Bare(roots, self._covered, self._memory_bytes)


@dataclass(frozen=True, slots=True)
class Bare:
    """A step's namespaces before anything of its own is in them. ``roots`` are held open, by their paths."""

    roots: dict[str, int]
    covered: tuple[str, ...]
    memory_bytes: int

    def show(self, shown: Iterable[Shown], memory_bytes: int) -> None:
        """The step's own paths, and then no more; each folder in memory has ``memory_bytes`` at most."""
        for place in sorted(shown, key=lambda one: one.path):
            _show(place, self._held(place.path))
        for root in self.covered:
            mount(None, root, None, _READ_ONLY | _HARMLESS)
        if memory_bytes != self.memory_bytes:
            for folder in MEMORY_FOLDERS:
                mount(None, folder, None, Mount.REMOUNT | _HARMLESS, f"size={memory_bytes}")
        for fd in self.roots.values():
            os.close(fd)

    def _held(self, path: str) -> int:
        root = next((root for root in self.roots if path.startswith(f"{root}/")), None)
        if root is None:
            return os.open(path, _HELD)
        return os.open(path[len(root) + 1 :], _HELD, dir_fd=self.roots[root])


def lower(proc: int) -> None:
    """In the step: an ordinary user without capabilities, who can make no namespace and no mount."""
    unshare(Space.USERS)
    for path, text in _OWN_USERS:
        fd = os.open(path, os.O_WRONLY, dir_fd=proc)
        os.write(fd, text)
        os.close(fd)
    os.close(proc)
    drop_capabilities()


def _show(place: Shown, fd: int) -> None:
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            os.makedirs(place.path, exist_ok=True)  # noqa: PTH103  as in all of this: pathlib would be felt
        elif not os.path.lexists(place.path):
            os.makedirs(os.path.dirname(place.path), exist_ok=True)  # noqa: PTH103, PTH120  as above
            os.mknod(place.path, 0o600)
        mount(f"/proc/self/fd/{fd}", place.path, None, Mount.BIND)
        if not place.writable:
            mount(None, place.path, None, _READ_ONLY | _HARMLESS)
    finally:
        os.close(fd)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP) + bytes(22))


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _mounts_below(folders: Sequence[str], but: Sequence[str]) -> Iterable[str]:
    """What the wall shows below ``folders``: a Python in /tmp, for example."""
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        path = _unescaped(line.split()[4])
        if path not in folders and _is_below(path, folders) and not _is_below(path, but):
            yield path


def _unescaped(text: str) -> str:
    for code in (r"\040", r"\011", r"\012", r"\134"):
        text = text.replace(code, chr(int(code[1:], 8)))
    return text
