from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tallystick.core.endpoint import TRIES_MAX, Endpoint, EndpointState
from tallystick.core.errors import BadInput, NotFound, Unavailable
from tallystick.judging.deploy import deploy, withdraw
from tallystick.routines.served.settle import Settler
from tests.fakes.house import add_model, add_verdict, events, until
from tests.fakes.house.sandbox import Exit

READY, FAILED, STOPPED = EndpointState.READY, EndpointState.FAILED, EndpointState.STOPPED


async def serving(order, say):
    say(ready={"runtime": "onnx"})
    await asyncio.Event().wait()


async def broken(order, say):
    say.err("ImportError: no module named onnx")
    raise Exit(1)


async def never_ready(order, say):
    await asyncio.Event().wait()


@pytest.fixture
async def settler(house):
    house.sandbox.table["serve"] = serving
    settler = Settler(house)
    yield settler
    await settler.close()


async def wished(house, version=1, name="digits"):
    model = await add_model(house, version)
    await add_verdict(house, model)
    return await deploy(house, model, name)


async def settled(settler, state, name="digits"):
    """Settle, as the loop does, until the endpoint is in ``state`` and nothing more is to do."""

    async def there():
        return (await settler.settle_one(name)).state is state

    await until(there)
    endpoint = await settler.settle_one(name)
    assert endpoint.state is state
    return endpoint


async def ready(house, settler, version=1):
    await wished(house, version)
    return await settled(settler, READY)


def folders(house):
    return len(list(house.scratch.glob("serve-*")))


# ---------------------------------------------------------------------- starting


async def test_what_is_wished_is_started_and_answers_once_it_is_ready(house, settler):
    ready_now = asyncio.Event()

    async def slowly(order, say):
        await ready_now.wait()
        await serving(order, say)

    house.sandbox.table["serve"] = slowly
    await wished(house)
    for _ in range(5):
        assert (await settler.settle_one("digits")).state is EndpointState.STARTING
        await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="it is starting"):
        house.routes.find("digits")
    ready_now.set()
    endpoint = await settled(settler, READY)
    assert (endpoint.observed_generation, endpoint.settled) == (1, True)
    live = house.routes.find("digits")
    assert (live.model, live.version, live.generation) == ("digits", "1", 1)
    [played] = house.sandbox.started
    assert str(live.socket) == played.order["socket"]
    assert (played.order["name"], played.order["version"]) == ("digits", "1")
    assert played.wall.readable == (played.order["folder"],)
    assert (played.wall.cpu_seconds, played.wall.network) == (0, False)


async def test_settling_twice_changes_nothing(house, settler):
    await ready(house, settler)
    told = len(house.ledger.facts)
    for _ in range(3):
        await settler.settle_one("digits")
    assert len(house.ledger.facts) == told
    assert len(house.sandbox.started) == 1


async def test_an_unknown_endpoint(house, settler):
    with pytest.raises(NotFound):
        await settler.settle_one("digits")


async def test_a_restart_of_the_hub_fills_the_routes_again(house, settler):
    await ready(house, settler)
    await settler.close()
    assert house.sandbox.alive() == []
    house.routes.drop("digits")
    anew = Settler(house)
    await settled(anew, READY)
    assert house.routes.find("digits").version == "1"
    assert len(house.sandbox.alive()) == 1
    await anew.close()
    assert folders(house) == 0


# ---------------------------------------------------------------------- switching


async def test_the_old_one_answers_until_the_new_one_does(house, settler):
    await ready(house, settler)
    old = house.routes.find("digits")
    [before] = house.sandbox.alive()
    ready_now = asyncio.Event()

    async def slowly(order, say):
        await ready_now.wait()
        await serving(order, say)

    house.sandbox.table["serve"] = slowly
    await wished(house, 2)
    for _ in range(5):
        assert (await settler.settle_one("digits")).state is EndpointState.STARTING
        await asyncio.sleep(0)
        assert house.routes.find("digits") == old
    assert len(house.sandbox.alive()) == 2
    ready_now.set()
    endpoint = await settled(settler, READY)
    assert [w.model for w in endpoint.served] == ["digits@1", "digits@2"]
    assert house.routes.find("digits").version == "2"
    assert before.ended_by_hub
    assert len(house.sandbox.alive()) == 1
    assert folders(house) == 1


