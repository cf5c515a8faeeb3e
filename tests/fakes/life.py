"""A whole plausible life of a model, as facts: what a console test looks at. Nothing here runs anything.

Names and messages that reach the console from outside are hostile on purpose: each of them holds markup.
"""

from __future__ import annotations

import math
import random
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tallystick.core.data import TABLE_URI, Column, Snapshot, Source
from tallystick.core.endpoint import Endpoint, EndpointState, Wish
from tallystick.core.facts import Fact, to_json
from tallystick.core.model import ModelVersion, Origin, TensorSpec
from tallystick.core.names import DEFAULT_TENANT, canonical_json, digest_of
from tallystick.core.pipeline.spec import (
    Component,
    Constant,
    Dag,
    FromInput,
    FromTask,
    Function,
    Importer,
    Loop,
    Param,
    ParamType,
    Pipeline,
    Slot,
    Task,
    Trigger,
)
from tallystick.core.remedy import Remedy, RemedyAction, RemedyState, move
from tallystick.core.run.events import Began, Run, RunState, Step, StepState
from tallystick.core.run.record import write_event, write_step
from tallystick.core.signal import ColumnDrift, Drift, Signal
from tallystick.core.values import ArtifactRef, Values
from tallystick.core.verdict import Severity, Verdict, VerdictState
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Rate
from tallystick.evidence.policy import Policy, Rule
from tallystick.evidence.probe import Example, Point, Probe, ProbeState, Threat
from tallystick.evidence.weigh import figures_of, weigh
from tallystick.ports.runs.journal import Entry
from tallystick.ports.traffic import TrafficStats
from tests.fakes.artifacts import MemoryArtifacts
from tests.fakes.clock import FakeClock
from tests.fakes.ledger import MemoryLedger
from tests.fakes.runs.journal import MemoryJournal

__all__ = ["EVIL", "NOW_MS", "Life", "StillTraffic", "build_life", "pipeline", "png"]

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>"
NOW_MS = 1_795_000_000_000
MINUTE = 60_000
ART = "adversarial-robustness-toolbox"


class StillTraffic:
    """Traffic that was counted once and stands still; ``per_second`` can be set."""

    def __init__(self) -> None:
        self.per_second: list[int] = [round(14 + 9 * math.sin(i / 4) + (i % 7)) for i in range(60)]

    def stats(self, tenant: str, endpoint: str, at_ms: int) -> TrafficStats:
        if endpoint != "digits":
            return TrafficStats()
        return TrafficStats(48_213, 12, 1.84, 6.42, 31_457_280, tuple(self.per_second))


def png(pixels: Sequence[float], side: int = 8) -> bytes:
    """A grey PNG of ``side`` by ``side`` pixels, each 0 (black) to 1 (white)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(
        b"\0" + bytes(round(255 * min(1, max(0, p))) for p in pixels[y * side : (y + 1) * side])
        for y in range(side)
    )
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@dataclass(slots=True)
class Life:
    """All that was made: the ledger, the artifacts, and the pipelines by spec digest."""

    artifacts: MemoryArtifacts
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    traffic: StillTraffic = field(default_factory=StillTraffic)
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW_MS))
    pipelines: dict[str, Pipeline] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    steps: dict[str, tuple[Step, ...]] = field(default_factory=dict)

    def tell(self, noun: str, key: str, event: str, state: Any, at_ms: int, note: str = "") -> None:
        """Note a fact; :func:`build_life` appends them all at its end, in the order of their time."""
        self.facts.append(Fact(noun, key, event, to_json(state), note, at_ms))

    def put(self, raw: bytes) -> str:
        """Store a file's bytes; their digest."""
        digest = digest_of(raw)
        self.artifacts.blobs[digest] = raw
        return digest

    async def pipeline(self, digest: str) -> Pipeline | None:
        return self.pipelines.get(digest)


PIXELS = tuple(Column(f"p{i:02d}", "float") for i in range(64))


async def build_life(home: Path) -> Life:
    """Two snapshots, three runs (one running, one failed), three models, three verdicts, an endpoint that
    drifted, and a remedy that is being carried out."""
    life = Life(MemoryArtifacts(home))
    first, second = _data(life)
    spec = life.put(b"# PIPELINE\npipelineInfo: {name: digits}\n")
    life.pipelines[spec] = pipeline()
    good, running = _runs(life, spec, first, second)
    plain, hard, forest = _models(life, good, first)
    _, passed = _verdicts(life, plain, hard, first)
    _judging(life, forest)
    _production(life, plain, hard, passed, first, second, running)
    await life.ledger.append(sorted(life.facts, key=lambda fact: fact.at_ms))
    for key, steps in life.steps.items():
        entry = Entry(write_event(Began(1, 2)), [(step.path, write_step(step)) for step in steps])
        await life.journal.record(DEFAULT_TENANT, key, [entry])
    return life


