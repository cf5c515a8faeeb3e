"""The files that pipelines were handed in as."""

from __future__ import annotations

import hashlib

import pytest

from tallystick.hub.house import specs
from tallystick.hub.house.specs import keep_spec, spec_of
from tallystick.ports.tile import Place
from tallystick.tiles.artifacts.local import open_tile
from tests.fakes.house import make_house


@pytest.fixture(params=[True, False])
def small(request, monkeypatch):
    """Whether a file is one that is looked for before it is stored."""
    if not request.param:
        monkeypatch.setattr(specs, "SOON_BYTES", 2)
    return request.param


async def test_a_file_is_stored_once(tmp_path, small):
    house = make_house(tmp_path, artifacts=open_tile(Place(tmp_path / "home")))
    spec = b"pipelineInfo: {name: it}\n"
    for _ in range(3):
        assert await keep_spec(house, spec) == f"sha256:{hashlib.sha256(spec).hexdigest()}"
    assert await spec_of(house, await keep_spec(house, spec)) == spec
    assert not [path for path in house.scratch.iterdir() if path.name.startswith("spec")]


async def test_one_that_is_damaged_is_stored_anew(tmp_path, small):
    house = make_house(tmp_path, artifacts=open_tile(Place(tmp_path / "home")))
    spec = b"pipelineInfo: {name: it}\n"
    digest = await keep_spec(house, spec)
    stored = await house.artifacts.path_of(digest)
    stored.chmod(0o600)
    stored.write_bytes(b"pipelineInfo: {name: of somebody else}\n")
    assert await keep_spec(house, spec) == digest
    assert await spec_of(house, digest) == spec
