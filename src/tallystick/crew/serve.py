"""The serving process: one model, answering the Open Inference Protocol on a unix socket.

Order: ``folder`` (an MLflow model), ``socket`` (path to listen on), ``name`` (that it answers to),
``version``; optional ``runtime`` (a tile's name), ``threads``, ``body_bytes_max`` and ``pull`` (true where
whoever has the socket may ask for gradients: they are what an attacker wants most, so an endpoint's door must
hand on no such question). Once it answers it says ready, with ``runtime``; what it takes and gives it says by
the protocol, as a model of thousands of columns would make too long a line. It ends on SIGTERM, or when its
standard input closes because the hub is gone; requests under way are finished first.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import BadInput, MissingTile, TooLarge
from tallystick.crew.desk import Desk, attend
from tallystick.ports.models.runtime import Runtime
from tallystick.ports.tile import Place
from tallystick.wiring.tiles import known_tiles, open_tile

if TYPE_CHECKING:
    from tallystick.crew.served.pulls import Pulls
    from tallystick.crew.served.wire import Wire

__all__ = ["GRACE_S", "choose_runtime", "main"]

GRACE_S = 4
"""How long requests under way may take after SIGTERM; a sandbox kills after 5 s."""

BODY_BYTES_MAX = 64 * 1024 * 1024
WIDEST = "pyfunc"
"""The runtime that accepts every model of MLflow's: a more exact one knows more of it."""

QUIET: Mapping[str, str] = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Set before numpy is imported unless the environment says otherwise: one thread a library, as the
requests are what there are many of; more only take each other's cores, and memory for each."""


def choose_runtime(folder: Path, name: str, options: Mapping[str, Any]) -> tuple[str, Runtime]:
    """The runtime ``name``, or else the first that accepts the model in ``folder``.

    Asked first are those that run no code of the model's (they are lighter, too), then the others, each
    by name, and at last the one that loads whatever MLflow does. Nothing of the model is loaded here.
    """
    place = Place(home=folder, options=options)
    if name:
        return name, open_tile("runtime", name, place)
    opened: dict[str, Runtime] = {}
    missing: MissingTile | None = None
    for known in sorted(known_tiles("runtime")):
        try:
            opened[known] = open_tile("runtime", known, place)
        except MissingTile as wrong:
            missing = wrong
    for known in sorted(opened, key=lambda n: (opened[n].runs_code, n == WIDEST, n)):
        if opened[known].accepts(folder):
            return known, opened[known]
    if missing:
        raise missing
    hint = "save the model with MLflow"
    raise BadInput("no installed runtime loads this model", where=str(folder), hint=hint)


def main(desk: Desk) -> Mapping[str, Any]:
    """Load the model, serve it until told to end, and say how many calls the model had."""
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    order = desk.order
    try:
        folder, socket = Path(order["folder"]), Path(order["socket"])
        name, version = str(order["name"]), str(order["version"])
    except KeyError as missing:
        raise BadInput(f"the order lacks {missing}", where="crew/serve") from None
    # Loaded before the loop starts, so that SIGTERM ends a load that hangs.
    tile, runtime = choose_runtime(folder, str(order.get("runtime", "")), _options(order))
    predictor = runtime.load(folder)
    from tallystick.crew.served.batcher import Batcher
    from tallystick.crew.served.pulls import Pulls
    from tallystick.crew.served.serving import Card, Serving, answer_error
    from tallystick.crew.served.wire import Wire

    batcher = Batcher(predictor)
    limit = int(order.get("body_bytes_max", BODY_BYTES_MAX))
    too_large = answer_error(TooLarge(f"the body is over {limit} bytes", where="request"))
    card = Card(name, version, tile, predictor.inputs, predictor.outputs)
    pulls = Pulls(predictor) if order.get("pull") is True else None
    wire = Wire(Serving(card, batcher, pulls), limit, too_large)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(desk, wire, socket, tile, pulls))
    return {"calls": batcher.calls}


def _options(order: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"threads": order["threads"]} if "threads" in order else {}


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # it serves as well without, only slower
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _serve(desk: Desk, wire: Wire, socket: Path, runtime: str, pulls: Pulls | None) -> None:
    """Listen, say ready, and finish what is under way once told to end."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    watching = await _watch_stdin(ending)
    await wire.listen(socket)
    desk.ready(runtime=runtime)
    await ending.wait()
    if pulls:
        pulls.close()
    await wire.close(GRACE_S)
    watching.close()


class _Stdin(asyncio.Protocol):
    """Standard input, which the hub holds open for as long as it lives."""

    def __init__(self, ending: asyncio.Event) -> None:
        self._ending = ending

    def eof_received(self) -> bool:
        self._ending.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ending.set()


async def _watch_stdin(ending: asyncio.Event) -> asyncio.BaseTransport:
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: _Stdin(ending), sys.stdin)
    return transport


if __name__ == "__main__":
    attend(main)
