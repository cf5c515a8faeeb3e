"""A keeper, forked from the zygote: it starts one step after another, and sees to the end of all below it.

    zygote --(fork)--> keeper --(fork)--> the step
      hub --(control socket)--'  |           |
        |-----(life socket)------'           |
        '-----(a pipe: go)-------------------'

One keeper at least, with a step's process below it, is always there before it is needed. It takes the next
byte from the control socket, which brings three descriptors: where the step prints to, a pipe on which it
waits until its own code may begin (what that writes to is closed if it may not), and its life socket.
Once that step and all that it left is gone, the keeper waits until the zygote lets it make a process for
another, or ends.

Behind a fence the keeper is the first process of a namespace, so that nothing outlives it, and nothing but
processes, which it kills, is left by a step: all other namespaces are the step's own. Without a fence it
reaps whatever loses its parent, as a sandbox's keeper does, and kills until none is left.

On the life socket the hub sends the order (``HEAD``, then JSON, which the keeper only hands on: what has been
in its memory, later steps find in theirs), later ``T`` to terminate or ``K`` to kill; its end means the
hub's. Once the keeper has read the order, that is nobody else's; it answers with lines of JSON,
``{"status"}`` once all is gone, after ``{"processes"}`` where these were too many, or ``{"error"}`` when the
step could not be started. Each ``{"caller"}`` brings a descriptor: a connection that
the step has opened to the hub; ``D`` says that one of them is done.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from tallystick.crew.relay import CONNECTIONS_MAX, same_user
from tallystick.crew.steps.child import Lot, run_child
from tallystick.crew.steps.pages import Own
from tallystick.crew.steps.standing import standing
from tallystick.crew.warden import (
    PR_SET_CHILD_SUBREAPER,
    guard,
    kill_all,
    prctl,
    say,
    take,
    take_into,
    watch_children,
)

__all__ = ["FREE", "HUB_GONE", "LEAVE", "RETIRE", "TAKEN", "Post", "word_from"]

TAKEN, FREE, HUB_GONE = b"T", b"F", b"E"
"""What a keeper says to the zygote: its step has its order, it can have another step, the hub is gone."""
LEAVE, RETIRE = 1, 2
"""What the zygote says to one that can have another step: make a process for it, or end."""
STEPS_MAX = 1000
"""Of one keeper: it collects no garbage."""
MESSAGE_BYTES = 1000
HEAD = struct.Struct(">QI?")
"""How long an order's JSON is, how many processes the step may have, and whether it reaches the hub."""
_WORD = struct.Struct("=Ic")


def word_from(words: int) -> tuple[int, bytes]:
    """The next word of a keeper, with its number; it blocks until there is one."""
    number, word = _WORD.unpack(os.read(words, _WORD.size))
    return number, word


@dataclass(frozen=True, slots=True)
class Post:
    """What a keeper is given: its ``number``, where it tells the zygote ``words``, and hears of ``leave``."""

    number: int
    words: int
    leave: int
    control: socket.socket
    lot: Lot

    def run(self) -> NoReturn:
        """The keeper's whole life."""
        try:
            self._settle()
        except BaseException:  # noqa: BLE001  a forked half must never run on into its parent's code
            os._exit(1)
        os._exit(0)

    def _settle(self) -> None:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # by Python's own handler a step could end its keeper
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        proc, wrong = -1, ""
        try:
            if self.lot.fence:
                proc = self.lot.fence.enter()
        except OSError as refused:  # the step will be told: nobody else is there to hear
            wrong = str(refused)
        wake, at_first, own = watch_children(), standing(), Own()
        for left in reversed(range(STEPS_MAX)):
            step = _Step(wrong) if wrong else _prepared(self.control, self.lot, proc)
            own.take()
            given, life = self._descriptors()
            if not (wrong or step.waits()):  # for want of memory, for example: there may be some now
                step = _prepared(self.control, self.lot, proc)
            with life:
                clean = step.keep(given, life, wake, partial(self._say, TAKEN), self.lot.fence is not None)
            if not (left and clean) or standing() != at_first:
                return
            self._say(FREE)
            own.note()
            if os.eventfd_read(self.leave) != LEAVE:
                return

    def _descriptors(self) -> tuple[list[int], socket.socket]:
        """Where the step prints to and on what it waits, and its life socket, as soon as there is a step."""
        try:
            said, fds, _, _ = socket.recv_fds(self.control, 1, 3)
        except ConnectionError:
            said, fds = b"", []
        if not said:
            self._say(HUB_GONE)
            os._exit(0)
        return fds[:2], socket.socket(fileno=fds[2])

    def _say(self, word: bytes) -> None:
        os.write(self.words, _WORD.pack(self.number, word))


