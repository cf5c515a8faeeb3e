"""Several workers of one step: placed together by Ray, each with its share, and ended together.

Where all of them fit on one node, that node's executor runs them as it would anywhere, without a network. On
several nodes each is run for itself, and reaches the network of its node, through which they meet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from tallystick.crew.ray.attempt import Attempt, Lost, cause_of
from tallystick.crew.ray.cluster import Cluster, Post
from tallystick.crew.ray.hold import Hand

__all__ = ["Workers"]

WAIT_S = 2.0


class _WorkerFailed(Exception):
    """A worker failed; the message says which and why."""


class Placed(Protocol):
    """The step that the workers are of."""

    @property
    def cluster(self) -> Cluster:
        """Where it is."""
        ...

    @property
    def wants(self) -> Mapping[str, Any]:
        """What each worker is to have."""
        ...

    @property
    def words(self) -> str:
        """The same in words."""
        ...

    @property
    def log(self) -> Callable[[str], None]:
        """Takes its lines."""
        ...

    def order(self, ident: str, folder: Path, inputs: list[list[int]], **more: Any) -> dict[str, Any]:
        """What a keeper is told."""
        ...

    def began(self, post: Post) -> None:
        """It is known where it is."""
        ...

    async def taken(self, attempt: Attempt, folder: Path) -> dict[str, Any]:
        """The outcome, with its outputs brought here."""
        ...


@dataclass
class Workers:
    """One attempt of all workers of ``step``, in ``folder``."""

    step: Placed
    ident: str
    folder: Path
    inputs: list[list[int]]

    async def outcome(self) -> dict[str, Any]:
        """The first worker's outcome, or that of the first one that failed."""
        wants = self.step.wants
        share = {"CPU": wants["cpus"], "memory": wants["memory"], "GPU": wants["gpus"]}
        bundle = {name: amount for name, amount in share.items() if amount} or {"CPU": 0.001}
        group = placement_group([bundle] * wants["workers"], strategy="PACK")
        try:
            nodes = await self._placed(group)
            gpus = await self._gpus(group)
            posts = [await self.step.cluster.post(node) for node in nodes]
            if len({post.node.id for post in posts}) == 1:
                order = self.step.order(self.ident, self.folder, self.inputs, workers=len(posts))
                return await self._run(posts[0], order, [g for some in gpus for g in some], self.step.log)
            return await self._apart(posts, gpus)
        except ray.exceptions.RayTaskError as wrong:
            raise cause_of(wrong) from wrong
        except ray.exceptions.RayError as wrong:
            raise Lost(type(wrong).__name__) from wrong
        finally:
            await asyncio.to_thread(remove_placement_group, group)

    async def _placed(self, group: Any) -> list[str]:
        """The node of each worker, once there is room for all of them."""
        said = False
        while not await asyncio.to_thread(group.wait, WAIT_S):
            if not said:
                self.step.log(f"[waits until there is room for {self.step.words}]")
                said = True
        table = await asyncio.to_thread(placement_group_table, group)
        return [table["bundles_to_node_id"][rank] for rank in range(self.step.wants["workers"])]

    async def _gpus(self, group: Any) -> list[list[str]]:
        """The GPUs of each worker, which Ray tells only to those who hold them."""
        count = self.step.wants["workers"]
        if not self.step.wants["gpus"]:
            return [[] for _ in range(count)]
        places = [PlacementGroupSchedulingStrategy(group, rank) for rank in range(count)]
        own = {"num_gpus": self.step.wants["gpus"]}
        self._hands = [Hand.options(scheduling_strategy=place, **own).remote() for place in places]
        return [list(await hand.gpus.remote()) for hand in self._hands]

    async def _apart(self, posts: Sequence[Post], gpus: list[list[str]]) -> dict[str, Any]:
        where = ", ".join(dict.fromkeys(post.node.name for post in posts))
        self.step.log(f"[{len(posts)} workers on {where}]")
        meeting = await posts[0].keeper.meeting_place.remote()
        ids = [post.node.id for post in posts]
        try:
            async with asyncio.TaskGroup() as running:
                tasks = [
                    running.create_task(self._rank(post, rank, gpus[rank], {**meeting, **_ranks(ids, rank)}))
                    for rank, post in enumerate(posts)
                ]
        except ExceptionGroup as wrong:
            return _first(wrong)
        return tasks[0].result()

    async def _rank(self, post: Post, rank: int, gpus: list[str], env: dict[str, str]) -> dict[str, Any]:
        folder = self.folder / str(rank)
        folder.mkdir(mode=0o700)
        env |= await post.keeper.network.remote()
        order = self.step.order(f"{self.ident}-{rank}", folder, self.inputs, env=env, apart=True)
        said = await self._run(post, order, gpus, lambda line: self.step.log(f"[{rank}] {line}"))
        if said["error"]:
            raise _WorkerFailed(f"worker {rank} of {self.step.wants['workers']}: {said['error']}")
        return said

    async def _run(
        self, post: Post, order: dict[str, Any], gpus: list[str], log: Callable[[str], None]
    ) -> dict[str, Any]:
        """Have an order carried out at a post: its share of the node is in the placement group already."""
        cluster = self.step.cluster
        async with Attempt(cluster, order, log, self.step.began) as attempt:
            attempt.at(post)
            cluster.go_on(_begun(attempt, post, order, gpus))
            try:
                return await self.step.taken(attempt, Path(order["workdir"]))
            finally:
                if not attempt.ended.done():
                    await asyncio.shield(attempt.cancel())


async def _begun(attempt: Attempt, post: Post, order: dict[str, Any], gpus: list[str]) -> None:
    try:
        await post.keeper.run.remote(order, gpus)
    except ray.exceptions.RayError as wrong:
        attempt.broke(wrong)


def _ranks(ids: Sequence[str], rank: int) -> dict[str, str]:
    """What torchrun tells its workers, by their nodes."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(len(ids)),
        "LOCAL_RANK": str(ids[:rank].count(ids[rank])),
        "LOCAL_WORLD_SIZE": str(ids.count(ids[rank])),
        "GROUP_RANK": str(list(dict.fromkeys(ids)).index(ids[rank])),
    }


def _first(wrong: ExceptionGroup) -> dict[str, Any]:
    """The outcome of workers of which some failed: a lost node counts for more than what came of it."""
    found = list(_flat(wrong))
    for kind in (Lost, ray.exceptions.RayError):
        for one in found:
            if isinstance(one, kind):
                raise one
    if isinstance(found[0], _WorkerFailed):
        return {"params": {}, "artifacts": {}, "error": str(found[0])}
    raise found[0]


def _flat(wrong: ExceptionGroup) -> Iterator[Exception]:
    for one in wrong.exceptions:
        if isinstance(one, ExceptionGroup):
            yield from _flat(one)
        else:
            yield one
