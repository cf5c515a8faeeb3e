"""Register: a run's output, or what a stock client put into the registry, becomes a model version here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tallystick.core.data import TABLE_URI
from tallystick.core.errors import BadInput, Conflict, Failed, MissingTile, NotFound, Refused
from tallystick.core.facts import from_json, to_json
from tallystick.core.model import ModelRef, ModelVersion, Origin, TensorSpec, check_specs
from tallystick.core.names import canonical_json, check_name
from tallystick.core.run.events import Run, RunState, Step, StepState
from tallystick.core.values import ArtifactRef
from tallystick.core.wall import Wall
from tallystick.evidence.supply import Inspected, Standing
from tallystick.hub.house import House
from tallystick.hub.house.errand import run_errand
from tallystick.hub.house.removal import remove
from tallystick.hub.house.specs import keep_spec
from tallystick.hub.house.whole import whole_run
from tallystick.hub.loading import vouched
from tallystick.ports.registry import Registered, RunData

__all__ = ["admit", "register"]

FLAVORS_MAX = 100
FLAVOR_CHARS_MAX = 100


async def register(house: House, name: str, run_key: str, output: str) -> ModelVersion:
    """Register output ``output`` of a run as the next version of model ``name``.

    The files are looked at, then loaded once, behind a wall, to read their signature: what is refused or
    does not load is not registered. The very same files under the same name before are that version again.
    """
    check_name("model", name)
    run = await whole_run(house, run_key)
    if run.state is not RunState.SUCCEEDED:
        raise Conflict(
            f"run {run_key} is {run.state}", where="register", hint="only a run that succeeded has outputs"
        )
    ref = _model_output(run, output)
    await _check_made(house, run, ref)
    async with house.lock("model", name):
        before = [
            m for m in await house.all("model", ModelVersion) if m.name == name and m.digest == ref.digest
        ]
        if before:
            return before[0]
        folder = house.folder("register")
        try:
            await house.artifacts.unpack(ref.digest, folder / "model")
            seen = await _inspect(house, name, folder / "model", ref.digest, run.key)
            return await _record(house, name, run, output, ref, seen, folder / "model")
        finally:
            await remove(folder)


def _model_output(run: Run, output: str) -> ArtifactRef:
    refs = run.outputs.artifacts.get(output, ())
    models = [n for n, r in run.outputs.artifacts.items() if len(r) == 1 and r[0].schema == "system.Model"]
    if output not in models:
        raise BadInput(
            f"run {run.key} has no model output {output!r}",
            where="register",
            hint=f"it has: {', '.join(models) or 'none'}",
        )
    return refs[0]


async def _check_made(house: House, run: Run, ref: ArtifactRef) -> None:
    """Refused for the files of a version that came from elsewhere, where the run only imported them.

    A run vouches for what it puts out, as its builder; of these it would take a stranger's word for its own.
    """
    strangers = [
        m.key for m in await house.all("model", ModelVersion) if m.digest == ref.digest and not m.origin.run
    ]
    if strangers and not any(_put_out(step, ref.digest) for step in run.steps):
        text = f"run {run.key} did not make it, it only imported the files of {strangers[0]}"
        raise Refused(text, where="register", hint=f"use {strangers[0]} itself")


def _put_out(step: Step, digest: str) -> bool:
    """Whether a step that is no importer put these files out."""
    imports = step.outputs.artifacts.keys() == {"artifact"} and "uri" in step.inputs.params
    return not imports and step.outputs.holds(digest)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a model's files say once they are loaded: bounded, as its own code may have said it.

    What they were found to be (``standing``, ``files``, ``inspection``) is from before they were loaded.
    """

    flavors: tuple[str, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    has_input_example: bool = False
    runtime: str = ""
    runs_code: bool = True
    standing: str = ""
    files: tuple[str, ...] = ()
    inspection: str = ""

    def __post_init__(self) -> None:
        check_specs(self.inputs, "inputs")
        check_specs(self.outputs, "outputs")
        if self.runtime:
            check_name("runtime", self.runtime)
        if len(self.flavors) > FLAVORS_MAX or max(map(len, self.flavors), default=0) > FLAVOR_CHARS_MAX:
            text = f"over {FLAVORS_MAX} flavors, or one with a name of over {FLAVOR_CHARS_MAX} characters"
            raise BadInput(text, where="inspect")


async def _inspect(house: House, name: str, folder: Path, digest: str, run_key: str) -> _Seen:
    """Look at a model's files, and load it where they are data, or somebody vouches for their code.

    Refused, naming the file and why, for what is never loaded. What the worker says of files is believed
    where it loaded none of the model's code; that of a model with code says it in a process before.
    """
    said = await _errand(house, folder, vouched=False)
    found = from_json(Inspected, said.get("inspected"), "inspect.inspected")
    if found.standing is Standing.REFUSED or not found.files:
        raise _refused(name, found)
    kept = await keep_spec(house, canonical_json(to_json(found)).encode())
    standing = str(found.standing)
    files = tuple(f"{f.path}: {f.why or f.kind}"[:300] for f in found.worst[:10])
    if found.standing is Standing.CODE:
        if not (house.unsigned_code or await vouched(house, digest, run_key)):
            return _Seen(standing=standing, files=files, inspection=kept)
        said = await _errand(house, folder, vouched=True)
    if said.get("loaded") is not True:
        raise Failed("its files were looked at, and it was not loaded", where=name)
    seen = from_json(_Seen, _only_loaded(said), "inspect")
    return replace(seen, standing=standing, files=files, inspection=kept)


async def _errand(house: House, folder: Path, *, vouched: bool) -> Mapping[str, Any]:
    wall = Wall(
        workdir=str(folder.parent),
        readable=(str(folder),),
        env=house.worker_env(),
        cpu_seconds=house.limits.judge_cpu_s,
        memory_mib=house.limits.memory_mib,
    )
    async with house.errand_slots:
        order = {"folder": str(folder), "vouched": vouched}
        return await run_errand(house.sandbox, "inspect", order, wall)


def _only_loaded(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of the answer that is the model's own word; it must say all of it."""
    names = ("flavors", "inputs", "outputs", "has_input_example")
    for name in names:
        if name not in said:
            raise BadInput(f"{name!r} is missing", where="inspect")
    return {name: said[name] for name in (*names, "runtime", "runs_code") if name in said}


def _refused(name: str, found: Inspected) -> Refused:
    """The file and why; for the next step, what such files are best saved as."""
    worst = found.worst[0] if found.worst else None
    what = f"{worst.path}: {worst.why}" if worst else "it has no files"
    more = sum(f.standing is Standing.REFUSED for f in found.files) - 1
    text = f"it is never loaded: {what}" + (f" (and {more} more files)" if more > 0 else "")
    hint = "save it as ONNX or skops"
    if worst and "pickle" in worst.kind:
        hint += ", or log it from code (python_model='file.py'), and sign it: such a pickle can run anything"
    return Refused(text[:1000], where=name, hint=hint)


async def _record(
    house: House, name: str, run: Run, output: str, ref: ArtifactRef, seen: _Seen, folder: Path
) -> ModelVersion:
    record_id, data = await _logged(house, run, ref)
    origin = Origin(run=run.key, output=output, snapshots=_snapshots(run), record_id=record_id)
    tags = {"tally.run": run.key, "tally.digest": ref.digest}
    tags |= {f"tally.snapshot.{i}": f"{k} {d}" for i, (k, d) in enumerate(origin.snapshots.items())}
    try:
        version = (await house.registry.register(name, folder, tags, run_id=record_id)).version
    except MissingTile:  # without MLflow the ledger alone counts the versions
        known = await house.all("model", ModelVersion)
        version = 1 + max((m.version for m in known if m.name == name), default=0)
    model = ModelVersion(name, version, ref.digest, origin=origin)
    return await _tell(house, "registered", model, data, seen, f"from {run.key}, output {output}")


async def _tell(
    house: House, event: str, model: ModelVersion, data: RunData, seen: _Seen, note: str
) -> ModelVersion:
    """Record a version, whichever way it came, with what its run logged and what its files say."""
    model = replace(
        model,
        metrics=data.metrics,
        params=data.params,
        at_ms=house.clock.now_ms(),
        tenant=house.tenant,
        flavors=seen.flavors,
        inputs=seen.inputs,
        outputs=seen.outputs,
        has_input_example=seen.has_input_example,
        runtime=seen.runtime,
        runs_code=seen.runs_code,
        standing=seen.standing,
        files=seen.files,
        inspection=seen.inspection,
    )
    await house.tell("model", model.key, event, model, note)
    return model


def _snapshots(run: Run) -> dict[str, str]:
    """The snapshots that the run imported, with their content digests.

    Only the hub's own importer gives an artifact an address in the catalogue; metadata alone is what
    a step says.
    """
    found: dict[str, str] = {}
    for step in run.steps:
        for refs in step.outputs.artifacts.values():
            for ref in refs:
                if ref.uri.startswith(TABLE_URI) and "snapshot" in ref.metadata:
                    found[str(ref.metadata["snapshot"])] = str(ref.metadata.get("snapshot_digest", ""))
    return found


async def _logged(house: House, run: Run, ref: ArtifactRef) -> tuple[str, RunData]:
    """The MLflow run that made ``ref``, and what was logged to it; an empty id when there is none.

    The step says which; it is believed when that run has the tag of the pipeline's run, which the
    step's door to MLflow sets, and nobody behind that door can.
    """
    record_id = str(ref.metadata.get("mlflow_run_id", ""))
    data = await _figures(house, record_id)
    if not record_id or data.tags.get("tally.run") not in await _makers(house, run, ref):
        return "", RunData()
    return record_id, data


async def _makers(house: House, run: Run, ref: ArtifactRef) -> set[str]:
    """The run, and for an output that came from the cache the run that made it."""
    makers = {run.key}
    for step in run.steps:
        given = [each.digest for refs in step.outputs.artifacts.values() for each in refs]
        if step.state is StepState.CACHED and ref.digest in given:
            kept = await house.ledger.latest(house.tenant, "step", step.cache_key)
            makers |= {kept.note.partition(" ")[0]} if kept else set()
    return makers


async def _figures(house: House, record_id: str) -> RunData:
    if not record_id:
        return RunData()
    try:
        return await house.registry.run_data(record_id)
    except (MissingTile, NotFound, BadInput):
        return RunData()


async def admit(house: House, ref: ModelRef) -> ModelVersion:
    """The model version that ``ref`` means, brought in from the registry when it is new here.

    A model that a stock MLflow client registered has no run of ours; its files are fetched, stored
    by content and loaded once behind a wall. Whoever moves files under a version afterwards changes
    nothing: what is judged and served is what was stored.
    """
    async with house.lock("model", ref.name):
        known = await house.all("model", ModelVersion)
        match = [m for m in known if m.name == ref.name and ref.version in (0, m.version)]
        best = max(match, key=lambda m: m.version, default=None)
        if best and ref.version:
            return await _looked_at(house, best)
        newest = await _newest(house, ref)
        if best and (newest is None or best.version >= newest.version):
            return await _looked_at(house, best)
        if newest is None:
            names = ", ".join(sorted(m.key for m in known)) or "none yet"
            raise NotFound(f"no model {str(ref)!r}", where="model", hint=f"registered: {names}")
        return await _adopt(house, newest)


async def _looked_at(house: House, model: ModelVersion) -> ModelVersion:
    """A known version, looked at where nobody did, and loaded where its code is vouched for by now."""
    waits = model.standing == "code" and not model.runtime
    if model.standing == "data" or (model.standing == "code" and not waits):
        return model
    if waits and not (house.unsigned_code or await vouched(house, model.digest, model.origin.run)):
        return model
    folder = house.folder("admit")
    try:
        await house.artifacts.unpack(model.digest, folder / "model")
        seen = await _inspect(house, model.key, folder / "model", model.digest, model.origin.run)
    finally:
        await remove(folder)
    data = RunData(model.metrics, model.params)
    return await _tell(house, "inspected", model, data, seen, "looked at again, before anything loads it")


async def _newest(house: House, ref: ModelRef) -> Registered | None:
    try:
        versions = await house.registry.versions(ref.name)
    except (NotFound, MissingTile):
        return None
    wanted = [v for v in versions if not ref.version or v.version == ref.version]
    return max(wanted, key=lambda v: v.version, default=None)


async def _adopt(house: House, found: Registered) -> ModelVersion:
    folder = house.folder("admit")
    try:
        await house.registry.fetch(found.name, found.version, folder / "model")
        blob = await house.artifacts.put_folder(folder / "model")
        seen = await _inspect(house, f"{found.name}@{found.version}", folder / "model", blob.digest, "")
    finally:
        await remove(folder)
    data = await _figures(house, found.run_id)
    model = ModelVersion(found.name, found.version, blob.digest, origin=Origin(record_id=found.run_id))
    return await _tell(house, "admitted", model, data, seen, "from the MLflow registry")
