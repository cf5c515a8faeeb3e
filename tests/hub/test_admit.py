from __future__ import annotations

import asyncio

import pytest

from tallystick.core.errors import BadInput, MissingTile, NotFound, Unavailable
from tallystick.core.model import ModelRef, ModelVersion
from tallystick.hub.register import admit
from tests.fakes.house import SEEN, add_model, add_run, events, folder_of, model_files


@pytest.fixture(autouse=True)
def _inspecting(house):
    async def inspect(order, say):
        return SEEN

    house.sandbox.table["inspect"] = inspect


async def logged(house, tmp_path, mark, name="digits"):
    """A version that a stock client registered."""
    folder = folder_of(model_files(mark), tmp_path / f"logged-{mark}")
    _, record = await house.registry.begin_run("theirs", mark, {})
    house.registry.log_figures(record, {"accuracy": 0.5}, {"depth": "2"})
    return await house.registry.register(name, folder, {}, run_id=record)


def down(house, monkeypatch, wrong):
    async def versions(name=""):
        raise wrong

    monkeypatch.setattr(house.registry, "versions", versions)


async def test_a_model_of_a_stock_client_is_stored_by_content(house, tmp_path):
    found = await logged(house, tmp_path, "one")
    model = await admit(house, ModelRef("digits"))
    assert (model.key, model.flavors, model.metrics) == ("digits@1", ("onnx",), {"accuracy": 0.5})
    assert (model.origin.run, model.origin.record_id) == ("", found.run_id)
    await house.artifacts.unpack(model.digest, tmp_path / "copy")
    assert (tmp_path / "copy" / "model.onnx").read_bytes() == b"one"
    assert events(house, "model") == ["admitted"]
    assert list(house.scratch.iterdir()) == []


async def test_files_moved_under_a_version_afterwards_change_nothing(house, tmp_path):
    found = await logged(house, tmp_path, "one")
    before = await admit(house, ModelRef("digits", 1))
    house.registry.logged[found.model_id]["model.onnx"] = b"another"
    assert await admit(house, ModelRef("digits", 1)) == before
    assert await admit(house, ModelRef("digits")) == before


async def test_without_a_version_the_newest_is_meant(house, tmp_path):
    for mark in ("one", "two", "three"):
        await logged(house, tmp_path, mark)
    assert (await admit(house, ModelRef("digits", 2))).version == 2
    assert (await admit(house, ModelRef("digits"))).version == 3
    assert events(house, "model") == ["admitted", "admitted"]


async def test_an_older_one_that_was_brought_in_later_is_not_the_newest(house, tmp_path):
    """And what was registered from a run keeps its origin."""
    await logged(house, tmp_path, "one")
    await logged(house, tmp_path, "two")
    mine = await add_model(house, 2, run=await add_run(house))
    await admit(house, ModelRef("digits", 1))
    assert await admit(house, ModelRef("digits")) == mine
    assert await house.get("model", "digits@2", ModelVersion) == mine


async def test_a_version_that_is_known_needs_no_registry(house, monkeypatch):
    mine = await add_model(house, 3)
    down(house, monkeypatch, Unavailable("MLflow is down"))
    assert await admit(house, ModelRef("digits", 3)) == mine
    with pytest.raises(Unavailable):
        await admit(house, ModelRef("digits"))
    with pytest.raises(Unavailable):
        await admit(house, ModelRef("digits", 4))


async def test_without_mlflow_what_is_known_is_all_there_is(house, monkeypatch):
    await add_model(house, 1)
    newest = await add_model(house, 2)
    down(house, monkeypatch, MissingTile("no MLflow"))
    assert await admit(house, ModelRef("digits")) == newest
    with pytest.raises(NotFound, match="registered: digits@1, digits@2"):
        await admit(house, ModelRef("digits", 3))


async def test_an_unknown_model_names_those_that_are_known(house, tmp_path):
    with pytest.raises(NotFound, match="none yet"):
        await admit(house, ModelRef("digits"))
    await logged(house, tmp_path, "one")
    with pytest.raises(NotFound, match="no model 'digits@9'"):
        await admit(house, ModelRef("digits", 9))


async def test_what_does_not_load_is_not_admitted(house, tmp_path):
    async def inspect(order, say):
        raise BadInput("it is a pickle of something else")

    house.sandbox.table["inspect"] = inspect
    await logged(house, tmp_path, "one")
    with pytest.raises(BadInput):
        await admit(house, ModelRef("digits"))
    assert events(house, "model") == []
    assert list(house.scratch.iterdir()) == []


async def test_admitting_twice_at_once_fetches_once(house, tmp_path):
    await logged(house, tmp_path, "one")
    both = await asyncio.gather(*(admit(house, ModelRef("digits")) for _ in range(3)))
    assert len(set(map(str, both))) == 1
    assert len(house.sandbox.started) == 1
