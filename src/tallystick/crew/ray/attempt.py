"""One attempt at a step on one node: what its keeper tells is heard here, and what it lacks is sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray

from tallystick.core.errors import TallyError, Unavailable
from tallystick.crew.ray.cluster import Cluster, Post
from tallystick.crew.ray.jobs import input_files
from tallystick.crew.ray.parcel import Unpacking, digest_of_tree, pack
from tallystick.crew.ray.relay import Carrier

__all__ = ["Attempt", "Lost", "cause_of"]

_sending: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
"""By node and digest: a content is sent by one of those who want it there."""


class Lost(Exception):
    """The node of an attempt, or its keeper, is gone; the message is the node's name."""


class Attempt:
    """One attempt. ``began`` is called with its post as soon as it is known."""

    def __init__(
        self,
        cluster: Cluster,
        order: Mapping[str, Any],
        log: Callable[[str], None],
        began: Callable[[Post], None],
    ) -> None:
        self.ident: str = order["ident"]
        self.post: Post | None = None
        self._cluster = cluster
        self._order = order
        self._log = log
        self._began = began
        self._ended: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._carrier: Carrier | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Attempt:
        self._cluster.heard[self.ident] = self
        return self

    async def __aexit__(self, *_: object) -> None:
        self._cluster.heard.pop(self.ident, None)
        for task in list(self._tasks):
            task.cancel()
        if self._carrier:
            await self._carrier.close()
        if self._ended.done() and isinstance(self._ended.exception(), Lost):
            self._cluster.go_on(self.cancel())  # should it be only out of reach

    @property
    def ended(self) -> asyncio.Future[Mapping[str, Any]]:
        """What the keeper tells at the end; Lost when it cannot any more."""
        return self._ended

    # -------------------------------------------------------------------------- what is heard

    def hear(self, post: Post, kind: str, rest: Any) -> None:
        """See :class:`tallystick.crew.ray.cluster.Hears`."""
        if kind == "lost":
            if post is self.post:
                self.lose(post.node.name)
        elif kind == "began":
            self.at(post)
        elif kind == "log":
            self._log(rest)
        elif kind == "want":
            self._tasks.add(task := asyncio.create_task(self._give(post, rest)))
            task.add_done_callback(self._tasks.discard)
        elif kind == "wire":
            self._carry(post, *rest)
        elif kind == "ended" and not self._ended.done():
            self._ended.set_result(rest)

    def at(self, post: Post) -> None:
        """It is known now where the attempt is."""
        if self.post is None:
            self.post = post
            self._began(post)
        if post.lost:
            self.lose(post.node.name)

    def lose(self, name: str) -> None:
        """Nothing more will be heard."""
        if not self._ended.done():
            self._ended.set_exception(Lost(name))

    def _carry(self, post: Post, number: int, piece: bytes | None) -> None:
        if self._carrier is None:
            self._carrier = Carrier(
                self._order["job"]["hub_socket"],
                lambda n, back: _quietly(post.keeper.wire.remote(self.ident, n, back)),
                lambda n: _quietly(post.keeper.wired.remote(self.ident, n)),
            )
        self._carrier.came(number, piece)

    # --------------------------------------------------------------------------- what is sent

    async def _give(self, post: Post, number: int) -> None:
        """Send an input, unless the node has it already."""
        path = Path(list(input_files(self._order["job"]))[number]["path"])
        try:
            digest = await asyncio.to_thread(digest_of_tree, path)
            async with _sending[post.node.id, digest]:
                if not await post.keeper.offer.remote(self.ident, number, digest):
                    await self._send(post, path, digest)
                    await post.keeper.offer.remote(self.ident, number, digest)
        except ray.exceptions.RayTaskError as wrong:
            self.fail(cause_of(wrong))
        except ray.exceptions.RayError:
            return  # the post's end is heard
        except TallyError as wrong:
            self.fail(wrong)
        except OSError as wrong:
            self.fail(Unavailable(f"an input cannot be read: {wrong.strerror}", where=str(path)))

    async def _send(self, post: Post, path: Path, digest: str) -> None:
        """One piece after the other: no more than one is in memory, here or there."""
        pieces, first = pack(path), True
        piece = await asyncio.to_thread(next, pieces, b"")
        try:
            while piece:
                after = await asyncio.to_thread(next, pieces, b"")
                await post.keeper.put.remote(digest, piece, first, not after)
                piece, first = after, False
        except BaseException:
            post.keeper.drop.remote(digest)
            raise

    def broke(self, wrong: ray.exceptions.RayError) -> None:
        """A call for it has ended so: by an error of ours, or because somebody is gone."""
        if isinstance(wrong, ray.exceptions.RayTaskError) and isinstance(wrong.cause, TallyError):
            self.fail(wrong.cause)
        else:
            self.lose(self.post.node.name if self.post else type(wrong).__name__)

    def fail(self, wrong: TallyError) -> None:
        """It cannot be carried out."""
        if not self._ended.done():
            self._ended.set_exception(wrong)

    async def fetch(self, name: str, path: Path) -> None:
        """Bring an output here; Lost when its node is gone before."""
        if self.post is None:
            raise Lost("unknown")
        unpacking = Unpacking(path)
        try:
            while piece := await self.post.keeper.take.remote(self.ident, name):
                await asyncio.to_thread(unpacking.feed, piece)
            await asyncio.to_thread(unpacking.close)
        except ray.exceptions.RayTaskError as wrong:
            raise (
                wrong.cause if isinstance(wrong.cause, TallyError) else Unavailable(str(wrong)[:300])
            ) from wrong
        except ray.exceptions.RayError as wrong:
            raise Lost(self.post.node.name) from wrong

    async def cancel(self) -> None:
        """End it; when this returns, all of it is gone, as far as its node is still there."""
        posts = [self.post] if self.post else self._cluster.posts()
        await asyncio.gather(*(_quietly(post.keeper.cancel.remote(self.ident)) for post in posts))

    async def forget(self) -> None:
        """Nothing more is wanted of it."""
        if self.post and not self.post.in_place:
            await _quietly(self.post.keeper.forget.remote(self.ident))


def cause_of(wrong: ray.exceptions.RayTaskError) -> TallyError:
    """What a keeper has raised, perhaps for a task that asked it, as our own error."""
    if isinstance(wrong.cause, TallyError):
        return wrong.cause
    return Unavailable(" ".join(str(wrong).split())[-300:], where="Ray")


async def _quietly(call: Any) -> None:
    """A keeper that is gone has forgotten, and its end is heard elsewhere."""
    with contextlib.suppress(ray.exceptions.RayError):
        await call
