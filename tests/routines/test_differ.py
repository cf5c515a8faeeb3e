"""What differs between two runs: nothing between a run and itself, and every single change otherwise."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tallystick.core.facts import to_json
from tallystick.core.pipeline.spec import (
    Command,
    Component,
    Constant,
    Dag,
    DagOutput,
    FromTask,
    Function,
    Importer,
    Loop,
    Param,
    ParamType,
    Pipeline,
    Resources,
    Source,
    Task,
    Trigger,
)
from tallystick.core.run.events import Run, RunState, Step, StepState
from tallystick.core.run.options import RunOptions
from tallystick.core.values import ArtifactRef, Environment, Values
from tallystick.routines.differ import HIDDEN, Change, Side, alike, compare, redact, task_path

UNHURRIED = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
GROUPS = ("code", "packages", "params", "data", "inputs", "outputs", "metrics", "states", "course")
OLD = Environment("3.11.1", "linux", {"numpy": "1.26.4", "pandas": "2.2.3"})
NEW = Environment("3.11.1", "linux", {"numpy": "2.0.1", "scipy": "1.14.0"})


def component(source: str = "def f():\n    return 1\n", **more: Any) -> Component:
    return Component("train", Function("f", source, ("numpy",)), env={"MODE": "fast"}, **more)


def ref(digit: str, **more: Any) -> ArtifactRef:
    return ArtifactRef("it", "sha256:" + digit * 64, **more)


def measured(accuracy: float, matrix: Any) -> ArtifactRef:
    return ref("2", schema="system.Metrics", metadata={"accuracy": accuracy, "matrix": matrix})


def made() -> Side:
    """A run of an import, and a loop of two turns whose step trains and measures."""
    rows = ref("1", schema="system.Dataset", uri="tally://tables/digits@7", metadata={"rows": 3, "by": "me"})
    steps = [Step("load", StepState.SUCCEEDED, outputs=Values({}, {"artifact": (rows,)}), ended_ms=9)]
    for turn in range(2):
        metrics = measured(0.9, [[1, 0], [0, 1]])
        outputs = Values(
            {"loss": 0.25, "n": 3}, {"model": (ref("3", metadata={"kind": "svm"}),), "metrics": (metrics,)}
        )
        inputs = Values({"rate": 0.1}, {"rows": (rows,)})
        steps.append(
            Step(
                f"loop[{turn}]/train",
                StepState.SUCCEEDED,
                inputs=inputs,
                outputs=outputs,
                environment=OLD.digest,
            )
        )
    run = Run(
        "run-1",
        "p",
        "sha256:" + "0" * 64,
        {"rate": 0.1, "api_key": "hunter2"},
        RunState.SUCCEEDED,
        tuple(steps),
    )
    run = replace(run, outputs=Values({"loss": 0.25}, {"model": (ref("3"),)}))
    train = Task("train", component(), {"rate": Constant(0.1)})
    tasks = (
        Task("load", Importer(Constant("tally://tables/digits"))),
        Task("loop", Dag((train,)), after=("load",), loop=Loop(Constant([1, 2]), "item")),
    )
    pipeline = Pipeline(
        "p",
        Dag(tasks, (DagOutput("loss", (Source("loop", "loss"),)),)),
        (Param("rate", ParamType.DOUBLE, 0.1),),
    )
    return Side(run, pipeline, {OLD.digest: OLD, NEW.digest: NEW}, {"auc": 0.7}, {"depth": "3"})


def in_run(**more: Any) -> Callable[[Side], Side]:
    return lambda side: replace(side, run=replace(side.run, **more))


def in_step(index: int, **more: Any) -> Callable[[Side], Side]:
    def change(side: Side) -> Side:
        steps = list(side.run.steps)
        steps[index] = replace(steps[index], **more)
        return replace(side, run=replace(side.run, steps=tuple(steps)))

    return change


def out(index: int = 1, *, params: Any = None, **artifacts: ArtifactRef) -> Callable[[Side], Side]:
    """Another output of a step."""

    def change(side: Side) -> Side:
        values = side.run.steps[index].outputs
        new = {**values.artifacts, **{name: (each,) for name, each in artifacts.items()}}
        return in_step(index, outputs=Values({**values.params, **(params or {})}, new))(side)

    return change


def in_train(**more: Any) -> Callable[[Side], Side]:
    """Another task ``loop/train``."""

    def change(side: Side) -> Side:
        assert side.pipeline
        load, loop = side.pipeline.root.tasks
        assert isinstance(loop.body, Dag)
        new = replace(loop, body=Dag((replace(loop.body.tasks[0], **more),)))
        root = replace(side.pipeline.root, tasks=(load, new))
        return replace(side, pipeline=replace(side.pipeline, root=root))

    return change


def with_task(side: Side) -> Side:
    assert side.pipeline
    root = side.pipeline.root
    return replace(
        side,
        pipeline=replace(side.pipeline, root=replace(root, tasks=(*root.tasks, Task("new", component())))),
    )


SINGLE: dict[str, tuple[Callable[[Side], Side], str, str, str]] = {
    "source": (in_train(body=component("def f():\n    return 2\n")), "code", "loop/train", "source"),
    "env": (in_train(body=replace(component(), env={"MODE": "slow"})), "code", "loop/train", "env.MODE"),
    "memory": (in_train(body=component(resources=Resources(cpus=2))), "code", "loop/train", "resources.cpus"),
    "asked packages": (
        in_train(body=replace(component(), code=Function("f", "def f():\n    return 1\n", ("scipy",)))),
        "code", "loop/train", "packages",
    ),
    "command": (
        in_train(body=replace(component(), code=Command("busybox", ("sh",)))),
        "code", "loop/train", "command",
    ),
    "condition": (in_train(trigger=Trigger("1 > 2")), "code", "loop/train", "trigger.condition"),
    "binding": (in_train(inputs={"rate": FromTask("x", "y")}), "code", "loop/train", "inputs.rate.task"),
    "default": (
        lambda s: replace(s, pipeline=replace(s.pipeline, params=(Param("rate", ParamType.DOUBLE, 0.2),))),
        "code", "", "params.rate.default",
    ),
    "new task": (with_task, "code", "new", "task"),
    "no pipeline": (lambda s: replace(s, pipeline=None), "code", "", "pipeline file"),
    "package": (in_step(1, environment=NEW.digest), "packages", "loop[0]/train", "package numpy"),
    "unknown environment": (
        in_step(1, environment="sha256:gone"), "packages", "loop[0]/train", "environment",
    ),
    "parameter": (in_run(params={"rate": 0.2, "api_key": "hunter2"}), "params", "", "param rate"),
    "seed": (in_run(options=RunOptions(seed=7)), "params", "", "option seed"),
    "snapshot": (out(0, artifact=ref("1", schema="system.Dataset", uri="tally://tables/digits@8", metadata={
        "rows": 3, "by": "me"})), "data", "load", "uri"),
    "rows": (out(0, artifact=ref("9", schema="system.Dataset", uri="tally://tables/digits@7", metadata={
        "rows": 3, "by": "me"})), "data", "load", "content"),
    "input": (in_step(1, inputs=Values({"rate": 0.1}, {"rows": (ref("8"),)})), "inputs", "loop[0]/train",
        "artifact rows"),
    "input parameter": (in_step(2, inputs=Values({"rate": 0.3}, {"rows": (ref("1"),)})), "inputs",
        "loop[1]/train", "param rate"),
    "output": (out(params={"loss": 0.26}), "outputs", "loop[0]/train", "param loss"),
    "whole number": (out(params={"n": 4}), "outputs", "loop[0]/train", "param n"),
    "artifact": (out(model=ref("4", metadata={"kind": "svm"})), "outputs", "loop[0]/train", "artifact model"),
    "metadata": (out(model=ref("3", metadata={"kind": "tree"})), "outputs", "loop[0]/train",
        "metadata model.kind"),
    "metric": (
        out(metrics=measured(0.91, [[1, 0], [0, 1]])),
        "metrics", "loop[0]/train", "metrics.accuracy"),
    "matrix": (
        out(metrics=measured(0.9, [[1, 0], [1, 0]])),
        "metrics", "loop[0]/train", "metrics.matrix"),
    "logged metric": (lambda s: replace(s, metrics={"auc": 0.8}), "metrics", "", "logged metric auc"),
    "logged param": (lambda s: replace(s, logged={}), "metrics", "", "logged param depth"),
    "run's output": (
        in_run(outputs=Values({"loss": 1}, {"model": (ref("3"),)})), "outputs", "", "param loss",
    ),
    "step's state": (in_step(2, state=StepState.FAILED), "states", "loop[1]/train", "state"),
    "run's state": (in_run(state=RunState.FAILED), "states", "", "state"),
    "no step": (lambda s: in_run(steps=s.run.steps[:2])(s), "states", "loop[1]/train", "state"),
    "time": (in_step(1, ended_ms=70), "course", "loop[0]/train", "ms"),
    "cached": (in_step(1, state=StepState.CACHED), "course", "loop[0]/train", "from the cache"),
    "tries": (in_step(1, attempt=3), "course", "loop[0]/train", "tries"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "group", "where", "what"), SINGLE.values(), ids=SINGLE)
def test_every_single_change_is_named(
    change: Callable[[Side], Side], group: str, where: str, what: str
) -> None:
    before = made()
    found = compare(before, change(before))
    assert (where, what) in [(change.where, change.what) for change in found.groups[group]]
    assert [name for name in GROUPS if found.groups[name] and name != group] == []
    assert found.alike == (group == "course")
    touched = {"loop/train": 1, "loop[0]/train": 2, "loop[1]/train": 2, "load": 2}.get(where, 3)
    touched = 3 if group == "course" else touched
    assert (found.steps, found.steps_alike) == (3, touched)


def test_a_change_says_both_values_and_where_else_it_holds() -> None:
    before = made()
    after = in_step(2, environment=NEW.digest)(in_step(1, environment=NEW.digest)(before))
    assert compare(before, after).groups["packages"] == (
        Change("loop[0]/train", "package numpy", "1.26.4", "2.0.1", 1),
        Change("loop[0]/train", "package pandas", "2.2.3", None, 1),
        Change("loop[0]/train", "package scipy", None, "1.14.0", 1),
    )


def test_a_lock_alone_may_differ() -> None:
    locked = replace(OLD, lock="numpy==1.26.4 --hash=sha256:00")
    before = made()
    after = replace(in_step(1, environment=locked.digest)(before), environments={locked.digest: locked})
    assert [c.what for c in compare(before, after).groups["packages"]] == ["lock"]


def test_nothing_there_is_not_the_value_none() -> None:
    before = made()
    found = compare(before, out(params={"empty": None})(before))
    assert [c.what for c in found.groups["outputs"]] == ["param empty"]


def test_floats_are_alike_within_the_tolerance_and_whole_numbers_only_when_equal() -> None:
    before = made()
    after = out(params={"loss": 0.25 * (1 + 1e-12)})(before)
    assert compare(before, after).alike
    assert not compare(before, after, 0).alike
    assert not compare(before, out(params={"n": 4})(before), 0.5).alike


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        (1.0, 1, True),
        (True, 1, False),
        (0, False, False),
        ("1", 1, False),
        (math.nan, math.nan, True),
        (math.nan, 1.0, False),
        (math.inf, math.inf, True),
        (math.inf, -math.inf, False),
        (10**400, 1.5, False),
        (10**400, 10**400, True),
        (0.0, 1e-300, False),
        ([1.0, {"a": 2.0}], [1.0 + 1e-12, {"a": 2.0}], True),
        ([1.0], [1.0, 1.0], False),
        ({"a": 1}, {"b": 1}, False),
        (None, "", False),
    ],
)
def test_alike(one: Any, two: Any, same: bool) -> None:
    assert alike(one, two) is same
    assert alike(two, one) is same


def test_paths_of_tasks() -> None:
    assert task_path("for-loop-1[2]/sub/loop[10]/train") == "for-loop-1/sub/loop/train"


# ---------------------------------------------------------------------------- secrets, and what is too long


SECRET = "s3cr3t-of-mine"  # noqa: S105  reason: it is nobody's


@pytest.mark.parametrize(
    "change",
    [
        in_run(params={"rate": 0.1, "api_key": SECRET}),
        in_run(params={"rate": 0.1, "login": {"password": SECRET}}),
        in_train(body=replace(component(), env={"DB_PASSWORD": SECRET})),
        in_train(body=replace(component(), env={"DB": f"postgresql://me:{SECRET}@host/db"})),
        in_train(body=component(f'def f():\n    token = "{SECRET}"\n')),
        in_run(params={"rate": 0.1, "credentials": {"user": SECRET}}),
        in_run(params={"rate": 0.1, "headers": {"Authorization": [SECRET]}}),
        in_train(body=replace(component(), code=Command("i", ("run", "--password", SECRET)))),
        in_train(body=replace(component(), code=Command("i", ("run", f"--db-password={SECRET}")))),
        in_train(inputs={"rate": Constant(["--x", f"https://u:{SECRET}@host"])}),
        out(params={"access_key_id": SECRET}),
        out(params={"said": f"https://u:{SECRET}@host/"}),
        in_step(1, error=f"cannot reach https://u:{SECRET}@host/"),
    ],
)
def test_a_secret_is_not_shown(change: Callable[[Side], Side]) -> None:
    before = made()
    for found in (compare(before, change(before)), compare(change(before), before)):
        said = json.dumps(to_json(found))
        assert any(found.groups.values())
        assert SECRET not in said
        assert HIDDEN in said


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_abcdefghijklmnop1234",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_hidden_wherever_it_stands(text: str) -> None:
    assert redact(f"x {text} y") == f"x {HIDDEN} y"


def test_what_only_resembles_one_is_shown() -> None:
    before = made()
    after = out(params={"max_tokens": 9, "author": "me"})(before)
    assert [c.after for c in compare(before, after).groups["outputs"]] == [9, "me"]
    assert redact("a://b:c d:e token: 7") == "a://b:c d:e token: 7"


def test_a_long_value_is_cut_and_a_source_is_not() -> None:
    before = made()
    long = "x" * 5000
    found = compare(before, out(params={"said": long, "many": [1] * 1000})(before)).groups["outputs"]
    assert [c.after.endswith("characters)") and len(c.after) < 600 for c in found] == [True, True]
    found = compare(before, in_train(body=component(long))(before)).groups["code"]
    assert found[0].after == long


@pytest.mark.parametrize(
    "text",
    [
        "://" * 50_000,
        "eyJ" * 50_000,
        "sk-" * 50_000,
        "token" * 50_000,
        "-" * 50_000,
        "--key" * 50_000,
        "-a" * 50_000,
        "a:" * 50_000,
    ],
)
def test_hostile_text_is_no_trouble(text: str) -> None:
    assert redact(text)
