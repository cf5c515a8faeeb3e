"""The cache as one run sees it: outputs under what they depend on, and why they were found or not."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tallystick.core.data import TABLE_URI, Snapshot
from tallystick.core.errors import BadInput, TallyError
from tallystick.core.facts import Fact, to_json
from tallystick.core.names import canonical_json, digest_of
from tallystick.core.pipeline.spec import Component, Function, Importer
from tallystick.core.run.bind import Facts, filled
from tallystick.core.run.events import Run, StartStep
from tallystick.core.run.options import Pins
from tallystick.core.run.recipe import (
    Kept,
    Recipe,
    body_parts,
    changed,
    last_key,
    read_kept,
    recipe_of,
    seed_of,
)
from tallystick.core.values import ArtifactRef, Environment, Values
from tallystick.hub.house.bounds import check_values
from tallystick.hub.house.parts import House
from tallystick.hub.house.rows import check_exists, table_of

__all__ = ["Found", "Looked", "StepCache", "declared", "imported", "said_of", "stored"]

_log = logging.getLogger(__name__)

UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


@dataclass(frozen=True, slots=True)
class Found:
    """What was found for a step, if any, and why; ``verify``: it is to be made again all the same."""

    kept: Kept | None
    note: str
    verify: bool = False


class Looked(NamedTuple):
    """A step with what its component declares of its inputs, what was found for it, its recipe, what it is to
    run on, and what its end says of these.
    """

    ready: StartStep
    found: Found
    recipe: Recipe
    environment: Environment
    said: Mapping[str, Any]


class _Body(NamedTuple):
    """What is the same for all steps of a component, and of those that are equal to it."""

    component: Component
    environment: Environment
    digest: str
    parts: Mapping[str, str]


class StepCache:
    """Looks up the steps of one run, and keeps what they make.

    ``given`` is what a run that reproduces another takes from that; ``pins`` are the snapshots that tables,
    by the URIs that importers gave, stand for in all of the run. ``looked`` is what was found for steps that
    are about to run.
    """

    def __init__(self, house: House, run: Run, given: Pins) -> None:
        self.given = given
        self._house = house
        self._run = run
        self._bodies: dict[tuple[str, str, str], list[_Body]] = {}
        self._before: dict[str, Kept | None] = {}
        self._newest: dict[str, Kept] = {}
        self.pins: dict[str, str] = {}
        self._made: list[Fact] = []
        self.looked: dict[str, Looked] = {}

    async def recipe(
        self, component: Component, inputs: Values, path: str, own: str, facts: Mapping[str, str]
    ) -> tuple[Recipe, Environment, str]:
        """What a step depends on, what it is to run on, and the digest of that; ``facts`` are the step's."""
        known = self._body(component, path)
        if known is None:
            if pinned := self.given.environments.get(path, ""):
                environment = await self._house.get("environment", pinned, Environment)
            else:
                environment = await self._house.executor_of(self._run.options.on).environment(component)
            known = _Body(component, environment, environment.digest, body_parts(component, environment))
            self._bodies.setdefault(_kind(component, pinned), []).append(known)
        seed = seed_of(self._run.options.seed, path)
        recipe = recipe_of(
            component, inputs, known.environment, own, seed=seed, body=known.parts, facts=facts
        )
        return recipe, known.environment, known.digest

    async def is_other(self, component: Component, environment: Environment) -> bool:
        """Whether a step may have run on something else than ``environment``, where that is not locked."""
        if environment.lock:
            return False
        bare, code = component, component.code
        if isinstance(code, Function) and code.packages:  # to look for each takes ms, and is done
            bare = replace(component, code=replace(code, packages=()))
        with contextlib.suppress(TallyError):
            now = await self._house.executor_of(self._run.options.on).environment(bare)
            if now == environment:
                return False
        self._bodies.pop(_kind(component, ""), None)  # steps to come look anew
        return True

    def knows(self, component: Component, path: str) -> bool:
        """Whether it is known what the step is to run on."""
        return self._body(component, path) is not None

    def _body(self, component: Component, path: str) -> _Body | None:
        kind = _kind(component, self.given.environments.get(path, ""))
        return next((body for body in self._bodies.get(kind, ()) if body.component == component), None)

    async def snapshot(self, uri: str) -> tuple[Snapshot, Recipe]:
        """The snapshot that an importer's URI means in this run, and under what its rows are kept."""
        if uri not in self.pins:
            found = await check_exists(self._house, table_of(uri))
            self.pins.setdefault(uri, found.key)
        snapshot = await self._house.get("data", self.pins[uri], Snapshot)
        return snapshot, Recipe({"own key": canonical_json(["import", snapshot.key, snapshot.digest])})

    async def look_up(self, path: str, recipe: Recipe, enabled: bool) -> Found:
        """The outputs of an equal step, where the run takes such and each artifact is still there."""
        options = self._run.options
        if not (options.cache and enabled):
            return Found(None, "miss: the run takes nothing" if enabled else "miss: the task is never cached")
        key, last = recipe.key, last_key(self._run.pipeline, path)
        fact = (await self._ask([last], key)).get(key)
        if fact is None:
            return Found(None, _why(self._before[last], recipe))
        kept = read_kept(fact.state)
        kept = replace(kept, made_ms=kept.made_ms or fact.at_ms, run=kept.run or fact.note.partition(" ")[0])
        for refs in kept.outputs.artifacts.values():
            for ref in refs:
                if not await self._house.artifacts.has(ref.digest):
                    return Found(None, "miss: an output is not among the artifacts any more")
        age_ms = max(0, self._house.clock.now_ms() - kept.made_ms)
        made = f"made by {kept.run} {kept.path or path}, {_span(age_ms)} ago"
        if options.cache_age_ms_max and age_ms > options.cache_age_ms_max:
            return Found(None, f"miss: {made}, which is too old")
        verify = int(digest_of([self._run.key, path])[7:15], 16) < options.verify_share * 2**32
        self._newest[last] = replace(kept, outputs=Values(), recipe=recipe.parts)
        return Found(kept, f"hit: {made}", verify)

    def keep(self, path: str, recipe: Recipe, outputs: Values) -> None:
        """Keep what the step at ``path`` made, from the next :meth:`flush` on. BadInput: it is not JSON."""
        house, key = self._house, last_key(self._run.pipeline, path)
        kept = Kept(outputs, recipe.parts, house.clock.now_ms(), self._run.key, path)
        state, note = to_json(kept), f"{self._run.key} {path}"
        try:
            canonical_json(state).encode()
        except (TypeError, ValueError, RecursionError) as wrong:
            raise BadInput(f"the outputs are not JSON: {wrong}", where=path) from wrong
        self._made.append(Fact("step", recipe.key, "made", state, note, kept.made_ms, house.tenant))
        self._newest[key] = replace(kept, outputs=Values())

    @property
    def waits(self) -> bool:
        """Whether there is something to flush."""
        return bool(self._made)

    async def flush(self) -> None:
        """Tell what was kept; it is made again where that cannot be."""
        facts, self._made = self._made, []
        try:
            await self._house.ledger.append(facts)
        except TallyError as wrong:
            _log.warning("the cache does not keep %d steps of %s: %s", len(facts), self._run.key, wrong)

    async def close(self) -> None:
        """Tell which step of each path is the newest, for runs to come."""
        await self.flush()
        await self._ask(self._newest)
        house, facts = self._house, list[Fact]()
        for key, kept in self._newest.items():
            known = self._before[key]
            if known is None or known.recipe != kept.recipe:
                note = f"{kept.run} {kept.path}"
                facts.append(
                    Fact("step", key, "last", to_json(kept), note, house.clock.now_ms(), house.tenant)
                )
        await house.ledger.append(facts)

    async def _ask(self, lasts: Iterable[str], *keys: str) -> Mapping[str, Fact]:
        """What is kept under ``keys``; what was told under ``lasts`` before this run comes with it, once."""
        fresh = [last for last in lasts if last not in self._before]
        if not (keys or fresh):
            return {}
        facts = await self._house.ledger.latest_of(self._house.tenant, "step", [*keys, *fresh])
        for last in fresh:
            told = facts.get(last)
            self._before[last] = read_kept(told.state) if told else None
        return facts


