"""A server of the standard library that answers from a thread of the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer
from typing import TypeVar

__all__ = ["threaded"]

Server = TypeVar("Server", bound=BaseServer)


@contextmanager
def threaded(server: Server) -> Iterator[Server]:
    """It answers until the block is left, and is closed then."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(60)
        server.server_close()
