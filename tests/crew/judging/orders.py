"""Orders of the errand ``judge`` in tests, and what it told of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tallystick.core.facts import from_json, to_json
from tallystick.core.names import digest_of
from tallystick.crew.judge import main
from tallystick.crew.judging.offers import list_threats
from tallystick.evidence.domain import Domain
from tallystick.evidence.probe import Probe
from tallystick.evidence.threats import ThreatList
from tallystick.judging.recall import Base
from tests.crew.at_desk import FakeDesk
from tests.fakes.attack import Trouble

__all__ = ["BASE", "BUDGET", "Told", "digits", "order", "points", "told", "trouble", "write"]

BASE = digest_of("base")
BUDGET = {"eps": [0.05, 0.1, 0.2], "samples_max": 12, "queries_max": 400, "steps_max": 5, "seed": 7}
NAMES = [f"p{i:02d}" for i in range(64)]


@dataclass
class Told:
    """The parts of a result, in order, and what was said on the way."""

    result: dict
    begun: list[str]
    said: list[tuple[float, str]]
    probes: list[Probe] = field(default_factory=list)
    parts: list[dict] = field(default_factory=list)
    base: Base | None = None

    def __getitem__(self, name: str) -> Probe:
        return next(p for p in self.probes if p.name == name)


def digits(rows: int = 120) -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return {**{n: x[-rows:, i] / 16 for i, n in enumerate(NAMES)}, "label": y[-rows:]}


def points(rows: int = 60) -> dict[str, np.ndarray]:
    """Points and which of their two numbers is larger; some labels are wrong."""
    x = np.random.default_rng(5).uniform(0, 1, (rows, 2)).astype(np.float32)
    label = (x[:, 1] > x[:, 0]).astype(np.int64)
    label[::10] = 1 - label[::10]
    return {"a": x[:, 0], "b": x[:, 1], "label": label}


def write(path: Path, columns: dict) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def trouble(monkeypatch, *named: str) -> list[dict]:
    """Have the worker in this process open ``Trouble`` alone; its usual probes, and those named."""
    tiles = {"trouble": Trouble()}
    monkeypatch.setattr("tallystick.crew.judging.offers.open_attacks", lambda home: (tiles, {}))
    listed: ThreatList = list_threats(tiles, {})
    return to_json(listed.chosen(named))


def order(home: Path, model: Path | None, columns: dict, probes: list[dict], **other) -> dict:
    out = home / other.pop("out", "out")
    out.mkdir()
    plain = {
        "rows": str(write(home / "rows.parquet", columns)),
        "label": "label",
        "budget": BUDGET,
        "domain": to_json(Domain()),
        "out": str(out),
        "probes": probes,
        "base": BASE,
    }
    return {**plain, **({"folder": str(model)} if model else {}), **other}


def told(wanted: dict) -> Told:
    """Carry the order out at a desk in this process."""
    desk = FakeDesk(wanted)
    result = json.loads(json.dumps(main(desk), allow_nan=False))
    return read(Path(wanted["out"]), desk, result)


def read(out: Path, desk: FakeDesk, result: dict) -> Told:
    found = Told(result, desk.begun, desk.said)
    for name in desk.parts:
        part = json.loads((out / name).read_text())
        found.parts.append(part)
        found.probes.append(from_json(Probe, part["probe"]))
        if "base" in part:
            found.base = from_json(Base, part["base"])
    return found
