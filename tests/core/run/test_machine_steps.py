"""Steps: skipped, tried again, one of several, and what their inputs are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tallystick.core.pipeline.spec import Constant, FromInput, FromTask, Importer, Retry, Template
from tallystick.core.run.bind import Facts
from tallystick.core.run.events import StepState
from tests.core.run.drives import Drive, dag, exit_of, leaf, out

# ----------------------------------------------------------------------------------------------- conditions


@pytest.mark.parametrize(("given", "starts"), [(True, ["a"]), (False, ["b"])])
def test_a_condition_decides_once_its_inputs_exist(given: bool, starts: list[str]) -> None:
    run = Drive(leaf("a", when="c", c=FromInput("c")), leaf("b", when="not c", c=FromInput("c")), c=given)
    assert run.begin() == starts
    assert run.asked == 2
    run.done(starts[0])
    assert run.state == "succeeded"
    assert sorted(run.states().values()) == ["skipped", "succeeded"]


def test_a_condition_on_what_another_task_gave() -> None:
    run = Drive(leaf("coin"), leaf("heads", when="x", x=FromTask("coin", "out")))
    run.begin()
    assert run.asked == 0
    run.done("coin", out=0)
    assert run.machine.steps["heads"].error == "its condition is false"
    assert run.state == "succeeded"


def test_what_follows_a_skipped_step_is_skipped_and_the_run_succeeds() -> None:
    never = dag("never", leaf("in"), when="c", c=FromInput("c"))
    run = Drive(never, leaf("b", "never"), exit_of("z", "b"), leaf("other"), c=False)
    assert sorted(run.begin()) == ["other", "z"]
    assert run.machine.steps["never"].error == "its condition is false", "a graph skipped whole is one step"
    assert run.machine.steps["b"].error == "never was skipped"
    run.done("z")
    run.done("other")
    assert run.state == "succeeded"


def test_a_condition_that_cannot_be_said_fails_the_step() -> None:
    run = Drive(leaf("a", when="nothing"))
    assert run.begin() == []
    assert (run.state, run.machine.steps["a"].state) == ("failed", StepState.FAILED)
    assert "there is no 'nothing'" in run.machine.error


@pytest.mark.parametrize("picked", ["heads", "tails"])
def test_one_of_is_the_branch_that_was_not_skipped(picked: str) -> None:
    branches = dag(
        "coin",
        dag("heads", leaf("h"), when="c", c=FromInput("c"), outputs=(out("h"),)),
        dag("tails", leaf("t"), when="not c", c=FromInput("c"), outputs=(out("t"),)),
        c=FromInput("c"),
        outputs=(out("heads", "out", "tails"),),
    )
    run = Drive(branches, leaf("after", x=FromTask("coin", "out")), c=picked == "heads")
    [path] = run.begin()
    assert path == f"coin/{picked}/{picked[0]}"
    assert run.done(path, out=5) == ["after"]
    assert run.inputs("after") == {"x": 5}


def test_one_of_two_that_both_ran_is_the_first() -> None:
    g = dag("g", leaf("a"), leaf("b"), outputs=(out("a", "out", "b"),))
    run = Drive(g, leaf("after", x=FromTask("g", "out")))
    run.begin()
    run.done("g/b", out=2)
    run.done("g/a", out=1)
    assert run.inputs("after") == {"x": 1}


def test_a_graph_has_succeeded_though_part_of_it_was_skipped() -> None:
    around = dag("g", leaf("a", when="c", c=FromInput("c")), leaf("b", "a"), leaf("d"), c=FromInput("c"))
    run = Drive(around, leaf("after", "g"), c=False)
    assert run.begin() == ["g/d"]
    assert run.done("g/d") == ["after"]


def test_one_of_none_leaves_the_input_to_its_default() -> None:
    branch = dag("b", leaf("in"), when="c", c=FromInput("c"), outputs=(out("in"),))
    around = dag("around", branch, c=FromInput("c"), outputs=(out("b"),))
    run = Drive(around, leaf("after", x=FromTask("around", "out")), c=False)
    assert run.begin() == ["after"]
    assert run.inputs("after") == {"x": 0}


# -------------------------------------------------------------------------------------------------- retries


def test_a_failed_try_backs_off_longer_each_time_and_the_last_one_counts() -> None:
    run = Drive(leaf("a", tries=3), leaf("b", "a"))
    run.begin()
    waited = []
    for attempt in (1, 2, 3):
        assert run.fail("a", f"try {attempt}") == []
        step = run.machine.steps["a"]
        assert (step.state, step.attempt, step.error) == (StepState.BACKING_OFF, attempt, f"try {attempt}")
        assert run.state == "running"
        waited.append(run.wakes[0][1] - run.now)
        assert run.due("a") == ["a"]
    assert waited == [1000, 2000, 4000]
    assert run.starts[0].attempt == 4
    run.fail("a", "try 4")
    assert (run.state, run.machine.error) == ("failed", "a: try 4")


def test_a_later_try_may_succeed() -> None:
    run = Drive(leaf("a", tries=1), leaf("b", "a"))
    run.begin()
    run.fail("a")
    run.due("a")
    assert run.done("a") == ["b"]
    assert (run.machine.steps["a"].attempt, run.machine.steps["a"].error) == (2, "")


def test_backing_off_has_a_limit_and_no_number_is_too_large_for_it() -> None:
    late = replace(leaf("a"), retry=Retry(5000, 1.0, 10.0, 60.0))
    run = Drive(late)
    run.begin()
    for attempt in range(1, 1200):
        run.fail("a")
        assert run.wakes == [("a", run.now + (1000 if attempt == 1 else 10_000 if attempt == 2 else 60_000))]
        run.due("a")


def test_a_step_that_rests_gives_its_slot_away_and_waits_for_another() -> None:
    run = Drive(leaf("a", tries=1), leaf("b"), slots=1)
    assert run.begin() == ["a"]
    assert run.fail("a") == ["b"]
    assert run.due("a") == []
    assert run.done("b") == ["a"]


def test_being_told_twice_that_a_try_is_due_starts_it_once() -> None:
    run = Drive(leaf("a", tries=1))
    run.begin()
    run.fail("a")
    assert (run.due("a"), run.due("a"), run.due("never")) == (["a"], [], [])


@pytest.mark.parametrize("standing_in_line", [False, True])
def test_a_step_that_rests_is_given_up_when_the_run_fails(standing_in_line: bool) -> None:
    run = Drive(leaf("a", tries=1), leaf("b"), leaf("c"), slots=2)
    run.begin()
    run.fail("a", "first")
    if standing_in_line:
        assert run.due("a") == []
    run.fail("b")
    run.done("c")
    assert (run.state, run.machine.error) == ("failed", "b: boom")
    step = run.machine.steps["a"]
    assert (step.state, step.error, step.attempt) == (StepState.FAILED, "first", 1)


def test_a_step_that_rests_is_cancelled_with_the_run() -> None:
    run = Drive(leaf("a", tries=1))
    run.begin()
    run.fail("a")
    assert run.cancel() == []
    assert (run.state, run.states()) == ("cancelled", {"a": "cancelled"})


def test_an_exit_handler_is_tried_again_in_a_run_that_fails() -> None:
    run = Drive(leaf("a"), replace(exit_of("z", "a"), retry=Retry(1)))
    run.begin()
    run.fail("a")
    run.fail("z")
    assert run.due("z") == ["z"]


def test_an_exit_handler_that_rests_is_not_given_up_when_the_run_fails() -> None:
    run = Drive(leaf("a"), replace(exit_of("z"), retry=Retry(1)))
    run.begin()
    run.fail("z")
    run.fail("a")
    assert run.states()["z"] == "backing off"
    assert run.due("z") == ["z"]


# ---------------------------------------------------------------------------------------- inputs, templates


def test_templates_are_filled_from_inputs_and_facts_of_the_run() -> None:
    text = Template("{{$.pipeline_job_name}}/{{$.inputs.parameters['n']}}/{{$.pipeline_task_name}}")
    whole = Template("{{$.inputs.parameters['n']}}")
    deep = Template({"k": ["{{$.inputs.parameters['l']}}", "n={{$.inputs.parameters['n']}}"], "m": 1})
    given = {"n": FromInput("n"), "l": Constant([1.0, "x"])}
    run = Drive(leaf("a", text=text, whole=whole, deep=deep, **given), n=3.0)
    run.begin()
    inputs = run.inputs("a")
    assert (inputs["text"], inputs["whole"]) == ("p/3/a", 3.0)
    assert inputs["deep"] == {"k": [[1.0, "x"], "n=3"], "m": 1}


def test_a_template_over_nothing_fails_the_step() -> None:
    run = Drive(leaf("a", t=Template("{{$.inputs.parameters['gone']}}")))
    run.begin()
    assert "nothing to put in" in run.machine.error


def test_a_field_of_what_a_task_gave() -> None:
    run = Drive(leaf("a"), leaf("b", x=FromTask("a", "out", "deep")))
    run.begin()
    run.done("a", out={"deep": 4})
    assert run.inputs("b") == {"x": 4}


def test_an_output_that_was_not_given_fails_what_must_have_it() -> None:
    task = replace(leaf("b"), body=Importer(FromTask("a", "out")))
    run = Drive(leaf("a"), task)
    run.begin()
    run.done("a")
    assert (run.state, run.machine.error) == ("failed", "b: b: task 'a' gave no output 'out'")


def test_nothing_given_leaves_the_default() -> None:
    run = Drive(leaf("a", x=FromInput("p"), other=FromInput("p")), p=None)
    run.begin()
    assert run.inputs("a") == {"x": 0, "other": None}


def test_an_importer_is_told_its_address() -> None:
    run = Drive(replace(leaf("i"), body=Importer(Template("tally://tables/{{$.inputs.parameters['t']}}")),
                        inputs={"t": FromInput("t")}), t="digits")  # fmt: skip
    assert run.begin() == ["i"]
    assert run.inputs("i")["uri"] == "tally://tables/digits"


def test_facts_have_times_as_kubeflow_writes_them() -> None:
    facts = Facts("p", "run-1", 1_700_000_000_000).of("t", "l[0]/t")
    assert facts["pipeline_job_create_time_utc"] == "2023-11-14T22:13:20Z"
    assert facts["pipeline_job_schedule_time_utc"] == facts["pipeline_job_create_time_utc"]
    assert facts["pipeline_task_uuid"] == "run-1/l[0]/t"
