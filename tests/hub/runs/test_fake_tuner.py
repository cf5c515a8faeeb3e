from __future__ import annotations

from tallystick.proofs.runs.tuner import TunerProof
from tests.fakes.runs.tuner import FakeTuner


class TestFakeTuner(TunerProof):
    samplers = ("grid",)
    pruners = ("median",)

    async def open(self):
        return FakeTuner()
