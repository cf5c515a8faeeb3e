"""Put the house together: choose every tile by the settings, and take it apart in order."""

from __future__ import annotations

import asyncio
import contextlib
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from tallystick.core.endpoint import Endpoint
from tallystick.core.errors import BadInput, MissingTile, Unavailable
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.signal import DriftLimits
from tallystick.doors.kfp.reader import read_pipeline
from tallystick.evidence.policy import Policy
from tallystick.hub.house import House, Limits
from tallystick.hub.house.removal import remove
from tallystick.hub.house.route import Routes
from tallystick.hub.ingest import reconcile
from tallystick.ports.executor import Executor
from tallystick.ports.models.signing import Signing
from tallystick.ports.runs.calendar import Calendar
from tallystick.ports.sandbox import Sandbox
from tallystick.ports.tile import Place
from tallystick.routines.policies import enforce
from tallystick.routines.recover import end_records, give_up, recover
from tallystick.routines.rejudge import keep_rejudging
from tallystick.routines.schedule import keep
from tallystick.routines.served.settle import Settler
from tallystick.routines.tune import give_up_study
from tallystick.settings import Settings
from tallystick.wiring.away import Away
from tallystick.wiring.database.opened import Database
from tallystick.wiring.hands import pipeline_of
from tallystick.wiring.mlflow import Mlflow, mlflow_options, open_mlflow
from tallystick.wiring.tiles import known_tiles, open_tile
from tallystick.wiring.tuning import TrialHands, take_up_studies

__all__ = ["Built", "build", "policy_text", "read_policy"]

DEFAULT = "the default policy"


@dataclass
class Built:
    """A house with what keeps it going; ``rejudging`` is when what serves is judged again, and the label,
    ``environments`` the tile that builds them.
    """

    house: House
    settler: Settler
    sandboxes: dict[str, Sandbox]
    mlflow: Mlflow
    away: Away
    calendar: Calendar
    rejudging: tuple[str, str] = ("", "")
    environments: object = None
    settling: Sequence[asyncio.Task[None]] = ()

    async def begin(self) -> None:
        """Take up what was left unfinished, then begin to settle."""
        for endpoint in await self.house.all("endpoint", Endpoint):
            self.house.routes.trouble(endpoint.name, "the hub has just started")
        await enforce(self.house)
        marks, records = await recover(self.house, self.pipeline)
        await take_up_studies(self.house, TrialHands(self.house, self.mlflow.tracking))
        if marks:
            self.house.start("reconcile", self._reconcile(marks))
        if records:
            self.house.start("end records", end_records(self.house, records))
        schedules = keep(self.house, read_pipeline, self.calendar)
        cron, label = self.rejudging
        self.settling = [
            asyncio.create_task(self.settler.run(), name="settle"),
            asyncio.create_task(schedules, name="schedules"),
            asyncio.create_task(keep_rejudging(self.house, self.calendar, cron, label), name="rejudge"),
        ]

    async def pipeline(self, spec_digest: str) -> Pipeline:
        """The pipeline that a run was made from."""
        return (await pipeline_of(self.house, spec_digest))[0]

    async def _reconcile(self, marks: Sequence[Path]) -> None:
        """Bring the ledger up to the catalogue; the marks go when that is done, and not before."""
        await reconcile(self.house)
        for mark in marks:
            await remove(mark)

    async def close(self) -> None:
        """End all work and every process, then close the parts, those that keep the record last."""
        while tasks := [t for t in (*self.settling, *self.house.tasks.values()) if not t.done()]:
            for task in tasks:  # one that ends may have begun another, which nobody would end
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self.settler.close()
        await self.away.close()
        for executor in self.house.executors.values():
            await executor.close()
        await self.house.catalogue.close()
        if self.mlflow.child:
            await self.mlflow.child.close()
        for sandbox in self.sandboxes.values():
            await sandbox.close()
        self.house.remover.close()
        await self.house.traffic.close()
        await self.house.ledger.close()
        await self.mlflow.close()


def policy_text(path: str) -> str:
    """A policy's file as it was written, or the one that tallystick brings when ``path`` is empty."""
    try:
        if path:
            return Path(path).read_text("utf-8")
        return resources.files("tallystick.wiring").joinpath("policy.toml").read_text("utf-8")
    except OSError as wrong:
        raise BadInput(f"cannot be read: {wrong.strerror}", where=path or DEFAULT) from wrong
    except UnicodeDecodeError as wrong:
        raise BadInput(f"is not TOML: {wrong}", where=path or DEFAULT) from wrong


def read_policy(path: str, at_ms: int | None = None) -> Policy:
    """The gate's rules from a TOML file, or the ones that tallystick brings when ``path`` is empty.

    Where ``at_ms`` says what time it is, no exception is for over a year ahead.
    """
    where = path or DEFAULT
    try:
        wire = tomllib.loads(policy_text(path))
    except tomllib.TOMLDecodeError as wrong:
        raise BadInput(f"is not TOML: {wrong}", where=where) from wrong
    try:
        return Policy.parse(wire, at_ms)
    except BadInput as wrong:  # it names the part of the file; whoever reads it must know which file
        inside = f"{where}: {wrong.where}" if wrong.where else where
        raise type(wrong)(wrong.what, where=inside, hint=wrong.hint) from wrong


