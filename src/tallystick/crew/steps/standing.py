"""What a keeper hands on to the steps that it forks, and a step can change: limits, and how it is scheduled.

prlimit(2) asks for no more than the same user, and to the kernel a keeper and its step are the same one,
fence or none; without a fence the same holds for sched_setattr(2) and ioprio_set(2).
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Hashable

__all__ = ["standing"]

CALLS = {"x86_64": (315, 252), "aarch64": (275, 31)}
"""The numbers of sched_getattr(2) and ioprio_get(2), which no C library wraps, by machine."""
ATTRIBUTES_BYTES = 56
IOPRIO_WHO_PROCESS = 1
_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
_syscall = ctypes.CDLL(None)["syscall"]


def standing() -> Hashable:
    """Equal to an earlier one of this process where nothing of that has changed."""
    limits = tuple(resource.getrlimit(limit) for limit in _LIMITS)
    return (limits, frozenset(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0), *_asked())


def _asked() -> tuple[bytes, int]:
    """How it is scheduled, as the kernel tells it, and its turn at disks."""
    if (numbers := CALLS.get(os.uname().machine)) is None:
        return str(os.sched_getscheduler(0)).encode(), 0
    schedule, turn = numbers
    told = ctypes.create_string_buffer(ATTRIBUTES_BYTES)
    _syscall(
        *(ctypes.c_long(n) for n in (schedule, 0)), told, ctypes.c_long(ATTRIBUTES_BYTES), ctypes.c_long(0)
    )
    return told.raw, int(_syscall(*(ctypes.c_long(n) for n in (turn, IOPRIO_WHO_PROCESS, 0))))
