"""Lineage: what is on record of how a model was made, and which parts of that are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tallystick import __version__
from tallystick.core.attestation import LINEAGE
from tallystick.core.data import TABLE_URI, Snapshot
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.model import ModelVersion
from tallystick.core.run.events import Run, Step, StepState
from tallystick.core.run.recipe import Kept, read_kept
from tallystick.core.values import Environment
from tallystick.evidence.papers.bom import Material
from tallystick.evidence.papers.provenance import Dependency, Provenance
from tallystick.hub.house import House
from tallystick.hub.house.whole import imported_by, whole_run

__all__ = ["BUILDER", "Lineage", "lineage_of"]

BUILDER = "tally://builders/tallystick"


@dataclass(frozen=True, slots=True)
class Lineage:
    """What is known. ``provenance`` is None for a model that no run of this hub put out."""

    known: tuple[str, ...] = ()
    data: tuple[Material, ...] = ()
    environment: Environment | None = None
    provenance: Provenance | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """The parts that are not on record."""
        return tuple(part for part in LINEAGE if part not in self.known)


@dataclass(frozen=True, slots=True)
class _Made:
    """The step that made the files, in the run that did it; of a cached step, what the cache says of both."""

    run: Run
    step: Step
    kept: Kept | None = None
    cached: bool = False


async def lineage_of(house: House, model: ModelVersion) -> Lineage:
    """Asks the ledger, the journals and the artifacts; what they do not say is missing, never guessed."""
    data = await _data(house, model)
    with_data = ("data",) if data and all(m.digest for m in data) else ()
    try:
        run = await whole_run(house, model.origin.run) if model.origin.run else None
    except NotFound:
        run = None
    if run is None:
        return Lineage(with_data, data)
    made = await _made(house, run, model.digest)
    environment = await _environment(house, made)
    source = await house.artifacts.has(run.spec_digest)
    known = ("run", *with_data, *(("lock",) if environment else ()), *(("source",) if source else ()))
    provenance = _provenance(model, run, made, environment, data, source)
    return Lineage(tuple(p for p in LINEAGE if p in known), data, environment, provenance)


async def _made(house: House, run: Run, digest: str) -> _Made | None:
    """The first step that put out these very files; one that took them from the cache is followed once."""
    for step in run.steps:
        if not step.outputs.holds(digest):
            continue
        kept = await _kept(house, step)
        if step.state is not StepState.CACHED or kept is None or not kept.run:
            return _Made(run, step, kept)
        try:
            maker = await whole_run(house, kept.run)
        except NotFound:
            return _Made(run, step, kept, cached=True)
        return _Made(maker, maker.step(kept.path) or step, kept, cached=True)
    return None


async def _kept(house: House, step: Step) -> Kept | None:
    fact = await house.ledger.latest(house.tenant, "step", step.cache_key) if step.cache_key else None
    try:
        return read_kept(fact.state) if fact else None
    except BadInput:
        return None


async def _environment(house: House, made: _Made | None) -> Environment | None:
    digest = made.step.environment if made else ""
    return await house.find("environment", digest, Environment) if digest else None


async def _data(house: House, model: ModelVersion) -> tuple[Material, ...]:
    found = []
    for key, digest in model.origin.snapshots.items():
        table, _, snapshot_id = key.partition("@")
        snapshot = await house.find("data", key, Snapshot)
        consent = snapshot.consent() if snapshot else None
        words = f"{consent.use}, by {consent.owner}" if consent else ""
        rows = snapshot.rows if snapshot else -1
        found.append(Material(table, snapshot_id, digest, rows, words))
    return tuple(found)


def _provenance(
    model: ModelVersion,
    run: Run,
    made: _Made | None,
    environment: Environment | None,
    data: tuple[Material, ...],
    source: bool,
) -> Provenance:
    recipe = dict(made.kept.recipe) if made and made.kept else {}
    internal: dict[str, Any] = {"options": _options(run), "runsCode": model.runs_code}
    if made:
        internal |= {"step": made.step.path, "attempt": made.step.attempt, "cached": made.cached}
        internal |= {"madeBy": made.run.key, "recipe": recipe}
    if run.reproduces:
        internal["reproduces"] = run.reproduces
    external: dict[str, Any] = {"model": model.key, "pipeline": run.pipeline, "output": model.origin.output}
    external |= {"parameters": dict(run.params)}
    known = {"source": source, "lock": environment is not None, "data": bool(data)}
    log = made.step.log_digest if made else ""
    times = (made.step if made else run).started_ms, (made.step if made else run).ended_ms
    return Provenance(
        builder=BUILDER,
        invocation=f"tally://runs/{run.key}",
        external=external,
        internal={**internal, "missing": [part for part, there in known.items() if not there]},
        dependencies=(*_code(run, recipe, source), *_lock(made, environment), *_tables(data), *_given(run)),
        byproducts=(Dependency("log", log),) if log else (),
        versions={"tallystick": __version__},
        started_ms=times[0],
        finished_ms=times[1],
    )


def _options(run: Run) -> dict[str, Any]:
    """How the run was done, as far as it could change what came out."""
    options = run.options
    return {"on": options.on, "seed": options.seed, "noGpus": options.no_gpus}


def _code(run: Run, recipe: Mapping[str, str], source: bool) -> list[Dependency]:
    """The pipeline's file, which holds the source of each step; and of the step that made it, that alone."""
    found = [Dependency("pipeline", run.spec_digest, f"tally://pipelines/{run.pipeline}")] if source else []
    digest = recipe.get("source", "")
    return [*found, Dependency("source", digest)] if digest.startswith("sha256:") else found


def _lock(made: _Made | None, environment: Environment | None) -> list[Dependency]:
    """Python, platform, and each package at its version; hashes only where they were locked."""
    if made is None or environment is None:
        return []
    about: dict[str, Any] = {"python": environment.python, "platform": environment.platform}
    about |= {"packages": len(environment.packages), "hashed": bool(environment.lock)}
    uri = f"tally://environments/{environment.digest}"
    return [Dependency("lock", environment.digest, uri, about)]


def _tables(data: tuple[Material, ...]) -> list[Dependency]:
    """By the content of their rows, which is the same on another machine."""
    return [
        Dependency(
            "data", m.digest, f"{TABLE_URI}{m.table}@{m.snapshot}", {"rows": m.rows, "consent": m.consent}
        )
        for m in data
        if m.digest
    ]


def _given(run: Run) -> list[Dependency]:
    """What importers brought in that is no table, each content once: from a run, a file, a model."""
    refs = [ref for step in run.steps for ref in imported_by(step)]
    given = {ref.digest: ref.uri for ref in refs if ref.digest and not ref.uri.startswith(TABLE_URI)}
    return [Dependency("input", digest, uri) for digest, uri in given.items()]
