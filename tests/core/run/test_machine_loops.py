"""Loops, loops in loops, and as many items as there may be."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from tallystick.core.pipeline.spec import Constant, FromInput, FromTask
from tallystick.core.run import machine as module
from tallystick.core.run.bind import ITEMS_MAX
from tallystick.core.values import ArtifactRef
from tests.core.run.drives import Drive, dag, each, exit_of, leaf, out

ITEM = FromInput("item")


def ref(digit: str) -> ArtifactRef:
    return ArtifactRef("made", "sha256:" + digit * 64)


def test_a_loop_gathers_its_outputs_in_the_order_of_its_items() -> None:
    run = Drive(
        each("l", [7, 8, 9], leaf("s", x=ITEM), outputs=(out("s"),)), leaf("z", all=FromTask("l", "out"))
    )
    assert run.begin() == ["l[0]/s", "l[1]/s", "l[2]/s"]
    assert [run.inputs(path)["x"] for path in run.started] == [7, 8, 9]
    for n in (2, 0):
        assert run.done(f"l[{n}]/s", out=n) == []
    assert run.done("l[1]/s", out=1) == ["z"]
    assert run.inputs("z")["all"] == [0, 1, 2]


def test_a_loop_gathers_artifacts_and_one_after_it_goes_over_them() -> None:
    made = out("s", "made")
    first = each("l", [1, 2], leaf("s", x=ITEM), outputs=(made,))
    second = each(
        "m", FromTask("l", "made"), leaf("t", data=ITEM), artifacts=True, outputs=(out("t", "made"),)
    )
    run = Drive(first, second, leaf("z", data=FromTask("m", "made")))
    run.begin()
    run.done("l[1]/s", made=(ref("b"),))
    assert run.done("l[0]/s", made=(ref("a"),)) == ["m[0]/t", "m[1]/t"]
    assert [start.inputs.artifacts["data"] for start in run.starts] == [(ref("a"),), (ref("b"),)]
    run.done("m[0]/t", made=(ref("c"),))
    run.done("m[1]/t", made=(ref("d"),))
    assert run.starts[0].inputs.artifacts == {"data": (ref("c"), ref("d"))}


def test_a_loop_over_nothing_gives_an_empty_list() -> None:
    run = Drive(each("l", [], leaf("s", x=ITEM), outputs=(out("s"),)), leaf("z", all=FromTask("l", "out")))
    assert run.begin() == ["z"]
    assert run.inputs("z")["all"] == []


def test_a_loop_keeps_its_own_limit() -> None:
    body = (leaf("s", x=ITEM), leaf("t", "s"))
    run = Drive(each("l", [1, 2, 3, 4], *body, most=2))
    assert run.begin() == ["l[0]/s", "l[1]/s"]
    assert run.done("l[1]/s") == ["l[1]/t"]
    assert run.done("l[1]/t") == ["l[2]/s"]
    assert run.crash() == ["l[0]/s", "l[2]/s"]


def test_turns_without_a_limit_run_side_by_side_as_slots_allow() -> None:
    run = Drive(each("l", [1, 2, 3], leaf("s", x=ITEM), leaf("t", "s")), slots=2)
    assert run.begin() == ["l[0]/s", "l[1]/s"]
    assert run.done("l[0]/s") == ["l[2]/s"]
    assert run.done("l[1]/s") == ["l[0]/t"]


def test_loops_in_loops_bind_each_their_own_item() -> None:
    inner = each("in", ITEM, leaf("s", x=ITEM), outputs=(out("s"),))
    body = each("out", [[1, 2], [], [3]], inner, outputs=(out("in"),))
    run = Drive(body, leaf("z", all=FromTask("out", "out")))
    assert run.begin() == ["out[0]/in[0]/s", "out[0]/in[1]/s", "out[2]/in[0]/s"]
    for path in list(run.started):
        run.done(path, out=10 * run.inputs(path)["x"])
    assert run.inputs("z")["all"] == [[10, 20], [], [30]]


def test_a_branch_in_a_loop_is_each_turn_s_own() -> None:
    chosen = dag("if", leaf("s", x=ITEM), when="item", item=ITEM, outputs=(out("s"),))
    run = Drive(each("l", [0, 5], chosen, outputs=(out("if"),)), leaf("z", all=FromTask("l", "out")))
    assert run.begin() == ["l[1]/if/s"]
    assert run.done("l[1]/if/s", out=6) == ["z"]
    assert run.inputs("z")["all"] == [6], "a turn without an output has no place, as with artifacts"


def test_a_turn_that_fails_lets_the_others_finish_and_begins_no_more() -> None:
    run = Drive(each("l", [1, 2, 3], leaf("s", x=ITEM), most=2), exit_of("z", "l"))
    run.begin()
    run.fail("l[0]/s")
    assert run.state == "failing"
    assert run.done("l[1]/s") == ["z"]
    run.done("z")
    assert (run.state, run.machine.error) == ("failed", "l[0]/s: boom")
    assert "l[2]/s" not in run.states()


def test_a_loop_that_is_cut_short_has_not_succeeded() -> None:
    run = Drive(each("l", [1, 2], leaf("s", x=ITEM), most=1), leaf("other"), leaf("z", "l"))
    run.begin()
    run.fail("other")
    run.done("l[0]/s")
    assert (run.state, run.states()["z"], run.machine.steps["z"].error) == (
        "failed", "skipped", "l was cancelled",
    )  # fmt: skip


@pytest.mark.parametrize("items", ["abc", 3, None, {"a": 1}, [0] * (ITEMS_MAX + 1)])
def test_a_loop_over_what_is_no_list_fails(items: Any) -> None:
    run = Drive(each("l", Constant(items), leaf("s", x=ITEM)))
    assert run.begin() == []
    assert (run.state, run.states()) == ("failed", {"l": "failed"})
    assert "the loop" in run.machine.error


def test_a_loop_over_artifacts_takes_no_list_of_values() -> None:
    run = Drive(each("l", [1], leaf("s", data=ITEM), artifacts=True))
    run.begin()
    assert run.state == "failed"


# ---------------------------------------------------------------------------------------------- many of them


def wide(count: int) -> Drive:
    """A loop of two steps and a branch a turn, all of it done."""
    body = (
        leaf("s", x=ITEM),
        leaf("t", x=FromTask("s", "out")),
        dag("if", leaf("u"), when="item", item=ITEM),
    )
    run = Drive(
        each("l", list(range(count)), *body, outputs=(out("t"),)), leaf("z", all=FromTask("l", "out"))
    )
    finish(run)
    return run


def long(count: int) -> Drive:
    """A chain, each step after the one before."""
    run = Drive(leaf("t0"), *(leaf(f"t{n}", x=FromTask(f"t{n - 1}", "out")) for n in range(1, count)))
    finish(run)
    return run


def finish(run: Drive) -> None:
    waiting = list(run.begin())
    while waiting:
        waiting += run.done(waiting.pop(), out=1)
    assert run.state == "succeeded"


def lines(work: Any, count: int) -> int:
    """How many lines of core's own were run."""
    seen, folder, before = 0, module.__file__.rsplit("/", 2)[0], sys.gettrace()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        seen += event == "line"
        return trace if frame.f_code.co_filename.startswith(folder) else None

    sys.settrace(trace)
    try:
        work(count)
    finally:
        sys.settrace(before)
    return seen


@pytest.mark.parametrize("work", [wide, long])
def test_work_grows_with_the_steps_and_no_faster(work: Any) -> None:
    few, many = lines(work, 100), lines(work, 800)
    assert many < 8.2 * few


def test_ten_thousand_items() -> None:
    run = wide(10_000)
    assert len(run.machine.steps) == 3 * 10_000 + 1
    assert run.inputs("z")["all"] == [1] * 10_000
