"""Rows: what a verb reads, whichever way it was named: a table's snapshot or the output of a run."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from tallystick.core.data import ARTIFACT_URI, RUN_URI, TABLE_URI, Snapshot, TableRef
from tallystick.core.errors import BadInput, NotFound, NotSupported
from tallystick.core.model import MODEL_URI, ModelVersion
from tallystick.core.names import check_digest
from tallystick.core.run.events import Run
from tallystick.core.values import ArtifactRef
from tallystick.hub.house import House
from tallystick.hub.house.removal import remove
from tallystick.hub.house.whole import whole_run

__all__ = ["Rows", "artifact_at", "check_exists", "export_table", "rows_of", "table_of"]

_CONTENT = re.compile(r"\d+-\d+-([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows in a Parquet artifact: what they are called, their content digest, and the artifact."""

    name: str
    digest: str
    artifact: str


def table_of(uri: str, where: str = "importer") -> TableRef:
    """The table that an importer's URI means; NotSupported for any other kind of URI, naming the task."""
    if not uri.startswith(TABLE_URI):
        hint = f"use {TABLE_URI}NAME, after `tally ingest NAME FILE`, or {RUN_URI}RUN/OUTPUT"
        what = f"cannot import from {uri[:80]!r}, only from tables and what runs put out"
        raise NotSupported(what, where=where, hint=hint)
    return TableRef.parse(uri)


async def check_exists(house: House, ref: TableRef) -> Snapshot:
    """The snapshot that ``ref`` means now; NotFound when there is none. Asks the ledger alone."""
    if ref.snapshot_id:
        return await house.get("data", str(ref), Snapshot)
    known = [s for s in await house.all("data", Snapshot) if s.table == ref.table]
    if not known:
        raise NotFound(f"no table {ref.table!r}", where="data", hint=f"tally ingest {ref.table} FILE")
    return max(known, key=lambda s: s.at_ms)


async def export_table(house: House, ref: TableRef) -> tuple[Snapshot, Rows]:
    """A snapshot as a Parquet artifact; the bytes are the same each time, so it is stored once."""
    folder = house.folder("export")
    try:
        path = folder / "rows.parquet"
        snapshot = await house.catalogue.export(ref, path)
        blob = await house.artifacts.put_file(path)
        return snapshot, Rows(snapshot.key, snapshot.digest, blob.digest)
    finally:
        await remove(folder)


async def rows_of(house: House, name: str) -> Rows:
    """From ``table``, ``table@snapshot`` or ``RUN/OUTPUT`` (a dataset that a run put out)."""
    if "/" not in name.removeprefix(TABLE_URI):
        await check_exists(house, TableRef.parse(name))
        return (await export_table(house, TableRef.parse(name)))[1]
    digest = (await _output_of(house, name)).digest
    return Rows(name, digest, digest)


async def artifact_at(house: House, uri: str) -> ArtifactRef | None:
    """The stored artifact that an importer's URI means, or None where it means no such thing.

    That is an output of a run or of a step (``tally://runs/RUN[/STEP]/OUTPUT``), what has a digest
    (``tally://artifacts/DIGEST``), the files of a model that is registered here
    (``tally://models/NAME@VERSION``), or what a step was given: to a step, the URI of an artifact is the path
    at which it lies. The path is gone by then, but its name ends with the digest of the content. NotFound or
    BadInput where nothing is there.
    """
    if uri.startswith(ARTIFACT_URI):
        digest = check_digest(uri.removeprefix(ARTIFACT_URI))
        return await _kept(house, ArtifactRef("artifact", digest, uri=uri), "no artifact has this digest")
    if uri.startswith(RUN_URI):
        ref = replace(await _output_of(house, uri.removeprefix(RUN_URI), uri[:200]), uri=uri)
        return await _kept(house, ref, "it is not among the artifacts")
    if uri.startswith(MODEL_URI):
        model = await house.get("model", uri.removeprefix(MODEL_URI), ModelVersion)
        return ArtifactRef("artifact", model.digest, "system.Model", uri)
    path = Path(uri)
    content = _CONTENT.fullmatch(path.name)
    if content is None or not path.is_relative_to(house.scratch.absolute()):
        return None
    ref = ArtifactRef("artifact", f"sha256:{content[1]}")
    return await _kept(house, ref, "what a step was given there is not among the artifacts", uri)


async def _kept(house: House, ref: ArtifactRef, otherwise: str, uri: str = "") -> ArtifactRef:
    if not await house.artifacts.has(ref.digest):
        raise NotFound(otherwise, where=(uri or ref.uri)[:200])
    return ref


async def _output_of(house: House, name: str, where: str = "data") -> ArtifactRef:
    """The one artifact that a run put out, or a step of it, from ``RUN/OUTPUT`` or ``RUN/STEP/OUTPUT``."""
    run_key, _, rest = name.partition("/")
    path, _, output = rest.rpartition("/")
    run = await (whole_run(house, run_key) if path else house.get("run", run_key, Run))
    step = run.step(path) if path else None
    if path and step is None:
        raise NotFound(f"run {run_key} has no step {path[:200]!r}", where=where, hint=f"tally logs {run_key}")
    made = (step or run).outputs.artifacts
    if len(refs := made.get(output, ())) != 1:
        known, maker = ", ".join(made) or "none", f"step {path}" if path else f"run {run_key}"
        raise BadInput(f"{maker} has no single output {output!r}", where=where, hint=f"outputs: {known}")
    return refs[0]
