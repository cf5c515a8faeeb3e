from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.core.errors import BadInput, TallyError, error_from_dict
from tallystick.core.facts import Fact, from_json, to_json
from tallystick.core.names import canonical_json
from tallystick.core.run.events import Run, RunState
from tests.core.strategies import KEPT, json_values, of

UNHURRIED = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.mark.parametrize("kind", KEPT, ids=lambda kind: kind.__name__)
@given(data=st.data())
@UNHURRIED
def test_every_noun_comes_back_from_its_json(kind: type, data: st.DataObject) -> None:
    value = data.draw(of(kind))
    assert from_json(kind, json.loads(canonical_json(to_json(value)))) == value


@pytest.mark.parametrize("kind", KEPT, ids=lambda kind: kind.__name__)
@given(
    wire=st.dictionaries(
        st.sampled_from(["key", "name", "state", "steps", "code", "rules", "at_ms"]), json_values
    )
)
@UNHURRIED
def test_whatever_is_no_noun_is_bad_input_and_nothing_else(kind: type, wire: dict[str, Any]) -> None:
    with contextlib.suppress(BadInput):
        assert isinstance(from_json(kind, wire), kind)


def test_unknown_fields_are_dropped_and_missing_ones_have_their_default() -> None:
    fact = from_json(Fact, {"noun": "run", "key": "a", "event": "began", "colour": "red"})
    assert fact == Fact("run", "a", "began")


@pytest.mark.parametrize(
    ("wire", "where"),
    [
        ({"noun": "run", "key": "a"}, "Fact"),
        ({"noun": 1, "key": "a", "event": "e"}, "Fact.noun"),
        ({"noun": "run", "key": "a", "event": "e", "at_ms": "1"}, "Fact.at_ms"),
        ({"noun": "run", "key": "a", "event": "e", "at_ms": True}, "Fact.at_ms"),
        ({"noun": "run", "key": "a", "event": "e", "state": []}, "Fact.state"),
        ([], "Fact"),
        (None, "Fact"),
    ],
)
def test_the_field_that_does_not_fit_is_named(wire: Any, where: str) -> None:
    with pytest.raises(BadInput) as refused:
        from_json(Fact, wire)
    assert refused.value.where == where


@dataclass(frozen=True)
class Odd:
    pair: tuple[int, str]
    number: float = 0.0


def test_pairs_and_whole_numbers_for_floats() -> None:
    assert from_json(Odd, {"pair": [1, "a"], "number": 2}) == Odd((1, "a"), 2.0)
    for pair in ([1], [1, "a", 2], ["a", 1], "1a"):
        with pytest.raises(BadInput):
            from_json(Odd, {"pair": pair})


def test_a_state_that_is_none_is_refused() -> None:
    run = to_json(Run("r", "p", "sha256:" + "0" * 64, {}, state=RunState.FAILED))
    assert from_json(Run, run).state is RunState.FAILED
    with pytest.raises(BadInput) as refused:
        from_json(Run, {**run, "state": "dancing"})
    assert refused.value.where == "Run.state"


def _kinds(kind: type[TallyError]) -> list[type[TallyError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in _kinds(child))]


@pytest.mark.parametrize("kind", _kinds(TallyError), ids=lambda kind: kind.__name__)
def test_every_error_comes_back_from_its_wire_form(kind: type[TallyError]) -> None:
    wrong = kind("it broke", where="here", hint="mend it")
    again = error_from_dict(json.loads(json.dumps(wrong.as_dict())))
    assert type(again) is kind
    assert str(again) == str(wrong) == "here: it broke (mend it)"
    assert kind.exit_code in range(1, 5)
    assert kind.http_status in range(400, 600)


def test_an_unknown_error_is_still_an_error() -> None:
    assert type(error_from_dict({"error": "Surprise"})) is TallyError
    assert str(TallyError("bare")) == "bare"


def test_dataclasses_become_what_asdict_says() -> None:
    fact = Fact("run", "a", "began", {"x": [1, (2, 3)]})
    assert to_json(fact) == {**asdict(fact), "state": {"x": [1, [2, 3]]}}
