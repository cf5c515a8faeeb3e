"""Events and steps as the journal keeps them."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.core.errors import Damaged
from tallystick.core.facts import from_json
from tallystick.core.run.events import (
    Began,
    CancelAsked,
    Event,
    Resumed,
    RetryDue,
    Run,
    Step,
    StepEnded,
    StepState,
)
from tallystick.core.run.options import RunOptions
from tallystick.core.run.record import read_event, read_step, write_event, write_step
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


def test_a_journal_from_before_there_were_notes_and_environments_is_read() -> None:
    old = {"path": "a", "state": "cached", "at_ms": 5, "cache_key": "k"}
    assert read_event(json.dumps({"event": "step ended", **old})) == StepEnded(
        "a", StepState.CACHED, 5, cache_key="k"
    )
    assert read_step('{"path": "a", "state": "running"}') == Step("a", StepState.RUNNING)
    run = {"key": "r", "pipeline": "p", "spec_digest": "d", "params": {}}
    assert from_json(Run, run).options == RunOptions()
