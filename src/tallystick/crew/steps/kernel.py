"""What Linux is asked for by a step's fence, as ctypes: namespaces, mounts, capabilities, Landlock.

Every call raises OSError when the kernel refuses, and names what was asked.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct

__all__ = [
    "Mount",
    "Space",
    "drop_capabilities",
    "forbid_new_privileges",
    "known_capabilities",
    "landlock_abi",
    "mount",
    "scope",
    "setns",
    "unshare",
]

PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CAPABILITY_VERSION_3 = 0x20080522
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
"""Numbers of system calls, the same on every architecture since Linux 5.1."""
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, LANDLOCK_SCOPE_SIGNAL = 1, 2
LANDLOCK_SCOPES_SINCE_ABI = 6

_libc = ctypes.CDLL(None, use_errno=True)
# Looked up here, once, for all who are forked.
_unshare, _setns, _mount, _prctl, _capset = (
    _libc[name] for name in ("unshare", "setns", "mount", "prctl", "capset")
)


class Space:
    """Kinds of namespaces: CLONE_NEW... of clone(2). Plain numbers: an enum's arithmetic would be felt."""

    MOUNTS = 0x00020000
    NAMES = 0x04000000
    IPC = 0x08000000
    USERS = 0x10000000
    PROCESSES = 0x20000000
    NETWORK = 0x40000000


class Mount:
    """Flags of mount(2)."""

    READ_ONLY = 1
    NO_SETUID = 2
    NO_DEVICES = 4
    NO_PROGRAMS = 8
    REMOUNT = 32
    BIND = 4096
    RECURSIVE = 16384
    PRIVATE = 1 << 18


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(spaces: int) -> None:
    """Leave these namespaces for new ones."""
    _checked(_unshare(spaces), "unshare")


def setns(fd: int, space: int) -> None:
    """Go to the namespace that a descriptor stands for."""
    _checked(_setns(fd, space), "setns")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    names = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    if _mount(*names, ctypes.c_ulong(flags), options.encode() or None):
        _checked(-1, f"mount {kind or flags} on {target}")


@functools.cache
def known_capabilities() -> int:
    """How many capabilities this kernel has."""
    number = 0
    while _prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        number += 1
    return number


def drop_capabilities() -> None:
    """Give up every capability, for good: running a program brings none back."""
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)  # where there is no such set, none is left
    for number in range(known_capabilities()):
        _prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # refused without CAP_SETPCAP: then none can be gained
    header = ctypes.create_string_buffer(struct.pack("Ii", CAPABILITY_VERSION_3, 0))
    _checked(_capset(header, ctypes.create_string_buffer(24)), "capset")


def forbid_new_privileges() -> None:
    """From now on no program that is run gives more than this process has."""
    _checked(_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")


@functools.cache
def landlock_abi() -> int:
    """The version of Landlock that this kernel has; 0 for none."""
    asked = [ctypes.c_long(n) for n in (LANDLOCK_CREATE_RULESET, 0, 0, LANDLOCK_CREATE_RULESET_VERSION)]
    return max(0, int(_libc.syscall(*asked)))


def scope() -> bool:
    """Put this process into a Landlock domain of its own; whether this kernel can (ABI 6, Linux 6.12).

    Who is outside of it can be neither traced, signalled, nor reached by an abstract socket. Needs
    :func:`forbid_new_privileges` before.
    """
    if landlock_abi() < LANDLOCK_SCOPES_SINCE_ABI:
        return False
    scopes = LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | LANDLOCK_SCOPE_SIGNAL
    rules = ctypes.create_string_buffer(struct.pack("QQQ", 0, 0, scopes), 24)
    made = _libc.syscall(ctypes.c_long(LANDLOCK_CREATE_RULESET), rules, ctypes.c_size_t(24), ctypes.c_int(0))
    ruleset = _checked(int(made), "landlock")
    try:
        done = _libc.syscall(ctypes.c_long(LANDLOCK_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_int(0))
        _checked(int(done), "landlock")
    finally:
        os.close(ruleset)
    return True
