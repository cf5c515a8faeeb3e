from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.ports.tile import Place
from tallystick.proofs.inspection import InspectionProof
from tallystick.tiles.inspection.strict import Strict, open_tile


class TestStrict(InspectionProof):
    def open(self, home: Path) -> Strict:
        return open_tile(Place(home, {"inspection_advisors": False}))


def test_advisors_are_asked_only_about_what_is_not_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def advise(folder: Path, paths: list[str]) -> tuple[tuple[()], tuple[str, ...]]:
        asked.append(paths)
        return (), ("scanner 1",)

    monkeypatch.setattr("tallystick.tiles.inspection.strict.advise", advise)
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.pkl").write_bytes(b"\x80\x02].")
    found = open_tile(Place(tmp_path)).inspect(tmp_path, lambda share, text: None)
    assert asked == [["b.pkl"]]
    assert found.advisors == ("scanner 1",)
