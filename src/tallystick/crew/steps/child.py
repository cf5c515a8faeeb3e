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
from itertools import pairwise
from typing import Any, NoReturn

from tallystick.crew import step
from tallystick.crew.gang import end_python
from tallystick.crew.steps.fence import Bare, Fence, Shown, lower
from tallystick.crew.steps.kernel import forbid_new_privileges, scope
from tallystick.crew.steps.packages import take_up
from tallystick.crew.steps.pages import Pages, own_pages, private_memory, take_pages, vectors, written
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
    packed: bytes

    @classmethod
    def of(cls, fence: Fence | None, pages: Pages) -> Lot:
        """With these pages."""
        return cls(fence, pages, vectors(pages))


def pages_written(order: dict[str, Any]) -> Pages:
    """What a step's process writes to once it has its order, ``order`` for example; its fence left out.

    Nothing where it cannot be told.
    """
    memory, (tell, told) = private_memory(), socket.socketpair()
    if (pid := os.fork()) == 0:
        _show_pages(told, memory)
    told.close()
    waits, go = os.pipe()
    os.write(go, b"+")
    limits = {name: resource.getrlimit(getattr(resource, name)) for name in LIMITS}
    whole = {"step": order, "cwd": "/", "env": {**os.environ}, "limits": limits, "runtime": ""}
    with tell, contextlib.suppress(OSError):
        socket.send_fds(tell, [b"+"], [1, waits])
        tell.sendall(json.dumps(whole).encode())
        tell.shutdown(socket.SHUT_WR)
        said = bytearray()
        while piece := tell.recv(PIECE_BYTES):
            said += piece
    os.close(waits)
    os.close(go)
    if os.waitpid(pid, 0)[1]:
        return []
    return written(memory, bytes(said))


def _show_pages(told: socket.socket, memory: Pages) -> NoReturn:
    status = 1
    try:
        given, order = _order_from(told)
        _set_up(given, order, told)
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
        given, order = _order_from(told)
        if lot.fence:
            _shut(bare, order, proc)
        _set_up(given, order, told)
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
    take_pages(lot.pages, lot.packed)
    return bare, port


def _order_from(told: socket.socket) -> tuple[list[int], dict[str, Any]]:
    said, fds, _, _ = socket.recv_fds(told, 1, 2)
    if not said:
        os._exit(0)
    wire = bytearray()
    while piece := told.recv(PIECE_BYTES):
        wire += piece
    return fds, json.loads(wire)


def _shut(bare: Bare | None, order: Mapping[str, Any], proc: int) -> None:
    if bare:
        bare.show([Shown(*one) for one in order["shown"]], order["memory_folder_bytes"])
        lower(proc)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # changed credentials take it back


def _set_up(given: list[int], order: Mapping[str, Any], told: socket.socket) -> None:
    """All that is done before any code but ours may run; then wait until it may."""
    out, waits = given
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what is open already, its flags and locks are everybody's
    os.dup2(out, 1)
    os.dup2(out, 2)
    for last, fd in pairwise((2, *sorted((waits, told.fileno())), DESCRIPTORS_MAX)):
        os.closerange(last + 1, fd)  # what leads to the zygote, for example
    os.chdir(order["cwd"])
    step.lay_out(order["step"])
    for name, (soft, hard) in order["limits"].items():
        limit(name, soft, hard)
    _take_environment(order["env"])
    time.tzset()
    tempfile.tempdir = None
    sys.argv[:] = [step.__file__]
    if not os.read(waits, 1):
        os._exit(0)
    os.close(waits)
    if order["runtime"]:  # to take up packages is to run code of theirs
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