def _prepared(control: socket.socket, lot: Lot, proc: int) -> _Step:
    """A step's process that waits for its order."""
    (tell, told), own = socket.socketpair(), os.getpid()
    try:
        pid = os.fork()
    except OSError as wrong:
        return _Step(str(wrong))
    if pid == 0:
        tell.close()
        control.close()
        run_child(told, lot, own, proc)
    told.close()
    return _Step("", pid, tell)


class _Step:
    """One step: process ``pid``, which ``tell`` leads to, or ``wrong`` says why there is none."""

    def __init__(self, wrong: str, pid: int = 0, tell: socket.socket | None = None) -> None:
        self._wrong = wrong
        self._pid = pid
        self._tell = tell
        self._mounts: list[int] = []

    def waits(self) -> bool:
        """Whether its process is there to be given an order."""
        return bool(self._pid) and os.waitpid(self._pid, os.WNOHANG)[0] == 0

    def keep(
        self, given: list[int], life: socket.socket, wake: int, taken: Callable[[], None], fenced: bool
    ) -> bool:
        """Give it its order, and see to its end; nothing of it is left, but words if this is False.

        ``given``, where it prints to and on what it waits, are closed here in the end. ``taken`` is called
        once it has its order, and not before: it waits for that.
        """
        try:
            status = self._kept(given, life, wake, taken, fenced)
        except EOFError:  # the hub has gone before, or does not want the step any more
            kill_all(wake)
        except (OSError, _NotBegunError) as wrong:
            kill_all(wake)
            say(life, error=f"the step could not be set up: {wrong}"[:500])
            return False
        else:
            say(life, status=os.waitstatus_to_exitcode(status))
        finally:
            for fd in (*given, *self._mounts):
                os.close(fd)
            if self._tell:
                self._tell.close()
        return True

    def _kept(
        self, given: list[int], life: socket.socket, wake: int, taken: Callable[[], None], fenced: bool
    ) -> int:
        try:
            size, processes, reaches_hub = HEAD.unpack(take(life, HEAD.size))
            # Memory that is given back.
            with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as wire:
                take_into(life, wire)
                if not self._tell:
                    raise _NotBegunError(self._wrong)
                door = self._begun(self._tell, given, wire)
        finally:
            taken()
        with door:
            callers = Callers(door if reaches_hub else None, life, fenced)
            status = guard(life, wake, self._pid, 0, processes, callers)
        with contextlib.suppress(BlockingIOError):  # someone outside may have been given the other end
            if wrong := self._tell.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT):
                raise _NotBegunError(wrong.decode("utf-8", "replace"))
        return status

    def _begun(self, tell: socket.socket, given: list[int], wire: mmap.mmap) -> socket.socket:
        """Hand the order on to the step's process: the door that the step reaches the hub by."""
        said, fds, _, _ = socket.recv_fds(tell, MESSAGE_BYTES, 2)
        if not fds:
            raise _NotBegunError(said.decode("utf-8", "replace") or "its process has ended before it began")
        # To take apart a namespace of mounts takes the kernel longer than to end a process: it is done by
        # whoever lets go of it last, and so only when the hub has been told that the step is gone.
        door, self._mounts = socket.socket(fileno=fds[0]), fds[1:]
        try:
            socket.send_fds(tell, [b"+"], given)
            tell.sendall(wire)
            tell.shutdown(socket.SHUT_WR)
        except OSError:
            door.close()
            raise
        return door


class _NotBegunError(Exception):
    """A step could not be set up; the message says why."""


class Callers:
    """Who calls the hub from a step, at its loopback address: each connection is handed on to the hub.

    ``door`` is the listening socket, None where the step has no way to the hub. At most
    ``CONNECTIONS_MAX`` are with the hub at a time, and the others wait.
    """

    def __init__(self, door: socket.socket | None, life: socket.socket, fenced: bool) -> None:
        self._door = door
        self._life = life
        self._fenced = fenced
        self._open = 0

    def waiting(self) -> list[int]:
        """What can be read when somebody calls who can be let in."""
        return [self._door.fileno()] if self._door and self._open < CONNECTIONS_MAX else []

    def admit(self) -> None:
        """Let the next one in."""
        if not self._door:
            return
        with contextlib.suppress(OSError):  # whoever has gone again, or a hub that has
            caller, peer = self._door.accept()
            # Nobody else is there to call, behind a fence.
            if self._fenced or same_user(peer[1], self._door.getsockname()[1]):
                socket.send_fds(self._life, [b'{"caller": true}\n'], [caller.fileno()])
                self._open += 1
            caller.close()

    def done(self) -> None:
        """The hub is done with one of them."""
        self._open -= 1
