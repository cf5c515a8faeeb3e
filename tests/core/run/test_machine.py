"""The run, line by line of the tables in core/run/events.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tallystick.core.errors import Conflict
from tallystick.core.pipeline.spec import Constant, Dag, FinalStatus, FromInput, FromTask, Pipeline
from tallystick.core.run.bind import Facts
from tallystick.core.run.events import Began, CancelAsked, RetryDue, StepEnded, StepState
from tallystick.core.run.machine import Machine
from tests.core.run.drives import ALWAYS, Drive, dag, each, exit_of, leaf, out


def test_steps_start_once_what_they_wait_for_is_done() -> None:
    run = Drive(leaf("a"), leaf("b", x=FromTask("a", "out")), leaf("c", "b"), outputs=(out("c"),))
    assert run.begin() == ["a"]
    assert run.done("a", out=7) == ["b"]
    assert run.inputs("b") == {"x": 7}
    assert run.done("b", StepState.CACHED, out=1) == ["c"]
    assert run.done("c", out=3) == []
    assert (run.ends, run.state, run.machine.outputs.params) == ([run.machine.state], "succeeded", {"out": 3})
    assert run.machine.ended_ms == run.now
    assert run.states() == {"a": "succeeded", "b": "cached", "c": "succeeded"}


def test_beginning_twice_begins_once() -> None:
    run = Drive(leaf("a"))
    assert (run.begin(), run.begin()) == (["a"], [])


def test_only_as_many_run_as_there_are_slots() -> None:
    run = Drive(*(leaf(name) for name in "abcd"), slots=2)
    assert run.begin() == ["a", "b"]
    assert run.done("b") == ["c"]
    assert run.done("a") == ["d"]


def test_after_a_failure_what_runs_may_finish_and_nothing_starts() -> None:
    run = Drive(leaf("a"), leaf("b"), leaf("c", "b"), leaf("d"), slots=2)
    assert run.begin() == ["a", "b"]
    assert run.fail("a") == []
    assert (run.state, run.stopped, run.ends) == ("failing", [], [])
    assert run.done("b") == []
    assert (run.state, run.machine.error) == ("failed", "a: boom")
    assert run.states() == {"a": "failed", "b": "succeeded", "c": "skipped", "d": "skipped"}
    assert run.machine.steps["c"].error == "the run was failing"


def test_what_waits_for_a_failed_step_says_so() -> None:
    run = Drive(leaf("a"), leaf("b", "a"), leaf("c", "b"))
    run.begin()
    run.fail("a")
    assert run.machine.steps["b"].error == "a failed"
    assert run.machine.steps["c"].error == "b was skipped"
    assert run.machine.steps["b"].attempt == 0, "it never ran"


def test_a_step_that_was_stopped_though_nobody_cancelled_fails_the_run() -> None:
    run = Drive(leaf("a"), leaf("b", "a"))
    run.begin()
    run.halt("a")
    assert (run.state, run.machine.error) == ("failed", "a: stopped")


@pytest.mark.parametrize("path", ["never", "b"])
def test_a_step_that_does_not_run_cannot_end(path: str) -> None:
    run = Drive(leaf("a"), leaf("b", "a"))
    run.begin()
    with pytest.raises(Conflict):
        run.done(path)


def test_a_step_ends_once() -> None:
    run = Drive(leaf("a"), leaf("b"))
    run.begin()
    run.done("a")
    with pytest.raises(Conflict):
        run.done("a")


def test_an_end_of_an_earlier_try_is_none_of_this_one() -> None:
    run = Drive(leaf("a", tries=1))
    run.begin()
    run.fail("a")
    run.due("a")
    with pytest.raises(Conflict):
        run.tell(StepEnded("a", StepState.SUCCEEDED, 99, 1))


def test_a_run_that_has_ended_hears_nothing_more() -> None:
    run = Drive(leaf("a"))
    run.begin()
    run.done("a")
    for event in (Began(9, 9), CancelAsked(9), RetryDue("a", 9), StepEnded("a", StepState.FAILED, 9)):
        assert run.tell(event) == []
    assert (run.state, run.states()) == ("succeeded", {"a": "succeeded"})


# -------------------------------------------------------------------------------------------- exit handlers


def cleaned(*tasks) -> Drive:  # type: ignore[no-untyped-def]  # tasks
    """Tasks in a graph, with ``clean`` after it, and ``last`` after that."""
    status = {"x": Constant(1), "how": FinalStatus("work")}
    return Drive(dag("work", *tasks), exit_of("clean", **status), leaf("last", "clean"))  # type: ignore[arg-type]


def test_an_exit_handler_runs_after_success_and_hears_of_it() -> None:
    run = cleaned(leaf("a"))
    run.begin()
    assert run.done("work/a") == ["clean"]
    status = {"state": "SUCCEEDED", "pipelineJobResourceName": "p-run-1", "pipelineTaskName": "work"}
    assert run.inputs("clean")["how"] == status
    assert run.done("clean") == ["last"]
    run.done("last")
    assert run.state == "succeeded"


def test_an_exit_handler_runs_after_a_failure_and_so_does_what_follows_it() -> None:
    run = cleaned(leaf("a"), leaf("b", "a"))
    run.begin()
    assert run.fail("work/a") == ["clean"]
    how = run.inputs("clean")["how"]
    assert (how["state"], how["error"]) == ("FAILED", {"code": 0, "message": "a: boom"})
    assert run.done("clean") == ["last"]
    run.done("last")
    assert (run.state, run.machine.error) == ("failed", "work/a: boom")


def test_an_exit_handler_waits_for_what_still_runs() -> None:
    run = cleaned(leaf("a"), leaf("b"))
    run.begin()
    assert run.fail("work/a") == []
    assert run.done("work/b") == ["clean"]


def test_an_exit_handler_runs_after_a_cancel_and_is_not_stopped_by_it() -> None:
    run = cleaned(leaf("a"))
    run.begin()
    assert run.cancel() == ["work/a"]
    assert run.halt("work/a") == ["clean"]
    assert run.inputs("clean")["how"]["state"] == "CANCELLED"
    run.done("clean")
    run.done("last")
    assert (run.state, run.machine.error) == ("cancelled", "cancelled by request")


def test_the_first_cancel_leaves_an_exit_handler_alone_that_runs() -> None:
    run = cleaned(leaf("a"))
    run.begin()
    run.done("work/a")
    assert run.cancel() == []
    assert run.done("clean") == ["last"]


def test_an_exit_handler_hears_that_its_graph_was_cut_off() -> None:
    run = Drive(*cleaned(leaf("a"), leaf("b", "a")).pipeline.root.tasks, leaf("other"))
    run.begin()
    run.fail("other")
    assert run.done("work/a") == ["clean"]
    how = run.inputs("clean")["how"]
    assert (how["state"], how["error"]["message"]) == ("CANCELLED", "the run ended before it was done")


def test_an_exit_handler_of_a_loop_hears_of_the_first_turn_that_failed() -> None:
    loop = each("work", [1, 2], leaf("s"))
    run = Drive(loop, exit_of("clean", how=FinalStatus("work")))
    run.begin()
    run.fail("work[1]/s", "first")
    assert run.fail("work[0]/s", "second") == ["clean"]
    assert run.inputs("clean")["how"]["error"]["message"] == "s: first"


def test_a_graph_that_a_failing_run_does_not_come_to_is_skipped_whole() -> None:
    run = Drive(leaf("a"), leaf("other"), dag("g", leaf("x"), after=("a",), when="c", c=Constant(1)))
    run.begin()
    run.fail("other")
    run.done("a")
    assert run.states() == {"a": "succeeded", "other": "failed", "g": "skipped"}
    assert run.asked == 0


def test_a_whole_graph_may_be_an_exit_handler() -> None:
    clean = dag(
        "clean",
        leaf("one"),
        leaf("two", "one"),
        each("many", [1, 2], leaf("s"), after=("one",)),
        after=("a",),
    )
    run = Drive(leaf("a"), replace(clean, trigger=ALWAYS))
    run.begin()
    assert run.fail("a") == ["clean/one"]
    assert run.done("clean/one") == ["clean/two", "clean/many[0]/s", "clean/many[1]/s"]
    for path in list(run.started):
        run.done(path)
    assert run.state == "failed"


def test_an_exit_handler_that_fails_fails_the_run() -> None:
    run = cleaned(leaf("a"))
    run.begin()
    run.done("work/a")
    run.fail("clean", "no broom")
    assert (run.state, run.machine.error) == ("failed", "clean: no broom")
    assert run.states()["last"] == "skipped"


def test_a_task_that_runs_regardless_goes_without_what_it_was_to_read() -> None:
    run = Drive(leaf("a"), exit_of("z", x=FromTask("a", "out")))
    run.begin()
    assert run.fail("a") == ["z"]
    assert run.inputs("z") == {"x": 0}, "its default"


# ----------------------------------------------------------------------------------------------- cancelling


def test_cancelling_stops_what_runs_and_ends_when_it_has_stopped() -> None:
    run = Drive(leaf("a"), leaf("b"), leaf("c", "a"), leaf("d"), slots=2)
    run.begin()
    assert run.cancel() == ["a", "b"]
    assert (run.state, run.ends) == ("cancelling", [])
    run.halt("a")
    assert run.started == []
    run.done("b")
    assert run.state == "cancelled"
    assert run.states() == {"a": "cancelled", "b": "succeeded", "c": "skipped", "d": "skipped"}


def test_a_failure_while_cancelling_is_still_a_cancelled_run() -> None:
    run = Drive(leaf("a", tries=3))
    run.begin()
    run.cancel()
    run.fail("a")
    assert (run.state, run.wakes, run.states()) == ("cancelled", [], {"a": "failed"})


def test_cancelling_before_it_began_lets_nothing_start_when_it_does() -> None:
    run = Drive(leaf("a"), leaf("b", "a"))
    assert run.cancel() == []
    assert (run.state, run.machine.began) == ("cancelling", False)
    assert run.begin() == []
    assert (run.state, run.states()) == ("cancelled", {"a": "skipped", "b": "skipped"})


def test_cancelling_a_run_that_fails_stops_the_rest_and_it_stays_failed() -> None:
    run = Drive(leaf("a"), leaf("b"), exit_of("z", "a", "b"))
    run.begin()
    run.fail("a")
    assert run.cancel() == ["b"]
    assert run.halt("b") == ["z"]
    run.done("z")
    assert (run.state, run.machine.error) == ("failed", "a: boom")


def test_cancelling_once_more_stops_exit_handlers_and_nothing_starts_any_more() -> None:
    run = Drive(leaf("a"), exit_of("y", "a"), exit_of("z", "y"))
    run.begin()
    run.cancel()
    assert run.halt("a") == ["y"]
    assert run.cancel() == ["y"]
    assert run.halt("y") == []
    assert (run.state, run.states()["z"]) == ("cancelled", "skipped")


# -------------------------------------------------------------------------------------------- taking it up


def test_taken_up_it_starts_again_what_was_running_and_nothing_else() -> None:
    run = Drive(leaf("a"), leaf("b"), leaf("c", "a"))
    run.begin()
    run.done("a", out=1)
    assert run.crash() == ["b", "c"]
    run.done("b")
    run.done("c")
    assert run.state == "succeeded"


def test_taken_up_by_a_hub_with_other_slots_it_comes_to_the_same() -> None:
    run = Drive(*(leaf(f"t{n}") for n in range(5)), slots=3)
    assert run.begin() == ["t0", "t1", "t2"]
    assert run.done("t2") == ["t3"]
    assert run.crash(slots=1) == ["t0", "t1", "t3"]
    assert run.done("t0") == []
    assert run.done("t1") == []
    assert run.done("t3") == ["t4"]
    assert run.crash(slots=9) == ["t4"]


def test_taken_up_it_cancels_what_was_being_stopped() -> None:
    run = cleaned(leaf("a"), leaf("b"))
    run.begin()
    assert run.cancel() == ["work/a", "work/b"]
    run.halt("work/a")
    assert run.crash() == ["clean"]
    assert run.states()["work/b"] == "cancelled"
    run.done("clean")
    assert run.cancel() == ["last"]
    assert run.crash() == []
    assert (run.state, run.states()["last"]) == ("cancelled", "cancelled")


def test_taken_up_while_failing_it_lets_what_ran_finish() -> None:
    run = Drive(leaf("a"), leaf("b"))
    run.begin()
    run.fail("a")
    assert run.crash() == ["b"]
    run.done("b")
    assert run.state == "failed"


def test_taken_up_it_waits_on_for_a_try_that_was_due_later() -> None:
    run = Drive(leaf("a", tries=2))
    run.begin()
    run.fail("a")
    [(path, due_ms)] = run.wakes
    assert run.crash() == []
    assert run.wakes == [(path, due_ms)]
    assert run.due("a") == ["a"]
    assert run.machine.steps["a"].attempt == 2


# ------------------------------------------------------------------------------------------- odd beginnings


def test_an_empty_pipeline_has_succeeded_as_it_begins() -> None:
    machine = Machine(Pipeline("p", Dag(())), {}, lambda text, params: True, Facts())
    [end] = machine.apply(Began(3, 1))
    assert (str(end.state), machine.ended_ms) == ("succeeded", 3)  # type: ignore[union-attr]  # an EndRun


def test_an_empty_graph_is_done_at_once() -> None:
    run = Drive(leaf("a"), dag("empty", after=("a",)), leaf("b", "empty"))
    run.begin()
    assert run.done("a") == ["b"]


def test_a_run_whose_first_step_cannot_have_its_inputs_fails() -> None:
    run = Drive(leaf("a", x=FromInput("p", "field")), leaf("b"), p={"other": 1})
    assert run.begin() == []
    assert (run.state, run.states()) == ("failed", {"a": "failed", "b": "skipped"})
    assert "no field 'field'" in run.machine.error