async def test_a_newer_wish_overtakes_one_that_is_starting(house, settler):
    house.sandbox.table["serve"] = never_ready
    await wished(house, 1)
    await settler.settle_one("digits")
    await asyncio.sleep(0)
    house.sandbox.table["serve"] = serving
    await ready(house, settler, 2)
    assert house.routes.find("digits").version == "2"
    assert [p.status is None for p in house.sandbox.started] == [False, True]
    assert folders(house) == 1


# ---------------------------------------------------------------------- failing


async def test_a_process_that_dies_is_started_again(house, settler):
    await ready(house, settler)
    [played] = house.sandbox.alive()
    await played.die(-11)
    await until(lambda: settler.serving["digits"].error)
    await settled(settler, READY)
    assert house.routes.find("digits").generation == 1
    assert "endpoint" in {f.noun for f in house.ledger.facts if "signal 11" in f.note}
    assert folders(house) == 1


async def test_while_it_is_dead_the_route_says_so(house, settler):
    await ready(house, settler)
    house.sandbox.table["serve"] = never_ready
    await house.sandbox.alive()[0].die()
    await settled(settler, EndpointState.STARTING)
    with pytest.raises(Unavailable, match="signal 9"):
        house.routes.find("digits")


async def test_after_its_last_try_it_failed_with_the_reason(house, settler):
    house.sandbox.table["serve"] = broken
    await wished(house)
    endpoint = await settled(settler, FAILED)
    assert "ended with status 1: ImportError: no module named onnx" in endpoint.error
    assert len(house.sandbox.started) == TRIES_MAX
    with pytest.raises(Unavailable, match="no module named onnx"):
        house.routes.find("digits")
    assert folders(house) == 0
    assert events(house, "endpoint") == ["wished", "starting", "starting", "failed"]


async def test_when_the_new_one_fails_the_old_one_goes_on(house, settler):
    await ready(house, settler)
    old = house.routes.find("digits")
    house.sandbox.table["serve"] = broken
    await wished(house, 2)
    endpoint = await settled(settler, FAILED)
    assert (endpoint.wished.generation, endpoint.observed_generation) == (2, 1)
    assert house.routes.find("digits") == old
    assert len(house.sandbox.alive()) == 1
    house.sandbox.table["serve"] = serving
    await ready(house, settler, 3)
    assert house.routes.find("digits").version == "3"


async def test_one_that_is_not_ready_in_time(house, settler):
    house.limits = replace(house.limits, start_s=0.01)
    house.sandbox.table["serve"] = never_ready
    await wished(house)
    endpoint = await settled(settler, FAILED)
    assert endpoint.error == "it was not ready within 0.01 s"
    assert house.sandbox.alive() == []
    assert folders(house) == 0


async def test_files_that_are_gone_are_a_failure_and_leave_no_folder(house, settler):
    endpoint = await wished(house)
    del house.artifacts.blobs[endpoint.wished.model_digest]
    assert "no artifact" in (await settled(settler, FAILED)).error
    assert house.sandbox.started == []
    assert folders(house) == 0


async def test_a_sandbox_that_does_not_work_is_a_failure(house, settler):
    house.sandbox.broken = Unavailable("no user namespaces")
    await wished(house)
    assert (await settled(settler, FAILED)).error == "no user namespaces"
    assert folders(house) == 0


async def test_garbage_from_a_serving_process_ends_it(house, settler):
    async def garbage(order, say):
        say.raw(b"hello\n")
        await asyncio.Event().wait()

    house.sandbox.table["serve"] = garbage
    await wished(house)
    assert "not its protocol" in (await settled(settler, FAILED)).error
    assert house.sandbox.alive() == []


