"""The keeper: one actor on each node, which runs the steps that come there with that machine's executor.

Where the node sees the hub's own files (it is the same machine, or the same container), a step runs in the
hub's folders; elsewhere in folders of the node's, and what it reads and makes is sent. What there is to tell,
the driver fetches by :meth:`Keeper.news`, in the order in which it came about.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray

from tallystick import __version__
from tallystick.core.errors import Failed, NotSupported, TallyError, Unavailable
from tallystick.core.facts import from_json, to_json
from tallystick.core.pipeline.spec import Component
from tallystick.crew.ray import janitor
from tallystick.crew.ray.jobs import identity, input_files, read_job, write_outcome
from tallystick.crew.ray.machine import Machine, is_same_machine
from tallystick.crew.ray.parcel import pack
from tallystick.crew.ray.relay import NodeDoor
from tallystick.crew.ray.shelf import Shelf
from tallystick.ports.executor import Job, Outcome

__all__ = ["Keeper"]

CANCELLED_MAX = 1000
"""Cancelled steps that are remembered, should one of them come only now."""
MIB = 1024 * 1024

News = tuple[str, str, Any]
"""Whose it is, what it is, and the rest."""


@dataclass
class _Step:
    """A step that is here: its folder where that is the node's own, and what it still needs."""

    folder: Path | None = None
    work: asyncio.Task[dict[str, Any]] | None = None
    wanted: dict[int, asyncio.Future[str]] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    door: NodeDoor | None = None
    outcome: Outcome = field(default_factory=Outcome)
    reading: dict[str, Iterator[bytes]] = field(default_factory=dict)


