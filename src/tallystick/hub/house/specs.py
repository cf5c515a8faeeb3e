"""Specs: the files that pipelines were handed in as, kept among the artifacts."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

from tallystick.core.errors import Damaged, NotFound
from tallystick.hub.house.parts import House
from tallystick.hub.house.removal import remove

__all__ = ["keep_spec", "spec_of"]


SOON_BYTES = 256 * 1024
"""So much is digested in well under a millisecond."""


async def keep_spec(house: House, spec: bytes) -> str:
    """Store a pipeline's file; its digest."""
    if len(spec) <= SOON_BYTES:  # mostly it has run before
        digest = f"sha256:{hashlib.sha256(spec).hexdigest()}"
        with contextlib.suppress(NotFound, Damaged):
            await house.artifacts.path_of(digest)
            return digest
    folder = house.folder("spec")
    try:
        file = folder / "pipeline.yaml"
        await asyncio.to_thread(file.write_bytes, spec)
        return (await house.artifacts.put_file(file)).digest
    finally:
        await remove(folder)


async def spec_of(house: House, digest: str) -> bytes:
    """A pipeline's file as it was handed in; NotFound and Damaged as artifacts have it."""
    path = await house.artifacts.path_of(digest)
    return await asyncio.to_thread(path.read_bytes)
