"""Small chunks, as they come from a network, joined to larger ones, which cost less each."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

__all__ = ["chained", "gathered"]


async def gathered(content: AsyncIterator[bytes], size: int, cut_off: bool = False) -> AsyncGenerator[bytes]:
    """Pieces of ``size`` bytes or a little more, and last a smaller one.

    When ``content`` raises an error, that last one comes only if it is wanted ``cut_off``, then the error.
    """
    held: list[bytes] = []
    length = 0
    try:
        async for chunk in content:
            held.append(chunk)
            length += len(chunk)
            if length >= size:
                yield b"".join(held)
                held, length = [], 0
    except Exception:  # of any kind, and it is raised again
        if held and cut_off:
            yield b"".join(held)
        raise
    if held:
        yield b"".join(held)


async def chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """``first`` put before the rest again."""
    yield first
    async for chunk in rest:
        yield chunk
