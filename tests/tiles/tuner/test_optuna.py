from __future__ import annotations

import pytest

from tallystick.ports.tile import Place
from tallystick.proofs.runs.tuner import TunerProof

pytest.importorskip("optuna")
pytest.importorskip("cmaes")


class TestOptuna(TunerProof):
    async def open(self):
        from pathlib import Path

        from tallystick.tiles.tuner.optuna import open_tile

        return open_tile(Place(Path()))