def _data(life: Life) -> tuple[Snapshot, Snapshot]:
    columns = (*PIXELS, Column("label", "int64"), Column(EVIL, "double"))
    first = Snapshot(
        "digits", "5577006791947779410", digest_of("first"), 1437, columns, NOW_MS - 300 * MINUTE,
        None, Source("digits.csv", digest_of("file 1"), 402_113),
    )  # fmt: skip
    second = Snapshot(
        "digits", "8674665223082153551", digest_of("second"), 1797, columns, NOW_MS - 9 * MINUTE,
        first.snapshot_id, Source(f"{EVIL}.csv", digest_of("file 2"), 100_544),
    )  # fmt: skip
    for item in (first, second):
        life.tell("data", item.key, "ingested", item, item.at_ms)
    return first, second


def pipeline() -> Pipeline:
    """Import, split, a loop that trains, a choice and a model; with an edge that passes two layers."""

    def part(name: str, *inputs: str) -> Component:
        slots = tuple(Slot(i) for i in inputs)
        return Component(name, Function(name, "def f(): ..."), artifacts=slots, out_artifacts=(Slot("out"),))

    train = Component("train", Function("train", "..."), params=(Param("depth", ParamType.INTEGER),),
                      artifacts=(Slot("rows"),), out_artifacts=(Slot("model", "system.Model"),))  # fmt: skip
    inner = Dag((
        Task("train", train, {"depth": FromInput("item"), "rows": FromInput("rows")}),
        Task("score", part("score", "model"), {"model": FromTask("train", "model")}),
    ))  # fmt: skip
    return Pipeline(
        "digits",
        Dag((
            Task("import-digits", Importer(Constant(f"{TABLE_URI}digits"))),
            Task("split", part("split", "table"), {"table": FromTask("import-digits", "artifact")}),
            Task("for-each-depth", inner, {"rows": FromTask("split", "out")},
                 loop=Loop(Constant([4, 8, 16]), "item")),
            Task("choose", part("choose"), after=("for-each-depth",)),
            Task("harden", part("harden", "model", "rows"),
                 {"model": FromTask("choose", "out"), "rows": FromTask("split", "out")}),
            Task("card", part("card"), after=("choose",)),
            Task("notify", Dag((Task("mail", part("mail")),)), after=("card",),
                 trigger=Trigger("inputs.parameter_values['mail'] == true")),
        )),
    )  # fmt: skip


def _step(
    life: Life, path: str, state: StepState, start: int, took: int, snapshot: Snapshot, error: str = ""
) -> Step:
    ref = ArtifactRef("rows", digest_of(path), "system.Dataset", TABLE_URI + snapshot.key)
    made = ArtifactRef("model", digest_of("made " + path), "system.Model")
    log = f"step {path}\n" + "".join(f"epoch {i}: loss {1 / (i + 1):.3f}\n" for i in range(30)) + error
    done = state.done
    return Step(
        path, state, 1,
        Values({"depth": 8, "note": EVIL}, {"rows": (ref,)}),
        Values({"accuracy": 0.9833} if done else {}, {"model": (made,)} if done else {}),
        digest_of("cache " + path), error,
        life.put(log.encode()) if state is not StepState.RUNNING else "",
        start, start + took if state is not StepState.RUNNING else 0,
    )  # fmt: skip


