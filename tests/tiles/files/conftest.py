"""Artifacts in a folder: ``files`` are those below ``root``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tallystick.ports.tile import Place
from tallystick.tiles.files.local import LocalFiles, open_tile


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
async def files(root: Path) -> AsyncIterator[LocalFiles]:
    files = open_tile(Place(root.parent, {"artifact_store": str(root)}))
    yield files
    await files.close()
