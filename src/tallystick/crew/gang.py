"""Several processes of one step: the workers of a distributed training, or a command; and how each ends.

Workers are what torchrun would start: all on this machine, with its variables in their environment, so that
``torch.distributed.init_process_group`` finds the others on the loopback address. They share the network that
the step has. Only what the first one leaves counts; when one fails, all end.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tallystick.crew.warden import PR_SET_PDEATHSIG, prctl

__all__ = ["end_python", "run_command", "run_gang"]

GRACE_S = 1.0
"""From a failure to the end by force of the workers that are left."""
LINE_BYTES_MAX = 8 * 1024
READ_BYTES = 64 * 1024
_Order = dict[str, Any]


def run_command(order: _Order) -> int:
    """Run the order's ``argv`` and wait for it: its status, or by its signal the end of this process too.

    In a process of its own, as this one holds what leads to the hub.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is sent to both, and the command decides
    there, here = os.pipe()
    if (pid := os.fork()) == 0:
        _become(order["argv"], here)
    os.close(here)
    with os.fdopen(there, "rb") as file:
        wrong = file.read().decode("utf-8", "replace")
    _, status = os.waitpid(pid, 0)
    if wrong:
        raise FileNotFoundError(
            f"{order['argv'][0]}: {wrong}: a command runs with the programs of this machine, "
            f"not with those of the image {order['image']}, which is not fetched"
        )
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    return code


def _become(argv: list[str], here: int) -> NoReturn:
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):  # the latter two are Python's own
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], argv)  # noqa: S606  it is what a step is
    except BaseException as wrong:  # noqa: BLE001  a forked half must never run on into its parent's code
        os.write(here, str(getattr(wrong, "strerror", None) or wrong).encode()[:500])
    finally:
        os._exit(127)


@dataclass(slots=True)
class _Worker:
    rank: int
    pid: int
    pidfd: int
    out: int
    failure: Path
    rest: bytes = b""
    last: str = ""
    status: int | None = None


