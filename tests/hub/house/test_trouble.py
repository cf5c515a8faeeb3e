"""An endpoint that does not answer says why, once, and what to do about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tallystick.core.endpoint import EndpointState, wish
from tallystick.core.errors import NotFound, Unavailable
from tallystick.hub.house.route import Routes
from tallystick.routines.served.settle import Settler
from tests.fakes.house import make_house


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        (EndpointState.STOPPED, "", "endpoint e: it is stopped (tally deploy MODEL --name e)"),
        (
            EndpointState.FAILED,
            "no memory",
            "endpoint e: it could not be started: no memory (tally deploy MODEL --name e)",
        ),
    ],
)
async def test_what_only_a_deployment_helps(tmp_path, state, error, words):
    house = make_house(tmp_path)
    model = "" if state is EndpointState.STOPPED else "m@1"
    wished = wish(None, "e", model, "", "", 0, house.tenant)
    await house.tell("endpoint", "e", "wished", replace(wished, state=state, error=error))
    await Settler(house).settle_one("e")
    with pytest.raises(Unavailable) as wrong:
        house.routes.find("e")
    assert str(wrong.value) == words
    await house.traffic.close()


def test_what_may_answer_soon():
    routes = Routes()
    routes.trouble("e", "it is starting")
    with pytest.raises(Unavailable) as wrong:
        routes.find("e")
    assert str(wrong.value) == "endpoint e: it is starting (ask again soon)"


def test_an_endpoint_that_nobody_knows_is_named_once():
    with pytest.raises(NotFound) as wrong:
        Routes().find("e")
    assert str(wrong.value) == "no endpoint is called 'e' (deploy a model first)"
