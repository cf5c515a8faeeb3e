from __future__ import annotations

from pathlib import Path

from tallystick.ports.tile import Place
from tallystick.proofs.attack import AttackProof
from tallystick.tiles.certify.tile import CertifyTile, open_tile


class TestCertifyTile(AttackProof):
    def open(self, home: Path) -> CertifyTile:
        return open_tile(Place(home))
