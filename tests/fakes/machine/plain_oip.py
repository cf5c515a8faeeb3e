"""An endpoint of the Open Inference Protocol of another make: JSON alone, and no code of ours.

It says which of two numbers is larger. ``moods`` are what it does instead, one a question; the last goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import exp
from typing import Any

from tests.fakes.machine.threaded import threaded

__all__ = ["PlainEndpoint", "plain_endpoint"]

Mood = Callable[["Handler"], None]


class PlainEndpoint(ThreadingHTTPServer):
    """It answers at ``address``, and counts what it was ``asked``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.moods: list[Mood | None] = []
        self.asked = 0
        self.heads: list[dict[str, str]] = []
        self.paths: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v2/models/larger"

    def mood(self) -> Mood | None:
        if not self.moods:
            return None
        return self.moods.pop(0) if len(self.moods) > 1 else self.moods[0]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hangs up is no news."""


class Handler(BaseHTTPRequestHandler):
    """The protocol as its specification has it (Open Inference Protocol V2, REST)."""

    protocol_version = "HTTP/1.1"
    server: PlainEndpoint

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self._note()
        if self.path == "/v2":
            self.say({"name": "plain", "version": "1", "extensions": []})
        elif self.path == "/v2/models/larger":
            x = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
            y = {"name": "y", "datatype": "FP64", "shape": [-1, 2]}
            self.say({"name": "larger", "platform": "plain", "inputs": [x], "outputs": [y]})
        else:
            self.say({"error": "no such path"}, 404)

    def do_POST(self) -> None:
        self._note()
        self.server.asked += 1
        said = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if mood := self.server.mood():
            mood(self)
            return
        [tensor] = said["inputs"]
        self.scores([_odds(a, b) for a, b in _pairs(tensor["data"])])

    def scores(self, rows: list[list[float]], datatype: str = "FP64", name: str = "y") -> None:
        width = len(rows[0])
        flat = [value for row in rows for value in row]
        tensor = {"name": name, "datatype": datatype, "shape": [len(rows), width], "data": flat}
        self.say({"model_name": "larger", "outputs": [tensor]})

    def say(self, said: Any, status: int = 200, **headers: str) -> None:
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _note(self) -> None:
        self.server.heads.append({k.lower(): v for k, v in self.headers.items()})
        self.server.paths.append(self.path)


def _pairs(data: list[Any]) -> list[tuple[float, float]]:
    flat = [v for row in data for v in row] if data and isinstance(data[0], list) else data
    return list(zip(flat[::2], flat[1::2], strict=True))


def _odds(a: float, b: float) -> list[float]:
    share = 1 / (1 + exp(8 * (b - a)))
    return [share, 1 - share]


def plain_endpoint() -> AbstractContextManager[PlainEndpoint]:
    """It answers until the block is left."""
    return threaded(PlainEndpoint())
