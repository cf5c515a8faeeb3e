"""A door that is a unix socket and no more: somebody else listens there, and knows the step by it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SocketDoor"]

PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class SocketDoor:
    """The door to who listens at ``socket_path``."""

    socket_path: Path

    async def path(self) -> Path:
        """See the port."""
        return self.socket_path

    async def serve(self, connection: socket.socket) -> None:
        """Carry bytes both ways until both sides have said all."""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(sock=connection)
            try:
                await self._carried(reader, writer)
            finally:
                writer.close()

    async def _carried(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hub_reader, hub_writer = await asyncio.open_unix_connection(self.socket_path)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copied(reader, hub_writer))
                group.create_task(_copied(hub_reader, writer))
        finally:
            hub_writer.close()


async def _copied(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(PIECE_BYTES):
            sink.write(piece)
            await sink.drain()
    with contextlib.suppress(OSError):
        sink.write_eof()
