"""The cluster as the driver sees it: its nodes, and a post at the keeper of each that steps came to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tallystick import __version__
from tallystick.core.errors import TallyError, Unavailable
from tallystick.crew.ray.hold import NAMESPACE, name_of
from tallystick.crew.ray.keeper import Keeper
from tallystick.crew.ray.machine import boot_id, roots_of

__all__ = ["Cluster", "Hears", "Node", "Post"]

MIB = 1024 * 1024
LOOK_EVERY_S = 1.0
"""How often to see whether nodes have come or gone."""
CALLS_MAX = 10_000
"""Of one keeper at once: two for each step that it runs, and those of the driver."""
ANSWER_S_MAX = 10.0
SEEN_S_MAX = 5.0
"""How long Ray may take to know that a node is dead, once its keeper is."""


class Hears(Protocol):
    """Who wants to know what keepers tell of a step."""

    def hear(self, post: Post, kind: str, rest: Any) -> None:
        """A keeper has told something; ``lost`` when it is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """A living machine of the cluster."""

    id: str
    name: str
    cpus: float
    memory: int
    gpus: float

    def as_dict(self) -> dict[str, Any]:
        """For the hub."""
        return {"name": self.name, "cpus": self.cpus, "memory": self.memory, "gpus": self.gpus}

    def holds(self, wants: Mapping[str, Any]) -> bool:
        """Whether one process with these wishes fits, when it is free."""
        pairs = ((self.cpus, "cpus"), (self.memory, "memory"), (self.gpus, "gpus"))
        return all(has >= float(wants[name]) for has, name in pairs)


@dataclass(eq=False)
class Post:
    """The driver's end of a node's keeper."""

    node: Node
    keeper: Any
    in_place: bool = False
    lost: bool = False


class Cluster:
    """A connected cluster. ``heard`` are those who wait for what is told of a step, by its ident."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._order = order
        self._prefix = f"tally-{secrets.token_hex(6)}"
        self._posts: dict[str, asyncio.Task[Post]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.nodes: dict[str, Node] = {}
        self.heard: dict[str, Hears] = {}

    @property
    def prefix(self) -> str:
        """How the names of this driver's keepers begin."""
        return self._prefix

    def connect(self) -> None:
        """Start or join a cluster; Unavailable says why that cannot be done."""
        own: dict[str, Any] = {
            "num_cpus": self._order["ray_cpus"],
            "object_store_memory": int(self._order["ray_object_store_mib"]) * MIB,
            "include_dashboard": False,
            "_temp_dir": f"{self._order['folder']}/r",  # Ray opens it to everybody, and not what is around it
        }
        joined = {"address": self._order["ray_address"]}
        how = joined if self._order["ray_address"] else own
        try:
            _check_answers(self._order["ray_address"])
            ray.init(namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR, **how)
        except Exception as wrong:  # Ray raises of all kinds here
            text = " ".join(str(wrong).split())[:400]
            raise Unavailable(
                f"the cluster cannot be {'joined' if joined['address'] else 'started'}: {text}",
                where=f"Ray {self._order['ray_address'] or 'on this machine'}",
                hint="this machine must be a node of the cluster: ray start --address=HEAD:6379"
                if joined["address"]
                else "",
            ) from wrong

    # ------------------------------------------------------------------------------------- nodes

    async def look(self) -> bool:
        """See which nodes there are now; whether that has changed."""
        found = {node.id: node for node in map(_node, await asyncio.to_thread(ray.nodes)) if node}
        changed, self.nodes = found != self.nodes, found
        return changed

    async def watch(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Go on looking, and call ``changed`` whenever it has."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if await self.look():
                await changed()

    async def is_dead(self, node: Node) -> bool:
        """Whether Ray too knows that a node is dead, or does within a few seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEEN_S_MAX):
                while node.id in self.nodes:
                    await asyncio.sleep(0.1)
                    await self.look()
        return node.id not in self.nodes

    # ------------------------------------------------------------------------------------- posts

    async def post(self, node_id: str) -> Post:
        """The post at a node, whose keeper is started if there is none; Unavailable says why not."""
        task = self._posts.get(node_id)
        if task is None or (task.done() and (task.exception() or task.result().lost)):
            task = self._posts[node_id] = asyncio.create_task(self._opened(node_id))
        return await asyncio.shield(task)

    def posts(self) -> list[Post]:
        """Those that are there."""
        done = [task for task in self._posts.values() if task.done() and not task.exception()]
        return [post for post in (task.result() for task in done) if not post.lost]

    async def _opened(self, node_id: str) -> Post:
        if node_id not in self.nodes:
            await self.look()
        if (node := self.nodes.get(node_id)) is None:
            raise Unavailable("it is no longer there", where=f"node {node_id[:8]}")
        keeper = Keeper.options(
            name=name_of(self._prefix, node_id),
            namespace=NAMESPACE,
            max_concurrency=CALLS_MAX,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        ).remote(self._plan(), node.name)
        try:
            said = await keeper.hello.remote()
        except ray.exceptions.RayTaskError as wrong:
            ray.kill(keeper)
            cause = wrong.cause
            raise cause if isinstance(cause, TallyError) else _unusable(node, wrong) from wrong
        except ray.exceptions.RayError as wrong:
            raise _unusable(node, wrong) from wrong
        post = Post(node, keeper, bool(said["in_place"]))
        self.go_on(self._listen(post))
        return post

    def go_on(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have work done that nobody waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _plan(self) -> dict[str, Any]:
        """What all keepers are told."""
        return {
            **self._order,
            "base": "" if self._order["ray_address"] else self._order["folder"],
            "roots": roots_of([self._order["home"], *self._order["roots"]]),
            "boot_id": boot_id(),
            "version": __version__,
            "python": sys.executable,
        }

    async def _listen(self, post: Post) -> None:
        """Hand on what a keeper tells until it is gone."""
        try:
            while True:
                for ident, kind, rest in await post.keeper.news.remote():
                    if (hears := self.heard.get(ident)) is not None:
                        hears.hear(post, kind, rest)
        except ray.exceptions.RayError:
            post.lost = True
            for hears in list(self.heard.values()):
                hears.hear(post, "lost", None)

    async def close(self) -> None:
        """Have all keepers end what they run, and leave nothing."""
        async with asyncio.timeout(5):
            calls = [post.keeper.close.remote() for post in self.posts()]
            await asyncio.gather(*(_done(call) for call in calls), return_exceptions=True)


def _check_answers(address: str) -> None:
    """OSError when nobody listens at an address: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S_MAX).close()


async def _done(call: Any) -> None:
    await call


def _unusable(node: Node, wrong: Exception) -> Unavailable:
    text = " ".join(str(wrong).split())[-300:]
    return Unavailable(
        f"it cannot run steps: {text}",
        where=f"node {node.name}",
        hint="install the same tallystick, kfp and Python there as here",
    )


def _node(said: Mapping[str, Any]) -> Node | None:
    if not said["Alive"]:
        return None
    has, name, address = said["Resources"], said["NodeName"], said["NodeManagerAddress"]
    if name == address:
        name = f"{address} ({said['NodeID'][:6]})"
    return Node(
        said["NodeID"],
        name,
        float(has.get("CPU", 0)),
        int(has.get("memory", 0)),
        float(has.get("GPU", 0)),
    )
