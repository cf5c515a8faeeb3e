from __future__ import annotations

from pathlib import Path

from tallystick.ports.tile import Place
from tallystick.proofs.attack import AttackProof
from tallystick.tiles.white.tile import WhiteBox, open_tile


class TestWhiteBox(AttackProof):
    def open(self, home: Path) -> WhiteBox:
        return open_tile(Place(home))
