"""A small hub of our own: a real HTTP server that keeps what it gets, and misbehaves as it is told.

In a thread of a test, or in a process of its own that can be killed: ``python keeper.py PORT FILE``. What it
keeps it writes to FILE, and answers only when that is on the disk; a new keeper goes on from there.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COLUMNS = "/api/tally/metrics/columns"
_API = "/api/2.0/mlflow/"
_RUN = {"experiment_id": "0", "user_id": "u", "start_time": 0, "lifecycle_stage": "active"}


def points_of(run: dict[str, Any]) -> Iterator[tuple[str, Any, int, int]]:
    """Key, value, timestamp and step of each point of one run in a batch, row by row."""
    if "keys" in run:
        keys = [run["keys"]["names"][at] for at in run["keys"]["of"]]
        yield from zip(keys, run["values"], run["timestamps"], run["steps"], strict=True)
    for block in run.get("blocks", []):
        for timestamp, step, *values in zip(
            block["timestamps"], block["steps"], *block["values"], strict=True
        ):
            for name, value in zip(block["names"], values, strict=True):
                yield name, value, timestamp, step


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Keeper:
    """What was asked and what was kept; ``scripted`` answers are used up before the true ones are given."""

    file: Path | None = None
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    batches: dict[str, Any] = field(default_factory=dict)
    scripted: deque[tuple[int, dict[str, Any], dict[str, str]]] = field(default_factory=deque)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    mute: int = 0
    open: threading.Event = field(default_factory=threading.Event)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.open.set()
        if self.file is not None and self.file.exists():
            for line in self.file.read_text().splitlines():
                batch = json.loads(line)
                self.batches[batch["batch_id"]] = batch

    @property
    def tally(self) -> str:
        """The address as a tracking URI."""
        return self.url.replace("http://", "tally://")

    def points(self, run_id: str) -> list[tuple[str, Any, int, int]]:
        """Key, value, timestamp and step of all points of a run, in the order that they came in."""
        return [
            point
            for batch in self.batches.values()
            for run in batch["runs"]
            if run["run_id"] == run_id
            for point in points_of(run)
        ]

    def calls(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path]

    def take(self, body: Any) -> tuple[int, dict[str, Any]]:
        """Apply a batch: whole, and once."""
        for run in body["runs"]:
            if run["run_id"] in self.refused:
                status, code = self.refused[run["run_id"]]
                return status, {"error_code": code, "message": f"Run '{run['run_id']}' takes nothing"}
        with self.lock:
            if body["batch_id"] not in self.batches:
                if self.file is not None:
                    with self.file.open("a") as out:
                        out.write(json.dumps(body) + "\n")
                        out.flush()
                        os.fsync(out.fileno())
                self.batches[body["batch_id"]] = body
        return 200, {"points": sum(len(list(points_of(run))) for run in body["runs"])}

    def answer(self, asked: Asked) -> tuple[int, dict[str, Any]]:
        """MLflow's answers, as far as its client needs them here."""
        call = asked.path.removeprefix(_API)
        if call == "runs/create":
            run_id = f"{len(self.runs):032x}"
            self.runs[run_id] = {**_RUN, "run_id": run_id, "run_name": "a-run", "status": "RUNNING"}
            return 200, {"run": {"info": self.runs[run_id], "data": {}}}
        if call == "runs/get":
            run_id = asked.body["run_id"]
            last = {key: value for key, value, _, _ in self.points(run_id)}
            metrics = [{"key": k, "value": v, "timestamp": 0, "step": 0} for k, v in last.items()]
            info = self.runs.get(run_id, {**_RUN, "run_id": run_id})
            outputs = {"model_outputs": self.models.get(run_id, [])}
            return 200, {"run": {"info": info, "data": {"metrics": metrics}, "outputs": outputs}}
        if call == "runs/outputs":
            self.models.setdefault(asked.body["run_id"], []).extend(asked.body["models"])
        if call == "runs/update":
            run_id = asked.body["run_id"]
            run = self.runs.setdefault(run_id, {**_RUN, "run_id": run_id})
            run["status"] = asked.body.get("status", "RUNNING")
            run["points_at_end"] = len(self.points(run["run_id"]))
            return 200, {"run_info": _RUN | {"run_id": run["run_id"], "status": run["status"]}}
        if call == "metrics/get-history":
            points = self.points(asked.body["run_id"])
            names = ("key", "value", "timestamp", "step")
            mine = [dict(zip(names, p, strict=True)) for p in points if p[0] == asked.body["metric_key"]]
            return 200, {"metrics": mine}
        return 200, {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    keeper: Keeper

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("content-length", 0)))
        self._serve(json.loads(text) if text else {})

    def do_GET(self) -> None:
        query = self.path.partition("?")[2]
        self._serve(dict(pair.split("=", 1) for pair in query.split("&")) if query else {})

    def _serve(self, body: Any) -> None:
        keeper = self.keeper
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path.partition("?")[0], headers, body)
        with keeper.lock:
            keeper.asked.append(asked)
        if asked.path != COLUMNS:
            self._say(*keeper.answer(asked), {})
            return
        keeper.open.wait(60)
        if keeper.scripted:
            self._say(*keeper.scripted.popleft())
            return
        status, said = keeper.take(body)
        if keeper.mute:
            # Kept, but the answer is lost.
            keeper.mute -= 1
            self.close_connection = True
            return
        self._say(status, said, {})

    def _say(self, status: int, said: dict[str, Any], headers: dict[str, str]) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def keep(keeper: Keeper, port: int = 0) -> Iterator[ThreadingHTTPServer]:
    """The keeper's server, bound; ``keeper.url`` says where."""
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"keeper": keeper}))
    server.daemon_threads = True
    keeper.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        keeper.open.set()
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    with keep(Keeper(Path(sys.argv[2])), int(sys.argv[1])) as bound:
        sys.stdout.write(f"{bound.server_port}\n")
        sys.stdout.flush()
        threading.Event().wait()
