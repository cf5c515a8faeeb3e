"""The house: the parts that every verb works with, and the few things that all of them do."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tallystick.core.errors import NotFound, NotSupported, TallyError, Unavailable
from tallystick.core.facts import Fact, from_json, to_json
from tallystick.core.names import DEFAULT_TENANT
from tallystick.core.signal import DriftLimits
from tallystick.evidence.policy import Policy
from tallystick.hub.house.inbox import Inbox
from tallystick.hub.house.log import StepLog
from tallystick.hub.house.removal import Remover
from tallystick.hub.house.route import Routes
from tallystick.ports.artifacts import Artifacts
from tallystick.ports.catalogue import Catalogue
from tallystick.ports.clock import Clock
from tallystick.ports.executor import Door, Executor
from tallystick.ports.ledger import Ledger
from tallystick.ports.models.signing import Signing
from tallystick.ports.registry import Registry
from tallystick.ports.runs.cluster import Cluster
from tallystick.ports.runs.conditions import Conditions
from tallystick.ports.runs.journal import Journal
from tallystick.ports.runs.records import StepRecords
from tallystick.ports.sandbox import Sandbox
from tallystick.ports.traffic import Traffic

__all__ = ["House", "Limits"]

T = TypeVar("T")
EVERY = 2**31
RESCUE_EVERY_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one hub does at once, and what one piece of work may use."""

    steps_at_once: int = 2
    judge_cpu_s: int = 1800
    probe_s: float = 1800.0
    memory_mib: int = 4096
    settle_every_s: float = 1.0
    start_s: float = 60.0
    infer_bytes_max: int = 64 * 2**20


