#!/usr/bin/env python3
"""Steps of pipelines: our executor beside kfp.local, a bare fork and a warm process pool, in turn.

Every step is the same KFP component (an integer in, an integer out) in a process of its own, but for the
pool, where steps share processes. Works: one step, a chain of 20, 20 at once, and a chain of 5 that import
pandas and scikit-learn. Prints the median time of a step and the mean CPU time of a step (of all processes
together), then the ratios. What comes first, each way does once beforehand, untimed but shown.

    python bench/pipelines.py [--rounds N] [--kfp PYTHON] [--json FILE]

``--kfp``: a Python with the whole kfp SDK, for kfp.local; `.venv-kfp/bin/python` beside this tree when there
is one. Without any, kfp.local is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from start import family

HERE = Path(__file__).parent
OURS = "tallystick, bubblewrap"
OURS_OPEN = "tallystick, process"
KFP, FORK, POOL = "kfp.local, no venv", "bare fork", "process pool, warm"
WAYS = {OURS: "bubblewrap", OURS_OPEN: "process", KFP: "kfp.local", FORK: "fork", POOL: "pool"}
WORKS = {
    "one step": ("one", 1),
    "chain of 20": ("chain", 20),
    "20 at once": ("fan", 20),
    "chain of 5, pandas and scikit-learn": ("heavy", 5),
}
CHAIN_MS, HEAVY_MS = 5.0, 15.0
CHAIN_OVER_KFP, FAN_OVER_FORK = 12.0, 1.5


@dataclass
class Figures:
    """One way at one work: milliseconds a step of each round, and CPU milliseconds a step of all rounds."""

    way: str
    work: str
    rounds_ms: list[float] = field(default_factory=list)
    cpu_ms: float = 0.0
    first_ms: float = 0.0

    @property
    def ms(self) -> float:
        """The median."""
        return statistics.median(self.rounds_ms)


class Running:
    """A way to run steps, as a process that takes works."""

    def __init__(self, way: str, python: str, folder: Path) -> None:
        name = WAYS[way]
        self.process = subprocess.Popen(
            [python, "-W", "ignore", str(HERE / "steps" / "ways.py"), name, str(folder / name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{HERE.parent / 'src'}"},
        )
        self.way = way
        self._heard()

    def _heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None  # noqa: S101  reason: for mypy
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.way} ended with status {self.process.wait()}")
        return dict(json.loads(line))

    def run(self, kind: str, count: int) -> float:
        """Carry out a work: seconds."""
        assert self.process.stdin is not None  # noqa: S101  reason: for mypy
        self.process.stdin.write(f"{kind} {count}\n")
        self.process.stdin.flush()
        return float(self._heard()["seconds"])

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far, of those that have ended too."""
        return sum(map(_cpu_with_ended_s, family(self.process.pid)))

    def close(self) -> None:
        """End it."""
        self.process.communicate(timeout=60)


def _cpu_with_ended_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def measure(ways: dict[str, str], rounds: int) -> list[Figures]:
    """Every work on every way, in turn, so many rounds."""
    figures = {
        (way, work): Figures(way, work)
        for work in WORKS
        for way in ways
        if (way, work) != (KFP, [*WORKS][-1])
    }
    with tempfile.TemporaryDirectory(prefix="tally-bench-") as folder:
        # Apart for each kind: a process that has pandas forks more slowly ever after.
        kinds = [(way, kind) for way in ways for kind in ("light", "heavy")]
        running = {
            (way, kind): Running(way, ways[way], Path(folder) / kind)
            for way, kind in kinds
            if (way, kind) != (KFP, "heavy")
        }
        try:
            for (way, work), f in figures.items():
                kind, count = WORKS[work]
                f.first_ms = running[way, _weight(kind)].run(kind, count) / count * 1000
            for work, (kind, count) in WORKS.items():
                for _ in range(rounds):
                    for f in (f for f in figures.values() if f.work == work):
                        one = running[f.way, _weight(kind)]
                        cpu_s = one.cpu_s()
                        f.rounds_ms.append(one.run(kind, count) / count * 1000)
                        f.cpu_ms += (one.cpu_s() - cpu_s) * 1000 / (count * rounds)
        finally:
            for one in running.values():
                one.close()
    return list(figures.values())


def _weight(kind: str) -> str:
    return "heavy" if kind == "heavy" else "light"


def show(figures: list[Figures]) -> None:
    """The table, and the ratios with their goals."""
    found = {(f.way, f.work): f for f in figures}
    print(f"\n{'':28}{'median':>11} {'least':>10} {'CPU':>10}   first time   (ms a step)")
    for work in WORKS:
        print(f"\n{work}")
        for f in (f for f in figures if f.work == work):
            line = f"  {f.way:26}{f.ms:>10,.2f} {min(f.rounds_ms):>10,.2f} {f.cpu_ms:>10,.2f}"
            print(f"{line} {f.first_ms:>12,.1f}")
        for ours in (OURS, OURS_OPEN):
            for line in _ratios(work, ours, found):
                print(f"    {ours} {line}")


def _ratios(work: str, ours: str, found: dict[tuple[str, str], Figures]) -> list[str]:
    own, lines = found[ours, work], []
    if work == "chain of 20":
        lines.append(f"takes {own.ms:.2f} ms a step (goal under {CHAIN_MS:g}: {_verdict(own.ms < CHAIN_MS)})")
    if work.startswith("chain of 5"):
        lines.append(f"takes {own.ms:.2f} ms a step (goal under {HEAVY_MS:g}: {_verdict(own.ms < HEAVY_MS)})")
    if (kfp := found.get((KFP, work))) is not None:
        ratio, goal = kfp.ms / own.ms, CHAIN_OVER_KFP
        said = f" (goal {goal:g}x: {_verdict(ratio >= goal)})" if work == "chain of 20" else ""
        lines.append(f"against {KFP}: {ratio:,.1f}x as fast{said}, {kfp.cpu_ms / own.cpu_ms:,.1f}x less CPU")
    fork = found[FORK, work]
    ratio = own.ms / fork.ms
    said = f" (goal {FAN_OVER_FORK:g}x: {_verdict(ratio <= FAN_OVER_FORK)})" if work == "20 at once" else ""
    lines.append(f"against a {FORK}: {ratio:,.2f}x its time{said}, {own.cpu_ms / fork.cpu_ms:,.2f}x its CPU")
    return lines


def _verdict(reached: bool) -> str:
    return "reached" if reached else "FALLS SHORT"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--kfp", type=Path, default=HERE.parent / ".venv-kfp" / "bin" / "python")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    ways = dict.fromkeys((OURS, OURS_OPEN, FORK, POOL), sys.executable)
    if chosen.kfp.exists():
        ways[KFP] = str(chosen.kfp)
    else:
        print(f"kfp.local is left out: there is no {chosen.kfp}")
    figures = measure(ways, chosen.rounds)
    show(figures)
    if chosen.json:
        rows = [asdict(f) | {"ms": f.ms} for f in figures]
        chosen.json.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
