"""A step from its order to its one outcome: placed by Ray, and placed again when its node is lost."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from tallystick.core.errors import Failed, TallyError, error_from_dict
from tallystick.crew.ray.attempt import Attempt, Lost
from tallystick.crew.ray.cluster import Cluster, Post
from tallystick.crew.ray.hold import hold
from tallystick.crew.ray.jobs import identity, input_files
from tallystick.crew.ray.workers import Workers

__all__ = ["Placing"]

WAIT_S = 2.0
"""A step that has not begun after this says that it waits."""
CANCEL_S_MAX = 5.0
"""For the rest of an attempt whose place on its node is lost."""


@dataclass
class Placing:
    """One step. ``job`` as the hub wrote it, ``wants`` for each of its processes, ``words`` for people."""

    cluster: Cluster
    number: int
    job: Mapping[str, Any]
    wants: Mapping[str, Any]
    words: str
    tries: int
    log: Callable[[str], None]
    lost: str = ""
    """Why the attempt before was lost, in words."""

    async def outcome(self) -> dict[str, Any]:
        """How the step ended. Cancelling this ends it everywhere first."""
        inputs = await asyncio.to_thread(self._identities) if self.job["artifacts"] else []
        for turn in range(1, self.tries + 1):
            folder = Path(self.job["workdir"]) / str(turn)
            folder.mkdir(mode=0o700, parents=True)
            try:
                ident = f"{self.number}-{turn}"
                if self.wants["workers"] > 1:
                    return await Workers(self, ident, folder, inputs).outcome()
                return await self._alone(ident, folder, inputs)
            except Lost as gone:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                self.lost = await self._why_lost(str(gone))
                self.log(f"[{self.lost}]")
        raise Failed(
            f"{self.lost}, and so it went {self.tries} times", where=self.job["key"], hint="look at the nodes"
        )

    def _identities(self) -> list[list[int]]:
        return [identity(Path(file["path"])) for file in input_files(self.job)]

    async def _why_lost(self, name: str) -> str:
        node = next((node for node in self.cluster.nodes.values() if node.name == name), None)
        if node is None or await self.cluster.is_dead(node):
            return f"its node died: {name}"
        return f"its place on a node was lost: {name}"

    def order(self, ident: str, folder: Path, inputs: list[list[int]], **more: Any) -> dict[str, Any]:
        """What a keeper is told of one attempt; ``more`` over the usual."""
        order = {
            "ident": ident,
            "job": self.job,
            "workdir": str(folder),
            "inputs": inputs,
            "env": {},
            "workers": 1,
            "apart": False,
        }
        return {**order, **more}

    def began(self, post: Post) -> None:
        """It is known where an attempt is."""
        if self.lost:
            self.log(f"[{self.lost.partition(':')[0]}; again on {post.node.name}]")

    # ------------------------------------------------------------------------ one process

    async def _alone(self, ident: str, folder: Path, inputs: list[list[int]]) -> dict[str, Any]:
        order = self.order(ident, folder, inputs)
        async with Attempt(self.cluster, order, self.log, self.began) as attempt:
            placing = self.cluster.go_on(self._held(attempt, order))
            try:
                return await self.taken(attempt, folder)
            finally:
                if not attempt.ended.done():
                    placing.cancel()
                    await asyncio.shield(attempt.cancel())

    async def _held(self, attempt: Attempt, order: Mapping[str, Any]) -> None:
        """Have Ray place the task that holds the step's share of a node, until the keeper there is done."""
        wants = self.wants
        task = hold.options(
            num_cpus=wants["cpus"],
            memory=wants["memory"] or None,
            num_gpus=wants["gpus"],
            name=self.job["key"],
        )
        waiting = asyncio.create_task(self._say_that_it_waits(attempt))
        call = None
        try:
            while True:
                call = task.remote(self.cluster.prefix, order)
                what, node_id = await call
                post = await self.cluster.post(node_id)
                if what == "done":
                    attempt.at(post)  # its end is told by the keeper
                    return
        except asyncio.CancelledError:
            if call is not None and attempt.post is None:
                ray.cancel(call, force=False, recursive=False)
            raise
        except ray.exceptions.RayError as wrong:
            with contextlib.suppress(TimeoutError):  # the keeper may live, or be gone as well
                async with asyncio.timeout(CANCEL_S_MAX):
                    await attempt.cancel()
            attempt.broke(wrong)
        except TallyError as wrong:
            attempt.fail(wrong)
        finally:
            waiting.cancel()

    async def _say_that_it_waits(self, attempt: Attempt) -> None:
        await asyncio.sleep(WAIT_S)
        if attempt.post is None:
            fits = any(node.holds(self.wants) for node in self.cluster.nodes.values())
            why = "until one is free" if fits else "and no node of the cluster has that now"
            self.log(f"[waits for a node with {self.words}, {why}]")

    async def taken(self, attempt: Attempt, folder: Path) -> dict[str, Any]:
        """What the keeper told at the end, with the outputs brought here."""
        said = await asyncio.shield(attempt.ended)  # it is not this that ends it
        if "wrong" in said:
            raise error_from_dict(said["wrong"])
        if "outcome" not in said:
            raise Failed("it was cancelled on its node", where=self.job["key"])
        outcome: dict[str, Any] = said["outcome"]
        if not said.get("in_place"):
            (folder / "out").mkdir()
            for name, file in outcome["artifacts"].items():
                path = folder / "out" / name
                await attempt.fetch(name, path)
                file["path"] = str(path)
            await attempt.forget()
        return outcome