def run_gang(order: _Order, run_one: Callable[[_Order], int]) -> int:
    """Run the workers to their end: 0, or 1 once the first failure is in the order's ``failure`` file."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # each of them is sent it, and this one ends with them
    port, workers = _free_port(), list[_Worker]()
    sys.stdout.flush()
    try:
        for rank in range(order["workers"]):
            workers.append(_forked(order, rank, port, run_one))
        failed = _attend(workers)
    finally:
        _end(workers)
    if failed is None:
        return 0
    said = _said(failed)
    said["error"] = f"rank {failed.rank}: {said['error']}"
    Path(order["failure"]).write_text(json.dumps(said), encoding="utf-8")
    return 1


def _forked(order: _Order, rank: int, port: int, run_one: Callable[[_Order], int]) -> _Worker:
    own = _order_of(order, rank)
    out, printed = os.pipe()
    pid = os.fork()
    if pid == 0:
        _work(own, rank, port, printed, run_one)
    os.close(printed)
    os.set_blocking(out, False)
    return _Worker(rank, pid, os.pidfd_open(pid), out, Path(own["failure"]))


def _work(order: _Order, rank: int, port: int, printed: int, run_one: Callable[[_Order], int]) -> NoReturn:
    status = 1
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        os.close(printed)
        world = str(order["workers"])
        os.environ.update(
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            GROUP_RANK="0",
            WORLD_SIZE=world,
            LOCAL_WORLD_SIZE=world,
        )
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the step's host name leads nowhere
        status = run_one(order)
        end_python()
    except BaseException:  # noqa: BLE001  a forked half must never run on into its parent's code
        traceback.print_exc()
    finally:
        os._exit(status)


def _order_of(order: _Order, rank: int) -> _Order:
    """The order of one worker: all but the first leave what they make where nobody looks."""
    cores, workers = order["cores"], order["workers"]
    share = cores[rank * len(cores) // workers : (rank + 1) * len(cores) // workers] or cores
    aside = f"{order['aside']}/{rank}"
    for folder in ("artifacts", "params"):
        Path(aside, folder).mkdir(parents=True)
    moved = json.loads(json.dumps(order)) if rank == 0 else _moved(order, f"{order['out']}/", f"{aside}/")
    return {**moved, "cores": share, "failure": f"{aside}/failure.json"}


def _moved(part: Any, before: str, after: str) -> Any:
    """A JSON value with the folder ``before`` replaced in every text of it."""
    if isinstance(part, str):
        return part.replace(before, after)
    if isinstance(part, dict):
        return {key: _moved(inner, before, after) for key, inner in part.items()}
    return [_moved(inner, before, after) for inner in part] if isinstance(part, list) else part


def _attend(workers: list[_Worker]) -> _Worker | None:
    """Hand on what they print until all have ended; the first that failed, as soon as it has."""
    outs = {w.out: w for w in workers}
    ends = {w.pidfd: w for w in workers}
    while ends:
        ready, _, _ = select.select([*outs, *ends], [], [])
        for fd in ready:
            if fd in outs and not _pass_on(outs[fd]):
                del outs[fd]
        for fd in ready:
            if fd in ends:
                worker = ends.pop(fd)
                _reap(worker)
                if worker.status:
                    return worker
    return None


def _pass_on(worker: _Worker) -> bool:
    """Print what it has printed, as far as that is whole lines; False at the end of it."""
    try:
        piece = os.read(worker.out, READ_BYTES)
    except BlockingIOError:
        return True
    *lines, worker.rest = (worker.rest + piece).split(b"\n")
    if len(worker.rest) > LINE_BYTES_MAX or not piece:
        lines, worker.rest = [*lines, worker.rest], b""
    for line in lines:
        if line:
            worker.last = line[:500].decode("utf-8", "replace")
            _print(b"[rank %d] %s\n" % (worker.rank, line))
    return bool(piece)


def _print(text: bytes) -> None:
    with contextlib.suppress(OSError):
        while text:
            text = text[os.write(1, text) :]


def _reap(worker: _Worker) -> None:
    _, status = os.waitpid(worker.pid, 0)
    worker.status = os.waitstatus_to_exitcode(status)


def _end(workers: list[_Worker]) -> None:
    """End those that are left: asked first, then by force. What they printed meanwhile is printed."""
    for number, seconds in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, None)):
        left = [w for w in workers if w.status is None]
        for worker in left:
            signal.pidfd_send_signal(worker.pidfd, number)
        for worker in _ended(left, seconds):
            _reap(worker)
    for worker in workers:
        with contextlib.suppress(OSError):
            while worker.out >= 0 and select.select([worker.out], [], [], 0)[0] and _pass_on(worker):
                pass
        os.close(worker.pidfd)
        os.close(worker.out)


def _ended(workers: list[_Worker], seconds: float | None) -> Iterator[_Worker]:
    """Each as it ends, until none is left or ``seconds`` have passed."""
    left = {w.pidfd: w for w in workers}
    outs = {w.out: w for w in workers}
    until = None if seconds is None else time.monotonic() + seconds
    while left:
        rest = None if until is None else until - time.monotonic()
        if rest is not None and rest <= 0:
            return
        ready, _, _ = select.select([*left, *outs], [], [], rest)
        for fd in ready:
            if fd in outs and not _pass_on(outs[fd]):
                del outs[fd]
            elif fd in left:
                yield left.pop(fd)


def _said(worker: _Worker) -> _Order:
    """Why a worker failed: in its own words, or by how it ended."""
    with contextlib.suppress(OSError, ValueError):
        said = json.loads(worker.failure.read_bytes())
        if isinstance(said, dict) and isinstance(said.get("error"), str):
            return {"error": said["error"], "memory": bool(said.get("memory"))}
    status = worker.status or 0
    how = f"ended with status {status}"
    if status < 0:
        how = f"ended by {_signal_name(-status)}"
    return {"error": f"{how}: {worker.last or 'it printed nothing'}", "memory": False}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def end_python() -> None:
    """What Python does as it ends, but for taking every module apart, which touches all memory."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as multiprocessing has it
    with contextlib.suppress(SystemExit):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
