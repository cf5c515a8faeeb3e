"""What Kubeflow says of a run, in our words."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.run.events import RunState, StepState
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


NAMES = st.sampled_from(
    [*RUN, "task_details", "task_id", "child_tasks", "display_name", "state", "message", "start_time"]
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