def _kind(component: Component, pinned: str) -> tuple[str, str, str]:
    """The same for equal components, and for few others; a component itself has no hash."""
    code = component.code
    return component.name, code.source if isinstance(code, Function) else code.image, pinned


def _why(before: Kept | None, recipe: Recipe) -> str:
    if before is None:
        return "miss: never made"
    parts = ", ".join(changed(before.recipe, recipe.parts)) or "nothing"
    return f"miss: {parts} changed since {before.run}"


def declared(component: Component, inputs: Values) -> Values:
    """What the component knows of a task's inputs; the others were there for its condition and templates."""
    params, slots = {p.name for p in component.params}, {s.name for s in component.artifacts}
    return Values(
        {name: value for name, value in inputs.params.items() if name in params},
        {name: refs for name, refs in inputs.artifacts.items() if name in slots},
    )


def said_of(start: StartStep, facts: Facts) -> dict[str, Any]:
    """What an importer's task says of what it brings in, its templates filled in."""
    if not isinstance(start.task.body, Importer):
        return {}
    told, said = facts.of(start.task.name, start.path), dict(start.task.body.metadata)
    metadata: dict[str, Any] = filled(said, told, start.inputs.params, start.path)
    check_values("metadata", metadata, "say less of it")
    return metadata


def imported(kept: Values, body: Importer, snapshot: Snapshot, metadata: Mapping[str, Any]) -> Values:
    """What an importer puts out: the rows that are ``kept``, with what is said of them."""
    uri = f"{TABLE_URI}{snapshot.key}"
    own = {"uri": uri, "snapshot": snapshot.key, "snapshot_digest": snapshot.digest, "rows": snapshot.rows}
    (ref,) = kept.artifacts["artifact"]
    made = replace(ref, schema=body.schema, uri=uri, metadata={**metadata, **own})
    return Values(artifacts={"artifact": (made,)})


def stored(ref: ArtifactRef, start: StartStep, facts: Facts) -> Values:
    """What an importer puts out of an artifact that is there already: that, with what else is said of it."""
    schema = start.task.body.schema if isinstance(start.task.body, Importer) else ref.schema
    said = {**ref.metadata, **said_of(start, facts)}
    return Values(artifacts={"artifact": (replace(ref, name="artifact", schema=schema, metadata=said),)})


def _span(ms: int) -> str:
    return next((f"{ms // size} {unit}" for size, unit in UNITS if ms >= size), "less than 1 s")
