"""The tile that is called art, and the fake: what every attack tile must do."""

from __future__ import annotations

from pathlib import Path

from tallystick.ports.tile import Place
from tallystick.proofs.attack import AttackProof
from tallystick.tiles.attack.art import ArtAttack, open_tile
from tests.fakes.attack import FakeAttack


class TestFakeAttack(AttackProof):
    def open(self, home: Path) -> FakeAttack:
        return FakeAttack()


class TestArtAttack(AttackProof):
    def open(self, home: Path) -> ArtAttack:
        return open_tile(Place(home))
