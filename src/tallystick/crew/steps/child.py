"""The step's own process: it goes behind its fence, waits for its order, and gives up what it must not have.

Of the zygote and of other steps nothing is left in it but the modules that are imported.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
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
from tallystick.crew.warden import PR_SET_PDEATHSIG, leave_keyring, limit, prctl

__all__ = ["Lot", "run_child"]

DESCRIPTORS_MAX = 1 << 20
PIECE_BYTES = 64 * 1024
BACKLOG = 64


@dataclass(frozen=True, slots=True)
class Lot:
    """What a step's process has from its keeper: ``proc`` is a /proc that can be written, for the fence."""

    keeper: int
    fence: Fence | None
    proc: int


def run_child(told: socket.socket, lot: Lot) -> NoReturn:
    """The step's whole life. ``told`` takes the door that the step reaches the hub by, and brings its order.

    Then it takes why the step could not be set up, or ends without a word.
    """
    try:
        bare, port = _ready(told, lot)
        out, order = _order_from(told)
        if lot.fence:
            _shut(bare, order, lot.proc)
        _set_up(out, order, told)
        if order["hub"]:
            os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
        told.close()
    except BaseException as wrong:  # noqa: BLE001  a forked half must never run on into its parent's code
        with contextlib.suppress(OSError):
            told.send(f"the step could not be set up: {wrong}".encode()[:500])
        os._exit(127)
    _run(order)


def _ready(told: socket.socket, lot: Lot) -> tuple[Bare | None, int]:
    """Whatever needs no order."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != lot.keeper:
        os._exit(127)
    leave_keyring()
    os.umask(0o077)
    forbid_new_privileges()
    bare = lot.fence.bare() if lot.fence else None
    if not lot.fence:
        scope()
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as door:
        socket.send_fds(told, [b"+"], [door.fileno()])
        return bare, int(door.getsockname()[1])


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
