"""Lists, ids, times and specs on the wire."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import NotFound
from tallystick.doors.kubeflow.specs import as_file, as_objects
from tallystick.doors.kubeflow.wire import id_of, key_of, millis, task_id, when
from tests.doors.kubeflow.asked import refused


def filters(*predicates):
    return json.dumps({"predicates": predicates})


NAME = {"key": "display_name", "operation": "EQUALS", "string_value": "x"}


@pytest.mark.parametrize(
    "query",
    [
        {"page_token": "x"},
        {"page_token": "ü"},
        {"page_token": "W10="},
        {"page_token": "WyIiLCIiLCIiLHt9LCIiXQ=="},
        {"page_size": "-1"},
        {"page_size": "many"},
        {"page_size": "9" * 30},
        {"sort_by": "color"},
        {"sort_by": "created_at sideways"},
        {"filter": "x"},
        {"filter": "[" * 10_000},
        {"filter": "[]"},
        {"filter": filters(1)},
        {"filter": filters({})},
        {"filter": filters({**NAME, "operation": "LIKE"})},
        {"filter": filters({**NAME, "operation": 4})},
        {"filter": filters({**NAME, "key": "color"})},
        {"filter": filters({**NAME, "int_value": 5})},
        {"filter": filters({**NAME, "operation": "IN"})},
        {"filter": filters({**NAME, "string_value": 5})},
        {"filter": filters({"key": "created_at", "operation": "EQUALS", "timestamp_value": "noon"})},
        {"filter": filters({"key": "display_name", "operation": "IN", "string_values": ["x"]})},
        {"filter": filters({"key": "display_name", "operation": "IN", "string_values": {"values": "x"}})},
        {"filter": filters(*[NAME] * 21)},
        {"filter": "x" * 30_000},
    ],
)
async def test_lists(api, house, query):
    for noun in ("pipelines", "experiments", "runs", "recurringruns"):
        await refused(house, await api.get(f"/{noun}", params=query), 400, 3)


async def test_a_filter_of_another_type(api):
    await api.post("/experiments", json={"display_name": "e"})
    for wrong in (
        {"key": "display_name", "operation": "EQUALS", "long_value": "5"},
        {"key": "created_at", "operation": "LESS_THAN", "string_value": "x"},
    ):
        answer = await api.get("/experiments", params={"filter": filters(wrong)})
        assert (answer.status_code, answer.json()["code"]) == (400, 3)


async def test_pages_hold_while_rows_come_and_go(api):
    for n in range(7):
        await api.post("/experiments", json={"display_name": f"e{n}"})
    query = {"page_size": 3, "sort_by": "display_name desc"}
    first = (await api.get("/experiments", params=query)).json()
    assert [e["display_name"] for e in first["experiments"]] == ["e6", "e5", "e4"]
    await api.post("/experiments", json={"display_name": "e9"})
    await api.delete(f"/experiments/{first['experiments'][2]['experiment_id']}")
    token = first["next_page_token"]
    second = (await api.get("/experiments", params={**query, "page_token": token})).json()
    assert [e["display_name"] for e in second["experiments"]] == ["e3", "e2", "e1"]
    bare = (await api.get("/experiments", params={"page_token": token, "page_size": 3})).json()
    assert bare["experiments"] == second["experiments"], "the token alone says what was asked for"
    for other in ({"sort_by": "created_at"}, {"filter": filters(NAME)}):
        answer = await api.get("/experiments", params={**query, "page_token": token, **other})
        assert (answer.status_code, answer.json()["code"]) == (400, 3)
    made = (await api.get("/experiments")).json()["experiments"][0]
    answer = await api.get("/runs", params={"page_token": token, "experiment_id": made["experiment_id"]})
    assert answer.status_code == 400


# ------------------------------------------------------------------------------------------------------- wire


@given(st.sampled_from(["run", "schedule", "pipeline"]), st.integers(0, 2**48 - 1), st.integers(0, 2**24 - 1))
def test_an_id_leads_back_to_its_key(noun, time, chance):
    key = f"{noun}-{time:012x}-{chance:06x}"
    assert key_of(noun, id_of(key)) == key == key_of(noun, key)
    with pytest.raises(NotFound):
        key_of("experiment", id_of(key))


def test_ids_of_tasks():
    assert task_id("run-1", "a") == task_id("run-1", "a") != task_id("run-1", "b")
    assert len(id_of("run-1")) == 36


@given(st.integers(1, 253_402_300_799_000))
def test_times(at_ms):
    assert millis(when(at_ms), "time") == at_ms


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8")),
    st.sampled_from(["2020-01-01", "1e3", "yes", "~", "0x1", "\x85"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(min_size=1, max_size=5), VALUES, min_size=1, max_size=3))
async def test_a_spec_comes_back_as_it_was(spec):
    if "pipeline_spec" not in spec:
        assert await as_objects(await as_file(spec)) == spec