def build(settings: Settings, home: Path, database: Database) -> Built:
    """Open every tile. Light: what weighs is opened later, in processes of its own.

    ``database`` is MLflow's; who opened it closes it, after :meth:`Built.close`.
    """
    policy = read_policy(settings.policy, time.time_ns() // 1_000_000)
    sandboxes = _sandboxes(settings, home)
    chosen = next(iter(sandboxes.values()))
    parts = {"sandbox": chosen, "process_sandbox": sandboxes["process"]}
    place = Place(home, _options(settings, database), parts)

    def tile(port: str, name: str) -> Any:
        return open_tile(port, name, place)

    parts["environments"] = tile("environments", "uv")
    parts["bases"] = tile("bases", "local")
    executor, executors = _executors(settings, place)
    ledger = tile("ledger", settings.ledger)  # the journals of runs are in the same database
    house = House(
        ledger=ledger,
        journal=ledger,
        artifacts=tile("artifacts", settings.artifacts),
        catalogue=tile("catalogue", settings.catalogue),
        executor=executor,
        executors=executors,
        sandbox=chosen,
        registry=tile("registry", settings.registry),
        traffic=tile("traffic", "files"),
        clock=tile("clock", "system"),
        signing=_signing(place),
        unsigned_code=_unsigned_code(settings.unsigned_code),
        conditions=tile("conditions", "cel"),
        routes=Routes(),
        policy=policy,
        policy_text=policy_text(settings.policy),
        scratch=home / "scratch",
        drift=_drift(settings),
        limits=Limits(
            steps_at_once=settings.steps_at_once,
            judge_cpu_s=settings.judge_cpu_s,
            probe_s=float(settings.probe_s),
            memory_mib=settings.memory_mib,
            start_s=float(settings.start_s),
            infer_bytes_max=settings.infer_mib_max * 2**20,
        ),
        attack=settings.attack,
    )
    mlflow = open_mlflow(settings, place, database, house.registry, house.clock)
    if steps := getattr(house.registry, "steps", None):  # only MLflow's own tile keeps a record of steps
        house.records = steps(mlflow.tracking)
    house.rescue = partial(_rescue, house)
    away = Away(place, settings)
    house.clusters = away.cluster
    calendar = _calendar(settings, place)
    rejudging = settings.rejudge, settings.label
    kept = parts["environments"]
    return Built(house, Settler(house), sandboxes, mlflow, away, calendar, rejudging, kept)


def _drift(settings: Settings) -> DriftLimits:
    return DriftLimits(
        alpha=settings.drift_alpha,
        share_max=settings.drift_share_max,
        rows_min=settings.drift_rows_min,
        rows_max=settings.drift_rows_max,
        ks_min=settings.drift_ks_min,
        ks_alone=settings.drift_ks_alone,
    )


def _calendar(settings: Settings, place: Place) -> Calendar:
    """BadInput for a setting that is no time."""
    calendar: Calendar = open_tile("calendar", "cron", place)
    if settings.rejudge:
        calendar.check(settings.rejudge)
    return calendar


def _unsigned_code(said: str) -> bool:
    if said not in ("refuse", "sandbox"):
        hint = 'unsigned_code = "refuse" or "sandbox"'
        raise BadInput(f"unsigned_code is {said[:100]!r}", where="settings", hint=hint)
    return said == "sandbox"


def _signing(place: Place) -> Signing | None:
    """The home's keys; None where the package that signs is not installed, and nothing is vouched for."""
    with contextlib.suppress(MissingTile):
        found: Signing = open_tile("signing", "dsse", place)
        return found
    return None


async def _rescue(house: House, key: str, why: str) -> None:
    await give_up(house, key, why)
    await give_up_study(house, key, why)


def _executors(settings: Settings, place: Place) -> tuple[Executor, dict[str, Executor]]:
    """The chosen executor, and the others that are installed: a run says if it wants one of them."""
    local = open_tile("executor", "local", place)
    others, found = replace(place, parts={**place.parts, "executor": local}), {"local": local}
    for name in known_tiles("executor"):
        if name not in found:
            with contextlib.suppress(*() if name == settings.executor else (MissingTile,)):
                found[name] = open_tile("executor", name, others)
    return found.get(settings.executor) or open_tile("executor", settings.executor, others), found


def _options(settings: Settings, database: Database) -> dict[str, Any]:
    """What tiles are told, by the names that they give it."""
    return {
        "traffic_mib_max": settings.traffic_mib_max,
        "worker_idle_s": settings.worker_idle_s,
        "step_threads": settings.step_threads,
        "step_cpu_seconds": settings.step_cpu_s,
        "step_memory_mib": settings.memory_mib,
        "package_indexes": settings.package_indexes,
        "package_lock_age_s": settings.package_lock_age_s,
        "environments_bytes_max": settings.environments_gib * 2**30,
        "ray_address": settings.ray_address,
        **mlflow_options(settings, database),
    }


def _sandboxes(settings: Settings, home: Path) -> dict[str, Sandbox]:
    """The chosen sandbox first, and always ``process`` for our own children."""
    place = Place(home)
    found: dict[str, Sandbox] = {}
    if settings.sandbox == "auto":
        with contextlib.suppress(Unavailable):
            found["bubblewrap"] = open_tile("sandbox", "bubblewrap", place)
    else:
        found[settings.sandbox] = open_tile("sandbox", settings.sandbox, place)
    if "process" not in found:
        found["process"] = open_tile("sandbox", "process", place)
    return found
