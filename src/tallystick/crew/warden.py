"""The warden: a small process that starts confined processes for the hub, and that lets none outlive it.

A process group is not enough (a child may leave it), and a death signal is bound to one thread of one
parent. So there are three, each a fork of the one before, and each notices when the one before it ends:

    hub --(control socket)--> warden --(fork)--> keeper, one a confined process --(fork, exec)--> the process
     '------------------(life socket, one for each confined process)------'

The keeper is the reaper of everything below it: whoever loses its parent becomes the keeper's child, wherever
it has fled to. When the confined process ends, when the hub says so, or when the life socket ends because the
hub is gone in whatever way, the keeper kills until it has no child left, and only then tells the status.
Should a keeper be killed, its process gets SIGKILL from the kernel, the rest falls to the warden, which kills
whatever child it did not start itself.

Started by its path, ``python -I -S warden.py``, with the control socket as standard input: standard library
only, no thread, nothing of the hub's memory or environment.

On the control socket each byte brings four descriptors: standard input, output, error, and the life socket.
On the life socket the hub sends the order (8 bytes of length, big endian, then JSON), later ``T`` to
terminate or ``K`` to kill; the keeper answers with lines of JSON: ``{"pid"}`` or ``{"error"}``, then
``{"status"}``.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn, Protocol

__all__ = ["main"]

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
KEYCTL = {"x86_64": 250, "aarch64": 219}
"""The number of the system call keyctl(2), which no C library wraps, by machine."""
KEYCTL_JOIN_SESSION_KEYRING = 1
LOOK_S = 0.25
"""Between two counts of processes."""
RETRY_S = 0.02
"""Between two rounds of killing: the time the kernel may need to tear a process down."""


_libc = ctypes.CDLL(None, use_errno=True)
_prctl, _syscall = _libc["prctl"], _libc["syscall"]


def prctl(option: int, value: int) -> None:
    """Linux's prctl(2); OSError when it refuses."""
    if _prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def leave_keyring() -> None:
    """Join a new, empty session keyring: the hub's, with whatever keys, would be inherited, walls or none.

    Where the kernel has no keyrings, or no room for another, there is nothing to leave or to be done.
    """
    if (number := KEYCTL.get(os.uname().machine)) is not None:
        _syscall(ctypes.c_long(number), ctypes.c_long(KEYCTL_JOIN_SESSION_KEYRING), None)


def watch_children() -> int:
    """A descriptor that becomes readable when a child ends."""
    wake, write = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return wake


def drain(wake: int) -> None:
    """Forget the wake-ups so far: whoever calls this looks at all children next."""
    try:
        while os.read(wake, 4096):
            pass
    except BlockingIOError:
        return


def parents() -> dict[int, list[int]]:
    """The children of every process that can be seen, by the parent's id."""
    found: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        found.setdefault(parent, []).append(int(folder.name))
    return found


def descendants(skip: set[int], below: int = 0) -> list[int]:
    """All processes under this one but for the branches in ``skip`` and the first ``below`` generations."""
    children, level, found, depth = parents(), [os.getpid()], [], 0
    while level:
        level = [child for pid in level for child in children.get(pid, ()) if child not in skip]
        if depth >= below:
            found += level
        depth += 1
    return found


def send_signal(pids: list[int], number: signal.Signals) -> None:
    """Signal each that still exists."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def reap() -> dict[int, int]:
    """Take leave of all children that have ended: their wait statuses."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def kill_all(wake: int) -> dict[int, int]:
    """Kill until no child is left: the statuses of all that ended."""
    ended = reap()
    while has_children():
        send_signal(descendants(set()), signal.SIGKILL)
        select.select([wake], [], [], RETRY_S)
        drain(wake)
        ended |= reap()
    return ended


def has_children() -> bool:
    """Whether there is any child, ended ones included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def limit(name: str, soft: int, hard: int) -> None:
    """Set one limit, never above what this process may have itself."""
    number = getattr(resource, name)
    ceiling = resource.getrlimit(number)[1]
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(number, (soft, hard))


def with_unseen(argv: list[str], unseen: list[str]) -> list[str]:
    """``argv`` for a program that reads ``unseen`` first, from a descriptor that is left to it."""
    if not unseen:
        return argv
    held = os.memfd_create("args", 0)
    with os.fdopen(held, "wb", closefd=False) as file:
        file.write(b"".join(os.fsencode(word) + b"\0" for word in unseen))
    os.lseek(held, 0, os.SEEK_SET)
    return [argv[0], "--args", str(held), *argv[1:]]


def become(order: dict[str, Any], stdio: list[int], keeper: int, failure: int) -> NoReturn:
    """Turn this new process into the ordered one; an error goes to ``failure`` as text."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(127)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for target, fd in enumerate(stdio):
            os.dup2(fd, target)
        os.closerange(3, failure)
        os.closerange(failure + 1, max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], failure + 2))
        # Short of memory, the kernel shall choose this one before the hub.
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
        leave_keyring()
        os.umask(0o077)
        os.chdir(order["cwd"])
        for name, (soft, hard) in order["limits"].items():
            limit(name, soft, hard)
        argv = with_unseen(order["argv"], order["unseen"])
        os.execve(argv[0], argv, order["env"])  # noqa: S606  no shell is what is wanted
    except BaseException as wrong:  # noqa: BLE001  a forked half must never run on into its parent's code
        os.write(failure, f"{getattr(wrong, 'strerror', None) or wrong}".encode()[:500])
    os._exit(127)


