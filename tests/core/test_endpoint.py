"""Endpoints: settling, played through with a world that starts, answers and dies as it likes."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tallystick.core.endpoint import (
    TRIES_MAX,
    Action,
    Endpoint,
    EndpointState,
    Observed,
    Wish,
    settle,
    wish,
)
from tallystick.core.errors import BadInput
from tests.core.strategies import seeded


def wished(endpoint: Endpoint | None = None, model: str = "m@1") -> Endpoint:
    return wish(endpoint, "e", model, "sha256:" + "0" * 64 if model else "", "v", 1, "default")


@st.composite
def endpoints(draw: st.DrawFn) -> Endpoint:
    generation = draw(st.integers(1, 4))
    return Endpoint(
        "e",
        Wish(generation, draw(st.sampled_from(["", "m@1", "m@2"]))),
        observed_generation=draw(st.integers(0, generation)),
        state=draw(st.sampled_from(list(EndpointState))),
        tries=draw(st.integers(0, TRIES_MAX)),
        error=draw(st.sampled_from(["", "boom"])),
        served=tuple(Wish(g, "m@1") for g in range(1, draw(st.integers(1, generation)))),
    )


observations = st.builds(Observed, st.integers(0, 4), st.booleans(), st.sampled_from(["", "boom"]))


@given(endpoints(), observations)
def test_settling_twice_changes_nothing(endpoint: Endpoint, seen: Observed) -> None:
    assume(not seen.error or not endpoint.wished.model)  # each error is one try: see the test below
    once, action = settle(endpoint, seen, 5)
    if action is Action.NONE:
        twice, again = settle(once, seen, 6)
        assert (twice, again) == (once, Action.NONE)


def test_settling_what_has_failed_changes_nothing() -> None:
    failed = Endpoint("e", Wish(1, "m@1"), state=EndpointState.FAILED, tries=TRIES_MAX, error="boom", at_ms=1)
    assert settle(failed, Observed(error="boom"), 9) == (failed, Action.NONE)


@given(endpoints(), observations)
def test_ready_means_that_the_wished_model_answers(endpoint: Endpoint, seen: Observed) -> None:
    now, action = settle(endpoint, seen, 5)
    assert now.wished == endpoint.wished
    assert now.observed_generation <= now.wished.generation
    if endpoint.wished.model and seen.generation == endpoint.wished.generation and seen.answers:
        assert (now.state, action) == (EndpointState.READY, Action.NONE)
        assert now.settled
    if action is Action.START:
        assert endpoint.wished.model
    if action is Action.STOP:
        assert not endpoint.wished.model
        assert seen.generation


class World:
    """Starts a process that lives and answers, or fails, by lot."""

    def __init__(self, lots: Random, failing: float) -> None:
        self.lots, self.failing = lots, failing
        self.seen = Observed()
        self.starts = 0

    def do(self, action: Action, endpoint: Endpoint) -> None:
        self.seen = Observed(self.seen.generation, self.seen.answers)
        if action is Action.STOP:
            self.seen = Observed()
        elif action is Action.START:
            self.starts += 1
            fails = self.lots.random() < self.failing
            self.seen = (
                Observed(error="boom") if fails else Observed(endpoint.wished.generation, answers=True)
            )


@given(seeded, st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=100)
def test_settling_comes_to_rest_and_success_means_observed(lots: Random, failing: float) -> None:
    world, endpoint = World(lots, failing), wished()
    for _ in range(lots.randint(1, 4)):
        world.starts, action = 0, Action.START
        for turn in range(3 * TRIES_MAX):
            endpoint, action = settle(endpoint, world.seen, turn)
            if action is Action.NONE:
                break
            world.do(action, endpoint)
        assert action is Action.NONE, "it never comes to rest"
        assert world.starts <= TRIES_MAX
        if endpoint.state in (EndpointState.READY, EndpointState.STOPPED):
            assert endpoint.settled
            assert bool(endpoint.wished.model) == (endpoint.state is EndpointState.READY)
        else:
            assert (endpoint.state, endpoint.tries) == (EndpointState.FAILED, TRIES_MAX)
            assert not endpoint.settled
            assert endpoint.error == "boom"
        endpoint = wished(endpoint, lots.choice(["m@1", "m@2", ""]))
        assert not endpoint.settled
        world.seen = Observed(world.seen.generation, world.seen.answers)


def test_a_new_wish_is_one_generation_on() -> None:
    first = wished()
    assert (first.wished.generation, first.settled, first.state) == (1, False, EndpointState.STARTING)
    failed, _ = settle(first, Observed(error="boom"), 2)
    second = wished(failed, "m@2")
    assert (second.wished.generation, second.tries, second.error) == (2, 0, "")
    with pytest.raises(BadInput):
        wish(None, "../e", "m@1", "", "", 1, "default")


def test_the_old_one_answers_while_the_new_one_starts() -> None:
    ready, _ = settle(wished(), Observed(1, answers=True), 2)
    moved, action = settle(wished(ready, "m@2"), Observed(1, answers=True), 3)
    assert (moved.state, action, moved.observed_generation) == (EndpointState.STARTING, Action.START, 1)
    assert settle(moved, Observed(2), 4) == (moved, Action.NONE)
    done, _ = settle(moved, Observed(2, answers=True), 5)
    assert (done.state, done.observed_generation) == (EndpointState.READY, 2)
    assert done.previous is not None
    assert done.previous.model == "m@1"
    assert ready.previous is None


def test_a_process_that_dies_is_started_again() -> None:
    ready, _ = settle(wished(), Observed(1, answers=True), 2)
    for seen in (Observed(), Observed(error="died")):
        again, action = settle(ready, seen, 3)
        assert (again.state, action) == (EndpointState.STARTING, Action.START)


def test_after_its_last_try_it_has_failed_until_it_is_wished_again() -> None:
    endpoint, actions = wished(), []
    for turn in range(TRIES_MAX):
        endpoint, action = settle(endpoint, Observed(error="boom"), turn)
        actions.append(action)
    assert actions == [Action.START] * (TRIES_MAX - 1) + [Action.NONE]
    assert (endpoint.state, endpoint.error) == (EndpointState.FAILED, "boom")
    assert settle(endpoint, Observed(), 9) == (endpoint, Action.NONE)
    assert settle(wished(endpoint), Observed(), 9)[1] is Action.START


def test_stopping() -> None:
    ready, _ = settle(wished(), Observed(1, answers=True), 2)
    stopping = wished(ready, "")
    assert settle(stopping, Observed(1, answers=True), 3) == (stopping, Action.STOP)
    stopped, action = settle(stopping, Observed(), 4)
    assert (stopped.state, stopped.settled, action) == (EndpointState.STOPPED, True, Action.NONE)
