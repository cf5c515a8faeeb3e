"""The step's own process: it goes behind its fence, waits for its order, and gives up what it must not have.

Of the zygote and of other steps nothing is left in it but the modules that are imported.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from tallystick.crew import step
from tallystick.crew.gang import end_python
from tallystick.crew.steps.fence import Bare, Fence, Shown, lower
from tallystick.crew.steps.kernel import forbid_new_privileges, scope
from tallystick.crew.steps.packages import take_up
from tallystick.crew.steps.pages import PAGE_BYTES, Pages, own_pages, private_memory, take_pages, written
from tallystick.crew.warden import PR_SET_PDEATHSIG, leave_keyring, limit, prctl

__all__ = ["Lot", "run_child"]

DESCRIPTORS_MAX = 1 << 20
PIECE_BYTES = 64 * 1024
BACKLOG = 64
LIMITS = ("RLIMIT_CORE", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CPU", "RLIMIT_NPROC")


@dataclass(frozen=True, slots=True)
class Lot:
    """What all steps of a zygote have from it: a fence, if any, and the memory that they all write to."""

    fence: Fence | None
    pages: Pages


def pages_written(order: dict[str, Any]) -> Pages:
    """What a step's process writes to once it has its order, ``order`` for example; its fence left out.

    Nothing where it cannot be told.
    """
    memory, (tell, told) = private_memory(), socket.socketpair()
    if (pid := os.fork()) == 0:
        _show_pages(told, memory)
    told.close()
    limits = {name: resource.getrlimit(getattr(resource, name)) for name in LIMITS}
    whole = {"step": order, "cwd": "/", "env": {**os.environ}, "limits": limits, "runtime": ""}
    with tell, contextlib.suppress(OSError):
        socket.send_fds(tell, [b"+"], [1])
        tell.sendall(json.dumps(whole).encode())
        tell.shutdown(socket.SHUT_WR)
        said = bytearray()
        while piece := tell.recv(PIECE_BYTES):
            said += piece
    if os.waitpid(pid, 0)[1]:
        return []
    # To ask for a page alone costs as much as to have it copied as it is written to.
    return [(address, length) for address, length in written(memory, bytes(said)) if length > PAGE_BYTES]


def _show_pages(told: socket.socket, memory: Pages) -> NoReturn:
    status = 1
    try:
        out, order = _order_from(told)
        _set_up(out, order, told)
        gc.enable()
        step.run(order["step"])
        end_python()
        for said in own_pages(memory):
            told.sendall(said)
        status = 0
    finally:
        os._exit(status)


def run_child(told: socket.socket, lot: Lot, keeper: int, proc: int) -> NoReturn:
    """The step's whole life. ``told`` takes the door that the step reaches the hub by, and with a fence its
    namespace of mounts, and brings its order.

    Then it takes why the step could not be set up, or ends without a word. ``keeper`` is the process that has
    forked it, and ``proc`` a /proc that can be written, for the fence.
    """
    try:
        bare, port = _ready(told, lot, keeper)
        out, order = _order_from(told)
        if lot.fence:
            _shut(bare, order, proc)
        _set_up(out, order, told)
        if order["hub"]:
            os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
        told.close()
    except BaseException as wrong:  # noqa: BLE001  a forked half must never run on into its parent's code
        with contextlib.suppress(OSError):
            told.send(f"the step could not be set up: {wrong}".encode()[:500])
        os._exit(127)
    _run(order)


def _ready(told: socket.socket, lot: Lot, keeper: int) -> tuple[Bare | None, int]:
    """Whatever needs no order."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(127)
    leave_keyring()
    os.umask(0o077)
    forbid_new_privileges()
    bare = lot.fence.bare() if lot.fence else None
    if not lot.fence:
        scope()
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as door:
        held = [os.open("/proc/self/ns/mnt", os.O_RDONLY)] if bare else []
        socket.send_fds(told, [b"+"], [door.fileno(), *held])
        port = int(door.getsockname()[1])
    for fd in held:
        os.close(fd)
    take_pages(lot.pages)
    return bare, port


def _order_from(told: socket.socket) -> tuple[int, dict[str, Any]]:
    said, fds, _, _ = socket.recv_fds(told, 1, 1)
    if not said:
        os._exit(0)
    wire = bytearray()
    while piece := told.recv(PIECE_BYTES):
        wire += piece
    return fds[0], json.loads(wire)


def _shut(bare: Bare | None, order: Mapping[str, Any], proc: int) -> None:
    if bare:
        bare.show([Shown(*one) for one in order["shown"]], order["memory_folder_bytes"])
        lower(proc)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # changed credentials take it back


def _set_up(out: int, order: Mapping[str, Any], told: socket.socket) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what is open already, its flags and locks are everybody's
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.closerange(3, told.fileno())  # what leads to the zygote: to take up packages is to run code of theirs
    os.closerange(told.fileno() + 1, DESCRIPTORS_MAX)
    os.chdir(order["cwd"])
    for name, (soft, hard) in order["limits"].items():
        limit(name, soft, hard)
    _take_environment(order["env"])
    time.tzset()
    tempfile.tempdir = None
    sys.argv[:] = [step.__file__]
    if order["runtime"]:
        take_up(order["runtime"], order["program"])
    if numbers := sys.modules.get("numpy.random"):
        numbers.seed()  # `random` does it by itself after a fork, and OpenSSL too


def _take_environment(env: Mapping[str, str]) -> None:
    for name in [name for name in os.environ if name not in env]:
        del os.environ[name]
    for name, value in env.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _run(order: Mapping[str, Any]) -> NoReturn:
    status = 1
    try:
        gc.enable()
        status = step.run(order["step"])
        end_python()
    except BaseException:  # noqa: BLE001  as above
        traceback.print_exc()
    finally:
        os._exit(status)
