"""FastTrackML, Aim and Trackio, each in an environment of its own and at its best, beside us.

FastTrackML speaks MLflow's REST, so both get the same requests. Aim and Trackio write from within the
user's process to files of their own: they are compared with tallystick's client and a server, with the run's
end in the time for all: by then everything is in the files. Of tallystick's client there are two ways: what
MLflow's own client does with the plugin, and ``tallystick.client.log_metrics``, which is ours at its best.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Protocol

from _databases import WRITERS, Size, Sqlite
from _measure import HERE, PLUGIN, PLUGIN_RUN, WRITES, Bench, Figures, Work
from _services import BIN, SERVICES, TALLY, Running, Service, running

EMPTY = Size(0)
REST = tuple(w for w in WRITES if w.kind in ("log_metric", "log_batch"))
TEN = Work("MLflow's log_batch of 10, plugin", "client", size=10, per=10, uri="tally", call="log_batch")
OWN_ONE = Work("tallystick's log_metrics of 1", "client", uri="tally", call="log_metrics")
OWN_TEN = Work("tallystick's log_metrics of 10", "client", size=10, per=10, uri="tally", call="log_metrics")
IN_PROCESS = (
    ("aim", 1, (PLUGIN, OWN_ONE)),
    ("trackio", 1, (PLUGIN, OWN_ONE)),
    ("trackio", 10, (TEN, OWN_TEN)),
)
"""Who is compared with what, and how many metrics a call logs."""


class Session(Protocol):
    """What is needed of bench/tracking.py's."""

    folder: Path

    @property
    def seconds(self) -> float:
        """How long each work goes on."""
        ...

    def place(self) -> Path:
        """A new folder."""
        ...


def environment(name: str) -> Path | None:
    """The programs of an environment with a package in it, made once; None where it does not install."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tallystick-bench" / name
    stamp = cache / "installed"
    if not stamp.exists():
        uv, python = str(BIN / "uv"), str(cache / "bin" / "python")
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(cache)],
            [uv, "pip", "install", "--quiet", "--python", python, name],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name} does not install here and is left out: {done.stderr.strip()[-300:]}")
                return None
        stamp.touch()
    return cache / "bin"


def measure_others(session: Session) -> list[dict[str, Any]]:
    """All that install, and tallystick; printed as they come, and returned as rows."""
    print(
        "\nOther trackers, and tallystick through the comparable path (SQLite, nothing else in the database)"
    )
    print(
        "FastTrackML and Trackio answer before the disk has it (SQLite's WAL, synchronous=NORMAL); we after."
    )
    folder = session.folder / "others"
    folder.mkdir()
    ours = _tallystick(session, Sqlite(folder))
    rows = [f.row() for f in ours.values()]
    rows += _fasttrackml(session, ours)
    print(
        "Aim and Trackio write to SQLite from within the user's process, Trackio one row of JSON a call and"
    )
    print("with all that is not written yet in memory; we to another process. The run's end is in the time.")
    for name, keys, works in IN_PROCESS:
        if (programs := environment(name)) and (row := _in_process(session, programs, name, keys)):
            rows.append(row)
            what = f"{name}, {keys} metric{'s' * (keys > 1)} a call, in the user's process"
            for work in works:
                _print(what, row["rate"], ours[work.name], f"; {_costs(row, keys, ours[work.name])}")
    return rows


def _costs(row: dict[str, Any], keys: int, ours: Figures) -> str:
    theirs = f"theirs {row['load_cpu_s'] / row['n'] / keys * 1e6:.1f} µs CPU, {row['peak_mib']:.0f} MiB"
    return f"{theirs}; ours {ours.load_ms * 1000:.1f} µs CPU + {ours.cpu_ms * 1000:.1f} on the hub"


def _tallystick(session: Session, databases: Sqlite) -> dict[str, Figures]:
    found = {}
    with running(SERVICES[TALLY], databases.copy(EMPTY, False), session.place()) as server:
        bench = Bench("SQLite", "no", server, lambda: 0.0)
        for work in REST:
            found[work.name] = bench.measure(work, session.seconds)
    for work in dict.fromkeys(work for _, _, works in IN_PROCESS for work in works):
        database = databases.copy(EMPTY, False)  # the run ends, and each database is as empty as theirs
        with running(SERVICES[TALLY], database, session.place()) as server:
            got = Bench("SQLite", "no", server, lambda: 0.0).measure(work, session.seconds)
        there = databases.count(database, f"SELECT count(*) FROM metrics WHERE run_uuid = '{PLUGIN_RUN}'")  # noqa: S608  reason: our own
        if there != got.n * work.per:
            raise RuntimeError(f"{work.name}: {got.n * work.per:,} were logged, {there:,} are there")
        found[work.name] = got
    return found


def _fasttrackml(session: Session, ours: dict[str, Figures]) -> list[dict[str, Any]]:
    programs = environment("fasttrackml")
    if programs is None:
        return []
    command: tuple[str, ...] = (
        str(programs / "fml"),
        "server",
        "--listen-address",
        "127.0.0.1:{port}",
        "--log-level",
        "error",
    )
    command += ("--database-uri", "sqlite://{folder}/fml.db", "--default-artifact-root", "{folder}/artifacts")
    rows = []
    with running(Service("FastTrackML", command, "/health"), "", session.place()) as server:
        runs = _make_runs(server, len(WRITERS))
        bench = Bench("SQLite", "no", server, lambda: 0.0, runs=runs)
        for work in REST:
            figures = bench.measure(work, session.seconds)
            rows.append(figures.row())
            note = f"; {figures.errors} errors: {figures.first_error[:200]}" if figures.errors else ""
            _print(f"FastTrackML, {work.name}", figures.rate, ours[work.name], note)
    return rows


def _make_runs(server: Running, count: int) -> list[str]:
    def post(path: str, body: dict[str, Any]) -> Any:
        asked = urllib.request.Request(  # noqa: S310  reason: an http address of ours
            server.url + server.service.prefix + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310  reason: an http address of ours
            return json.load(answer)

    experiment = post("/experiments/create", {"name": "bench"})["experiment_id"]
    made = (post("/runs/create", {"experiment_id": experiment, "start_time": n}) for n in range(count))
    return [answer["run"]["info"]["run_id"] for answer in made]


def _in_process(session: Session, programs: Path, name: str, keys: int) -> dict[str, Any] | None:
    folder = session.place()
    folder.mkdir(parents=True)
    command = [
        str(programs / "python"),
        str(HERE / "loads" / "peer.py"),
        name,
        str(folder),
        str(session.seconds),
        str(keys),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=600)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines or not lines[-1].startswith("{"):
        print(f"  {name} installed, but did not run: {done.stderr.strip()[-300:]}")
        return None
    got: dict[str, Any] = json.loads(lines[-1])
    got["rate"] *= keys
    return {"service": name, "work": f"{keys} metrics a call", "backend": "its own", "size": "no"} | got


def _print(what: str, rate: float, ours: Figures, note: str) -> None:
    ratio = ours.rate / rate if rate else float("inf")
    print(f"  {what:58}{rate:>11,.0f} metrics/s; tallystick ({ours.work}) {ours.rate:>11,.0f}/s:", end=" ")
    print(f"{ratio:.2f}x{' AHEAD' if ratio > 1 else ' BEHIND'}{note}", flush=True)