def _runs(life: Life, spec: str, first: Snapshot, second: Snapshot) -> tuple[Run, Run]:
    good_at, bad_at, now_at = NOW_MS - 280 * MINUTE, NOW_MS - 60 * MINUTE, NOW_MS - 18_000
    ok, cached = StepState.SUCCEEDED, StepState.CACHED
    loop = [(f"for-each-depth[{i}]/{t}", ok, 3000 + 2400 * i + o, d)
            for i in range(3) for t, o, d in (("train", 0, 2300), ("score", 2300, 400))]  # fmt: skip
    plan = [("import-digits", ok, 0, 240), ("split", ok, 260, 1900), *loop, ("choose", ok, 10_600, 350),
            ("harden", ok, 11_000, 9400), ("card", ok, 11_000, 410)]  # fmt: skip
    never = "its condition is false"
    params = {"table": "digits", "depths": [4, 8, 16], "note": EVIL, "seed": 7}
    good = Run(
        "run-019c2f7a1b00-4f1a2c", "digits", spec, params, RunState.SUCCEEDED,
        (), Values({"accuracy": 0.9833}, {}), "", good_at, good_at + 20_600,
        "3f7c0e5d6a8b4c1f9e2d7a6b5c4d3e2f", snapshots=(first.key,), counts={"succeeded": 11, "skipped": 1},
    )  # fmt: skip
    at = good_at + 11_500
    skipped = Step("notify", StepState.SKIPPED, 0, error=never, started_ms=at, ended_ms=at)
    life.steps[good.key] = (*(_step(life, p, s, good_at + o, d, first) for p, s, o, d in plan), skipped)
    trouble = f"train: ValueError: could not convert string to float: {EVIL}"
    bad = Run(
        "run-019c2f8e4a00-9be013", f"nightly {EVIL}", digest_of("a spec that is gone"), {"n": 3},
        RunState.FAILED,
        (_step(life, "load", cached, bad_at, 0, first),
         _step(life, f"train {EVIL}", StepState.FAILED, bad_at + 100, 4200, first, trouble)),
        Values(), trouble, bad_at, bad_at + 4400,
    )  # fmt: skip
    plan = [("import-digits", ok, 0, 240), ("split", cached, 250, 0),
            ("for-each-depth[0]/train", ok, 400, 6100),
            ("for-each-depth[0]/score", ok, 6600, 800)]  # fmt: skip
    running = Run(
        "run-019c2f9b7700-c0ffee", "digits", spec, params, RunState.RUNNING,
        (), Values(), "", now_at, 0, "",
    )  # fmt: skip
    life.steps[running.key] = (
        *(_step(life, p, s, now_at + o, d, second) for p, s, o, d in plan),
        replace(
            _step(life, "for-each-depth[1]/train", StepState.RUNNING, now_at + 420, 0, second), attempt=2
        ),
        replace(
            _step(life, "for-each-depth[2]/train", StepState.BACKING_OFF, now_at + 430, 90, second, "no"),
            attempt=3,
        ),
    )
    for item in (good, bad):
        begun = replace(item, state=RunState.RUNNING, steps=(), ended_ms=0, error="")
        life.tell("run", item.key, "began", begun, item.started_ms)
        life.tell("run", item.key, "ended", item, item.ended_ms)
    life.tell("run", running.key, "began", running, now_at)
    return good, running


def _models(life: Life, run: Run, snapshot: Snapshot) -> tuple[ModelVersion, ModelVersion, ModelVersion]:
    origin = Origin(run.key, "choose", "model", {snapshot.key: snapshot.digest}, run.record_id)
    inputs, outputs = (TensorSpec("pixels", "FP32", (-1, 64)),), (TensorSpec("scores", "FP32", (-1, 10)),)
    plain = ModelVersion(
        "digits", 1, digest_of("plain"), ("sklearn", "python_function"), inputs, outputs, True,
        {"accuracy": 0.9833, "log_loss": 0.0712}, {"depth": "16", "note": EVIL}, origin,
        NOW_MS - 279 * MINUTE,
    )  # fmt: skip
    hard = replace(plain, version=2, digest=digest_of("hard"),
                   metrics={"accuracy": 0.9694, "log_loss": 0.131},
                   origin=replace(origin, step="harden"), at_ms=NOW_MS - 278 * MINUTE)  # fmt: skip
    forest = ModelVersion("digits-forest", 1, digest_of("forest"), ("onnx",), at_ms=NOW_MS - 20 * MINUTE)
    for item in (plain, hard, forest):
        life.tell("model", item.key, "registered", item, item.at_ms)
    return plain, hard, forest


POLICY = Policy("production", (
    Rule("accurate", "clean_accuracy", 0.9),
    Rule("robust", "robust_accuracy", 0.6, eps=0.1),
    Rule("wide margin", "robust_accuracy", 0.6, eps=0.2, severity=Severity.WARN),
))  # fmt: skip


