"""The driver: the one process that speaks with Ray for a hub, which tells it by lines what is to be done.

See :mod:`tallystick.tiles.ray.driver` for the protocol. It ends when the hub is gone: with the end of its
standard input, and because its wall ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tallystick.core.errors import Failed, TallyError

__all__ = ["main"]

LINE_BYTES_MAX = 256 * 1024 * 1024
"""Of one question: a job with its parameters and its component's source."""
ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""A longer answer goes by a file."""
LINES_AT_ONCE = 200
ASIDE_BYTES = 256 * 1024
CONNECT_S_MAX = 150.0


class Driver:
    """Asks Ray what the hub asks, and answers on ``out``."""

    def __init__(self, order: Mapping[str, Any], out: int) -> None:
        from tallystick.crew.ray.cluster import Cluster

        self._order = order
        self._out = out
        self._cluster = Cluster(order)
        self._asked: dict[int, asyncio.Task[None]] = {}
        self._lines: dict[int, list[str]] = {}

    async def serve(self, hub: asyncio.StreamReader) -> None:
        """Connect, and answer until the hub says no more."""
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                await asyncio.to_thread(self._cluster.connect)
                await self._cluster.look()
        except TallyError as wrong:
            self._say({"failed": wrong.as_dict()})
            return
        self._tell_nodes()
        watching = asyncio.create_task(self._watch())
        try:
            while line := await hub.readline():
                self._heard(await _aside(len(line), json.loads, line))
        finally:
            watching.cancel()
            for task in self._asked.values():
                task.cancel()
            with contextlib.suppress(TimeoutError):
                await self._cluster.close()

    async def _watch(self) -> None:
        async def changed() -> None:
            self._tell_nodes()

        await self._cluster.watch(changed)

    def _tell_nodes(self) -> None:
        self._say({"nodes": [node.as_dict() for node in self._cluster.nodes.values()]})

    # --------------------------------------------------------------------------- questions

    def _heard(self, said: dict[str, Any]) -> None:
        if "cancel" in said:
            if task := self._asked.get(said["cancel"]):
                task.cancel()
            return
        number = int(said["ask"])
        task = self._asked[number] = asyncio.create_task(self._answer(number, said))
        task.add_done_callback(lambda _: self._asked.pop(number, None))

    async def _answer(self, number: int, said: dict[str, Any]) -> None:
        answer: dict[str, Any]
        try:
            ask = self._environment if "environment" in said else self._outcome
            answer = await ask(number, said)
        except asyncio.CancelledError:
            answer = {"cancelled": True}
        except TallyError as wrong:
            answer = {"wrong": wrong.as_dict()}
        except Exception as wrong:  # noqa: BLE001  reason: one question's edge; the others go on
            answer = {"wrong": Failed(f"{type(wrong).__name__}: {wrong}"[:500], where="Ray").as_dict()}
        self._flush(number)
        await self._end(number, answer)

    async def _outcome(self, number: int, said: dict[str, Any]) -> dict[str, Any]:
        from tallystick.crew.ray.placing import Placing

        def log(line: str) -> None:
            self._log(number, line)

        placing = Placing(
            self._cluster,
            number,
            said["job"],
            said["wants"],
            said["words"],
            max(1, int(self._order["ray_tries"])),
            log,
        )
        return {"outcome": await placing.outcome()}

    async def _environment(self, _: int, said: dict[str, Any]) -> dict[str, Any]:
        nodes = self._cluster.nodes.values()
        fits = [node for node in nodes if node.holds(said["wants"])] or list(nodes)
        if not fits:
            raise Failed("the cluster has no node", where="Ray")
        post = await self._cluster.post(fits[0].id)
        answer: dict[str, Any] = await post.keeper.environment.remote(said["environment"])
        return answer

    # ----------------------------------------------------------------------------- answers

    def _log(self, number: int, line: str) -> None:
        """Lines that come in the same turn of the loop go in one."""
        if number not in self._lines:
            self._lines[number] = []
            asyncio.get_running_loop().call_soon(self._flush, number)
        self._lines[number].append(line)

    def _flush(self, number: int) -> None:
        lines = self._lines.pop(number, [])
        for start in range(0, len(lines), LINES_AT_ONCE):
            self._say({"log": number, "lines": lines[start : start + LINES_AT_ONCE]})

    async def _end(self, number: int, answer: dict[str, Any]) -> None:
        text = await asyncio.to_thread(json.dumps, answer) if "outcome" in answer else json.dumps(answer)
        if len(text) > ANSWER_BYTES_MAX:
            file = Path(self._order["folder"]) / f"answer-{number}"
            await asyncio.to_thread(file.write_text, text, encoding="utf-8")
            self._say({"ended": number, "file": str(file)})
        else:
            self._say({"ended": number, **answer})

    def _say(self, said: Mapping[str, Any]) -> None:
        """The pipe is read all the time: should it be full, there is nothing better to do than to wait."""
        left = memoryview(json.dumps(said).encode() + b"\n")
        while left:
            left = left[os.write(self._out, left) :]


async def _aside(size: int, work: Callable[[Any], Any], on: Any) -> Any:
    """Do what takes long in a thread; for what is quick, a thread is what takes long."""
    return await asyncio.to_thread(work, on) if size > ASIDE_BYTES else work(on)


async def _main(out: int) -> None:
    loop = asyncio.get_running_loop()
    hub = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(hub), sys.stdin)
    serving = asyncio.create_task(Driver(json.loads(await hub.readline()), out).serve(hub))
    loop.add_signal_handler(signal.SIGTERM, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def main() -> None:
    """Serve the hub, then take leave of Ray: a cluster of our own ends with that."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is not the protocol
    import ray

    try:
        asyncio.run(_main(out))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
