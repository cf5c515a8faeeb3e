"""Events and steps as the journal keeps them."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.core.errors import Damaged
from tallystick.core.pipeline.spec import Component, Function
from tallystick.core.run.events import Began, CancelAsked, Event, Resumed, RetryDue, Step, StepEnded
from tallystick.core.run.record import read_event, read_step, write_event, write_step
from tallystick.core.values import ArtifactRef, Values, cache_key
from tests.core.strategies import of

KINDS = (Began, CancelAsked, Resumed, RetryDue, StepEnded)
UNHURRIED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@UNHURRIED
def test_every_event_comes_back(kind: type[Event], data: st.DataObject) -> None:
    event: Event = data.draw(of(kind))
    assert read_event(write_event(event)) == event


@given(of(Step))
@UNHURRIED
def test_every_step_comes_back(step: Step) -> None:
    assert read_step(write_step(step)) == step


@pytest.mark.parametrize(
    "text", ["", "[]", "7", '{"event": "dancing"}', '{"at_ms": 1}', '{"event": "step ended"', '{"event": {}}']
)
def test_what_is_no_event_is_damaged(text: str) -> None:
    with pytest.raises(Damaged):
        read_event(text)


def test_an_event_without_its_fields_is_damaged_too() -> None:
    for text in ('{"event": "began"}', '{"event": "retry due", "path": 1, "at_ms": 1}'):
        with pytest.raises(Damaged):
            read_event(text)
    with pytest.raises(Damaged):
        read_step('{"path": "a"}')


def test_the_text_is_the_same_each_time_and_names_its_kind() -> None:
    text = write_event(Began(1, 2))
    assert json.loads(text) == {"event": "began", "at_ms": 1, "slots": 2}
    assert text == write_event(Began(1, 2))


def test_a_cache_key_covers_what_the_outputs_depend_on() -> None:
    reader = Component("c", Function("f", "s"))
    ref = ArtifactRef("data", "sha256:" + "a" * 64, uri="somewhere")
    values = Values({"x": 1}, {"data": (ref,)})
    key = cache_key(reader, values, "env")
    renamed = ArtifactRef("n", ref.digest, uri="else")
    assert key == cache_key(reader, Values({"x": 1}, {"data": (renamed,)}), "env")
    others = [
        cache_key(Component("c", Function("f", "t")), values, "env"),
        cache_key(Component("c", Function("f", "s"), {"A": "1"}), values, "env"),
        cache_key(reader, Values({"x": 2}, values.artifacts), "env"),
        cache_key(reader, Values({"x": 1}, {"data": (ArtifactRef("d", "sha256:" + "b" * 64),)}), "env"),
        cache_key(reader, Values({"x": 1}, {"data": (ref, ref)}), "env"),
        cache_key(reader, values, "other env"),
        cache_key(reader, values, "env", "own"),
        cache_key(reader, values, "env", "another"),
    ]
    assert len({key, *others}) == 9
    assert cache_key(reader, Values(), "env", "own") == cache_key(reader, values, "other", "own")
