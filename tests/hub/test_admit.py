from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tallystick.core.endpoint import wish
from tallystick.core.errors import BadInput, MissingTile, NotFound, Refused, Unavailable
from tallystick.core.facts import to_json
from tallystick.core.model import ModelRef, ModelVersion
from tallystick.evidence.supply import Inspected, Looked, Standing
from tallystick.hub.house.rows import Rows
from tallystick.hub.loading import check_loadable
from tallystick.hub.register import admit
from tallystick.judging.gather import gather
from tallystick.ports.models.signing import Key
from tallystick.routines.served.settle import Settler
from tests.fakes.house import POLICY, SEEN, add_model, add_run, events, folder_of, model_files


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


async def strangers(house):
    """The errand, for a stranger's model whose files are code."""
    orders = []
    looked = Inspected((Looked("model.pkl", "pickle", Standing.CODE, "sha256:" + "5" * 64, 3, "a pickle"),))

    async def inspect(order, say):
        orders.append(order["vouched"])
        return {**SEEN, "inspected": to_json(looked), "loaded": order["vouched"], "runtime": "pyfunc"}

    house.sandbox.table["inspect"] = inspect
    return orders


async def test_code_that_nobody_vouches_for_is_admitted_as_it_is_and_never_loaded(house, tmp_path):
    orders = await strangers(house)
    await logged(house, tmp_path, "one")
    model = await admit(house, ModelRef("digits"))
    assert (model.standing, model.runtime, model.inputs, model.flavors) == ("code", "", (), ())
    assert model.runs_code
    assert await admit(house, ModelRef("digits")) == model
    assert orders == [False]
    with pytest.raises(Refused, match="no trusted key"):
        await gather(house, "verdict-1", model, Rows("t", model.digest, model.digest), POLICY, "label")
    with pytest.raises(Refused, match=r"no trusted key vouches for them: model\.pkl: a pickle") as wrong:
        await check_loadable(house, model)
    assert "tally sign digits@1" in wrong.value.hint


async def test_it_is_loaded_once_somebody_vouches_for_it(house, tmp_path, monkeypatch):
    orders = await strangers(house)
    await logged(house, tmp_path, "one")
    before = await admit(house, ModelRef("digits"))

    async def by(house, digest):
        assert digest == before.digest
        return Key("sha256:" + "1" * 64, "anna", "")

    monkeypatch.setattr("tallystick.hub.loading.vouched_by", by)
    model = await admit(house, ModelRef("digits", 1))
    assert (model.standing, model.runtime, model.metrics) == ("code", "pyfunc", before.metrics)
    assert orders == [False, False, True]
    assert events(house, "model") == ["admitted", "inspected"]
    await check_loadable(house, model)
    monkeypatch.undo()
    with pytest.raises(Refused):  # the key is trusted no more: asked anew at every load
        await check_loadable(house, model)


async def test_a_person_may_say_that_unsigned_code_is_loaded_behind_the_wall(house, tmp_path):
    orders = await strangers(house)
    house.unsigned_code = True
    await logged(house, tmp_path, "one")
    model = await admit(house, ModelRef("digits"))
    assert (model.standing, model.runtime, orders) == ("code", "pyfunc", [False, True])
    await check_loadable(house, model)


async def test_a_version_of_old_is_looked_at_before_anything_loads_it(house):
    old = replace(await add_model(house), standing="", runtime="pyfunc", runs_code=True)
    await house.tell("model", old.key, "registered", old)
    with pytest.raises(Refused, match="nobody has looked"):
        await check_loadable(house, old)
    model = await admit(house, ModelRef("digits", 1))
    assert (model.standing, model.digest, model.origin) == ("data", old.digest, old.origin)


async def test_what_is_refused_is_not_admitted(house, tmp_path):
    async def inspect(order, say):
        bad = Looked("model.pkl", "pickle", Standing.REFUSED, "sha256:" + "5" * 64, 3, "it names os.system")
        return {"inspected": to_json(Inspected((bad,))), "loaded": False}

    house.sandbox.table["inspect"] = inspect
    await logged(house, tmp_path, "one")
    with pytest.raises(Refused, match=r"digits@1: it is never loaded: model.pkl: it names os.system"):
        await admit(house, ModelRef("digits"))
    assert events(house, "model") == []


async def test_an_endpoint_is_not_started_with_code_that_nobody_vouches_for(house, tmp_path):
    """However it was let in: who vouches is asked at every start."""
    await strangers(house)
    await logged(house, tmp_path, "one")
    model = await admit(house, ModelRef("digits"))
    endpoint = wish(None, "e", model.key, model.digest, "verdict-1", 1, house.tenant)
    await house.tell("endpoint", "e", "wished", endpoint)
    settler = Settler(house)
    await settler.settle_one("e")
    endpoint = await settler.settle_one("e")
    await settler.close()
    assert "no trusted key vouches" in endpoint.error
    assert [played.name for played in house.sandbox.started] == ["inspect"]