def start(order: dict[str, Any], stdio: list[int]) -> tuple[int, str]:
    """Start the ordered process: its id, and why it could not be (empty when it could)."""
    keeper = os.getpid()
    failed, failure = os.pipe()
    pid = os.fork()
    if pid == 0:
        become(order, stdio, keeper, failure)
    os.close(failure)
    for fd in stdio:
        os.close(fd)
    with os.fdopen(failed, "rb") as file:
        return pid, file.read().decode("utf-8", "replace")


def take(life: socket.socket, size: int) -> bytes:
    """Exactly ``size`` bytes; EOFError when the hub has gone before."""
    taken = bytearray()
    while len(taken) < size:
        piece = life.recv(size - len(taken))
        if not piece:
            raise EOFError
        taken += piece
    return bytes(taken)


def take_into(life: socket.socket, buffer: mmap.mmap) -> None:
    """Fill it, and leave nothing anywhere else; EOFError as :func:`take`."""
    with memoryview(buffer) as view:
        taken = 0
        while taken < len(view):
            with view[taken:] as rest:
                piece = life.recv_into(rest)
            if not piece:
                raise EOFError
            taken += piece


def say(life: socket.socket, **said: Any) -> None:
    """Tell the hub, if it is still there to listen."""
    try:
        life.sendall(json.dumps(said).encode() + b"\n")
    except OSError:
        return


def keep(stdio: list[int], life: socket.socket) -> None:
    """The keeper: start one process, and see to its end and to that of all below it."""
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake = watch_children()
    try:
        order = json.loads(take(life, int.from_bytes(take(life, 8), "big")))
    except EOFError:
        return
    pid, wrong = start(order, stdio)
    if wrong:
        kill_all(wake)
        say(life, error=wrong)
        return
    say(life, pid=pid)
    status = guard(life, wake, pid, int(order["spare"]), int(order["processes"]))
    say(life, status=os.waitstatus_to_exitcode(status))


class Callers(Protocol):
    """Who calls the hub from below a keeper, besides."""

    def waiting(self) -> list[int]:
        """What can be read when somebody calls."""

    def admit(self) -> None:
        """Let one in."""

    def done(self) -> None:
        """The hub has said ``D``: it is done with one."""


def guard(
    life: socket.socket, wake: int, pid: int, spare: int, processes: int, callers: Callers | None = None
) -> int:
    """Wait until process ``pid`` ends or the hub wants it to, then end all the rest: its wait status.

    With more than ``processes`` at once, where that is not 0, it is told and all are killed. The kernel's own
    limit counts all of a user's, and does not hold for root.
    """
    ended: dict[int, int] = {}
    asked: set[int] = set()
    ending, look_at = False, time.monotonic() + LOOK_S
    while pid not in ended:
        calling = callers.waiting() if callers else []
        pause = RETRY_S if ending else max(0.0, look_at - time.monotonic()) if processes else None
        ready, _, _ = select.select([life.fileno(), wake, *calling], [], [], pause)
        if life.fileno() in ready:
            word = life.recv(1)
            if word == b"D" and callers:
                callers.done()
            elif not (ending := word == b"T"):
                ended |= kill_all(wake)
        if processes and not ending and time.monotonic() >= look_at:
            if len(descendants(set())) > processes:
                say(life, processes=processes)
                ended |= kill_all(wake)
            look_at = time.monotonic() + LOOK_S
        if callers and any(fd in ready for fd in calling):
            callers.admit()
        if ending:  # again and again, for who is born meanwhile: bubblewrap's own start takes some time
            young = [other for other in descendants(set(), spare) if other not in asked]
            send_signal(young, signal.SIGTERM)
            asked.update(young)
        drain(wake)
        ended |= reap()
    kill_all(wake)
    return ended[pid]


def admit(control: socket.socket, keepers: set[int]) -> bool:
    """Start a keeper for what the hub sends; False when the hub is gone."""
    try:
        said, fds, _, _ = socket.recv_fds(control, 1, 4)
    except ConnectionError:
        return False
    if not said:
        return False
    try:
        pid = os.fork()
    except OSError:
        pid = -1  # no room for a process: the hub sees the life socket end
    if pid == 0:
        run_keeper(control, fds)
    if pid > 0:
        keepers.add(pid)
    for fd in fds:
        os.close(fd)
    return True


def run_keeper(control: socket.socket, fds: list[int]) -> NoReturn:
    """The new keeper's whole life."""
    try:
        control.close()
        *stdio, life = fds
        keep(stdio, socket.socket(fileno=life))
    except BaseException:  # noqa: BLE001  a forked half must never run on into its parent's code
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def sweep(keepers: set[int], wake: int) -> None:
    """Take leave of keepers that ended, and kill what one that was killed has left behind."""
    ended = reap()
    keepers.difference_update(ended)
    if any(ended.values()):
        while strays := descendants(keepers):
            send_signal(strays, signal.SIGKILL)
            select.select([wake], [], [], RETRY_S)
            drain(wake)
            keepers.difference_update(reap())


def main() -> int:
    """Serve the hub until it is gone and every keeper has done its work."""
    os.chdir("/")
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    control, wake = socket.socket(fileno=0), watch_children()
    keepers: set[int] = set()
    hub_lives = True
    while hub_lives or keepers:
        ready, _, _ = select.select([wake, control.fileno()] if hub_lives else [wake], [], [])
        if wake in ready:
            drain(wake)
            sweep(keepers, wake)
        if control.fileno() in ready:
            hub_lives = admit(control, keepers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
