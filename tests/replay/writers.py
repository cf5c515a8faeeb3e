"""Clients that write to a hub while something happens to it, and remember what was acknowledged."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

__all__ = ["API", "Writer", "Writers", "begun", "check_sqlite", "run_writers"]

API = "/api/2.0/mlflow"
METRICS_A_BATCH = 5
KEYS = {
    "params": "SELECT key FROM params WHERE run_uuid = ?",
    "tags": "SELECT key FROM tags WHERE run_uuid = ?",
}
CLEAR = {429, 500, 503}
"""What an outage may answer with: each must say what is wrong."""


@dataclass
class Writer:
    """One client with a run of its own. ``acked`` and ``asked`` are numbers of batches; ``made`` are runs."""

    number: int
    seed: int
    url: str
    experiment_id: str
    run_id: str
    acked: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    single: list[int] = field(default_factory=list)
    asked_single: list[int] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    refused: list[httpx.Response] = field(default_factory=list)
    lost: int = 0

    def work(self, stop: threading.Event) -> None:
        """Write until told to stop, going on after whatever fails."""
        lots = random.Random(self.seed * 1000 + self.number)  # noqa: S311  reason: the same lots again
        step = 0
        with httpx.Client(base_url=self.url, timeout=60) as http:
            while not stop.is_set():
                step += 1
                try:
                    self._write(http, lots.random(), step)
                except httpx.TransportError:
                    self.lost += 1
                    stop.wait(0.02)

    def _write(self, http: httpx.Client, lot: float, step: int) -> None:
        if lot < 0.5:
            self.asked.append(step)
            if self._sent(http, "runs/log-batch", batch(self.run_id, step)):
                self.acked.append(step)
        elif lot < 0.9:
            self.asked_single.append(step)
            body = {"run_id": self.run_id, "key": "single", "value": step, "timestamp": step, "step": step}
            if self._sent(http, "runs/log-metric", body):
                self.single.append(step)
        else:
            body = {
                "experiment_id": self.experiment_id,
                "start_time": step,
                "run_name": f"{self.number}-{step}",
            }
            answer = self._sent(http, "runs/create", body)
            if answer:
                self.made.append(answer.json()["run"]["info"]["run_id"])

    def _sent(self, http: httpx.Client, route: str, body: dict[str, Any]) -> httpx.Response | None:
        answer = http.post(f"{API}/{route}", json=body)
        if answer.status_code == 200:
            return answer
        self.refused.append(answer)
        time.sleep(0.02)
        return None


def batch(run_id: str, step: int) -> dict[str, Any]:
    """A batch with metrics, a param and a tag, all of which say its number."""
    keys = range(METRICS_A_BATCH)
    return {
        "run_id": run_id,
        "metrics": [{"key": f"m{k}", "value": step, "timestamp": step, "step": step} for k in keys],
        "params": [{"key": f"p{step}", "value": str(step)}],
        "tags": [{"key": f"t{step}", "value": str(step)}],
    }


@dataclass
class Writers:
    """The clients, at work in threads while the context lasts."""

    clients: list[Writer]
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Writers:
        self._threads = [threading.Thread(target=one.work, args=(self._stop,)) for one in self.clients]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)

    @property
    def acknowledged(self) -> int:
        return sum(len(c.acked) + len(c.single) + len(c.made) for c in self.clients)

    def wait_for(self, more: int, seconds: float = 60) -> None:
        """Until so many more writes are acknowledged."""
        goal, end = self.acknowledged + more, time.monotonic() + seconds
        while self.acknowledged < goal:
            assert time.monotonic() < end, f"{self.acknowledged} of {goal} writes: {self.refusals()[:3]}"
            time.sleep(0.01)

    def refusals(self) -> list[str]:
        return [f"{r.status_code} {r.text[:300]}" for c in self.clients for r in c.refused]

    def check_refusals(self) -> None:
        """Each says what is wrong, in words and as MLflow's clients read it."""
        for answer in (r for c in self.clients for r in c.refused):
            assert answer.status_code in CLEAR, answer.text[:500]
            said = answer.json()
            assert said["error_code"], said
            assert len(said["message"]) > 10, said
            assert "Traceback" not in said["message"], said


def begun(url: str, clients: int, seed: int = 0, name: str = "crash") -> Writers:
    """Clients with a run each, in one experiment."""
    with httpx.Client(base_url=url, timeout=120) as http:
        made = http.post(f"{API}/experiments/create", json={"name": f"{name} {seed}"})
        assert made.status_code == 200, made.text
        experiment = made.json()["experiment_id"]
        runs = []
        for number in range(clients):
            body = {"experiment_id": experiment, "start_time": number}
            runs.append(http.post(f"{API}/runs/create", json=body).json()["run"]["info"]["run_id"])
    return Writers([Writer(n, seed, url, experiment, run) for n, run in enumerate(runs)])


def check_sqlite(database: Path, writers: Writers) -> None:
    """Every acknowledged write is in the database exactly once, and no batch is there in part."""
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        check_record(lambda text, *given: db.execute(text, given).fetchall(), writers)


def check_record(ask: Any, writers: Writers) -> None:
    """The same by any connection: ``ask(sql, *given)`` gives rows; ``?`` stands for what is given."""
    for client in writers.clients:
        rows = ask("SELECT key, step, value FROM metrics WHERE run_uuid = ?", client.run_id)
        assert len(rows) == len(set(rows)), "a point is there twice"
        there = {
            k: sorted(step for key, step, _ in rows if key == k)
            for k in [f"m{n}" for n in range(METRICS_A_BATCH)]
        }
        whole = there["m0"]
        assert all(steps == whole for steps in there.values()), "half a batch of metrics"
        assert set(client.acked) <= set(whole) <= set(client.asked), client.run_id
        singles = {step for key, step, _ in rows if key == "single"}
        assert set(client.single) <= singles <= set(client.asked_single)
        for table, first in (("params", "p"), ("tags", "t")):
            keys = {key for (key,) in ask(KEYS[table], client.run_id)}
            assert {f"{first}{step}" for step in whole} == {
                key for key in keys if not key.startswith("mlflow.")
            }, table
        latest = dict(ask("SELECT key, step FROM latest_metrics WHERE run_uuid = ?", client.run_id))
        assert latest == {key: max(step for k, step, _ in rows if k == key) for key, _, _ in rows}
        made = [
            run
            for (run,) in ask(
                "SELECT run_uuid FROM runs WHERE name LIKE ? AND experiment_id = ?",
                f"{client.number}-%",
                int(client.experiment_id),
            )
        ]
        assert set(client.made) <= set(made)
        assert len(made) == len(set(made))


def run_writers(url: str, clients: int, writes: int, seed: int = 0, name: str = "crash") -> Writers:
    """Clients that wrote so much, and are at rest."""
    writers = begun(url, clients, seed, name)
    with writers:
        writers.wait_for(writes)
    return writers
