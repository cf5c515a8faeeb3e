"""The local executor behind each sandbox, with zygotes and without."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tallystick.ports.executor import Executor
from tallystick.ports.sandbox import Sandbox
from tests.fakes.steps import opened
from tests.tiles.conftest import WALLS, OpenSandbox


@pytest.fixture(params=WALLS)
def sandbox(request: pytest.FixtureRequest, open_sandbox: OpenSandbox) -> Sandbox:
    return open_sandbox(request.param)


@pytest.fixture
def limits() -> dict[str, Any]:
    """Options of the executor; a module with others says so with a fixture of this name."""
    return {}


@pytest.fixture(params=[2, 0])
async def executor(
    request: pytest.FixtureRequest, sandbox: Sandbox, limits: dict[str, Any], tmp_path: Path
) -> AsyncIterator[Executor]:
    executor = opened(sandbox, tmp_path, step_zygotes=request.param, **limits)
    yield executor
    await executor.close()