@dataclass(slots=True)
class House:
    """All parts, by the ports' names, and what is under way.

    ``scratch`` is a folder for work in progress, emptied at start. ``inboxes`` take events for runs under
    way, ``progress`` holds the share done and words for each key under way, and ``wake`` is set when there is
    something to settle. ``policy_text`` is the policy's file as it was written, and ``signing`` the hub's own
    keys with those that it trusts; None where there are none. With ``unsigned_code`` a model's code is loaded
    behind a wall though nobody vouches for it. ``rescue`` ends the noun of a key whose work broke off.
    ``step_door`` opens MLflow's door for one step, named by its run and path (``run-1 train``): the socket to
    hand to the step, and ``records`` takes its record. There is neither where MLflow is not the registry.
    ``executors`` are others than ``executor``, by the name that a run's options give, and ``logs`` are open
    for the steps that run, by run and path. ``clusters`` gives the one at a host, to which whole runs are
    handed; Refused for one that the settings do not name. Of ``environments`` it is known that the ledger has
    them, and of ``empty_log``, a digest, that it is among the artifacts. ``step_slots`` are held by steps
    that execute, of all runs together, and ``errand_slots`` by errands that load a model, attack it or
    measure: ``limits.steps_at_once`` of each, and ``own_slots`` by the steps of executors that say how many
    they take. ``remover`` removes what steps leave. Names of folders end with ``mark``, which is this
    house's, and the next of ``numbers``.
    """

    ledger: Ledger
    journal: Journal
    artifacts: Artifacts
    catalogue: Catalogue
    executor: Executor
    sandbox: Sandbox
    registry: Registry
    traffic: Traffic
    clock: Clock
    conditions: Conditions
    routes: Routes
    policy: Policy
    scratch: Path
    drift: DriftLimits = field(default_factory=DriftLimits)
    limits: Limits = field(default_factory=Limits)
    policy_text: str = ""
    signing: Signing | None = None
    unsigned_code: bool = False
    step_door: Callable[[str], AbstractAsyncContextManager[Door]] | None = None
    records: StepRecords | None = None
    executors: dict[str, Executor] = field(default_factory=dict)
    clusters: Callable[[str], Cluster] | None = None
    logs: dict[tuple[str, str], StepLog] = field(default_factory=dict)
    environments: set[str] = field(default_factory=set)
    empty_log: str = ""
    attack: str = "art"
    tenant: str = DEFAULT_TENANT
    locks: dict[tuple[str, str], asyncio.Lock] = field(default_factory=dict)
    tasks: dict[str, asyncio.Task[Any]] = field(default_factory=dict)
    inboxes: dict[str, Inbox] = field(default_factory=dict)
    progress: dict[str, tuple[float, str]] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    rescue: Callable[[str, str], Awaitable[None]] | None = None
    step_slots: asyncio.Semaphore = field(init=False)
    errand_slots: asyncio.Semaphore = field(init=False)
    own_slots: dict[int, asyncio.Semaphore] = field(default_factory=dict)
    remover: Remover = field(default_factory=Remover)
    mark: str = field(default_factory=lambda: secrets.token_hex(6))
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.step_slots = asyncio.Semaphore(self.limits.steps_at_once)
        self.errand_slots = asyncio.Semaphore(self.limits.steps_at_once)

    def executor_of(self, name: str) -> Executor:
        """The executor of that name; the house's own for none. NotSupported names those that there are."""
        if name and name not in self.executors:
            known = ", ".join(self.executors) or "none but the hub's own"
            raise NotSupported(f"there is no executor {name[:100]!r}", where="on", hint=f"there is {known}")
        return self.executors[name] if name else self.executor

    def slots_of(self, name: str) -> tuple[asyncio.Semaphore, int]:
        """What the steps of an executor hold, and how many may: the house's own, unless it says so itself."""
        executor = self.executor_of(name)
        if most := int(getattr(executor, "steps_at_once", 0)):
            return self.own_slots.setdefault(id(executor), asyncio.Semaphore(most)), most
        return self.step_slots, self.limits.steps_at_once

    def cluster_at(self, host: str) -> Cluster:
        """The cluster at ``host``; NotSupported where the house hands nothing over."""
        if self.clusters is None:
            raise NotSupported("this hub hands nothing to clusters", where=host[:200])
        return self.clusters(host)

    def lock(self, noun: str, key: str) -> asyncio.Lock:
        """One lock for each key: who reads a noun in order to change it holds this meanwhile."""
        return self.locks.setdefault((noun, key), asyncio.Lock())

    def new_key(self, noun: str) -> str:
        """A new key, sorted by time: ``run-1a2b3c4d5e6f-7a8b9c``."""
        return f"{noun}-{self.clock.now_ms():012x}-{secrets.token_hex(3)}"

    def folder(self, name: str) -> Path:
        """A new, empty folder for one piece of work, readable by the hub's user alone.

        Unavailable when the disk is full or read-only.
        """
        path = self.scratch / f"{name}-{self.mark}-{next(self.numbers):x}"
        try:
            path.mkdir(mode=0o700, parents=True)
        except OSError as wrong:
            hint = "free some space, then try again"
            raise Unavailable(
                f"no folder can be made: {wrong.strerror}", where=str(self.scratch), hint=hint
            ) from wrong
        return path

    async def tell(self, noun: str, key: str, event: str, state: Any, note: str = "") -> None:
        """Append one fact; it is durable on return."""
        fact = Fact(noun, key, event, to_json(state), note, self.clock.now_ms(), self.tenant)
        await self.ledger.append([fact])

    async def find(self, noun: str, key: str, kind: type[T]) -> T | None:
        """The present state of a key, or None."""
        fact = await self.ledger.latest(self.tenant, noun, key)
        return from_json(kind, fact.state) if fact else None

    async def get(self, noun: str, key: str, kind: type[T]) -> T:
        """The present state of a key; NotFound names some that do exist."""
        found = await self.find(noun, key, kind)
        if found is None:
            known = [f.key for f in await self.ledger.listing(self.tenant, noun, 5)]
            hint = f"there is {', '.join(known)}" if known else f"there is no {noun} yet"
            raise NotFound(f"no {noun} {key!r}", where=noun, hint=hint)
        return found

    async def all(self, noun: str, kind: type[T], limit: int = EVERY) -> Sequence[T]:
        """The present states of a noun, most recently changed first; every one, as decisions rest on it."""
        return [from_json(kind, f.state) for f in await self.ledger.listing(self.tenant, noun, limit)]

    def start(self, key: str, work: Any) -> None:
        """Let ``work`` (a coroutine) go on in the background under ``key`` until it ends or the hub does.

        Work that breaks off with an error is given up: ``rescue`` is told, so that nobody waits for it
        for ever.
        """
        task = asyncio.create_task(self._guarded(key, work), name=key)
        self.tasks[key] = task
        task.add_done_callback(lambda _: self.tasks.pop(key) if self.tasks.get(key) is task else None)

    async def _guarded(self, key: str, work: Awaitable[Any]) -> None:
        try:
            await work
        except Exception as wrong:  # noqa: BLE001  reason: the edge of background work; nobody else would hear
            _log.error("%s broke off: %s", key, wrong, exc_info=not isinstance(wrong, TallyError))
            why = str(wrong) if isinstance(wrong, TallyError) else f"{type(wrong).__name__}: {wrong}"
            await self._rescue(key, why)

    async def _rescue(self, key: str, why: str) -> None:
        """Tell ``rescue``, again and again while the ledger cannot take it (a full disk, a lock)."""
        told = self.rescue is None
        while not told and self.rescue:
            try:
                await self.rescue(key, why)
                told = True
            except TallyError as wrong:
                _log.error("%s cannot be ended yet: %s", key, wrong)
                await self.clock.sleep(RESCUE_EVERY_S)

    def worker_env(self) -> Mapping[str, str]:
        """The environment of worker processes: nothing of the hub's own, one thread a library."""
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **one}