class _Keeper:
    """See the module. ``plan`` is what the driver says to all keepers alike, ``node`` its name."""

    def __init__(self, plan: Mapping[str, Any], node: str) -> None:
        self._plan = plan
        self._node = node
        base = Path(plan["base"] or tempfile.gettempdir()).resolve()
        self._folder = Path(tempfile.mkdtemp(prefix="tally-", dir=base))
        self._janitor = subprocess.Popen(
            [sys.executable, "-I", "-S", janitor.__file__, str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in ("w", "s"):
            (self._folder / name).mkdir()
        self._shelf = Shelf(self._folder / "c", int(plan["ray_cache_mib"]) * MIB)
        self._in_place = bool(plan["ray_same_files"]) and is_same_machine(plan)
        self._machine: Machine | None = None
        self._steps: dict[str, _Step] = {}
        self._cancelled: dict[str, None] = {}
        self._news: list[News] = []
        self._something = asyncio.Event()

    async def hello(self) -> dict[str, Any]:
        """Get ready; Unavailable where this node cannot run steps. What there is to know of it."""
        if self._plan["version"] != __version__:
            raise Unavailable(
                f"it has tallystick {__version__}, and the hub has {self._plan['version']}",
                where=f"node {self._node}",
                hint="install the same version on every node",
            )
        if self._machine is None:
            self._machine = Machine.opened(self._plan, self._folder, in_place=self._in_place)
        return {"pid": os.getpid(), "in_place": self._in_place}

    # ------------------------------------------------------------------------------------ news

    async def news(self) -> list[News]:
        """What has come about since the last time, as soon as there is anything."""
        await self._something.wait()
        self._something.clear()
        news, self._news = self._news, []
        return news

    def _tell(self, ident: str, kind: str, rest: Any = None) -> None:
        self._news.append((ident, kind, rest))
        self._something.set()

    # ----------------------------------------------------------------------------------- steps

    async def run(self, order: Mapping[str, Any], gpus: list[str]) -> None:
        """Run a step to its end, of which the news tell."""
        ident = order["ident"]
        if ident in self._cancelled:
            return
        await self.hello()
        self._tell(ident, "began")
        step = self._steps[ident] = _Step()
        step.work = asyncio.create_task(self._carried_out(step, order, gpus))
        await asyncio.wait([step.work])
        if step.door:
            await step.door.close()
        for digest in step.taken:
            self._shelf.give_back(digest)
        said = {"cancelled": True} if step.work.cancelled() else step.work.result()
        if not step.outcome.artifacts or self._in_place:
            await self.forget(ident)
        self._tell(ident, "ended", said)

    async def _carried_out(self, step: _Step, order: Mapping[str, Any], gpus: list[str]) -> dict[str, Any]:
        try:
            job = await self._job(step, order, gpus)
            if wrong := await self._strange(job):
                return {"outcome": write_outcome(Outcome(error=wrong))}
            executor = self._ready().executor(job.component, apart=order["apart"])
            step.outcome = await executor.run(job, lambda line: self._tell(order["ident"], "log", line))
        except TallyError as wrong_order:
            return {"wrong": wrong_order.as_dict()}
        except Exception as wrong:  # noqa: BLE001  reason: the step's edge; the driver must hear of it
            return {"wrong": Failed(f"{type(wrong).__name__}: {wrong}"[:500]).as_dict()}
        return {"outcome": write_outcome(step.outcome), "in_place": self._in_place}

    def _ready(self) -> Machine:
        if self._machine is None:
            raise Unavailable("it is not ready", where=f"node {self._node}")
        return self._machine

    async def _job(self, step: _Step, order: Mapping[str, Any], gpus: list[str]) -> Job:
        """The job with this machine's paths; what the node does not see or have is asked for."""
        inputs = await self._inputs(step, order)
        workdir, hub_socket = Path(order["workdir"]), Path(order["job"]["hub_socket"] or "/")
        if not self._in_place:
            step.folder = workdir = self._folder / "w" / order["ident"]
            workdir.mkdir()
            if order["job"]["hub_socket"]:
                hub_socket = await self._open_door(step, order["ident"])
        job = read_job(order["job"], workdir, inputs, hub_socket if order["job"]["hub_socket"] else None)
        env = {**job.env, **order["env"], "TALLY_NODE": self._node}
        if gpus:
            if self._ready().hides_files:
                raise NotSupported(
                    "the sandbox shows no GPU to a step",
                    where=f"node {self._node}",
                    hint="where the code is your own, set sandbox = process",
                )
            env["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        asked = replace(job.component.resources, gpus=0, workers=order["workers"])
        return replace(job, env=env, component=replace(job.component, resources=asked))

    async def _inputs(self, step: _Step, order: Mapping[str, Any]) -> list[Path]:
        paths = []
        for number, file in enumerate(input_files(order["job"])):
            path = Path(file["path"])
            if not self._sees(path, order["inputs"][number]):
                step.wanted[number] = asyncio.get_running_loop().create_future()
                self._tell(order["ident"], "want", number)
                path = self._shelf.path(await step.wanted[number])
            paths.append(path)
        return paths

    def _sees(self, path: Path, wanted: list[int]) -> bool:
        if not self._plan["ray_same_files"]:
            return False
        try:
            return identity(path) == wanted
        except OSError:
            return False

    async def _open_door(self, step: _Step, ident: str) -> Path:
        step.door = NodeDoor(
            self._folder / "s" / os.urandom(4).hex(), lambda n, piece: self._tell(ident, "wire", (n, piece))
        )
        await step.door.open()
        return step.door.path

    async def _strange(self, job: Job) -> str:
        """Why this node is not what the step was planned for, where packages are those beside the hub."""
        planned = job.environment
        if planned is None or planned.lock or (self._in_place and self._plan["python"] == sys.executable):
            return ""
        mine = await self._ready().usual.environment(job.component)
        if mine.digest == planned.digest:
            return ""
        differing = sorted(
            name
            for name in {*mine.packages, *planned.packages}
            if mine.packages.get(name) != planned.packages.get(name)
        )
        here = f"Python {mine.python} on {mine.platform}"
        if differing:
            name = differing[0]
            here = f"{name} {mine.packages.get(name, 'missing')}, not {planned.packages.get(name, 'missing')}"
        return f"node {self._node} is not what the step was planned on: it has {here}"

    async def cancel(self, ident: str) -> None:
        """End a step; when this returns all of it is gone."""
        self._cancelled[ident] = None
        while len(self._cancelled) > CANCELLED_MAX:
            del self._cancelled[next(iter(self._cancelled))]
        if (step := self._steps.get(ident)) and step.work:
            step.work.cancel()
            await asyncio.wait([step.work])

    async def forget(self, ident: str) -> None:
        """The driver has all that it wants of a step."""
        step = self._steps.pop(ident, None)
        if step and step.folder:
            await asyncio.to_thread(shutil.rmtree, step.folder, ignore_errors=True)

    # ------------------------------------------------------------------------- what is sent

    async def offer(self, ident: str, number: int, digest: str) -> bool:
        """Whether a content is here already; then the step has its input."""
        step = self._steps.get(ident)
        if step is None:
            return True
        if not self._shelf.take(digest):
            return False
        step.taken.append(digest)
        if not (wanted := step.wanted[number]).done():
            wanted.set_result(digest)
        return True

    async def put(self, digest: str, piece: bytes, first: bool, last: bool) -> None:
        """The next piece of a content."""
        await asyncio.to_thread(self._shelf.put, digest, piece, first=first, last=last)

    async def drop(self, digest: str) -> None:
        """No more of a content will come."""
        self._shelf.drop(digest)

    async def take(self, ident: str, name: str) -> bytes:
        """The next piece of a step's output; empty after the last one."""
        step = self._steps[ident]
        if name not in step.reading:
            step.reading[name] = pack(step.outcome.artifacts[name].path)
        return await asyncio.to_thread(next, step.reading[name], b"")

    async def wire(self, ident: str, number: int, piece: bytes | None) -> None:
        """Bytes from the hub for a connection of a step's."""
        if (step := self._steps.get(ident)) and step.door:
            await step.door.answer(number, piece)

    async def wired(self, ident: str, number: int) -> None:
        """The last piece of a connection has reached the hub."""
        if (step := self._steps.get(ident)) and step.door:
            step.door.was_taken(number)

    # ----------------------------------------------------------------------------- the node

    async def environment(self, component: Mapping[str, Any]) -> dict[str, Any]:
        """What a component would run on here; ``{"wrong"}`` says why it cannot be said."""
        try:
            known: dict[str, Any] = to_json(
                await self._ready().usual.environment(from_json(Component, component))
            )
        except TallyError as wrong:
            return {"wrong": wrong.as_dict()}
        return {"environment": known}

    async def meeting_place(self) -> dict[str, str]:
        """Where the workers of a distributed step can meet, if their first is here."""
        return self._ready().meeting_place()

    async def network(self) -> dict[str, str]:
        """What a worker here must know of this node's network."""
        return self._ready().network()

    async def close(self) -> None:
        """End every step, and what they are forked from."""
        for ident in list(self._steps):
            await self.cancel(ident)
        if self._machine:
            await self._machine.close()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


Keeper: Any = ray.remote(num_cpus=0, max_restarts=0)(_Keeper)
