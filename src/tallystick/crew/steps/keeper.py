"""A step's keeper, forked from the zygote: it starts the step, and sees to the end of all below it.

    zygote --(fork)--> keeper --(fork)--> the step
      hub --(control socket)--'  |
        '-----(life socket)------'

One keeper, with the step's process below it, is always there before it is needed, and takes the next byte
from the control socket, which brings two descriptors: where the step prints to, and its life socket. Then the
zygote makes another.

Behind a fence the keeper is the first process of the step's own namespace, so that nothing outlives it;
without one it reaps whatever loses its parent, as a sandbox's keeper does, and kills until none is left.

On the life socket the hub sends the order (8 bytes of length, big endian, then JSON), later ``T`` to
terminate or ``K`` to kill; its end means the hub's. The keeper answers with lines of JSON: ``{"begun"}`` when
it has the order, which is then nobody else's, later ``{"status"}`` once all is gone, after ``{"processes"}``
where these were too many, or ``{"error"}`` when the step could not be started.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from typing import NoReturn

from tallystick.crew.steps.child import run_child
from tallystick.crew.steps.fence import Fence, Shown
from tallystick.crew.warden import (
    PR_SET_CHILD_SUBREAPER,
    guard,
    kill_all,
    prctl,
    say,
    take,
    watch_children,
)

__all__ = ["HUB_GONE", "TAKEN", "run_keeper"]

TAKEN, HUB_GONE = b"T", b"E"


@dataclass(frozen=True, slots=True)
class _Ready:
    """A step's process that waits for its order. ``wake`` can be read when a child ends."""

    pid: int
    tell: socket.socket
    wake: int


def run_keeper(control: socket.socket, taken: int, fence: Fence | None) -> NoReturn:
    """The keeper's whole life. ``taken`` hears when it has an order, or that there will be none."""
    ready: _Ready | OSError
    try:
        try:
            ready = _prepare(control, fence)
        except OSError as wrong:  # the step will be told: nobody else is there to hear
            ready = wrong
        out, life = _descriptors_from(control, taken)
    except BaseException:  # noqa: BLE001  a forked half must never run on into its parent's code
        os._exit(1)
    try:
        if isinstance(ready, OSError):
            raise ready
        _keep(ready, out, life, fence)
    except BaseException as wrong:  # noqa: BLE001  as above
        say(life, error=f"the step could not be set up: {wrong}"[:500])
        os._exit(1)
    os._exit(0)


def _prepare(control: socket.socket, fence: Fence | None) -> _Ready:
    """Whatever needs no order, down to the step's own process."""
    os.setsid()
    proc = -1
    if fence:
        proc = fence.enter()
    else:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake = watch_children()
    keeper = os.getpid()
    tell, told = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        tell.close()
        control.close()
        run_child(told, keeper, proc)
    told.close()
    if proc >= 0:
        os.close(proc)
    return _Ready(pid, tell, wake)


def _descriptors_from(control: socket.socket, taken: int) -> tuple[int, socket.socket]:
    """Where the step is to print to, and its life socket, as soon as there is a step."""
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


def _keep(ready: _Ready, out: int, life: socket.socket, fence: Fence | None) -> None:
    try:
        wire = take(life, int.from_bytes(take(life, 8), "big"))
    except EOFError:
        kill_all(ready.wake)
        return
    say(life, begun=True)
    order = json.loads(wire)
    if fence:
        fence.show([Shown(*one) for one in order["shown"]], order["memory_folder_bytes"])
    if wrong := _tell(ready.tell, out, wire):
        kill_all(ready.wake)
        say(life, error=wrong)
        return
    status = guard(life, ready.wake, ready.pid, 0, order["processes"])
    say(life, status=os.waitstatus_to_exitcode(status))


def _tell(tell: socket.socket, out: int, wire: bytes) -> str:
    """Hand the order on to the step's process; why it could not be set up, empty when it could."""
    try:
        socket.send_fds(tell, [b"+"], [out])
        tell.sendall(wire)
        tell.shutdown(socket.SHUT_WR)
    except ConnectionError:
        return tell.recv(1000).decode("utf-8", "replace") or "the step's process has ended before it began"
    finally:
        os.close(out)
    with tell:
        return tell.recv(1000).decode("utf-8", "replace")
