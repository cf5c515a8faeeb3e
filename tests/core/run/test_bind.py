"""What becomes of a task's inputs on their way to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tallystick.core.errors import BadInput
from tallystick.core.pipeline.spec import (
    Component,
    Constant,
    FinalStatus,
    FromInput,
    FromTask,
    Function,
    Importer,
    Loop,
    Param,
    ParamType,
    Slot,
    Task,
    Template,
)
from tallystick.core.run.bind import Facts, Sources, bind, items_of
from tallystick.core.values import ArtifactRef, Values

REF = ArtifactRef("model", "sha256:" + "0" * 64)
FACTS = Facts("pipe", "run-1", 1_700_000_000_000, root_uri="tally://runs")


def task(kind: ParamType = ParamType.STRING, binding: Any = None, **more: Any) -> Task:
    param = Param("x", kind, **more)
    inputs = {} if binding is None else {"x": binding}
    return Task("t", Component("c", Function("c", ""), params=(param,)), inputs)


def sources(scope: Values | None = None, done: Mapping[str, Values] | None = None) -> Sources:
    around = scope or Values({"name": "you", "number": 3.0, "item": {"a": 1}}, {"model": (REF,)})
    outputs = done or {"before": Values({"out": 7})}
    return Sources(around, outputs.__getitem__, lambda name: {"state": name}, FACTS.of("t", "loop[0]/t"))


@pytest.mark.parametrize(
    ("kind", "value", "bound"),
    [
        (ParamType.STRING, 3.0, "3"),
        (ParamType.STRING, 0.5, "0.5"),
        (ParamType.STRING, True, "true"),
        (ParamType.STRING, {"b": [1], "a": None}, '{"a":null,"b":[1]}'),
        (ParamType.INTEGER, 3.0, 3),
        (ParamType.DOUBLE, 3, 3),
        (ParamType.BOOLEAN, False, False),
        (ParamType.LIST, [1], [1]),
        (ParamType.STRUCT, {}, {}),
    ],
)
def test_values_are_made_to_the_declared_type(kind: ParamType, value: Any, bound: Any) -> None:
    found = bind(task(kind, Constant(value)), "t", sources()).params["x"]
    assert (found, type(found)) == (bound, type(bound))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ParamType.INTEGER, 3.5),
        (ParamType.INTEGER, "3"),
        (ParamType.INTEGER, True),
        (ParamType.DOUBLE, "x"),
        (ParamType.BOOLEAN, 1),
        (ParamType.LIST, {}),
        (ParamType.STRUCT, []),
    ],
)
def test_a_value_of_another_type_is_refused(kind: ParamType, value: Any) -> None:
    with pytest.raises(BadInput, match="'x'"):
        bind(task(kind, Constant(value)), "t", sources())


def test_a_literal_is_one_of_those_allowed() -> None:
    assert bind(task(binding=Constant("a"), literals=("a", "b")), "t", sources()).params == {"x": "a"}
    with pytest.raises(BadInput, match="'x'"):
        bind(task(binding=Constant("c"), literals=("a", "b")), "t", sources())


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("hello {{$.inputs.parameters['who']}}!", "hello you!"),
        ('{{$.inputs.parameters["count"]}} of {{$.inputs.parameters["count"]}}', "3 of 3"),
        ("{{$.pipeline_job_name}} {{$.pipeline_job_uuid}} {{$.pipeline_task_name}}", "pipe run-1 t"),
        ("{{$.pipeline_job_resource_name}}", "pipe-run-1"),
        ("{{$.pipeline_job_create_time_utc}}", "2023-11-14T22:13:20Z"),
        ("{{$.pipeline_root}}/x", "tally://runs/x"),
    ],
)
def test_templates_are_filled(text: str, filled: str) -> None:
    whole = task(binding=Template(text))
    more = {**whole.inputs, "who": FromInput("name"), "count": FromInput("number")}
    found = bind(Task("t", whole.body, more), "t", sources())
    assert found.params == {"x": filled, "who": "you", "count": 3.0}


@pytest.mark.parametrize(
    "text", ["{{$.inputs.parameters['nobody']}}", "{{$.workspace_path}}", "{{$.unknown}}"]
)
def test_a_template_that_nothing_fills_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="nothing to put in"):
        bind(task(binding=Template(text)), "t", sources())


def test_where_values_come_from() -> None:
    assert bind(task(ParamType.INTEGER, FromTask("before", "out")), "t", sources()).params == {"x": 7}
    assert bind(task(ParamType.INTEGER, FromInput("item", "a")), "t", sources()).params == {"x": 1}
    status = bind(task(ParamType.FINAL_STATUS, FinalStatus("before")), "t", sources())
    assert status.params == {"x": {"state": "before"}}
    uri = Task("t", Importer(FromInput("name")))
    assert bind(uri, "t", sources()).params == {"uri": "you"}
    slot = Component("c", Function("c", ""), artifacts=(Slot("m"),))
    assert bind(Task("t", slot, {"m": FromInput("model")}), "t", sources()).artifacts == {"m": (REF,)}


def test_what_is_missing_is_named_unless_it_may_be() -> None:
    for name, output in (("nobody", "out"), ("before", "nothing")):
        with pytest.raises(BadInput, match=f"task '{name}' gave no output"):
            bind(task(ParamType.INTEGER, FromTask(name, output)), "t", sources())
    spared = task(ParamType.INTEGER, FromTask("nobody", "out"), default=5)
    assert bind(spared, "t", sources()).params == {"x": 5}
    optional = task(ParamType.INTEGER, FromTask("nobody", "out"), optional=True)
    assert bind(optional, "t", sources()).params == {}
    with pytest.raises(BadInput, match="no field 'b'"):
        bind(task(binding=FromInput("item", "b")), "t", sources())


def test_items_of_a_loop() -> None:
    def loop(items: Any, **more: Any) -> Task:
        return Task("t", Importer(Constant("")), loop=Loop(items, "i", **more))

    assert items_of(loop(Constant([1, 2])), "t", sources()) == [1, 2]
    assert items_of(loop(FromInput("model"), artifacts=True), "t", sources()) == (REF,)
    for wrong in (Constant({}), FromInput("name"), FromInput("model")):
        with pytest.raises(BadInput, match="needs a list"):
            items_of(loop(wrong), "t", sources())
    with pytest.raises(BadInput, match="the limit is"):
        items_of(loop(Constant([0] * 100_001)), "t", sources())
