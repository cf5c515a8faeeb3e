"""Recipes: what a step's outputs depend on, and what is said of what changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.core.errors import BadInput
from tallystick.core.facts import to_json
from tallystick.core.pipeline.spec import Command, Component, Function, Param, ParamType, Resources, Slot
from tallystick.core.run.options import RunOptions
from tallystick.core.run.recipe import Kept, changed, differing, last_key, read_kept, recipe_of, seed_of
from tallystick.core.values import ArtifactRef, Environment, Values
from tests.core.strategies import json_values, names

HERE = Environment("3.11.2", "linux-x86_64", {"numpy": "2.4.0"})
READER = Component("c", Function("f", "s"), {"A": "0"})
REF = ArtifactRef("data", "sha256:" + "a" * 64, uri="somewhere")
params = st.dictionaries(names, json_values, max_size=4)


def key(component: Component = READER, values: Values | None = None, environment: Environment = HERE) -> str:
    return recipe_of(component, values or Values(), environment).key


CHANGES: dict[str, Any] = {
    "source": (replace(READER, code=Function("f", "t")), HERE),
    "interface": (replace(READER, out_params=(Param("o", ParamType.STRING),)), HERE),
    "env": (replace(READER, env={"A": "1"}), HERE),
    "python (3.11.2 -> 3.12.0)": (READER, replace(HERE, python="3.12.0")),
    "platform (linux-x86_64 -> linux-arm64)": (READER, replace(HERE, platform="linux-arm64")),
    "packages": (READER, replace(HERE, packages={"numpy": "2.4.1"})),
}


@pytest.mark.parametrize("words", CHANGES)
@given(params)
@settings(max_examples=20, deadline=None)
def test_any_part_that_changes_changes_the_key_and_is_named(words: str, given: dict[str, Any]) -> None:
    component, environment = CHANGES[words]
    values = Values(given, {"data": (REF,)})
    before, after = recipe_of(READER, values, HERE), recipe_of(component, values, environment)
    assert before.key != after.key
    assert changed(before.parts, after.parts) == [words]


@given(params, names, json_values)
@settings(deadline=None)
def test_a_parameter_that_changes_is_named(given: dict[str, Any], name: str, value: Any) -> None:
    before = recipe_of(READER, Values(given), HERE)
    after = recipe_of(READER, Values({**given, name: value}), HERE)
    same = name in given and to_json(given[name]) == value and type(given[name]) is type(value)
    said = changed(before.parts, after.parts)
    if before.key == after.key:
        assert said == []
    else:
        assert [words.split(" (")[0] for words in said] == [f"param {name}"]
    assert not same or before.key == after.key


@given(params)
@settings(deadline=None)
def test_the_order_of_parameters_does_not_matter(given: dict[str, Any]) -> None:
    turned = dict(reversed(given.items()))
    assert key(values=Values(given)) == key(values=Values(turned))


def test_a_long_value_is_named_and_not_shown() -> None:
    before, after = (recipe_of(READER, Values({"x": text * 100}), HERE).parts for text in "ab")
    assert changed(before, after) == ["param x"]
    assert changed(before, recipe_of(READER, Values(), HERE).parts) == ["param x (gone)"]
    assert changed(recipe_of(READER, Values(), HERE).parts, before) == ["param x (new)"]


def test_of_an_artifact_content_and_metadata_count() -> None:
    plain = key(values=Values({}, {"data": (REF,)}))
    assert plain == key(values=Values({}, {"data": (ArtifactRef("n", REF.digest, uri="else"),)}))
    told = replace(REF, metadata={"accuracy": 0.9})
    others = [
        replace(REF, digest="sha256:" + "b" * 64), told, replace(REF, metadata={"accuracy": 0.8})
    ]  # fmt: skip
    keys = {plain, *(key(values=Values({}, {"data": (ref,)})) for ref in others)}
    assert len(keys | {key(values=Values({}, {"data": (REF, REF)})), key()}) == 6
    from_mlflow = replace(REF, metadata={"mlflow_run_id": "1"})
    assert plain == key(values=Values({}, {"data": (from_mlflow,)}))


def test_where_rows_of_a_table_are_from_does_not_count() -> None:
    keys = set()
    for snapshot in ("digits@1", "digits@2"):
        metadata = {"uri": f"tally://tables/{snapshot}", "snapshot": snapshot, "rows": 3}
        ref = replace(REF, uri=f"tally://tables/{snapshot}", metadata=metadata)
        keys.add(key(values=Values({}, {"data": (ref,)})))
    assert keys == {key(values=Values({}, {"data": (REF,)}))}


def test_of_what_schema_an_artifact_is_counts_as_its_step_sees_it() -> None:
    reader = replace(READER, artifacts=(Slot("data"),))
    keys = [
        key(reader, Values({}, {"data": (replace(REF, schema=schema),)}))
        for schema in ("system.Artifact", "system.Dataset", "system.Model")
    ]
    assert len({*keys}) == 3


def test_limits_and_names_of_components_do_not_count_but_workers_do() -> None:
    same = replace(READER, name="other", timeout_s=9, resources=Resources(2, 10**9))
    assert key(same) == key()
    assert key(replace(READER, resources=Resources(workers=2))) != key()
    assert key(replace(READER, artifacts=(Slot("data"),))) != key()
    assert key(replace(READER, code=Command("image", ("ls",)))) != key()


def test_a_key_of_the_authors_own_decides_alone() -> None:
    own = recipe_of(READER, Values({"x": 1}), HERE, "mine")
    other = recipe_of(replace(READER, code=Function("f", "t")), Values(), HERE, "mine")
    assert own == other
    assert list(own.parts) == ["own key"]
    assert own.key != recipe_of(READER, Values(), HERE, "another").key
    assert own.key != recipe_of(replace(READER, name="d"), Values(), HERE, "mine").key


def test_a_seed_counts_and_differs_by_path() -> None:
    assert seed_of(0, "train") == ""
    first, second = seed_of(7, "loop[0]/train"), seed_of(7, "loop[1]/train")
    assert first != second
    assert 0 <= int(first) < 2**32
    assert recipe_of(READER, Values(), HERE, seed=first).key != key()


def test_what_was_kept_in_the_older_form_is_still_read() -> None:
    outputs = Values({"x": 1}, {"data": (REF,)})
    assert read_kept(to_json(outputs)) == Kept(outputs)
    kept = Kept(outputs, {"source": "s"}, 5, "run-1", "train")
    assert read_kept(to_json(kept)) == kept
    with pytest.raises(BadInput):
        read_kept({"outputs": 7})


def test_the_newest_of_a_path_is_the_same_for_each_turn_of_a_loop() -> None:
    keys = {last_key("p", path) for path in ("loop[3]/in[0]/train", "loop[14]/in[2]/train")}
    assert keys == {"last p loop/in/train"}


def test_what_differs_between_two_makings() -> None:
    before = Values({"x": 1, "gone": None}, {"data": (REF,), "more": (REF,)})
    after = Values({"x": 2, "new": None}, {"data": (replace(REF, name="n"),), "more": (REF, REF)})
    assert differing(before, after) == ["x", "gone", "more", "new"]
    assert differing(before, before) == []


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"verify_share": 1.1}, "verify_share"), ({"verify_share": float("nan")}, "verify_share"),
        ({"cache_age_ms_max": -1}, "cache_age_ms_max"), ({"seed": -1}, "seed"), ({"seed": 2**60}, "seed"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(options: dict[str, Any], where: str) -> None:
    with pytest.raises(BadInput) as wrong:
        RunOptions(**options).check()
    assert wrong.value.where == where
