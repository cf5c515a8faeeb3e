#!/usr/bin/env python3
"""Judging: what attacks find and how long they take, ours beside ART, torchattacks and Foolbox, in turn.

A small convolutional net of the digits (28 x 28) and its twin from adversarial training, trained here;
1,000 rows that neither has seen. PGD with 40 steps at 8 radii: the others run once for each radius, ours
sweeps. The ensemble at one radius: AutoAttack of ART and of torchattacks; ours is FGSM, PGD, APGD-CE,
targeted APGD-DLR, nearest boundary and Square. HopSkipJump on a forest: ours through its ONNX twin, ART
through scikit-learn, with the same queries. Judging again: a whole `tally judge` after nothing changed,
beside one that probes all anew. The scan of a 1 GiB model: bench/scan.py, beside sha256sum. Every peer runs
in a process of its own, with the same net, rows and threads, and what it made is looked at the same way.
Printed beside each time is the robust accuracy that it leaves: lower is the stronger attack.

    python bench/judging.py [--quick] [--rounds N] [--only NAME] [--threads N] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _environments import environment

HERE = Path(__file__).parent / "attacks"
RADII = (0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2)
ENSEMBLE_EPS = 0.1
STEPS, SIDE, ROWS = 40, 28, 1000
LIMIT_S = 3600.0
GOALS = {"pgd": 5.0, "ensemble": 3.0, "forest": 30.0}
AGAIN_S = 1.0
PEERS = {
    "art": ("ART", ("multiprocess==0.70.18", "dill==0.4.0")),
    "torchattacks": ("torchattacks", ("torchattacks==3.5.1",)),
    "foolbox": ("Foolbox", ("foolbox==3.3.4", "eagerpy==0.30.0", "gitpython", "gitdb", "smmap")),
}
KINDS = {"pgd": ("art", "torchattacks", "foolbox"), "ensemble": ("art", "torchattacks")}


@dataclass
class Session:
    """What was chosen, and what came of it."""

    folder: Path
    chosen: argparse.Namespace
    rows: list[dict[str, Any]] = field(default_factory=list)

    def run(self, python: str, script: str, order: dict[str, Any]) -> dict[str, Any]:
        """One process; what it says, or why not."""
        path = self.folder / "order.json"
        path.write_text(json.dumps(order))
        command = [python, "-W", "ignore", str(HERE / script), str(path)]
        quiet = os.environ | {"HOME": str(self.folder), "OMP_NUM_THREADS": str(self.chosen.threads)}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=quiet
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {LIMIT_S:g} s"}
        if done.returncode:
            return {"failed": done.stderr.strip()[-600:]}
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def told(self, kind: str, about: str, order: dict[str, Any]) -> dict[str, Any] | None:
        """What the script of that kind says, kept and with a head; None where it failed: why is printed."""
        said = self.run(sys.executable, f"{kind}.py", order)
        self.rows.append({"kind": kind, "found": said})
        print(f"\n{kind}: {about}")
        if "failed" in said:
            print(f"  {said['failed']}")
            return None
        return said


def python_of(peer: str) -> str:
    """The interpreter of a peer: its own packages first, then ours, so that all have the same PyTorch."""
    name, packages = PEERS[peer]
    made = environment(f"judging-{peer}", "--no-deps", *packages)
    if isinstance(made, str):
        raise RuntimeError(f"{name} does not install: {made}")
    own = next((made.parent / "lib").glob("python3*/site-packages"))
    (own / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return str(made / "python")


def prepare(session: Session) -> dict[str, str]:
    """Train the two nets and save them and the rows; their clean accuracy is printed."""
    sys.path.append(str(HERE))
    import numpy as np
    import torch
    from nets import digits, trained

    torch.set_num_threads(session.chosen.threads)
    *_, x, y = digits(SIDE)
    np.savez(session.folder / "rows.npz", x=x, y=y)
    nets = {}
    for name, hardened in (("plain", False), ("hardened", True)):
        model = trained(SIDE, hardened)
        with torch.inference_mode():
            right = (model(torch.from_numpy(x)).argmax(1).numpy() == y).mean()
        nets[name] = str(session.folder / f"{name}.pt")
        torch.save(model.state_dict(), nets[name])
        print(f"  {name} net: {right:.1%} of {len(x):,} rows right as they are", flush=True)
    return nets


def compare(session: Session, kind: str, nets: dict[str, str]) -> None:
    """Ours and each peer in turn, so many rounds; prints the medians and the ratios."""
    quick = session.chosen.quick
    samples = (200 if quick else ROWS) if kind == "pgd" else (60 if quick else 250)
    eps = list(RADII) if kind == "pgd" else [ENSEMBLE_EPS]
    steps = STEPS if kind == "pgd" else 100
    for name, weights in nets.items():
        found: dict[str, list[dict[str, Any]]] = {}
        for _ in range(session.chosen.rounds):
            for peer in ("ours", *KINDS[kind]):
                order = {
                    "peer": peer, "kind": kind, "side": SIDE, "weights": weights, "samples": samples,
                    "rows": str(session.folder / "rows.npz"), "eps": eps, "steps": steps,
                    "threads": session.chosen.threads,
                }  # fmt: skip
                python = sys.executable if peer == "ours" else python_of(peer)
                found.setdefault(peer, []).append(session.run(python, "peer.py", order))
        report(session, kind, f"{name} net, {samples:,} rows, eps {', '.join(f'{e:g}' for e in eps)}", found)


def report(session: Session, kind: str, title: str, found: dict[str, list[dict[str, Any]]]) -> None:
    """A table: seconds, how much more than ours, and how many rows were left standing at each eps."""
    print(f"\n{kind}: {title}")
    session.rows.append({"kind": kind, "title": title, "found": found})
    mine = [run for run in found["ours"] if "seconds" in run]
    for peer, runs in found.items():
        name = "tallystick" if peer == "ours" else PEERS[peer][0]
        good = [run for run in runs if "seconds" in run]
        if not good:
            print(f"  {name:14} {runs[-1]['failed']}")
            continue
        columns = zip(*(run["robust"] for run in good), strict=True)
        left = " ".join(f"{min(column):>4}" for column in columns)
        seconds, cpu_s = _median(good, "seconds"), _median(good, "cpu_s")
        line = f"  {name:14} {seconds:>8.2f} s (CPU {cpu_s:>7.2f} s)   left standing {left}"
        if peer != "ours" and mine:
            line += _beside(kind, peer, good, mine)
        print(line, flush=True)
    for probe, said in (mine[0]["more"] if mine else {}).items():
        spent = f"{said['gradients']:,} gradients, {said['queries']:,} queries"
        notes = "".join(f"; {note}" for note in said.get("notes", ()))
        print(f"    {probe}: {said['seconds']:.2f} s, {spent}{notes}")


def _median(runs: list[dict[str, Any]], name: str) -> float:
    return statistics.median(float(run[name]) for run in runs)


def _beside(kind: str, peer: str, theirs: list[dict[str, Any]], mine: list[dict[str, Any]]) -> str:
    """The ratios, and whether ours left no more standing at any eps, in no round more than in their best."""
    ratio = _median(theirs, "seconds") / _median(mine, "seconds")
    cpu = _median(theirs, "cpu_s") / _median(mine, "cpu_s")
    at_most = [max(column) for column in zip(*(run["robust"] for run in mine), strict=True)]
    at_best = [min(column) for column in zip(*(run["robust"] for run in theirs), strict=True)]
    weaker = [at for at, (ours, other) in enumerate(zip(at_most, at_best, strict=True)) if ours > other]
    said = f"OURS WEAKER at {len(weaker)} of {len(at_most)} eps" if weaker else "ours equal or stronger"
    return f"   {ratio:.1f}x ours{goal(kind, peer, ratio)}, CPU {cpu:.1f}x, {said}"


def goal(kind: str, peer: str, ratio: float) -> str:
    """Whether the goal is reached, beside the peer that it is set against."""
    if peer != "art":
        return ""
    return f" (goal {GOALS[kind]:g}x: {'reached' if ratio >= GOALS[kind] else 'FALLS SHORT'})"


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="200 rows, and 60 for the ensemble")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", metavar="NAME", help="pgd, ensemble, forest, again or scan")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("torch", "numpy"))
    load = f"load {os.getloadavg()[0]:.1f}"
    print(f"{chosen.threads} threads, {load}, Python {platform.python_version()}, {versions}")
    with tempfile.TemporaryDirectory(prefix="tally-bench-") as folder:
        session = Session(Path(folder), chosen)
        kinds = [kind for kind in KINDS if chosen.only in kind]
        nets = prepare(session) if kinds else {}
        for kind in kinds:
            compare(session, kind, nets)
        if chosen.only in "forest" and (HERE / "forest.py").exists():
            order = {"samples": 5 if chosen.quick else 20, "threads": chosen.threads}
            if said := session.told("forest", "HopSkipJump, the same queries for each row", order):
                print_forest(said)
        if chosen.only in "again":
            order = {"rounds": 3 if chosen.quick else 15}
            about = "tally judge, the demo's model, nothing changed (the command's own start included)"
            if said := session.told("again", about, order):
                print_again(said)
        if chosen.only in "scan":
            scan(session)
        if chosen.json:
            chosen.json.write_text(json.dumps(session.rows, indent=1))


def print_again(said: dict[str, Any]) -> None:
    """The line of a model that was judged before."""
    again_s, anew_s = said["again_s"], said["anew_s"]
    held = "reached" if again_s < AGAIN_S else "FALLS SHORT"
    most_s, first_s, start_s = said["most_s"], said["first_s"], said["start_s"]
    print(f"  all probed anew {anew_s:.2f} s, again {again_s:.2f} s, at most {most_s:.2f} s")
    print(f"  the first after the hub's start {first_s:.2f} s; `tally --version` alone {start_s:.2f} s")
    print(f"    1/{anew_s / again_s:.0f} of the time (goal under {AGAIN_S:g} s: {held})")
    print(f"    findings {'equal' if said['same'] else 'NOT EQUAL'}")


def scan(session: Session) -> None:
    """bench/scan.py, whose lines are printed as they are."""
    print("\nscan: models of 1 GiB, inspected; from the cache, and from the disk where we may drop the cache")
    cold = ["--cold"] if os.access("/proc/sys/vm/drop_caches", os.W_OK) else []
    rounds = "1" if session.chosen.quick else "3"
    file = session.folder / "scan.json"
    script = Path(__file__).with_name("scan.py")
    command = [sys.executable, str(script), "--mib", "1024", "--rounds", rounds, "--json", str(file), *cold]
    sys.stdout.flush()
    subprocess.run(command, check=True)
    session.rows.append({"kind": "scan", "found": json.loads(file.read_text("utf-8"))})


def print_forest(said: dict[str, Any]) -> None:
    """HopSkipJump's line."""
    ratio = said["art_s"] / said["ours_s"]
    for who, way in (("ours", "tallystick, through the ONNX twin"), ("art", "ART, through scikit-learn")):
        print(f"  {way:36}{said[f'{who}_s']:>8.2f} s   median distance {said[who]:.4f}")
    rest = f"{said['rows']} rows, {said['queries']:,} queries each"
    print(f"    {ratio:.1f}x{goal('forest', 'art', ratio)}; {rest}")


if __name__ == "__main__":
    main()
