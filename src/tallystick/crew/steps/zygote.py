"""The zygote: a process that has imported what steps need, and forks each step from itself.

``python -P -m tallystick.crew.steps.zygote ORDER``, where ORDER is a JSON object: ``door`` is the path of the
socket to make, ``modules`` are to be imported, ``fence`` says whether each step gets a fence of its own,
``roots`` are the folders that all steps share, ``memory_folder_bytes`` is how large a step's folders in
memory mostly may be, and ``spares`` how many processes may wait for steps. For an environment whose Python is
``program``, it is the hub's own with ``-S``, and ``runtime`` is where this package lies: with a fence each
step takes up the environment's packages by itself, behind that. On standard output it says one line of JSON,
``{"ready"}`` or ``{"cannot"}`` with the reason. Then it lets the hub in through ``door``, and nobody after.

It stays single-threaded, or a fork would not be safe, and runs no code of any step; it does not even read
their orders, which go to the keepers.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tallystick.crew.steps.child import Lot, pages_written
from tallystick.crew.steps.fence import Fence, lower
from tallystick.crew.steps.packages import take_up
from tallystick.crew.steps.rehearsal import rehearsed
from tallystick.crew.steps.stock import Keepers
from tallystick.crew.warden import PR_SET_CHILD_SUBREAPER, drain, prctl, watch_children

__all__ = ["main"]

TRIAL_BYTES = 1024 * 1024
_NEEDED = ("logging", "typing")
"""What a component of KFP imports anyway, beside KFP's runtime."""


class CannotServeError(Exception):
    """Steps cannot be forked here; the message says why."""


def main(order: dict[str, Any]) -> int:
    """Get ready, say so, and serve the hub until it is gone."""
    words = os.fdopen(os.dup(1), "w")
    _silence()
    gc.disable()  # until a step begins: what is imported here is kept, and looking through it takes time
    try:
        if order["runtime"] and not order["fence"]:
            take_up(order["runtime"], order["program"])
        _load(order["modules"])
        fence = _fence(order["roots"], order["memory_folder_bytes"]) if order["fence"] else None
        with rehearsed() as rehearsal:
            gc.collect()
            gc.freeze()  # a step's own collections then leave alone these objects, and the memory they share
            lot = Lot.of(fence, pages_written(rehearsal))
        listener = _door(order["door"])
    except Exception as wrong:  # noqa: BLE001  the process's edge: the hub must hear of it
        print(json.dumps({"cannot": str(wrong)}), file=words, flush=True)
        return 1
    print(json.dumps({"ready": sorted(order["modules"])}), file=words, flush=True)
    words.close()
    control, _ = listener.accept()
    listener.close()
    Path(order["door"]).unlink()
    _serve(control, lot, order["spares"])
    return 0


def _silence() -> None:
    """Nobody reads what is printed here: a full pipe would hold up every step."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def _load(modules: Sequence[str]) -> None:
    os.environ["_KFP_RUNTIME"] = "true"  # as crew.step has it
    for module in ("kfp.dsl.executor", *_NEEDED):
        importlib.import_module(module)
    for module in modules:
        with contextlib.suppress(ImportError):  # the step that imports it will say so itself
            importlib.import_module(module)
    threads = [_name_of(thread) for thread in Path("/proc/self/task").iterdir()]
    if len(threads) > 1:
        raise CannotServeError(
            f"importing {', '.join(modules) or 'kfp'} starts threads: {', '.join(threads)}"
        )


def _name_of(thread: Path) -> str:
    try:
        return (thread / "comm").read_text("utf-8").strip()
    except OSError:
        return "one that has ended"


def _fence(roots: Sequence[str], memory_bytes: int) -> Fence:
    """The fence, once it has been tried: a kernel may refuse any part of it."""
    try:
        fence = Fence(roots, memory_bytes)
        there, here = os.pipe()
        pid = fence.fork()
    except OSError as wrong:
        raise CannotServeError(f"steps cannot be fenced off: {wrong.strerror}") from None
    if pid == 0:
        _try(fence, here)
    os.close(here)
    with os.fdopen(there, "rb") as file:
        said = file.read().decode("utf-8", "replace")
    os.waitpid(pid, 0)
    if said != "done":
        raise CannotServeError(f"steps cannot be fenced off: {said or 'the trial ended without a word'}")
    return fence


def _try(fence: Fence, here: int) -> None:
    try:
        proc = fence.enter()
        if (pid := os.fork()) == 0:
            fence.bare().show((), TRIAL_BYTES)
            lower(proc)
            os.write(here, b"done")
        else:
            os.waitpid(pid, 0)
    except BaseException as wrong:  # noqa: BLE001  a forked half must never run on into its parent's code
        os.write(here, f"{getattr(wrong, 'strerror', None) or wrong}".encode()[:500])
    finally:
        os._exit(0)


def _door(path: str) -> socket.socket:
    """Listening at ``path``, which may be longer than the 107 bytes that a socket's address has."""
    folder = os.open(Path(path).parent, os.O_PATH | os.O_DIRECTORY)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"/proc/self/fd/{folder}/{Path(path).name}")
    listener.listen(1)
    os.close(folder)
    return listener


def _serve(control: socket.socket, lot: Lot, spares: int) -> None:
    """Have a keeper wait for the next step, always. Whatever still runs in the end, the sandbox ends."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake, keepers = watch_children(), Keepers(control, lot, spares)
    while True:
        ready, _, _ = select.select([keepers.words, wake], [], [], keepers.fill())
        if keepers.words in ready and not keepers.heard():
            return
        if wake in ready:
            drain(wake)
            keepers.sweep(wake)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
