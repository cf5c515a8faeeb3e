"""Nouns in a state that a test wants, put into a house."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tallystick.core.data import TABLE_URI
from tallystick.core.facts import to_json
from tallystick.core.model import ModelVersion, Origin, TensorSpec
from tallystick.core.names import digest_of
from tallystick.core.run.events import Began, Run, RunState, Step, StepState
from tallystick.core.run.record import write_event, write_step
from tallystick.core.values import ArtifactRef, Values
from tallystick.core.verdict import Verdict, VerdictState
from tallystick.evidence.domain import Budget
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Rate
from tallystick.evidence.policy import Policy, Rule
from tallystick.evidence.probe import Point, Probe, Threat
from tallystick.evidence.supply import Inspected, Looked, Standing
from tallystick.evidence.threats import Listed, ThreatList
from tallystick.evidence.weigh import figures_of
from tallystick.hub.house import House
from tallystick.hub.house.whole import with_steps
from tallystick.hub.ingest import ingest
from tallystick.judging.weighed import keep_json
from tallystick.ports.runs.journal import Entry

__all__ = [
    "LISTED",
    "POLICY",
    "SEEN",
    "add_model",
    "add_run",
    "add_table",
    "add_verdict",
    "events",
    "evidence",
    "folder_of",
    "found_evidence",
    "keep_steps",
    "model_files",
]

POLICY = Policy(
    "test",
    (Rule("accurate", "clean_accuracy", 0.8, bound="value"), Rule("robust", "robust_accuracy", 0.5, eps=0.1)),
    Budget(eps=(0.1,), samples_max=100),
)

LISTED = ThreatList((Listed("test", "square", Threat.EVASION, 1),))
"""The list of threats that a house of tests knows from before."""

SEEN = {
    "flavors": ["onnx"],
    "inputs": [to_json(TensorSpec("x", "FP32", (-1, 2)))],
    "outputs": [to_json(TensorSpec("y", "INT64", (-1,)))],
    "has_input_example": True,
    "example": "predicted",
    "runtime": "onnx",
    "runs_code": False,
    "loaded": True,
    "inspected": to_json(Inspected((Looked("model.onnx", "onnx", Standing.DATA, "sha256:" + "5" * 64, 3),))),
}
"""What the errand ``inspect`` says of a model that loads."""


def events(house: House, noun: str, key: str = "") -> list[str]:
    """What was told of a noun, oldest first."""
    return [f.event for f in house.ledger.facts if f.noun == noun and key in ("", f.key)]


def folder_of(files: Mapping[str, bytes], folder: Path) -> Path:
    """A new folder with these files."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def model_files(mark: str) -> dict[str, bytes]:
    """The files of a model that looks like one, and is another for another ``mark``."""
    return {"MLmodel": b"flavors: {onnx: {}}\n", "model.onnx": mark.encode()}


async def add_table(house: House, name: str = "digits", rows: str = "a,b,label\n0,1,0\n1,0,1\n") -> Any:
    """Ingest ``rows`` (CSV) and return the snapshot."""
    folder = house.folder("given")
    (folder / "f").write_text(rows)
    snapshot = await ingest(house, name, folder / "f", "f.csv")
    (folder / "f").unlink()
    folder.rmdir()
    return snapshot


async def add_run(house: House, mark: str = "one", **more: Any) -> Run:
    """A run that succeeded: it imported table ``digits`` and put out ``model`` and ``test``."""
    snapshot = await add_table(house)
    folder = folder_of(model_files(mark), house.folder("given") / "model")
    model = ArtifactRef("model", (await house.artifacts.put_folder(folder)).digest, "system.Model")
    (folder / "rows").write_bytes(b"held out " + mark.encode())
    test = ArtifactRef("test", (await house.artifacts.put_file(folder / "rows")).digest, "system.Dataset")
    about = {"snapshot": snapshot.key, "snapshot_digest": snapshot.digest}
    rows = ArtifactRef("artifact", test.digest, "system.Dataset", f"{TABLE_URI}{snapshot.key}", about)
    imported = Step("load", StepState.SUCCEEDED, outputs=Values(artifacts={"artifact": (rows,)}))
    run = Run(
        key=house.new_key("run"),
        pipeline="digits",
        spec_digest=digest_of("spec"),
        params={"table": f"{TABLE_URI}{snapshot.key}"},
        state=RunState.SUCCEEDED,
        outputs=Values({"accuracy": 0.9}, {"model": (model,), "test": (test,)}),
        snapshots=(snapshot.key,),
        counts={"succeeded": 1},
    )
    run = replace(run, **more)
    await keep_steps(house, run, imported)
    await house.tell("run", run.key, str(run.state), run)
    return run


