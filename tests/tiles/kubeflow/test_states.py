"""What Kubeflow says of a run, in our words."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.run.events import RunState, StepState
from tallystick.core.run.record import write_step
from tallystick.core.values import Values
from tallystick.tiles.kubeflow.states import seen_in

RUN: dict[str, Any] = {
    "run_id": "r-1",
    "state": "FAILED",
    "created_at": "2026-11-21T09:00:00Z",
    "finished_at": "2026-11-21T09:01:40Z",
    "error": {"code": 2, "message": "task train\nfailed"},
    "run_details": {
        "task_details": [
            {"task_id": "a", "display_name": "root", "state": "FAILED", "child_tasks": [{"task_id": "c"}]},
            {"task_id": "b", "display_name": "root-driver", "state": "SUCCEEDED"},
            {"task_id": "c", "display_name": "train", "state": "FAILED", "start_time": "2026-11-21T09:00:10Z",
             "end_time": "2026-11-21T09:01:00+00:00", "error": {"message": "exit code 1"},
             "child_tasks": [{"pod_name": "x"}, {"task_id": "e"}]},
            {"task_id": "d", "display_name": "executor", "state": "FAILED", "parent_task_id": "c"},
            {"task_id": "e", "display_name": "inner", "state": "CACHED"},
            {"task_id": "f", "display_name": "inner", "state": "RUNNING", "parent_task_id": "c"},
            {"task_id": "g", "display_name": "later", "state": "PENDING"},
        ]
    },
}  # fmt: skip


def test_a_run_with_its_tasks() -> None:
    seen = seen_in(RUN)
    assert (seen.state, seen.error) == (RunState.FAILED, "task train failed")
    assert (seen.started_ms, seen.ended_ms) == (1795251600000, 1795251700000)
    assert [(step.path, step.state) for step in seen.steps] == [
        ("train", StepState.FAILED),
        ("train/inner", StepState.CACHED),
        ("train/inner[1]", StepState.RUNNING),
    ]
    train = seen.steps[0]
    assert (train.error, train.ended_ms - train.started_ms) == ("exit code 1", 50_000)


def test_tasks_that_are_each_others_parents_come_to_an_end() -> None:
    tasks = [
        {"task_id": "a", "display_name": "a", "state": "RUNNING", "parent_task_id": "b"},
        {"task_id": "b", "display_name": "b", "state": "RUNNING", "parent_task_id": "a"},
    ]
    assert len(seen_in({"run_details": {"task_details": tasks}}).steps) == 2


def test_no_word_of_a_server_moves_a_terminals_cursor() -> None:
    task = {
        "task_id": "a",
        "display_name": "tr\x1b[2Jain\u202e",
        "state": "FAILED",
        "error": {"message": "\x1b]0;x\x07"},
    }
    (step,) = seen_in({"run_details": {"task_details": [task]}}).steps
    assert (step.path, step.error) == ("tr\ufffd[2Jain\ufffd", "\ufffd]0;x\ufffd")
    assert seen_in({"error": {"message": "a\x1bb"}}).error == "a\ufffdb"


def test_many_tasks_of_one_name_take_no_square_of_time() -> None:
    tasks = [{"task_id": str(n), "display_name": "a", "state": "RUNNING"} for n in range(20_000)]
    began = time.monotonic()
    assert len({step.path for step in seen_in({"run_details": {"task_details": tasks}}).steps}) == 20_000
    assert time.monotonic() - began < 5


def task_with(outputs: Any, name: str = "train") -> Any:
    return {"task_id": name, "display_name": name, "state": "SUCCEEDED", "outputs": outputs}


def metric(name: str, **said: Any) -> dict[str, Any]:
    return {"artifact_id": "1", "type": "Metric", "name": name, **said}


TOLD = {
    "parameters": [
        {"parameter_key": "n", "value": 3, "type": "OUTPUT"},
        {"parameter_key": "text", "value": "x"},
    ],
    "artifacts": [
        {
            "artifact_key": "metrics",
            "artifacts": [metric("loss", number_value=0.5), {**metric("acc", number_value=1), "type": 6}],
        },
        {"artifact_key": "more", "artifacts": [metric("more", metadata={"auc": 0.75, "by": "me"})]},
        {"artifact_key": "model", "artifacts": [{"type": "Model", "uri": "s3://b/m", "metadata": {"n": 1}}]},
    ],
}


def test_what_tasks_put_out_as_far_as_it_is_told() -> None:
    tasks = [task_with({"parameters": [{"parameter_key": "best", "value": 0.5}]}, "root"), task_with(TOLD)]
    tasks[1]["parent_task_id"] = "root"
    for said in ({"run_details": {"task_details": tasks}}, {"tasks": tasks}):
        seen = seen_in({"state": "SUCCEEDED", **said})
        assert (seen.outputs.params, seen.outputs.artifacts) == ({"best": 0.5}, {})
        (step,) = seen.steps
        assert (step.path, step.outputs.params) == ("train", {"n": 3, "text": "x"})
        metrics = {name: refs[0].metadata for name, refs in step.outputs.artifacts.items()}
        assert metrics == {"metrics": {"loss": 0.5, "acc": 1}, "more": {"auc": 0.75}}
        assert {ref.schema for refs in step.outputs.artifacts.values() for ref in refs} == {"system.Metrics"}


def test_ids_alone_tell_nothing() -> None:
    """As Kubeflow had it before: a map of ids of ML Metadata."""
    for old in ({}, None, {"metrics": {"artifact_ids": ["7"]}}, {"metrics": {}}):
        (step,) = seen_in({"run_details": {"task_details": [task_with(old)]}}).steps
        assert step.outputs == Values()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, True, "1", [1], None])
def test_what_is_no_number_is_no_metric(value: Any) -> None:
    told = {"artifacts": [{"artifact_key": "m", "artifacts": [metric("loss", number_value=value)]}]}
    (step,) = seen_in({"run_details": {"task_details": [task_with(told)]}}).steps
    assert step.outputs == Values()


def test_what_is_too_much_or_no_json_is_left_out() -> None:
    odd: list[Any] = [
           {"parameter_key": "x" * 300, "value": 1}, {"parameter_key": "", "value": 1}, {"value": 1},
           {"parameter_key": "half", "value": "\ud800"}, {"parameter_key": "nan", "value": [float("nan")]},
           {"parameter_key": "e\x1b", "value": 1}, {"parameter_key": "big", "value": "x" * 70_000},
           {"parameter_key": "right", "value": {"a": [1]}}]  # fmt: skip
    (step,) = seen_in({"run_details": {"task_details": [task_with({"parameters": odd})]}}).steps
    assert step.outputs.params == {"right": {"a": [1]}}
    many = [{"parameter_key": f"p{n}", "value": "x" * 1000} for n in range(1000)]
    (step,) = seen_in({"run_details": {"task_details": [task_with({"parameters": many})]}}).steps
    assert 50 < len(step.outputs.params) < 66
    assert len(write_step(step)) < 80_000


NAMES = st.sampled_from(
    [
        *(*RUN, "task_details", "task_id", "child_tasks", "display_name", "state", "message", "start_time"),
        *("tasks", "outputs", "parameters", "parameter_key", "value", "artifacts", "artifact_key", "type"),
    ]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=30,
)  # fmt: skip


@given(anything.filter(lambda said: isinstance(said, dict)))
def test_whatever_a_server_answers_is_read_or_left_out(said: dict[str, Any]) -> None:
    seen = seen_in(said)
    assert isinstance(seen.state, RunState)
    assert len({step.path for step in seen.steps}) == len(seen.steps)
    assert all(write_step(step) for step in seen.steps), "all of it can be written down"
