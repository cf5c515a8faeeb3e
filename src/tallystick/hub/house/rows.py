"""Rows: what a verb reads, whichever way it was named: a table's snapshot or the output of a run."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from tallystick.core.data import RUN_URI, TABLE_URI, Snapshot, TableRef
from tallystick.core.errors import BadInput, NotFound, NotSupported
from tallystick.core.model import MODEL_URI, ModelVersion
from tallystick.core.run.events import Run
from tallystick.core.values import ArtifactRef
from tallystick.hub.house import House
from tallystick.hub.house.removal import remove

__all__ = [
    "Rows",
    "artifact_at",
    "check_exists",
    "export_table",
    "rows_for_judging",
    "rows_of",
    "rows_trained_on",
    "table_of",
]

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

    That is an output of a run (``tally://runs/RUN/OUTPUT``), the files of a model that is registered here
    (``tally://models/NAME@VERSION``), or what a step was given: to a step, the URI of
    an artifact is the path at which it lies. The path is gone by then, but its name ends with the digest of
    the content. NotFound or BadInput where nothing is there.
    """
    if uri.startswith(RUN_URI):
        return replace(await _output_of(house, uri.removeprefix(RUN_URI), uri[:200]), uri=uri)
    if uri.startswith(MODEL_URI):
        model = await house.get("model", uri.removeprefix(MODEL_URI), ModelVersion)
        return ArtifactRef("artifact", model.digest, "system.Model", uri)
    path = Path(uri)
    content = _CONTENT.fullmatch(path.name)
    if content is None or not path.is_relative_to(house.scratch.absolute()):
        return None
    digest = f"sha256:{content[1]}"
    if not await house.artifacts.has(digest):
        raise NotFound("what a step was given there is not among the artifacts", where=uri[:200])
    return ArtifactRef("artifact", digest)


async def _output_of(house: House, name: str, where: str = "data") -> ArtifactRef:
    """The one artifact that a run put out under a name, from ``RUN/OUTPUT``."""
    run_key, _, output = name.partition("/")
    run = await house.get("run", run_key, Run)
    refs = run.outputs.artifacts.get(output, ())
    if len(refs) != 1:
        known = ", ".join(run.outputs.artifacts) or "none"
        raise BadInput(
            f"run {run_key} has no single output {output!r}", where=where, hint=f"outputs: {known}"
        )
    return refs[0]


async def rows_for_judging(house: House, model: ModelVersion, name: str = "") -> Rows:
    """The rows named, or else those that the model's own run held out (its output ``test``).

    Rows of a table that the model was made from, of whichever snapshot, are refused: it has seen them, or
    may have. An output of a run (``RUN/OUTPUT``) is taken as it is, although it may be what a model was
    trained on: nothing tells that apart from rows that were held out.
    """
    if name:
        _check_unseen(model, name)
        return await rows_of(house, name)
    run = await house.find("run", model.origin.run, Run) if model.origin.run else None
    if run and len(run.outputs.artifacts.get("test", ())) == 1:
        return await rows_of(house, f"{run.key}/test")
    raise BadInput(
        f"say on which rows to judge {model.key}", where="data", hint=f"tally judge {model.key} --data TABLE"
    )


async def rows_trained_on(house: House, model: ModelVersion) -> Rows | None:
    """The rows that a model was trained on, where its own run put them out as ``train``; else None.

    A table that the run read may hold rows that it held out: nobody can say that it was trained on those.
    """
    run = await house.find("run", model.origin.run, Run) if model.origin.run else None
    if run is None or len(run.outputs.artifacts.get("train", ())) != 1:
        return None
    return await rows_of(house, f"{run.key}/train")


def _check_unseen(model: ModelVersion, name: str) -> None:
    """BadInput where ``name`` is a table that the model was made from."""
    if "/" in name.removeprefix(TABLE_URI):
        return
    table = TableRef.parse(name).table
    if table in {snapshot.partition("@")[0] for snapshot in model.origin.snapshots}:
        raise BadInput(
            f"{model.key} was made from rows of table {table}",
            where="data",
            hint="leave --data out to judge on the rows that its run held out, or name other rows",
        )
