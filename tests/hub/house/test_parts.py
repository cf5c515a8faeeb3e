from __future__ import annotations

import asyncio

import pytest

from tallystick.core.errors import BadInput, NotFound, Unavailable
from tallystick.core.model import ModelVersion
from tests.fakes.house import add_model, add_table, until


async def test_one_lock_for_each_key(house):
    assert house.lock("run", "a") is house.lock("run", "a")
    assert len({id(house.lock(n, k)) for n in ("run", "data") for k in ("a", "b")}) == 4
    async with house.lock("run", "a"):
        assert house.lock("run", "a").locked()
        assert not house.lock("run", "b").locked()


def test_keys_are_new_and_sorted_by_time(house):
    assert len({house.new_key("run") for _ in range(200)}) == 200
    early = house.new_key("run")
    house.clock.advance(3600)
    assert early < house.new_key("run")


def test_folders_are_new_empty_and_private(house):
    one, two = house.folder("step"), house.folder("step")
    assert one != two
    assert one.stat().st_mode & 0o777 == 0o700
    assert list(one.iterdir()) == []


def test_where_no_folder_can_be_made_it_is_said(house):
    house.scratch.rmdir()
    house.scratch.write_text("in the way")
    with pytest.raises(Unavailable, match="no folder can be made"):
        house.folder("step")


async def test_find_get_and_all(house):
    assert await house.find("model", "digits@1", ModelVersion) is None
    with pytest.raises(NotFound, match="there is no model yet"):
        await house.get("model", "digits@1", ModelVersion)
    one, two = await add_model(house, 1), await add_model(house, 2)
    assert await house.find("model", "digits@1", ModelVersion) == one
    assert await house.get("model", "digits@2", ModelVersion) == two
    with pytest.raises(NotFound, match="there is digits@2, digits@1"):
        await house.get("model", "digits@3", ModelVersion)
    await house.tell("model", one.key, "again", one)
    assert [m.key for m in await house.all("model", ModelVersion)] == ["digits@1", "digits@2"]
    assert [m.key for m in await house.all("model", ModelVersion, 1)] == ["digits@1"]


async def test_a_state_of_another_kind_is_bad_input(house):
    await house.tell("model", "digits@1", "told", {"name": "digits"})
    with pytest.raises(BadInput, match="'version' is missing"):
        await house.get("model", "digits@1", ModelVersion)


async def test_tenants_never_see_each_other(house):
    await add_model(house)
    snapshot = await add_table(house)
    house.tenant = "other"
    assert await house.find("model", "digits@1", ModelVersion) is None
    assert await house.all("model", ModelVersion) == []
    with pytest.raises(NotFound, match="there is no data yet"):
        await house.get("data", snapshot.key, ModelVersion)


async def test_what_is_told_has_its_time_and_tenant(house):
    house.tenant = "other"
    await house.tell("run", "run-1", "began", {"a": (1, 2)}, "words")
    [fact] = house.ledger.facts
    assert (fact.noun, fact.key, fact.event, fact.note) == ("run", "run-1", "began", "words")
    assert (fact.at_ms, fact.tenant, fact.state) == (house.clock.now_ms(), "other", {"a": [1, 2]})


async def test_work_in_the_background_is_known_until_it_ends(house):
    go = asyncio.Event()
    house.start("run-1", go.wait())
    assert list(house.tasks) == ["run-1"]
    go.set()
    await until(lambda: not house.tasks)


def test_workers_inherit_nothing(house, monkeypatch):
    monkeypatch.setenv("HUB_SECRET", "open sesame")
    env = house.worker_env()
    assert "HUB_SECRET" not in env
    assert env["OMP_NUM_THREADS"] == "1"
