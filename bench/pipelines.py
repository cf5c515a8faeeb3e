#!/usr/bin/env python3
"""Steps of pipelines: our hub and our executor beside kfp.local and other runners, in turn.

Every step is the same KFP component (an integer in, an integer out) in a process of its own, but for those
who share processes among steps: Prefect, Dagster, Ray and the pool. "fork, wall and commit alone" is the
least that our promises take, with nothing around it. "hub" is a whole run by HTTP with its journal durable,
MLflow's record included; "executor" is the part of it that runs a step, alone. Prints the median time of a
step and the mean CPU time of a step (of all processes together), then the ratios with their goals. What comes
first, each way does once beforehand, untimed but shown. Then how a hub's time, CPU time and memory grow with
the number of steps, up to a loop over 10,000 items (``--quick``: 1,000), and a pipeline that has not changed
since its last run. ``--loop`` is for those loops alone.

A burst of steps lives on processes that were made ready while nothing was asked for, up to 24. What it costs
to make them is in the CPU time; how long steps take that come faster than they can be made, the larger works
show ("loop 1,000").

    python bench/pipelines.py [--quick] [--rounds N] [--only WORD] [--loop] [--kfp PYTHON] [--json FILE]

``--kfp``: a Python with the whole kfp SDK, for kfp.local; `.venv-kfp/bin/python` beside this tree when there
is one. Prefect, Dagster and Metaflow get environments of their own, made by uv below the user's cache.
Whoever cannot be had is left out, and it is said why.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from _environments import environment
from start import family

HERE = Path(__file__).parent
HUB, HUB_OPEN = "hub, bubblewrap", "hub, process"
OURS, OURS_OPEN = "executor, bubblewrap", "executor, process"
KFP, KFP_USUAL = "kfp.local, best setting", "kfp.local, default"
FORK, POOL = "bare fork", "process pool, warm"
LEAST = "fork, wall and commit alone"
PREFECT, DAGSTER = "Prefect, in process", "Dagster, in process"
METAFLOW, RAY = "Metaflow", "Ray tasks, warm"
WAYS = {
    HUB: "hub-bubblewrap", HUB_OPEN: "hub-process", OURS: "bubblewrap", OURS_OPEN: "process",
    KFP: "kfp.local", KFP_USUAL: "kfp.local-usual", PREFECT: "prefect", DAGSTER: "dagster",
    METAFLOW: "metaflow", RAY: "ray", FORK: "fork", LEAST: "least", POOL: "pool",
}  # fmt: skip
PACKAGES = {
    PREFECT: ("prefect", "fastapi<0.120"),  # with a newer one its server does not start
    DAGSTER: ("dagster",),
    METAFLOW: ("metaflow",),
}
CHAIN, FAN, HEAVY = "chain of 20", "20 at once", "chain of 5, pandas and scikit-learn"
WORKS = {"one step": ("one", 1), CHAIN: ("chain", 20), FAN: ("fan", 20), HEAVY: ("heavy", 5)}
HUBS = {HUB, HUB_OPEN}
EVERYTHING = (HUB, HUB_OPEN, OURS, OURS_OPEN, FORK, POOL)
"""The ways that do every work; kfp.local does not do the heavy one, and peers do what a goal is about."""
SLOW = {KFP_USUAL: 2, METAFLOW: 20}
"""Who takes seconds a step, with the steps of a chain: one round of it, and nothing else."""
SHARING = (PREFECT, DAGSTER, RAY, POOL)
GROWTH = ("loop", (100, 1000, 10_000)), ("wide", (100, 1000))
CHAIN_MS, HEAVY_MS, AGAIN_MS = 5.0, 15.0, 1.0
CHAIN_OVER_KFP, CHAIN_OVER_USUAL, FAN_OVER_FORK = 12.0, 100.0, 1.5
GROWTH_MAX, MEMORY_MIB = 1.5, 300.0
QUIET_S = 0.6
"""After each round. What a way does then is not to disturb the others, and is CPU time of the round."""


@dataclass(frozen=True)
class Growth:
    """What a step takes, in parts of what it took with ``of`` steps: not more, where all grows linearly."""

    of: int
    time: float
    cpu: float


@dataclass
class Figures:
    """One way at one work: milliseconds a step of each round, and CPU milliseconds a step of all rounds."""

    way: str
    work: str
    kind: str
    count: int
    rounds: int
    rounds_ms: list[float] = field(default_factory=list)
    cpu_ms: float = 0.0
    first_ms: float = 0.0
    peak_mib: float = 0.0
    growth: Growth | None = None

    @property
    def ms(self) -> float:
        """The median."""
        return statistics.median(self.rounds_ms)


class Running:
    """A way to run steps, as a process that takes works. RuntimeError, with its last words, if it ends."""

    def __init__(self, way: str, python: str, folder: Path) -> None:
        name = WAYS[way]
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as said:
            self.process = subprocess.Popen(
                [python, "-W", "ignore", str(HERE / "steps" / "ways.py"), name, str(folder / name)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env={**os.environ, "PYTHONPATH": f"{HERE.parent / 'src'}"},
            )
        self.way = way
        self._heard()

    def _heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None  # noqa: S101  reason: for mypy
        line = self.process.stdout.readline()
        if not line:
            said = self.log.read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"]
            raise RuntimeError(f"{self.way} ended with status {self.process.wait()}: {said[-1][:300]}")
        return dict(json.loads(line))

    def run(self, kind: str, count: int) -> dict[str, Any]:
        """Carry out a work: ``seconds``, and ``mib``, the hub's peak, where there is a hub."""
        assert self.process.stdin is not None  # noqa: S101  reason: for mypy
        self.process.stdin.write(f"{kind} {count}\n")
        self.process.stdin.flush()
        return self._heard()

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far, of those that have ended too."""
        return sum(map(_cpu_with_ended_s, family(self.process.pid)))

    def close(self) -> None:
        """End it."""
        try:
            self.process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def _cpu_with_ended_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def planned(ways: dict[str, str], rounds: int) -> list[Figures]:
    """What is to be measured: works with the ways that do them."""
    plans = []
    for work, (kind, count) in WORKS.items():
        for way in ways:
            if way in SLOW:
                if work == CHAIN:
                    plans.append(Figures(way, work, kind, SLOW[way], 1))
            elif way in EVERYTHING or (way == KFP and work != HEAVY) or work in (CHAIN, FAN):
                plans.append(Figures(way, work, kind, count, rounds))
    return plans


def measure(ways: dict[str, str], plans: list[Figures], folder: Path) -> list[Figures]:
    """Every work on every way, in turn, apart for each weight: a process with pandas forks more slowly."""
    running: dict[tuple[str, str], Running] = {}
    lost: set[str] = set()
    try:
        for weight in ("light", "heavy"):
            for plan in [p for p in plans if _weight(p.kind) == weight]:
                _safely(plan, lost, lambda p=plan, w=weight: _first(p, w, ways, running, folder))
        for number in range(max((p.rounds for p in plans), default=0)):
            for plan in [p for p in plans if number < p.rounds]:
                _safely(plan, lost, lambda p=plan: _round(p, running[p.way, _weight(p.kind)]))
    finally:
        for one in running.values():
            one.close()
    return [p for p in plans if p.rounds_ms]


def _safely(plan: Figures, lost: set[str], work: Callable[[], None]) -> None:
    """Do ``work``, unless that way is lost; who breaks off is left out from then on, and it is said why."""
    if plan.way in lost:
        return
    try:
        work()
    except (RuntimeError, OSError) as wrong:
        lost.add(plan.way)
        print(f"{plan.way} is left out from {plan.work!r} on: {wrong}", flush=True)


def _first(
    plan: Figures, weight: str, ways: dict[str, str], running: dict[tuple[str, str], Running], folder: Path
) -> None:
    at = plan.way, weight
    if at not in running:
        running[at] = Running(plan.way, ways[plan.way], folder / weight)
    plan.first_ms = running[at].run(plan.kind, plan.count)["seconds"] / plan.count * 1000


def _round(plan: Figures, one: Running) -> None:
    cpu_s = one.cpu_s()
    said = one.run(plan.kind, plan.count)
    time.sleep(QUIET_S)
    plan.rounds_ms.append(said["seconds"] / plan.count * 1000)
    plan.peak_mib = max(plan.peak_mib, said.get("mib", 0.0))
    plan.cpu_ms += (one.cpu_s() - cpu_s) * 1000 / (plan.count * plan.rounds)


def _weight(kind: str) -> str:
    return "heavy" if kind == "heavy" else "light"


def growing(quick: bool, loop: bool) -> list[tuple[str, int]]:
    """What :func:`grow` is to do, in order: kinds of works, with their sizes."""
    works = [(kind, count) for kind, counts in GROWTH for count in counts if count <= 1000 or not quick]
    return [work for work in works if work[0] == "loop"] if loop else [*works, ("again", 20), ("again", 200)]


def grow(way: str, works: list[tuple[str, int]], folder: Path) -> list[Figures]:
    """A hub with more and more steps; then pipelines that have not changed since their last run."""
    found: list[Figures] = []
    one = Running(way, sys.executable, folder / "grow")
    try:
        one.run("chain", 5)
        for kind, count in works:
            plan = Figures(way, f"{kind} {count:,}", kind, count, 3 if kind == "again" or count == 100 else 1)
            for _ in range(plan.rounds):
                _round(plan, one)
            if kind != "again" and found and (less := found[-1]).kind == kind:
                plan.growth = Growth(less.count, plan.ms / less.ms, plan.cpu_ms / less.cpu_ms)
            found.append(plan)
    finally:
        one.close()
    return found


# ------------------------------------------------------------------------------------------------------- show


def show(figures: list[Figures]) -> None:
    """The table, and the ratios with their goals."""
    found = {(f.way, f.work): f for f in figures}
    print(f"\n{'':28}{'median':>11} {'least':>10} {'CPU':>10}   first time   (ms a step)")
    for work in WORKS:
        print(f"\n{work}")
        for f in (f for f in figures if f.work == work):
            line = f"  {f.way:26}{f.ms:>10,.2f} {min(f.rounds_ms):>10,.2f} {f.cpu_ms:>10,.2f}"
            shared = "   steps share processes" if f.way in SHARING else ""
            few = f"   {f.count} steps, {f.rounds} round" if f.way in SLOW else ""
            print(f"{line} {f.first_ms:>12,.1f}{shared}{few}")
        for ours in (HUB, HUB_OPEN, OURS, OURS_OPEN):
            for line in _ratios(work, found[ours, work], found) if (ours, work) in found else ():
                print(f"    {ours} {line}")


def _ratios(work: str, own: Figures, found: dict[tuple[str, str], Figures]) -> list[str]:
    lines, limits = [], {CHAIN: CHAIN_MS, HEAVY: HEAVY_MS}
    if (limit := limits.get(work)) is not None:
        lines.append(f"takes {own.ms:.2f} ms a step (goal under {limit:g}: {_verdict(own.ms < limit)})")
    goals = {KFP: CHAIN_OVER_KFP, KFP_USUAL: CHAIN_OVER_USUAL, PREFECT: 1.0, DAGSTER: 1.0}
    for way in (KFP, KFP_USUAL, PREFECT, DAGSTER, METAFLOW, RAY, POOL, LEAST):
        if (theirs := found.get((way, work))) is None:
            continue
        ratio, goal = theirs.ms / own.ms, goals.get(way) if work == CHAIN else None
        said = f" (goal {goal:g}x: {_verdict(ratio >= goal)})" if goal else ""
        cpu = f", {theirs.cpu_ms / own.cpu_ms:,.1f}x less CPU" if own.cpu_ms else ""
        lines.append(f"against {way}: {ratio:,.2f}x as fast{said}{cpu}")
    if (fork := found.get((FORK, work))) is not None:
        ratio = own.ms / fork.ms
        said = f" (goal {FAN_OVER_FORK:g}x: {_verdict(ratio <= FAN_OVER_FORK)})" if work == FAN else ""
        lines.append(f"against a {FORK}: {ratio:,.2f}x its time{said}")
    return lines


def show_growth(way: str, figures: list[Figures]) -> None:
    """Time and CPU time of a step and peak memory by the number of steps, and the goals."""
    print(f"\n{way}: more and more steps, and some that have not changed (a step; the hub's own peak)")
    for f in figures:
        line = f"  {f.work:12}{f.ms:>8,.2f} ms {f.cpu_ms:>8,.2f} ms of CPU {f.peak_mib:>6,.0f} MiB"
        if f.kind == "again":
            line += f" (goal under {AGAIN_MS:g} ms: {_verdict(f.ms < AGAIN_MS)})"
        else:
            line += f" (goal under {MEMORY_MIB:g}: {_verdict(f.peak_mib < MEMORY_MIB)})"
        if grown := f.growth:
            line += f", {grown.time:.2f}x the time and {grown.cpu:.2f}x the CPU of {grown.of:,}"
            line += f" (goal within {GROWTH_MAX:g}x: {_verdict(max(grown.time, grown.cpu) <= GROWTH_MAX)})"
        print(line)


def _verdict(reached: bool) -> str:
    return "reached" if reached else "FALLS SHORT"


def available(kfp: Path, asked: list[str]) -> dict[str, str]:
    """The ways among those asked for that can be had here, each with its Python; it is said what cannot."""
    ways = dict.fromkeys((HUB, HUB_OPEN, OURS, OURS_OPEN, FORK, LEAST, POOL), sys.executable)
    if kfp.exists():
        ways |= {KFP: str(kfp), KFP_USUAL: str(kfp)}
    elif KFP in asked or KFP_USUAL in asked:
        print(f"kfp.local is left out: there is no {kfp}")
    if importlib.util.find_spec("ray"):
        ways[RAY] = sys.executable
    elif RAY in asked:
        print("Ray is left out: it is not installed here (the extra `ray`)")
    for way, packages in ((way, PACKAGES[way]) for way in asked if way in PACKAGES):
        got = environment(packages[0], *packages)
        if isinstance(got, Path):
            ways[way] = str(got / "python")
        else:
            print(f"{way} does not install here and is left out: {got}")
    return {way: ways[way] for way in asked if way in ways}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two minutes: 3 rounds, at most 1,000 steps")
    parser.add_argument("--rounds", type=int, default=0, help="15, with --quick 3")
    parser.add_argument("--only", default="", metavar="WORD", help="ways with this in their names")
    parser.add_argument("--loop", action="store_true", help="only a hub's loops, of up to 10,000 items")
    parser.add_argument("--kfp", type=Path, default=HERE.parent / ".venv-kfp" / "bin" / "python")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rounds = chosen.rounds or (3 if chosen.quick else 15)
    left_out = set(WAYS) - HUBS if chosen.loop else {KFP_USUAL} if chosen.quick else set()
    asked = [way for way in WAYS if way not in left_out and chosen.only.lower() in way.lower()]
    ways = available(chosen.kfp, asked)
    with tempfile.TemporaryDirectory(prefix="tally-bench-") as name:
        folder = Path(name)
        figures = [] if chosen.loop else measure(ways, planned(ways, rounds), folder)
        if not chosen.loop:
            show(figures)
        for way in (w for w in ways if w in HUBS):
            grown = grow(way, growing(chosen.quick, chosen.loop), folder / WAYS[way])
            show_growth(way, grown)
            figures += grown
    if chosen.json:
        rows = [asdict(f) | {"ms": f.ms} for f in figures]
        chosen.json.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
