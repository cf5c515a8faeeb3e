"""A light load generator in a process of its own: keep-alive sockets, ready-made requests, little parsing.

It reads one line of JSON (see :class:`Order`) from standard input, makes the requests, connects, says
``ready``, waits for a line, and then each client sends its next request as soon as the last was answered,
until the time or the requests are used up. It prints one line of JSON: what came back, and what the
generator itself cost.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import uvloop
from timing import cpu_s, figures

PATIENCE_S = 300.0
"""For the requests that are under way when the time is up."""
NOW_MS = 1_700_000_000_000
BATCH_KEYS = 10
HISTORY_KEY = "loss"


@dataclass(frozen=True)
class Order:
    """What to do: ``kind`` is one of KINDS, ``runs`` are the runs to write to or read from, one for each.

    ``limit`` bounds the requests; ``size`` is the metrics in a batch or the results of a search; ``begin``
    is the first number in use, so that no two orders log the same point; ``prefix`` stands before the
    paths, for peers that have MLflow's routes elsewhere.
    """

    port: int
    kind: str
    clients: int
    seconds: float
    limit: int
    runs: list[str]
    size: int = 1
    begin: int = 0
    experiment: str = "1"
    prefix: str = "/api/2.0/mlflow"


def _post(order: Order, path: str, body: Any) -> bytes:
    return _request(order, "POST", path, json.dumps(body).encode())


def _request(order: Order, method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {order.prefix}{path} HTTP/1.1\r\nHost: 127.0.0.1:{order.port}\r\n"
    head += "User-Agent: bench\r\nAccept: */*\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def _log_metric(order: Order, n: int) -> bytes:
    run = order.runs[n % len(order.runs)]
    point = {"run_id": run, "key": "loss", "value": n / 7, "timestamp": NOW_MS + n, "step": n}
    return _post(order, "/runs/log-metric", point)


def _log_batch(order: Order, n: int) -> bytes:
    first = n * order.size
    points = [
        {"key": f"b{i % BATCH_KEYS}", "value": i / 7, "timestamp": NOW_MS + i, "step": i // BATCH_KEYS}
        for i in range(first, first + order.size)
    ]
    return _post(order, "/runs/log-batch", {"run_id": order.runs[n % len(order.runs)], "metrics": points})


def _create_run(order: Order, n: int) -> bytes:
    tags = [{"key": "mlflow.user", "value": "bench"}, {"key": "mlflow.source.name", "value": "train.py"}]
    body = {"experiment_id": order.experiment, "user_id": "bench", "run_name": f"made-{n}", "tags": tags}
    return _post(order, "/runs/create", {**body, "start_time": NOW_MS + n})


def _search(order: Order, n: int) -> bytes:
    # No two searches are the same: nobody may answer from a memory of answers.
    filter_ = f"metrics.m0 < {0.5 + n * 1e-7:.7f} and params.p0 != 'v3'"
    body = {"experiment_ids": [order.experiment], "filter": filter_, "order_by": ["metrics.m1 DESC"]}
    return _post(order, "/runs/search", {**body, "max_results": order.size})


def _history(order: Order, n: int) -> bytes:
    query = f"run_id={order.runs[0]}&metric_key={HISTORY_KEY}"
    return _request(order, "GET", f"/metrics/get-history?{query}")


KINDS: dict[str, Callable[[Order, int], bytes]] = {
    "log_metric": _log_metric,
    "log_batch": _log_batch,
    "create_run": _create_run,
    "search": _search,
    "history": _history,
}


class Answer(asyncio.Protocol):
    """One connection: counts an answer's bytes, keeps its status, and the body only of an error."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.waiter: asyncio.Future[int] | None = None
        self.reset()

    def reset(self) -> None:
        """Ready for the next answer."""
        self.head, self.missing, self.chunked, self.status, self.tail = b"", -1, False, 0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A new connection."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        if self.missing < 0 and not self.chunked:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self.head[:end].lower(), self.head[end + 4 :]
            self.status = int(head[9:12])
            at = head.find(b"content-length:")
            self.chunked = at < 0
            self.missing = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else -1
        self.tail = (self.tail + data if self.status != 200 else (self.tail + data)[-8:])[-2000:]
        self.missing -= 0 if self.chunked else len(data)
        if self.tail.endswith(b"0\r\n\r\n") if self.chunked else self.missing == 0:
            self.settle(self.status)

    def connection_lost(self, error: Exception | None) -> None:
        """What was asked goes unanswered."""
        self.transport = None
        self.settle(0)

    def settle(self, status: int) -> None:
        """Hand the status to whoever waits."""
        if self.waiter and not self.waiter.done():
            self.waiter.set_result(status)


@dataclass
class Tally:
    """What came back: the good answers' times in seconds; how many others, and the first one's text."""

    times: list[float]
    errors: int = 0
    first_error: str = ""


async def _client(port: int, requests: Iterator[bytes], until: float, tally: Tally) -> None:
    loop = asyncio.get_running_loop()
    link: Answer | None = None
    for request in requests:
        if link is None or link.transport is None:
            _, link = await loop.create_connection(Answer, "127.0.0.1", port)
        assert link.transport  # noqa: S101  reason: for mypy
        link.reset()
        link.waiter = loop.create_future()
        began = time.perf_counter()
        link.transport.write(request)
        status = await asyncio.wait_for(link.waiter, PATIENCE_S)
        ended = time.perf_counter()
        if status == 200:
            tally.times.append(ended - began)
        else:
            tally.errors += 1
            tally.first_error = tally.first_error or f"{status} {link.tail.decode('utf-8', 'replace')[:500]}"
        if ended >= until:
            break
    if link and link.transport:
        link.transport.close()


async def _run(order: Order) -> dict[str, Any]:
    make = KINDS[order.kind]
    made = iter([make(order, n) for n in range(order.begin + 1, order.begin + order.limit + 1)])
    warm = Tally([])
    await _client(order.port, iter([make(order, order.begin)]), 0, warm)
    print("ready", flush=True)
    sys.stdin.readline()
    before, began, tally = cpu_s(), time.perf_counter(), Tally([])
    # One iterator for all: a client that is answered sooner sends more.
    async with asyncio.TaskGroup() as group:
        for _ in range(order.clients):
            group.create_task(_client(order.port, made, began + order.seconds, tally))
    seconds, used = time.perf_counter() - began, cpu_s() - before
    errors, first = tally.errors + warm.errors, tally.first_error or warm.first_error
    return figures(tally.times, seconds, used, errors, first)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(Order(**json.loads(sys.stdin.readline()))))), flush=True)
