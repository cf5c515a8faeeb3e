"""Probe: have what is sought found out by workers behind walls, whatever becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput, Failed, TallyError, TookTooLong
from tallystick.core.facts import to_json
from tallystick.core.model import ModelVersion, TensorSpec
from tallystick.core.wall import Wall
from tallystick.evidence.threats import THROUGH
from tallystick.hub.house import House
from tallystick.hub.house.errand import Errand, run_errand
from tallystick.hub.house.removal import remove
from tallystick.hub.house.serving import Served, serve_order, served, while_served
from tallystick.judging.sought import Sought

__all__ = ["Probing"]

WAITS_MAX = 3
"""How many times its CPU time a judgement may last: it may wait for a model that answers slowly."""

ASKED_BYTES_MAX = 64 * 2**20
"""Of one request to a model that is judged."""

LATE_S = 180.0
"""So much longer than it may take a probe has to end by itself: then its process is ended."""

ATTEMPTS_MAX = 6
"""How often a worker, or a model that answers no more, is started in one judgement."""

TWIN = "twin.onnx"


class _Late(TookTooLong):
    """A probe went on for too long, and did not end by itself."""


class Probing:
    """The workers of one judgement. ``began`` is the probe under way, ``told`` how many an attempt told."""

    def __init__(self, sought: Sought) -> None:
        self._sought, self._house = sought, sought.house
        self._began, self._told = "", 0

    async def find_out(self) -> None:
        """Have all that is left done; a probe that ends its process is given up, and the others go on.

        The error itself where not even the clean rows could be asked about.
        """
        house = self._house
        limit_s = WAITS_MAX * house.limits.judge_cpu_s
        folder = house.folder("judge")
        limit = asyncio.timeout(None)
        try:
            if house.errand_slots.locked():
                house.progress[self._sought.key] = (0.0, "waiting for its turn")
            async with house.errand_slots, limit:
                limit.reschedule(asyncio.get_running_loop().time() + limit_s)
                await self._prepare(folder)
                for attempt in range(ATTEMPTS_MAX):
                    if not await self._again(folder, attempt):
                        break
        except TimeoutError:
            if not limit.expired():
                raise
            where = self._sought.subject.name
            self._give_up_all(TookTooLong(f"no evidence within {limit_s:g} s", where=where))
        finally:
            await remove(folder)

    async def _again(self, folder: Path, attempt: int) -> bool:
        """Make an attempt; whether another is needed, as it broke off within a probe or after some."""
        self._began, self._told = "", 0
        last = attempt == ATTEMPTS_MAX - 1
        try:
            await self._attempt(folder, folder / f"out{attempt}", last=last)
        except (BadInput, Failed) as wrong:
            under_way = next((p for p in self._sought.probes if p.name == self._began), None)
            if under_way:
                ended = "" if isinstance(wrong, _Late) else "the process ended while it was carried out: "
                self._sought.give_up(under_way, f"{ended}{wrong}"[:500])
            if last or not (under_way or self._told):
                self._give_up_all(wrong)
            return bool(self._sought.left())
        return False

    def _give_up_all(self, wrong: TallyError) -> None:
        if not self._sought.begun:
            raise wrong
        for listed in self._sought.left():
            self._sought.give_up(listed, str(wrong)[:500])

    async def _prepare(self, folder: Path) -> None:
        """The files that the worker is to see."""
        sought, unpack = self._sought, self._house.artifacts.unpack
        await unpack(sought.rows.artifact, folder / "rows.parquet")
        if sought.subject.model:
            await unpack(sought.subject.digest, folder / "model")
        if sought.train and any(p.train for p in sought.left()):
            await unpack(sought.train.artifact, folder / "train.parquet")

    async def _attempt(self, folder: Path, out: Path, *, last: bool) -> None:
        """One worker, or two, from the model's first answer to the end."""
        await asyncio.to_thread(out.mkdir, 0o700)
        order = await self._order(folder, out, restarts=not last)
        model = self._sought.subject.model
        shown = [str(order[key]) for key in ("rows", "train", "folder") if key in order]
        wall = Wall(
            workdir=str(out),
            readable=(*shown, *(str(file) for file in order["known"].values() if file)),
            writable=(str(out),),
            env=self._house.worker_env(),
            cpu_seconds=self._house.limits.judge_cpu_s,
            memory_mib=self._house.limits.memory_mib,
            network=model is None,
        )
        if model is None or not model.runs_code:
            await self._judged(order, wall)
        else:
            await self._judged_beside(model, order, wall, folder / "twin")

    async def _order(self, folder: Path, out: Path, *, restarts: bool) -> dict[str, Any]:
        sought = self._sought
        order: dict[str, Any] = {
            "rows": str(folder / "rows.parquet"),
            "label": sought.label,
            "domain": to_json(sought.domain),
            "budget": to_json(sought.budget),
            "out": str(out),
            "probes": to_json(sought.probes),
            "base": sought.base,
            "known": await self._handed(await asyncio.to_thread(_made, folder / f"{out.name}.known")),
            "given_up": {name: probe.why for name, probe in sought.given_up.items()},
            "train_digest": sought.train_digest,
            "trained_on": sought.trained_on,
            "probe_s": self._house.limits.probe_s,
            "threads": len(os.sched_getaffinity(0)),
            "seed": sought.budget.seed,
        }
        if (folder / "train.parquet").is_file():
            order["train"] = str(folder / "train.parquet")
        if sought.subject.model is None:
            return {**order, "endpoint": sought.subject.address}
        files = folder / "model"
        return {
            **order,
            "folder": str(files),
            "size_bytes": await asyncio.to_thread(_size_of, files),
            "restarts": restarts,
        }

    async def _handed(self, folder: Path) -> dict[str, str | None]:
        """By key what need not be done; of an evasion probe the arrays after it, in ``folder``, where another
        probe goes on from there: one that is still to be carried out, or whatever comes last.
        """
        sought = self._sought
        made: dict[str, str | None] = {sought.base: None} if sought.base in sought.known else {}
        newest, wanted = "", []
        for listed, key in sought.keyed():
            if key in sought.known:
                made[key] = "" if sought.chained(listed, key) else None
                newest = key if sought.chained(listed, key) else newest
            elif newest:
                wanted.append(newest)
        for place, key in enumerate(dict.fromkeys([*wanted, newest] if newest else ())):
            path = folder / f"known{place}.npz"
            await self._house.artifacts.unpack(sought.known[key].arrays, path)
            made[key] = str(path)
        return made

    async def _judged_beside(
        self, model: ModelVersion, order: dict[str, Any], wall: Wall, twin: Path
    ) -> None:
        """Judge a model that may run code.

        Code of the model's own never runs in the process that measures, as it could forge what is measured:
        such a model is served by a process of its own, which sees the rows that it is asked about and never
        their labels. Whether there is such code is what the model's record says; where that is forged, the
        errand ``judge`` finds a model that runs code and no process to ask, and measures nothing.
        """
        self._house.progress[self._sought.key] = (0.0, "loading the model in a process of its own")
        async with _beside(self._house, model) as server:
            views = [str(server.socket.parent)]
            order = {**order, "socket": str(server.socket), "name": model.name}
            order |= await self._twin(model, order, wall, twin)
            shown = (*wall.readable, *([order["twin"]] if "twin" in order else []))
            wall = replace(wall, readable=shown, writable=(*wall.writable, *views))
            await while_served(server, self._judged(order, wall))

    async def _twin(
        self, model: ModelVersion, order: Mapping[str, Any], wall: Wall, folder: Path
    ) -> dict[str, str]:
        """A twin of the model as ONNX, made once behind a wall like the model's own; or why there is none."""
        features = _features(model.inputs)
        if not features or not any(p.threat in THROUGH for p in self._sought.left()):
            return {}
        made = folder / TWIN
        if await asyncio.to_thread(_made_now, folder):
            asked = {"folder": order["folder"], "out": str(folder), "features": features}
            wall = replace(wall, workdir=asked["out"], readable=(asked["folder"],), writable=(asked["out"],))
            try:
                await run_errand(self._house.sandbox, "twin", asked, wall)
            except TallyError as wrong:
                return {"no_twin": wrong.what[:300]}
        return {"twin": str(made)} if await asyncio.to_thread(_is_plain, made) else {}

    async def _judged(self, order: Mapping[str, Any], wall: Wall) -> None:
        """Hear what the worker says, and keep each part as it comes; _Late where a probe does not end."""
        errand = await Errand.start(self._house.sandbox, "judge", order, wall)
        most, late = self._house.limits.probe_s + LATE_S, asyncio.timeout(None)
        try:
            async with late:
                await self._heard(errand, Path(order["out"]), late, most)
        except TimeoutError:
            if not late.expired():
                raise
            raise _Late(f"stopped after {most:g} s, as it did not end by itself") from None
        finally:
            await errand.end()

    async def _heard(self, errand: Errand, out: Path, late: asyncio.Timeout, most: float) -> None:
        """Until the result is there; a probe that has begun has ``most`` seconds to tell its part."""
        async for said in errand.lines():
            if isinstance(share := said.get("progress"), int | float):
                words = errand.plain(said.get("text"))
                self._house.progress[self._sought.key] = (min(1.0, max(0.0, share)), words)
            if "began" in said:
                self._began = str(said["began"])
                late.reschedule(asyncio.get_running_loop().time() + most)
            if "part" in said:
                late.reschedule(None)
                await self._sought.keep(out, str(said["part"]))
                self._began, self._told = "", self._told + 1
            if "result" in said:
                return


def _features(inputs: Sequence[TensorSpec]) -> int:
    """How many numbers a row of a model has; 0 where its signature leaves that open, or it takes text."""
    if any(spec.datatype == "BYTES" for spec in inputs) or not inputs:
        return 0
    count = 1
    for length in inputs[0].shape[1:] if len(inputs) == 1 else ():
        count *= max(0, length)
    return len(inputs) if len(inputs) > 1 else count


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def _made_now(folder: Path) -> bool:
    """Make a folder; False where it is there already."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _size_of(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextlib.asynccontextmanager
async def _beside(house: House, model: ModelVersion) -> AsyncIterator[Served]:
    """The model served in a folder of its own, in no way that tells it from an endpoint of its name."""
    folder = house.folder("serve")
    try:
        await house.artifacts.unpack(model.digest, folder / "model")
        order, wall = serve_order(house, folder, model.name, model.key, body_bytes_max=ASKED_BYTES_MAX)
        async with served(house, order, wall, model.key) as server:
            yield server
    finally:
        await remove(folder)
