"""What `tally diff` and `tally reproduce` say, and with which status they end."""

from __future__ import annotations

import pytest

from tallystick.doors.cli import compare
from tallystick.doors.cli.main import cli

for _command in compare.COMMANDS:
    if _command.name not in cli.commands:
        cli.add_command(_command)


def change(where, what, before=None, after=None, **more):
    return {"where": where, "what": what, "before": before, "after": after, "more": 0, "diff": "", **more}


def found(steps=3, alike=3, **groups):
    return {
        "before": "run-1", "after": "run-2", "alike": not groups.keys() - {"course"}, "steps": steps,
        "steps_alike": alike, "groups": groups, "left_off": {},
    }  # fmt: skip


ONE, TWO = ("sha256:" + digit * 64 for digit in "12")


def test_runs_that_are_alike(desk):
    desk.answers["GET /api/tally/compare"] = found(course=[change("", "ms", 1500, 200)])
    said = desk.type("diff", "run-1", "run-2")
    assert (said.status, said.err) == (0, "")
    assert said.out == "run-1 and run-2 are alike: 3 of 3 steps alike\ntook 1.5 s, then 0.2 s\n"
    (asked,) = desk.asked
    assert dict(asked.url.params) == {"before": "run-1", "after": "run-2", "tolerance": "1e-9"}


def test_runs_that_differ_group_by_group(desk):
    desk.answers["GET /api/tally/compare"] = found(
        alike=1,
        code=[change("train", "source", diff="--- before\n+++ after\n@@ -1 +1 @@\n-x = 1\n+x = 2\n y")],
        packages=[change("train", "package numpy", "1.26", None, more=2)],
        params=[change("", "param rate", 0.1, [1, "a"])],
        outputs=[change("split", "artifact rows", ONE, TWO)],
        inputs=[
            change("train", "artifact rows", [ONE], [TWO]),
            change("train", "artifact other", [ONE], [ONE, TWO]),
        ],
        metrics=[],
    )
    said = desk.type("diff", "run-1", "run-2", "--tolerance", "0.01")
    assert said.status == 1
    assert said.out.splitlines() == [
        "run-1 and run-2 differ: 1 of 3 steps alike",
        "code",
        "  train: source",
        "    @@ -1 +1 @@",
        "    -x = 1",
        "    +x = 2",
        "     y",
        "packages",
        "  train and 2 more: package numpy  1.26 -> nothing",
        "params",
        '  the run: param rate  0.1 -> [1, "a"]',
        "outputs",
        "  split: artifact rows  111111111111 -> 222222222222",
        "inputs",
        "  train: artifact other  111111111111 -> 111111111111, 222222222222",
    ]


def test_a_long_group_is_cut_and_says_how_much_is_left(desk):
    changes = [change("", f"param p{n}", n, n + 1) for n in range(25)]
    answer = found(params=changes)
    answer["left_off"] = {"params": 100}
    desk.answers["GET /api/tally/compare"] = answer
    said = desk.type("diff", "run-1", "run-2")
    assert said.out.splitlines()[-1] == "  and 105 more: --json"
    assert desk.type("diff", "run-1", "run-2", "--json").json == answer


def test_what_a_pipeline_says_moves_no_cursor(desk):
    hostile = "\x1b[2J[red]"
    desk.answers["GET /api/tally/compare"] = found(
        code=[change(hostile, "source", diff=hostile)], params=[change("", hostile, hostile, [hostile])]
    )
    said = desk.type("diff", "run-1", "run-2")
    assert "\x1b" not in said.out
    assert said.out.count("[2J[red]") == 5


def test_what_is_no_key_is_not_asked_for(desk):
    assert desk.type("diff", "run-1", "../x").status == 2
    assert desk.type("reproduce", "a/b").status == 2
    assert desk.asked == []


def run(key="run-2", state="succeeded", done=2):
    steps = [{"path": f"s{n}", "state": "succeeded", "attempt": 1} for n in range(done)]
    return {"key": key, "state": state, "steps": steps, "error": ""}


@pytest.fixture
def again(desk):
    """Run run-1 can be reproduced, as run-2; with what came of it."""

    def begin(answer, state="succeeded", notes=()):
        desk.answers["POST /api/tally/runs/run-1/reproduce"] = {
            "run": run(state="running"),
            "notes": [*notes],
        }
        desk.noun("run", "run-1", run("run-1"))
        desk.noun("run", "run-2", run(state=state))
        desk.answers["GET /api/tally/runs/run-2/reproduction"] = answer

    return begin


def test_a_run_that_is_reproduced(desk, again):
    again({**found(), "first": "", "why": []}, notes=["train runs on something else now"])
    said = desk.type("reproduce", "run-1")
    assert (said.status, said.out) == (
        0, "run-2 reproduces run-1: all that 3 steps put out is the same\n",
    )  # fmt: skip
    assert "  train runs on something else now" in said.err.splitlines()


def test_a_run_that_comes_out_otherwise_says_where_first_and_why(desk, again):
    why = ["its source reads the clock", "no seed was set"]
    differs = found(alike=2, outputs=[change("stamp", "param at", 1, 2)])
    again({**differs, "first": "stamp", "why": why})
    said = desk.type("reproduce", "run-1")
    assert said.status == 1
    assert said.out.splitlines() == [
        "run-2 does not reproduce run-1: 2 of 3 steps alike, stamp first",
        "  its source reads the clock",
        "  no seed was set",
        "outputs",
        "  stamp: param at  1 -> 2",
    ]
    assert desk.type("reproduce", "run-1", "--json").json["notes"] == []


def test_without_waiting(desk, again):
    again({})
    said = desk.type("reproduce", "run-1", "--no-wait")
    assert (said.status, said.out) == (0, "run-2 reproduces run-1\n")


def test_what_is_lacking_is_the_error(desk):
    address = "POST /api/tally/runs/run-1/reproduce"
    desk.error(address, 404, "NotFound", "not to be had any more: the rows that load read", "run-1")
    said = desk.type("reproduce", "run-1")
    assert said.status == 2
    assert "the rows that load read" in said.err


def test_a_reproduction_that_somebody_cancelled(desk, again):
    again({}, state="cancelled")
    said = desk.type("reproduce", "run-1")
    assert said.status == 2
    assert "was cancelled" in said.err
