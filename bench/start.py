#!/usr/bin/env python3
"""From nothing to the first answer, and the memory then: `tally up` beside stock `mlflow server`, in turn.

Each round starts each program on an empty state folder, asks until it answers, reads the proportional
set size (PSS, /proc/PID/smaps_rollup) of all its processes, and ends it. Prints medians and the
ratios of medians. MLflow's server is started with one worker and with its default workers; `tally up`
once until the hub itself answers, and once until MLflow's server answers through it.

    python bench/start.py [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 120.0
MLFLOW_THROUGH_IT = "tally up, MLflow through it"
COMPARED = ("first_answer_s", "all_mib", "cpu_s")
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Peer:
    """A program to start: its command, and the path whose answer counts as the first."""

    name: str
    command: list[str]
    path: str


@dataclass(frozen=True)
class Sample:
    """One start: seconds to the first answer; MiB of the main process and of all; CPU seconds of all."""

    first_answer_s: float
    main_mib: float
    all_mib: float
    cpu_s: float


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def peers(folder: Path, port: int) -> list[Peer]:
    """The programs, each with its state below ``folder``."""
    mlflow = [str(BIN / "mlflow"), "server", "--port", str(port), "--backend-store-uri"]
    mlflow += [f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
    tally = [str(BIN / "tally"), "up", "--home", str(folder / "home"), "--port", str(port)]
    return [
        Peer("tally up", tally, "/api/tally/status"),
        Peer(MLFLOW_THROUGH_IT, tally, "/version"),
        Peer("mlflow server, 1 worker", [*mlflow, "--workers", "1"], "/health"),
        Peer("mlflow server, default", mlflow, "/health"),
    ]


def family(leader: int) -> list[int]:
    """The processes of the session that ``leader`` leads, and of sessions that its children lead."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found = [leader]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def pss_mib(pid: int) -> float:
    """Proportional set size of a process, in MiB; 0 when it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    """User and system CPU seconds of a process so far; 0 when it is gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def answers(url: str) -> bool:
    """Whether the URL answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  reason: an http address of ours
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def start(peer: Peer, port: int) -> Sample:
    """Start, wait for the first answer, measure, end."""
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    began = time.perf_counter()
    process = subprocess.Popen(
        peer.command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        while not answers(f"http://127.0.0.1:{port}{peer.path}"):
            if process.poll() is not None or time.perf_counter() - began > LIMIT_S:
                sys.exit(f"{peer.name} did not answer: {' '.join(peer.command)}")
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        pids = family(process.pid)
        sizes = [pss_mib(pid) for pid in pids]
        return Sample(seconds, sizes[0], sum(sizes), sum(cpu_s(pid) for pid in pids))
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    samples: dict[str, list[Sample]] = {}
    for number in range(chosen.rounds):
        for place in range(4):
            folder, port = Path(tempfile.mkdtemp(prefix="tally-bench-")), free_port()
            peer = peers(folder, port)[place]
            samples.setdefault(peer.name, []).append(start(peer, port))
            shutil.rmtree(folder, ignore_errors=True)
        print(f"round {number + 1} of {chosen.rounds} done", file=sys.stderr)
    report(samples, chosen.json)


def report(samples: dict[str, list[Sample]], file: Path | None) -> None:
    """Print medians and ratios, and write them to ``file`` if there is one."""
    names = list(Sample.__dataclass_fields__)
    middle = {
        peer: {n: statistics.median(getattr(s, n) for s in got) for n in names}
        for peer, got in samples.items()
    }
    print(f"{'':28} {'first answer':>14} {'main process':>14} {'all processes':>14} {'CPU':>9}")
    for peer, m in middle.items():
        memory = f"{m['main_mib']:>10.0f} MiB {m['all_mib']:>10.0f} MiB"
        print(f"{peer:28} {m['first_answer_s']:>12.2f} s {memory} {m['cpu_s']:>7.2f} s")
    ratios = {
        f"{peer} / {ours}": {n: round(middle[peer][n] / middle[ours][n], 1) for n in COMPARED}
        for ours in ("tally up", MLFLOW_THROUGH_IT)
        for peer in middle
        if peer.startswith("mlflow")
    }
    for pair, ratio in ratios.items():
        time_x, memory_x, cpu_x = (ratio[n] for n in COMPARED)
        print(f"{pair}: {time_x}x the time, {memory_x}x the memory, {cpu_x}x the CPU (medians)")
    if file:
        file.write_text(json.dumps({"medians": middle, "ratios": ratios}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
