from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import BadInput
from tallystick.core.pipeline.check import DEPTH_MAX, check_pipeline
from tallystick.core.pipeline.order import components, task_order, upstream
from tallystick.core.pipeline.params import check_params, read_params
from tallystick.core.pipeline.spec import (
    Cache,
    Component,
    Constant,
    Dag,
    DagOutput,
    FromInput,
    FromTask,
    Function,
    Importer,
    Loop,
    Param,
    ParamType,
    Pipeline,
    Slot,
    Source,
    Task,
)
from tests.core.pipelines import random_pipeline
from tests.core.strategies import seeded

STEP = Component("c", Function("f", "def f(): ..."))
NEEDY = replace(STEP, params=(Param("x", ParamType.INTEGER),))
READER = replace(STEP, artifacts=(Slot("data"),))


def pipeline(*tasks: Task, outputs: tuple[DagOutput, ...] = (), params: tuple[Param, ...] = ()) -> Pipeline:
    return Pipeline("p", Dag(tasks, outputs), params)


@given(seeded)
def test_random_pipelines_are_in_order(lots: Random) -> None:
    made = random_pipeline(lots)
    assert check_pipeline(made) is made
    order = [task.name for task in task_order(made.root)]
    assert sorted(order) == sorted(task.name for task in made.root.tasks)
    for task in made.root.tasks:
        assert all(order.index(name) < order.index(task.name) for name in upstream(task))


@given(st.integers(2, 8), seeded)
def test_a_cycle_is_found_wherever_it_is(size: int, lots: Random) -> None:
    ring = [Task(f"t{n}", STEP, after=(f"t{(n + 1) % size}",)) for n in range(size)]
    tasks = [*ring, Task("before", STEP), Task("behind", STEP, after=("t0",))]
    lots.shuffle(tasks)
    with pytest.raises(BadInput, match="wait for each other") as refused:
        check_pipeline(pipeline(*tasks))
    assert "before" not in refused.value.what
    assert all(f"t{n}" in refused.value.what for n in range(size))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (pipeline(), "no task"),
        (pipeline(Task("a", Dag(()))), "no task"),
        (pipeline(Task("a", STEP), Task("a", STEP)), "two tasks"),
        (pipeline(Task("a", STEP, after=("a",))), "wait for each other: a"),
        (pipeline(Task("a", STEP, after=("b",))), "needs task 'b'"),
        (pipeline(Task("a", NEEDY, inputs={"x": FromTask("b", "o")})), "needs task 'b'"),
        (pipeline(Task("a", NEEDY, inputs={"x": FromInput("nothing")})), "input 'nothing'"),
        (pipeline(Task("a", NEEDY)), "parameter 'x' has no value"),
        (pipeline(Task("a", READER)), "artifact 'data' has no source"),
        (pipeline(Task("a", Importer(FromInput("nothing")))), "input 'nothing'"),
        (pipeline(Task("a", Importer(FromTask("b", "o")))), "needs task 'b'"),
        (pipeline(Task("a", STEP), outputs=(DagOutput("o", (Source("b", "o"),)),)), "no task 'b'"),
        (pipeline(Task("a", Dag((Task("b", STEP),)), loop=Loop(FromInput("n"), "i"))), "input 'n'"),
        (pipeline(Task("a", Dag((Task("b", NEEDY, {"x": FromInput("i")}),)))), "input 'i'"),
        (pipeline(Task("a", STEP), Task("d", Dag((Task("b", STEP, after=("a",)),)))), "needs task 'a'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_refers_to_nothing_is_refused(bad: Pipeline, says: str) -> None:
    with pytest.raises(BadInput, match=says) as refused:
        check_pipeline(bad)
    assert refused.value.where.startswith("p")


def test_a_loop_gives_its_item_to_what_is_inside() -> None:
    inner = Dag((Task("b", NEEDY, {"x": FromInput("i")}),))
    check_pipeline(pipeline(Task("a", inner, loop=Loop(Constant([1]), "i"))))


def test_graphs_are_nested_only_so_deep() -> None:
    def nested(depth: int) -> Pipeline:
        task = Task("t", STEP)
        for _ in range(depth):
            task = Task("t", Dag((task,)))
        return pipeline(task)

    check_pipeline(nested(DEPTH_MAX))
    with pytest.raises(BadInput, match="deeper"):
        check_pipeline(nested(DEPTH_MAX + 1))


def test_a_long_chain_keeps_its_order() -> None:
    tasks = [Task("t0", STEP), *(Task(f"t{n}", STEP, after=(f"t{n - 1}",)) for n in range(1, 300))]
    order = [int(task.name[1:]) for task in task_order(Dag(tuple(reversed(tasks))))]
    assert all(a < b for a, b in pairwise(order))


def test_components_are_found_with_their_path() -> None:
    made = pipeline(Task("a", STEP), Task("d", Dag((Task("b", NEEDY), Task("i", Importer(Constant("u")))))))
    assert dict(components(made.root)) == {"a": STEP, "d/b": NEEDY}


PARAMS = (
    Param("s", ParamType.STRING, "text"),
    Param("i", ParamType.INTEGER),
    Param("f", ParamType.DOUBLE, 0.5),
    Param("b", ParamType.BOOLEAN, False),
    Param("l", ParamType.LIST, optional=True),
    Param("d", ParamType.STRUCT, {"a": 1}),
)


def test_defaults_stand_where_nothing_is_given() -> None:
    made = pipeline(Task("a", STEP), params=PARAMS)
    assert check_params(made, {"i": 3, "s": "other"}) == {
        "s": "other", "i": 3, "f": 0.5, "b": False, "l": None, "d": {"a": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "'i' has no value"),
        ({"i": 1, "x": 1}, "no parameter 'x'"),
        ({"i": 1.0}, "'i' must be NUMBER_INTEGER"),
        ({"i": True}, "'i' must be NUMBER_INTEGER"),
        ({"i": "1"}, "'i' must be NUMBER_INTEGER"),
        ({"i": None}, "'i' must be NUMBER_INTEGER"),
        ({"i": 1, "f": float("nan")}, "NaN"),
        ({"i": 1, "f": False}, "'f' must be NUMBER_DOUBLE"),
        ({"i": 1, "b": 1}, "'b' must be BOOLEAN"),
        ({"i": 1, "l": "[]"}, "'l' must be LIST"),
        ({"i": 1, "d": []}, "'d' must be STRUCT"),
        ({"i": 1, "s": 1}, "'s' must be STRING"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        check_params(pipeline(Task("a", STEP), params=PARAMS), given)


def test_the_digest_covers_everything() -> None:
    one = pipeline(Task("a", STEP))
    assert one.digest == pipeline(Task("a", STEP)).digest
    assert one.digest != pipeline(Task("a", STEP, cache=Cache(False))).digest
    assert one.digest != pipeline(Task("a", replace(STEP, code=Function("f", "def f(): pass")))).digest


def test_parameters_are_read_from_text_by_their_type() -> None:
    made = pipeline(Task("a", STEP), params=PARAMS)
    texts = {"s": "1", "i": "2", "f": "2.5", "b": "true", "l": "[1]", "d": '{"a": 1}', "unknown": "x"}
    assert read_params(made, texts) == {
        "s": "1", "i": 2, "f": 2.5, "b": True, "l": [1], "d": {"a": 1}, "unknown": "x",
    }  # fmt: skip
    with pytest.raises(BadInput, match="'two' is not NUMBER_INTEGER"):
        read_params(made, {"i": "two"})
