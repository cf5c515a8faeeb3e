"""Sending an iterator's content such that whoever sends hears of it, however the content ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

__all__ = ["sent"]

_GIVE_UP_S = 30.0


class _GivenUp(Exception):
    """Raised out of the content when whoever waits for it to be sent has gone away."""


async def sent(
    content: AsyncIterator[bytes], send: Callable[[AsyncIterator[bytes]], Awaitable[None]]
) -> None:
    """Await ``send(content)``. When this is cancelled, it gets an error out of the content and may tidy up.

    obstore gives up an upload in parts when its content raises; cancelled itself, it would leave the parts.
    """
    gone = asyncio.Event()
    sending = asyncio.ensure_future(send(_until(content, gone)))
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        gone.set()
        await asyncio.wait([sending], timeout=_GIVE_UP_S)
        if sending.done() and not sending.cancelled():
            sending.exception()  # looked at, so that nobody warns of it: it is the content's own
        raise


async def _until(content: AsyncIterator[bytes], gone: asyncio.Event) -> AsyncGenerator[bytes]:
    going = asyncio.ensure_future(gone.wait())
    try:
        while True:
            following = asyncio.ensure_future(_next(content))
            await asyncio.wait({following, going}, return_when=asyncio.FIRST_COMPLETED)
            if going.done():
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):  # it ends; how does not matter
                    await following
                raise _GivenUp
            piece = following.result()
            if piece is None:
                return
            yield piece
    finally:
        going.cancel()


async def _next(content: AsyncIterator[bytes]) -> bytes | None:
    return await anext(content, None)
