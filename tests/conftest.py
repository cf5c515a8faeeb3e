"""What holds for every test, whoever runs them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping

import uvloop

# What a script has put in the background inherits that Ctrl-C is ignored, and hands it on to what it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The hub's own loop: what it makes of pipes, sockets and being cancelled is not asyncio's."""
    return {"uvloop": uvloop.new_event_loop}