async def keep_steps(house: House, run: Run, *steps: Step) -> None:
    """Put steps into the journal of a run, as if it had come to them."""
    began = write_event(Began(1, 1))
    await house.journal.record(
        run.tenant, run.key, [Entry(began, [(step.path, write_step(step)) for step in steps])]
    )


async def add_model(house: House, version: int = 1, name: str = "digits", run: Run | None = None) -> Any:
    """A registered model version whose files are in the store."""
    folder = folder_of(model_files(f"{name} {version}"), house.folder("given") / "model")
    blob = await house.artifacts.put_folder(folder)
    origin = Origin()
    if run:
        steps = (await with_steps(house.journal, run)).steps
        snapshots = {r.metadata["snapshot"]: r.metadata["snapshot_digest"] for r in _imported(steps)}
        origin = Origin(run=run.key, output="model", snapshots=snapshots)
    inputs = (TensorSpec("x", "FP32", (-1, 2)),)
    model = ModelVersion(
        name,
        version,
        blob.digest,
        inputs=inputs,
        origin=origin,
        runtime="onnx",
        runs_code=False,
        standing="data",
    )
    await house.tell("model", model.key, "registered", model)
    return model


def _imported(steps: Sequence[Step]) -> list[ArtifactRef]:
    return [ref for step in steps for ref in step.outputs.artifacts.get("artifact", ())]


def found_evidence(
    model: ModelVersion, policy: Policy = POLICY, robust: int = 80, clean: int = 95
) -> Evidence:
    """Evidence about a model, with ``robust`` and ``clean`` right of 100 at every eps of the policy."""
    return Evidence(
        model=model.key,
        model_digest=model.digest,
        dataset="digits@1",
        dataset_digest=digest_of("rows"),
        clean=Rate(clean, 100),
        budget=policy.budget,
        curve=tuple(Point(eps, Rate(robust, 100), Rate(clean, 100)) for eps in policy.budget.eps),
        probes=(Probe("square", Threat.EVASION, library="test", samples=100, queries=500),),
        threats=LISTED.digest(policy.probes),
        versions={"python": "3"},
        seconds=1.0,
    )


async def add_verdict(
    house: House,
    model: ModelVersion,
    state: VerdictState = VerdictState.PASSED,
    policy: Policy = POLICY,
    **more: Any,
) -> Verdict:
    """A verdict on ``model`` in ``state``; of one that was reached, with evidence among the artifacts."""
    verdict = Verdict(
        house.new_key("verdict"),
        model.key,
        model.digest,
        policy.name,
        policy.digest,
        state=state,
        dataset="digits@1",
        dataset_digest=digest_of("rows"),
        label="label",
        threats=LISTED.digest(policy.probes),
        at_ms=house.clock.now_ms(),
    )
    if verdict.reached:
        robust = 80 if state is VerdictState.PASSED else 20
        found = found_evidence(model, policy, robust)
        digest = await keep_json(house, to_json(found))
        verdict = replace(verdict, evidence_digest=digest, figures=figures_of(found))
    verdict = replace(verdict, **more)
    await house.tell("verdict", verdict.key, str(state), verdict)
    return verdict


def evidence(robust: int = 80, clean: int = 95) -> dict[str, Any]:
    """What the errand ``judge`` says, with ``robust`` and ``clean`` right of 100."""
    return {
        "clean": to_json(Rate(clean, 100)),
        "curve": [to_json(Point(0.1, Rate(robust, 100), Rate(clean, 100)))],
        "attacks": [{"name": "square", "library": "test", "queries": 500}],
        "pictures": [],
        "versions": {"python": "3"},
        "seconds": 1.0,
    }
