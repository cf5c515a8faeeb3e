"""Library: the experiments that runs are filed under, and what became of each run in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tallystick.core.errors import BadInput, Conflict, NotFound, TallyError
from tallystick.core.facts import from_json
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.run.events import Run, RunState
from tallystick.core.run.options import RunOptions
from tallystick.hub.execute import cancel
from tallystick.hub.house import House
from tallystick.hub.house.specs import keep_spec, spec_of
from tallystick.routines.begin import carry_on, planned

__all__ = [
    "DEFAULT",
    "NAME_CHARS_MAX",
    "TEXT_CHARS_MAX",
    "Experiment",
    "Filed",
    "Library",
    "check_text",
    "there",
]

T = TypeVar("T")
DEFAULT = "Default"
"""The experiment of runs that name none."""
NAME_CHARS_MAX = 256
TEXT_CHARS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Experiment:
    """What runs are filed under. ``removed`` and ``archived`` touch no run."""

    key: str
    name: str
    description: str = ""
    created_ms: int = 0
    archived: bool = False
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Filed:
    """How a run is filed: noun ``experiment``, under the run's own key, as it belongs to its experiment.

    ``attempts`` are the runs that were made of it again after it had failed; the last one is how it stands.
    ``schedule`` made it for the time ``due_ms``; ``about`` is for the door through which it came.
    """

    run: str
    name: str = ""
    description: str = ""
    experiment: str = ""
    archived: bool = False
    removed: bool = False
    attempts: tuple[str, ...] = ()
    schedule: str = ""
    due_ms: int = 0
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Library:
    """The verbs; ``read`` makes a pipeline of a file's bytes."""

    house: House
    read: Callable[[bytes], Pipeline]

    async def keep(self, spec: bytes) -> str:
        """Store a pipeline's file; its digest."""
        return await keep_spec(self.house, spec)

    async def spec(self, digest: str) -> bytes:
        """A pipeline's file."""
        return await spec_of(self.house, digest)

    async def experiments(self) -> Sequence[Experiment]:
        """All that were not removed, most recently changed first."""
        facts = await self.house.ledger.listing(self.house.tenant, "experiment", 2**31)
        found = [from_json(Experiment, f.state) for f in facts if "run" not in f.state]
        return [e for e in found if not e.removed]

    async def experiment(self, key: str) -> Experiment:
        """One of them; NotFound when there is none."""
        if not key.startswith("experiment-"):
            raise NotFound(f"no experiment {key[:100]!r}", where="experiment")
        return there("experiment", key, await self.house.find("experiment", key, Experiment))

    async def open_experiment(self, name: str, description: str = "", *, new: bool = False) -> Experiment:
        """The experiment of that name, made where there is none; Conflict where it must be ``new``."""
        check_text(name, "experiment", NAME_CHARS_MAX)
        check_text(description or "-", "description", TEXT_CHARS_MAX)
        async with self.house.lock("experiment", ""):
            found = next((e for e in await self.experiments() if e.name == name), None)
            if found and new:
                raise Conflict(f"an experiment is called {name!r} already", where="experiment")
            if found:
                return found
            key, now = self.house.new_key("experiment"), self.house.clock.now_ms()
            made = Experiment(key, name, description, now)
            await self.house.tell("experiment", key, "made", made, name)
            return made

    async def mark_experiment(self, key: str, event: str, **changes: Any) -> None:
        """Change ``archived`` or ``removed``."""
        async with self.house.lock("experiment", ""):
            await self.house.tell("experiment", key, event, replace(await self.experiment(key), **changes))

    async def start(
        self, spec: bytes, given: Mapping[str, Any], options: RunOptions, filed: Filed, key: str = ""
    ) -> Run:
        """Plan a run, file it, and let it run. With ``key`` it is made once, however often this is called."""
        pipeline = await asyncio.to_thread(self.read, spec)
        run = await self.house.find("run", key, Run) if key else None
        if run is None:
            # Before there is a run: one that could not be filed would stand there, and nobody would start it.
            check_text(options.experiment or DEFAULT, "experiment", NAME_CHARS_MAX)
            run = await planned(self.house, pipeline, spec, given, options, key=key)
        if not filed.attempts:
            experiment = await self.open_experiment(options.experiment or DEFAULT)
            filed = replace(filed, run=run.key, experiment=experiment.key)
            await self.house.tell("experiment", run.key, "filed", filed, filed.name)
        carry_on(self.house, pipeline, run)
        return run

    async def filed(self, run: str) -> Filed:
        """How a run is filed; one that came by another door is not, and stands as itself."""
        fact = await self.house.ledger.latest(self.house.tenant, "experiment", run)
        found = from_json(Filed, fact.state) if fact and "run" in fact.state else Filed(run)
        if found.removed:
            raise NotFound(f"no run {run[:100]!r}", where="run")
        return found

    async def _first(self, key: str) -> str:
        """The run of which ``key`` is an attempt, or ``key``."""
        facts = await self.house.ledger.listing(self.house.tenant, "experiment", 2**31)
        return next((f.key for f in facts if key in f.state.get("attempts", ())), key)

    async def standing(self, filed: Filed) -> Run:
        """The run, or its last attempt; NotFound when there is none."""
        for key in reversed(filed.attempts):
            if found := await self.house.find("run", key, Run):
                return found
        return await self.house.get("run", filed.run, Run)

    async def mark_run(self, key: str, event: str, **changes: Any) -> None:
        """Change ``archived`` or ``removed``; what is removed is stopped as well."""
        async with self.house.lock("experiment", ""):
            filed = await self.filed(key)
            run = await self.standing(filed)
            if changes.get("removed") and not run.state.ended:
                await cancel(self.house, run.key)
            await self.house.tell("experiment", key, event, replace(filed, **changes))

    async def retry(self, key: str) -> Run:
        """Do a run again that failed or was cancelled, as it was; finished steps come from the cache.

        One that a cluster executed is submitted to that cluster again, and its cache is asked. ``key`` may be
        that of an attempt: the first one has another then. BadInput for what did not fail, and for a run that
        reproduces another.
        """
        async with self.house.lock("experiment", ""):
            key = await self._first(key)
            filed = await self.filed(key)
            run = await self.standing(filed)
            if run.state not in (RunState.FAILED, RunState.CANCELLED):
                what = f"only what failed or was cancelled can be retried, and its state is {run.state}"
                raise BadInput(what, where=run.key)
            if run.reproduces:  # with its pins, which a run that is planned anew does not get
                hint = f"tally reproduce {run.reproduces}"
                raise BadInput(f"it did {run.reproduces} again, on what that had", where=run.key, hint=hint)
            again = replace(filed, attempts=(*filed.attempts, self.house.new_key("run")))
            await self.house.tell("experiment", key, "retried", again)
            try:
                spec = await self.spec(run.spec_digest)
                return await self.start(spec, run.params, run.options, again, again.attempts[-1])
            except TallyError:
                await self.house.tell("experiment", key, "not retried", filed)
                raise


def check_text(text: str, what: str, most: int) -> None:
    """BadInput for a name that is empty, too long, or does not show as what it is."""
    lines = "\n\r\t" if most == TEXT_CHARS_MAX else ""
    if not text.strip() or len(text) > most or not all(c.isprintable() or c in lines for c in text):
        raise BadInput(f"{text[:60]!r} is no {what}: 1 to {most} characters that show", where=what)


def there(what: str, key: str, found: T | None) -> T:
    """What was found; NotFound where that is nothing, or was removed."""
    if found is None or getattr(found, "removed", False):
        raise NotFound(f"no {what} {key[:100]!r}", where=what)
    return found
