"""What all proofs of tracking stand on: a record to open, a run in it, and words for both."""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tallystick.ports.tracking import DEFAULT_WORKSPACE, Tracking
from tallystick.record.asks import Columns, CreateRun, GetRun, NotPlain, Write
from tallystick.record.entries import Run

__all__ = ["NO_POINTS", "R", "RecordProof", "W", "begin", "points", "refused", "run_id"]

W = DEFAULT_WORKSPACE
NO_POINTS = Columns([], [], [], [])


def run_id(n: int) -> str:
    """The id of the n-th run."""
    return f"{n:032x}"


R = run_id(1)


def points(*rows: tuple[str, float, int, int]) -> Columns:
    """Rows of key, value, time and step as columns."""
    return Columns([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], [r[3] for r in rows])


async def begin(tracking: Tracking, n: int = 1, *, experiment: int = 0, workspace: str = W) -> Run:
    """Create the n-th run."""
    return await tracking.write(CreateRun(run_id(n), experiment, "ann", 1000 + n, f"run-{n}"), workspace)


async def refused(tracking: Tracking, ask: Write[Any], workspace: str = W) -> None:
    """That the ask is not plain."""
    with pytest.raises(NotPlain):
        await tracking.write(ask, workspace)


class RecordProof(abc.ABC):
    """A record to be proved."""

    @abc.abstractmethod
    async def open(self, home: Path, *, workspaces: bool = False) -> Tracking:
        """Open a new record with experiment 0, as MLflow has it, and artifacts below ``mlflow-artifacts:/``.

        With ``workspaces`` there are ``blue`` and ``red``, and ``red`` keeps its artifacts below ``s3://red``.
        """

    @pytest.fixture
    async def tracking(self, tmp_path: Path) -> AsyncIterator[Tracking]:
        """A new record with one run."""
        tracking = await self.open(tmp_path)
        await begin(tracking)
        yield tracking
        await tracking.close()

    @pytest.fixture
    async def shared(self, tmp_path: Path) -> AsyncIterator[Tracking]:
        """A new record with workspaces."""
        tracking = await self.open(tmp_path, workspaces=True)
        yield tracking
        await tracking.close()

    async def run(self, tracking: Tracking, n: int = 1) -> Run:
        """The n-th run."""
        return await tracking.read(GetRun(run_id(n)), W)
