"""A step's keeper, forked from the zygote: it starts the step, and sees to the end of all below it.

    zygote --(fork)--> keeper --(fork)--> the step
      hub --(control socket)--'  |
        '-----(life socket)------'

One keeper is always there before it is needed, and takes the next byte from the control socket, which brings
two descriptors: where the step prints to, and its life socket. Then the zygote makes another.

Behind a fence the keeper is the first process of the step's own namespace, so that nothing outlives it;
without one it reaps whatever loses its parent, as a sandbox's keeper does, and kills until none is left.

On the life socket the hub sends the order (8 bytes of length, big endian, then JSON), later ``T`` to
terminate or ``K`` to kill; its end means the hub's. The keeper answers with one line of JSON: ``{"status"}``
once all is gone, or ``{"error"}`` when the step could not be started.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Mapping
from typing import Any, NoReturn

from tallystick.crew.steps.child import run_step
from tallystick.crew.steps.fence import Fence, Shown, lower
from tallystick.crew.steps.kernel import forbid_new_privileges, scope
from tallystick.tiles.sandbox.warden import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    guard,
    kill_all,
    leave_keyring,
    limit,
    prctl,
    say,
    take,
    watch_children,
)

__all__ = ["HUB_GONE", "TAKEN", "run_keeper"]

DESCRIPTORS_MAX = 1 << 20
TAKEN, HUB_GONE = b"T", b"E"


def run_keeper(control: socket.socket, taken: int, fence: Fence | None) -> NoReturn:
    """The keeper's whole life. ``taken`` hears when it has an order, or that there will be none."""
    try:
        proc, wrong = _prepare(fence)
        wake = watch_children()
        out, life = _order_from(control, taken)
    except BaseException:  # noqa: BLE001  a forked half must never run on into its parent's code
        os._exit(1)
    try:
        if wrong:
            raise wrong
        _keep(out, life, wake, fence, proc)
    except BaseException as broken:  # noqa: BLE001  a forked half must never run on into its parent's code
        say(life, error=f"the step could not be set up: {broken}"[:500])
        os._exit(1)
    os._exit(0)


def _prepare(fence: Fence | None) -> tuple[int, OSError | None]:
    """Whatever needs no order: the fence's /proc, or why it cannot be, which the step will be told."""
    os.setsid()
    try:
        if fence:
            return fence.enter(), None
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    except OSError as wrong:
        return -1, wrong
    return -1, None


def _order_from(control: socket.socket, taken: int) -> tuple[int, socket.socket]:
    """The step's descriptors, as soon as there is a step."""
    try:
        said, fds, _, _ = socket.recv_fds(control, 1, 2)
    except ConnectionError:
        said, fds = b"", []
    if not said:
        os.write(taken, HUB_GONE)
        os._exit(0)
    os.write(taken, TAKEN)
    os.close(taken)
    control.close()
    return fds[0], socket.socket(fileno=fds[1])


def _keep(out: int, life: socket.socket, wake: int, fence: Fence | None, proc: int) -> None:
    try:
        order = json.loads(take(life, int.from_bytes(take(life, 8), "big")))
    except EOFError:
        return
    if fence:
        fence.show([Shown(*one) for one in order["shown"]], order["memory_folder_bytes"])
    pid, wrong = _start(order, out, proc)
    if wrong:
        kill_all(wake)
        say(life, error=wrong)
        return
    status = guard(life, wake, pid, 0)
    say(life, status=os.waitstatus_to_exitcode(status))


def _start(order: Mapping[str, Any], out: int, proc: int) -> tuple[int, str]:
    """Fork the step: its id, and why it could not be set up (empty when it could). ``proc``: the fence's."""
    keeper = os.getpid()
    failed, failure = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(order, out, failure, keeper, proc)
    os.close(failure)
    os.close(out)
    with os.fdopen(failed, "rb") as file:
        return pid, file.read().decode("utf-8", "replace")


def _become(order: Mapping[str, Any], out: int, failure: int, keeper: int, proc: int) -> NoReturn:
    """Turn this new process into the step, and run it."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if proc >= 0:
            lower(proc)
        _own_descriptors(out, failure)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(127)
        leave_keyring()
        os.umask(0o077)
        os.chdir(order["cwd"])
        for name, (soft, hard) in order["limits"].items():
            limit(name, soft, hard)
        forbid_new_privileges()
        if proc < 0:
            scope()
        os.close(failure)
    except BaseException as wrong:  # noqa: BLE001  a forked half must never run on into its parent's code
        os.write(failure, f"the step could not be set up: {wrong}".encode()[:500])
        os._exit(127)
    run_step(order["step"], order["env"])


def _own_descriptors(out: int, failure: int) -> None:
    """Standard streams, ``failure``, and no other; the zygote's own standard input is empty already."""
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.closerange(3, failure)
    os.closerange(failure + 1, DESCRIPTORS_MAX)
