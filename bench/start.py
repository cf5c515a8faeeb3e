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
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from _processes import TELLS_NOBODY, answering, cpu_s, family, free_port, pss_mib
from _services import BIN

LIMIT_S = 120.0
MLFLOW_THROUGH_IT = "tally up, MLflow through it"
COMPARED = ("first_answer_s", "all_mib", "cpu_s")


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


def start(peer: Peer, folder: Path, port: int) -> Sample:
    """Start, wait for the first answer, measure, end."""
    url, environment = f"http://127.0.0.1:{port}{peer.path}", os.environ | TELLS_NOBODY
    began = time.perf_counter()
    with answering(peer.command, url, folder / "log", environment, limit_s=LIMIT_S, look_s=0.01) as process:
        seconds = time.perf_counter() - began
        pids = family(process.pid)
        sizes = [pss_mib(pid) for pid in pids]
        return Sample(seconds, sizes[0], sum(sizes), sum(cpu_s(pid) for pid in pids))


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    samples: dict[str, list[Sample]] = {}
    for number in range(chosen.rounds):
        for place in range(4):
            with tempfile.TemporaryDirectory(prefix="tally-bench-", ignore_cleanup_errors=True) as folder:
                port = free_port()
                peer = peers(Path(folder), port)[place]
                samples.setdefault(peer.name, []).append(start(peer, Path(folder), port))
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