async def test_an_error_that_the_process_says_is_the_reason(house, settler):
    async def refuses(order, say):
        raise BadInput("no installed runtime loads this model", where="model")

    house.sandbox.table["serve"] = refuses
    await wished(house)
    assert "no installed runtime" in (await settled(settler, FAILED)).error


async def test_the_old_one_may_die_while_the_new_one_starts(house, settler):
    await ready(house, settler)
    [old] = house.sandbox.alive()
    house.sandbox.table["serve"] = never_ready
    await wished(house, 2)
    await settler.settle_one("digits")
    await old.die()
    await until(lambda: settler.serving["digits"].error)
    await settler.settle_one("digits")
    with pytest.raises(Unavailable, match="it is starting"):
        house.routes.find("digits")
    assert len(house.sandbox.alive()) == 1


# ---------------------------------------------------------------------- stopping


async def test_what_is_withdrawn_is_stopped(house, settler):
    await ready(house, settler)
    await withdraw(house, "digits")
    endpoint = await settled(settler, STOPPED)
    assert endpoint.settled
    assert house.sandbox.alive() == []
    assert folders(house) == 0
    with pytest.raises(Unavailable, match="it is stopped"):
        house.routes.find("digits")


async def test_what_is_withdrawn_while_it_starts_never_answers(house, settler):
    house.sandbox.table["serve"] = never_ready
    await wished(house)
    await settler.settle_one("digits")
    await withdraw(house, "digits")
    await settled(settler, STOPPED)
    assert house.sandbox.alive() == []
    assert settler.starting == {}


# ---------------------------------------------------------------------- the loop


async def looping(house, settler, until):
    work = asyncio.create_task(settler.run())
    try:
        async with asyncio.timeout(5):
            while not await until():
                assert not work.done()
                await asyncio.sleep(0.001)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def is_ready(house, name):
    endpoint = await house.find("endpoint", name, Endpoint)
    return endpoint and endpoint.state is READY and name in house.routes.names()


async def test_the_loop_settles_all_and_wakes_by_itself(house, settler):
    house.limits = replace(house.limits, settle_every_s=60.0)
    await wished(house, 1, "a")

    async def then_another():
        if await is_ready(house, "a") and await house.find("endpoint", "b", Endpoint) is None:
            await wished(house, 2, "b")
        return await is_ready(house, "b")

    await looping(house, settler, then_another)
    assert len(house.sandbox.alive()) == 2


async def test_one_that_cannot_be_settled_does_not_keep_the_others(house, settler, monkeypatch, caplog):
    settle_one = settler.settle_one

    async def but_not(self, name):
        if name == "bad":
            raise Unavailable("the disk is full")
        if name == "worse":
            raise RuntimeError("a bug")
        return await settle_one(name)

    monkeypatch.setattr(Settler, "settle_one", but_not)
    for version, name in enumerate(("bad", "good", "worse"), 1):
        await wished(house, version, name)
    await looping(house, settler, lambda: is_ready(house, "good"))
    for name, why in (("bad", "the disk is full"), ("worse", "RuntimeError: a bug")):
        with pytest.raises(Unavailable, match=why):
            house.routes.find(name)
    assert "a bug" in caplog.text


async def test_a_ledger_that_cannot_be_read_for_a_while_does_not_end_the_loop(house, settler, monkeypatch):
    await wished(house)
    listing, asked = house.ledger.listing, []

    async def locked_at_first(*args):
        asked.append(1)
        if len(asked) < 4:
            raise Unavailable("locked")
        return await listing(*args)

    monkeypatch.setattr(house.ledger, "listing", locked_at_first)
    await looping(house, settler, lambda: is_ready(house, "digits"))


async def test_closing_ends_every_process(house, settler):
    await ready(house, settler)
    house.sandbox.table["serve"] = never_ready
    await wished(house, 2)
    await settler.settle_one("digits")
    assert len(house.sandbox.alive()) == 2
    await settler.close()
    await settler.close()
    assert house.sandbox.alive() == []
    assert folders(house) == 0
