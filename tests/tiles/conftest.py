"""Sandboxes for a test, closed however it ends: one left open speaks up in the tests after it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tallystick.ports.sandbox import Sandbox
from tallystick.ports.tile import Place
from tallystick.tiles.sandbox import bubblewrap, process

WALLS = {"process": process, "bubblewrap": bubblewrap}
OpenSandbox = Callable[..., Sandbox]


@pytest.fixture
async def open_sandbox(tmp_path: Path) -> AsyncIterator[OpenSandbox]:
    """Opens the sandbox of that name, in the test's own folder unless told otherwise."""
    async with contextlib.AsyncExitStack() as stack:

        def open_(name: str, home: Path = tmp_path) -> Sandbox:
            sandbox = WALLS[name].open_tile(Place(home))
            stack.push_async_callback(sandbox.close)
            return sandbox

        yield open_