def _evidence(life: Life, model: ModelVersion, snapshot: Snapshot, robust: Sequence[int]) -> Evidence:
    lots = random.Random(7)  # noqa: S311 - pictures for a test, the same each time
    pictures = []
    for truth in range(3):
        image = [
            max(0.0, 1 - abs(math.hypot(i % 8 - 3.5, i // 8 - 3.5) - 1.2 - truth * 0.6)) for i in range(64)
        ]
        noisy = [p + lots.uniform(-0.2, 0.2) for p in image]
        moved = [p + (0.2 if math.sin(i * (truth + 2)) > 0 else -0.2) for i, p in enumerate(image)]
        pictures.append(Example(
            "SquareAttack", truth, str(truth), str(truth), str(8 - truth) if truth else EVIL, eps=0.15,
            original=life.put(png(image)), noise=life.put(png(noisy)), label_noise=str(truth),
            adversarial=life.put(png(moved)),
        ))  # fmt: skip
    curve = [(0.05, robust[0], 118), (0.1, robust[1], 117), (0.15, robust[2], 117), (0.2, robust[3], 115)]
    return Evidence(
        model.key, model.digest, snapshot.key, snapshot.digest, Rate(118, 120),
        curve=tuple(Point(e, Rate(r, 120), Rate(n, 120)) for e, r, n in curve),
        probes=(
            Probe("SquareAttack", Threat.EVASION, library=ART, settings={"norm": "inf", "nb_restarts": 1},
                  examples=tuple(pictures), queries=412_880, seconds=61.4),
            Probe("HopSkipJump", Threat.EVASION, library=ART, settings={"max_iter": 20}, queries=188_000,
                  seconds=40.2),
            Probe("ProjectedGradientDescent", Threat.EVASION, ProbeState.NOT_APPLICABLE,
                  f"the model gives no gradients {EVIL}", ART),
        ),
        threats=digest_of("threats"),
        versions={ART: "1.20.1", "numpy": "2.4.6", "python": "3.11.7"}, seconds=103.2,
    )  # fmt: skip


def _verdicts(life: Life, plain: ModelVersion, hard: ModelVersion, data: Snapshot) -> tuple[Verdict, Verdict]:
    made = []
    for model, robust, minutes in ((plain, (93, 41, 12, 2), 276), (hard, (112, 98, 83, 61), 270)):
        evidence = _evidence(life, model, data, robust)
        at_ms = NOW_MS - minutes * MINUTE
        state, findings = weigh(POLICY, evidence, at_ms, model.key)
        made.append(Verdict(
            f"verdict-019c2f7b{minutes:04d}-{model.version}a2b3c", model.key, model.digest, POLICY.name,
            POLICY.digest, state, findings, life.put(canonical_json(to_json(evidence)).encode()),
            figures_of(evidence, findings), data.key, data.digest, "label", threats=evidence.threats,
            at_ms=at_ms,
        ))  # fmt: skip
        life.tell("verdict", made[-1].key, "reached", made[-1], made[-1].at_ms)
    return made[0], made[1]


def _judging(life: Life, model: ModelVersion) -> None:
    verdict = Verdict(
        "verdict-019c2f9b8000-77aa01", model.key, model.digest, POLICY.name, POLICY.digest,
        VerdictState.JUDGING, progress="SquareAttack at eps 0.1: 60 of 120 samples", at_ms=NOW_MS - 4000,
    )  # fmt: skip
    life.tell("verdict", verdict.key, "progress", verdict, verdict.at_ms)


def _production(
    life: Life, plain: ModelVersion, hard: ModelVersion, passed: Verdict, first: Snapshot, second: Snapshot,
    run: Run,
) -> None:  # fmt: skip
    wish = Wish(2, hard.key, hard.digest, passed.key)
    endpoint = Endpoint(
        "digits", wish, 2, EndpointState.READY, served=(Wish(1, plain.key, plain.digest, ""), wish),
        at_ms=NOW_MS - 200 * MINUTE,
    )  # fmt: skip
    broken = Endpoint("forest", Wish(1, "digits-forest@1", digest_of("forest")), 0, EndpointState.FAILED, 3,
                      f"the worker ended with status 1: ImportError: {EVIL}",
                      at_ms=NOW_MS - 12 * MINUTE)  # fmt: skip
    for item in (endpoint, broken):
        life.tell("endpoint", item.name, str(item.state), item, item.at_ms)
    columns = tuple(_drifted(i) for i in range(64))
    worst = tuple(c.column for c in sorted(columns, key=lambda c: -c.ks) if c.p_value < 0.01 / 64)
    drift = Drift(first.key, first.digest, 1437, 4213, columns, NOW_MS - 40 * MINUTE, NOW_MS - 10 * MINUTE)
    signal = Signal(
        "signal-019c2f9a0000-5eed01", "digits", hard.key, len(worst) / 64, worst,
        f"{len(worst)} of 64 columns drifted, {worst[0]} most", drift, at_ms=NOW_MS - 10 * MINUTE,
    )  # fmt: skip
    life.tell("signal", signal.key, "raised", signal, signal.at_ms)
    remedy = Remedy(
        "remedy-019c2f9a1000-0ff1ce", signal.key, "digits", RemedyAction.RERUN, second.key,
        f"{second.key} is newer than what {hard.key} was made from", at_ms=NOW_MS - 10 * MINUTE,
    )  # fmt: skip
    life.tell("remedy", remedy.key, "proposed", remedy, remedy.at_ms)
    moved = move(remedy, RemedyState.CARRYING, NOW_MS - 18_000, run=run.key, outcome=f"running again {EVIL}")
    life.tell("remedy", remedy.key, "carrying out", moved, moved.at_ms)


def _drifted(i: int) -> ColumnDrift:
    """Drift that is strongest in the middle of the image, as a shifted camera would give it."""
    away = math.hypot(i % 8 - 4.2, i // 8 - 3.1)
    ks = max(0.01, 0.62 * math.exp(-(away**2) / 6))
    return ColumnDrift(f"p{i:02d}", ks * 1.7, ks, math.exp(-(ks**2) * 900))
