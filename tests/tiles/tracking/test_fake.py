"""The record in memory, which stands for a tile in other tests, is as a tile must be."""

from __future__ import annotations

from pathlib import Path

from tallystick.ports.tracking import Tracking
from tallystick.proofs.tracking.models import ModelsProof
from tallystick.proofs.tracking.runs import RunsProof
from tests.fakes.mlflow.tracking import FakeTracking


class TestFake(RunsProof, ModelsProof):
    async def open(self, home: Path, *, workspaces: bool = False) -> Tracking:
        return FakeTracking({"red": "s3://red"} if workspaces else None)
