"""The graph and the timeline of runs, small and very large: what is counted, folded, marked and left out."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.core.pipeline.spec import (
    Component,
    Constant,
    Dag,
    FromInput,
    FromTask,
    Function,
    Loop,
    Pipeline,
    Task,
)
from tallystick.core.run.events import Run, RunState, Step, StepState
from tallystick.core.values import Values
from tallystick.drawing.boxes import NODES_MAX
from tallystick.drawing.bundle import bundled
from tallystick.drawing.critical import critical_path
from tallystick.drawing.graph import Folds, draw_run
from tallystick.drawing.piles import Piles
from tallystick.drawing.plain import plain
from tallystick.drawing.timeline import ROWS_MAX, draw_timeline
from tests.fakes.life import EVIL, NOW_MS, pipeline

RUN = Run("run-1", "p", "sha256:" + "0" * 64, {}, started_ms=NOW_MS)
WORK = Component("work", Function("f", "..."))


def step(path: str, state: StepState = StepState.SUCCEEDED, start: int = 0, took: int = 1000) -> Step:
    return Step(path, state, started_ms=NOW_MS + start, ended_ms=NOW_MS + start + took)


def parsed(picture: str | None) -> ET.Element:
    assert picture is not None
    return ET.fromstring(picture)  # noqa: S314 - our own output


def texts(picture: str | None) -> list[str]:
    return [e.text or "" for e in parsed(picture).iter() if e.tag == "text"]


def titles(picture: str | None) -> list[str]:
    return [e.text or "" for e in parsed(picture).iter() if e.tag == "title"]


def links(picture: str | None) -> list[str]:
    return [e.attrib["href"] for e in parsed(picture).iter() if e.tag == "a"]


def looping(items: int) -> Pipeline:
    body = Dag((Task("train", WORK), Task("score", WORK, after=("train",))))
    return Pipeline("p", Dag((
        Task("begin", WORK),
        Task("each", body, loop=Loop(Constant(list(range(items))), "x"), after=("begin",)),
        Task("end", WORK, after=("each",)),
    )))  # fmt: skip


def chain(count: int) -> Pipeline:
    return Pipeline("p", Dag(tuple(
        Task(f"s{i}", WORK, after=(f"s{i - 1}",) if i else ()) for i in range(count)
    )))  # fmt: skip


# ----------------------------------------------------------------------------------------------- small graphs


def test_a_graph_shows_each_iteration_and_what_waits() -> None:
    run = replace(RUN, steps=tuple(step(f"for-each-depth[{i}]/train") for i in (0, 1, 2)))
    drawn = draw_run(run, pipeline(), NOW_MS)
    assert {"[0]", "[1]", "[2]", "for-each-depth: 3 iterations ▾"} <= set(texts(drawn))
    assert texts(drawn).count("waits") == 3 + 6
    ended = draw_run(replace(run, state=RunState.FAILED), pipeline(), NOW_MS)
    assert "not started" in texts(ended)


def test_a_graph_that_was_skipped_is_drawn_with_all_that_is_in_it() -> None:
    never = replace(step("notify", StepState.SKIPPED), attempt=0, error="its condition is false")
    drawn = draw_run(replace(RUN, steps=(step("split"), never)), pipeline(), NOW_MS, Folds("/runs/run-1"))
    assert {"notify: skipped", "mail", "skipped"} <= set(texts(drawn))
    assert "notify: its condition is false" in titles(drawn)
    assert "/runs/run-1/step?path=notify" in links(drawn)


def test_a_step_that_was_tried_again_says_so() -> None:
    again = replace(step("split", StepState.RUNNING), attempt=2, ended_ms=0)
    rests = replace(step("card", StepState.BACKING_OFF), attempt=1)
    run = replace(RUN, steps=(again, rests))
    drawn = draw_run(run, pipeline(), NOW_MS + 500)
    assert {"running · try 2", "backing off · 1 s"} <= set(texts(drawn))
    assert "split: running · try 2 · 500 ms" in titles(drawn)
    bars = draw_timeline(run, pipeline(), NOW_MS + 500)
    assert bars is not None
    assert "500 ms, try 2" in texts(bars.art)


def test_nested_graphs_and_hostile_names_are_drawn_as_text() -> None:
    leaf = Dag((Task(EVIL, WORK),))
    loop = Dag((Task("inner", leaf, loop=Loop(FromInput("xs"), "x")),))
    drawn = draw_run(
        RUN, Pipeline("p", Dag((Task("outer", loop), Task("after", leaf, after=("outer",))))), NOW_MS
    )
    assert "<script>alert" not in str(drawn)
    assert "inner: for each item ▾" in texts(drawn)
    folded = draw_run(RUN, Pipeline("p", loop), NOW_MS, Folds("/r", folded=frozenset({"inner"})))
    assert {"inner ▸", "a loop"} <= set(texts(folded))
    assert "no step has started" in str(draw_run(RUN, None, NOW_MS))


def test_without_its_pipeline_the_steps_of_a_loop_are_one() -> None:
    steps = (step("a"), *(step(f"each[{i}]/train") for i in range(500)))
    drawn = draw_run(replace(RUN, steps=steps), None, NOW_MS)
    assert {"a", "each/train"} <= set(texts(drawn))
    assert len(str(drawn)) < 5000


# ----------------------------------------------------------------------------------------------- large graphs


def test_a_loop_of_ten_thousand_items_is_one_box_that_counts() -> None:
    steps = [step("begin"), *(step(f"each[{i}]/{t}") for i in range(9000) for t in ("train", "score"))]
    steps[50] = replace(steps[50], state=StepState.FAILED)
    run = replace(RUN, steps=(*steps, replace(step("each[9000]/train", StepState.RUNNING), ended_ms=0)))
    drawn = draw_run(run, looping(10_000), NOW_MS, Folds("/runs/run-1"))
    assert {"each ▸", "8,999 of 10,000 done"} <= set(texts(drawn))
    assert len(str(drawn)) < 4000
    assert "each: 1 failed, 1 running, 17,999 succeeded" in titles(drawn)


def test_a_large_loop_that_is_opened_shows_its_tasks_and_the_turns_that_matter() -> None:
    steps = [*(step(f"each[{i}]/{t}") for i in range(500) for t in ("train", "score"))]
    steps[40] = replace(steps[40], state=StepState.FAILED)  # each[20]/train
    run = replace(RUN, steps=tuple(steps))
    drawn = draw_run(run, looping(1000), NOW_MS, Folds("/r", frozenset({"each"})))
    assert {"each: 1,000 iterations, 499 done ▾", "all iterations", "499 of 1,000 done", "[20] ▸"} <= set(
        texts(drawn)
    )
    turn = next(link for link in links(drawn) if "each%5B20%5D" in link)
    assert parse_qs(urlsplit(turn).query) == {"open": ["each", "each[20]"]}
    both = draw_run(run, looping(1000), NOW_MS, Folds("/r", frozenset({"each", "each[20]"})))
    assert "[20] ▾" in texts(both)
    assert "/r/step?path=each%5B20%5D%2Ftrain" in links(both)


def test_a_link_folds_what_it_unfolded_and_says_no_more_than_it_must() -> None:
    folds = Folds("/r")
    assert folds.link("a/b", opens=True) == "/r?open=a%2Fb#graph"
    assert Folds("/r", frozenset({"a/b"})).link("a/b", opens=False) == "/r?#graph"
    assert folds.link("a", opens=False) == "/r?fold=a#graph"
    assert Folds("/r", frozenset(), frozenset({"a"})).link("a", opens=True) == "/r?#graph"
    many = Folds("/r", frozenset(f"n{i}" for i in range(500))).link("x", opens=True)
    assert len(many) < 1000


@pytest.mark.parametrize("edges", ["chain", "fan", "alike"])
def test_a_thousand_tasks_are_drawn_as_few(edges: str) -> None:
    if edges == "chain":
        whole = chain(1000)
    elif edges == "fan":
        fan = (Task(f"t{i}", WORK, after=("first",)) for i in range(998))
        whole = Pipeline("p", Dag((Task("first", WORK), *fan, Task("last", WORK, after=("t3", "t9")))))
    else:
        whole = Pipeline("p", Dag(tuple(Task(f"t{i}", WORK) for i in range(1000))))
    run = replace(RUN, steps=tuple(step(task.name) for task in whole.root.tasks[:600]))
    drawn = draw_run(run, whole, NOW_MS, Folds("/r"))
    assert len(str(drawn)) < 60_000
    assert any("done" in said for said in texts(drawn))
    if edges == "chain":
        assert "s0…24" in texts(drawn)
        opened = draw_run(run, whole, NOW_MS, Folds("/r", frozenset({"s25…"})))
        assert {"s25", "s49", "s25 … s49 ▾"} <= set(texts(opened))


def test_what_somebody_opened_too_much_of_is_not_drawn() -> None:
    inner = Dag(tuple(Task(f"t{i}", WORK) for i in range(30)))
    outer = Pipeline("p", Dag(tuple(Task(f"g{i}", inner) for i in range(30))))
    assert draw_run(RUN, outer, NOW_MS) is not None
    opened = Folds("/r", frozenset(f"g{i}" for i in range(30)))
    assert NODES_MAX < 900
    assert draw_run(RUN, outer, NOW_MS, opened) is None


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, str], list[tuple[str, str]]]:
    names = [f"n{i}" for i in range(draw(st.integers(0, 40)))]
    kinds = {name: draw(st.sampled_from(["a", "b", ""])) for name in names}
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 : i + 8]]
    return kinds, draw(st.lists(st.sampled_from(pairs), max_size=60)) if pairs else []


@settings(max_examples=200, deadline=None)
@given(graphs(), st.integers(1, 12))
def test_groups_hold_each_task_once_and_are_few(
    graph: tuple[dict[str, str], list[tuple[str, str]]], most: int
) -> None:
    groups, edges = bundled(*graph, most)
    assert sorted(name for names in groups.values() for name in names) == sorted(graph[0])
    assert len(groups) <= most
    assert all(names[0] == head for head, names in groups.items())
    assert {name for edge in edges for name in edge} <= set(groups)
    if len(graph[0]) <= most:
        assert groups == {name: [name] for name in graph[0]}


# ------------------------------------------------------------------------------------------------------ heaps


def test_steps_of_nested_loops_lie_on_every_heap_around_them() -> None:
    piles = Piles(replace(RUN, steps=(step("a[3]/b[2]/c"), step("a[3]/b[1]/c"), step("a[1]/b[0]/c"))))
    wanted = {"a": 3, "a/b": 3, "a/b/c": 3, "a[3]": 2, "a[3]/b": 2, "a[3]/b/c": 2, "a[3]/b[2]": 1,
              "a[3]/b[2]/c": 1, "a[1]/b/c": 1, "a[2]": 0, "c": 0, "a/b[2]": 0}  # fmt: skip
    assert {path: piles.at(path).total for path in wanted} == wanted


def test_how_many_items_a_loop_has_is_known_from_where_they_come() -> None:
    body = Dag((Task("t", WORK),))
    given_, made = Loop(FromInput("xs"), "x"), Loop(FromTask("list", "Output"), "x")
    listed = replace(step("list"), outputs=Values({"Output": [1, 2, 3]}))
    run = replace(RUN, params={"xs": [1, 2]}, steps=(listed, step("a[0]/t")))
    piles = Piles(run)
    assert piles.turns(Task("a", body, loop=given_), "").said() == "1 of 2 done"
    assert piles.turns(Task("b", body, loop=made), "").total == 3
    assert piles.turns(Task("b", body, loop=given_), "inside/").total == 0
    assert piles.turns(Task("a", body, loop=Loop(FromInput("ys"), "x")), "").said() == "1 of 1 begun done"


def test_a_turn_is_done_when_all_that_is_in_it_has_ended() -> None:
    inner = Dag((Task("x", WORK), Task("y", WORK, after=("x",))))
    task = Task("each", Dag((Task("in", inner), Task("z", WORK))), loop=Loop(Constant([1, 2, 3]), "i"))
    whole = replace(step("each[2]/in", StepState.SKIPPED), attempt=0)
    steps = (step("each[0]/in/x"), step("each[0]/z"), step("each[1]/in/x"), step("each[1]/in/y"),
             step("each[1]/z"), whole, step("each[2]/z"))  # fmt: skip
    turns = Piles(replace(RUN, steps=steps)).turns(task, "")
    assert (turns.done, turns.total, turns.begun) == (2, 3, (0, 1, 2))


@given(st.lists(st.text(alphabet="a/[]0", min_size=1, max_size=12), max_size=20, unique=True))
def test_no_path_breaks_the_heaps(paths: list[str]) -> None:
    run = replace(RUN, steps=tuple(step(path) for path in paths))
    piles = Piles(run)
    assert all(piles.at(path).total >= 1 for path in paths)
    assert draw_run(run, None, NOW_MS) is not None
    drawn = draw_timeline(run, pipeline(), NOW_MS)
    assert (drawn is None) == (not paths)


# --------------------------------------------------------------------------------------------------- timeline


def test_a_timeline_needs_a_start_and_shows_what_still_runs() -> None:
    assert draw_timeline(RUN, None, NOW_MS) is None
    running = Step("long one", StepState.RUNNING, started_ms=NOW_MS + 500)
    drawn = draw_timeline(replace(RUN, steps=(step("a"), running)), None, NOW_MS + 60_500)
    assert drawn is not None
    assert {"a", "long one", "1 s", "1 min 0 s"} <= set(texts(drawn.art))
    assert drawn.at_once == 2
    assert "long one: running, 1 min 0 s, from +500 ms and still on" in titles(drawn.art)


def test_a_timeline_has_a_mark_for_what_was_skipped_and_what_was_cached() -> None:
    never = replace(step("never", StepState.SKIPPED), attempt=0, ended_ms=NOW_MS)
    cached = replace(step("kept", StepState.CACHED), ended_ms=NOW_MS)
    drawn = draw_timeline(replace(RUN, steps=(step("a"), never, cached)), None, NOW_MS)
    assert drawn is not None
    assert {"never", "skipped", "from cache"} <= set(texts(drawn.art))
    marks = [e.attrib["class"] for e in parsed(drawn.art).iter() if "moment" in e.attrib.get("class", "")]
    assert marks == ["moment kind-off", "moment kind-kept"]
    assert drawn.at_once == 1


def test_steps_that_follow_each_other_are_never_at_once() -> None:
    steps = tuple(step(f"s{i}", start=i * 10, took=10) for i in range(20))
    drawn = draw_timeline(replace(RUN, steps=steps), None, NOW_MS)
    assert drawn is not None
    assert drawn.at_once == 1


@pytest.mark.parametrize("count", [1000, 20_000])
def test_thousands_of_steps_share_rows(count: int) -> None:
    states = [
        StepState.CACHED if i % 7 == 0 else StepState.FAILED if i == 50 else StepState.SUCCEEDED
        for i in range(count)
    ]
    loop = tuple(
        step(f"each[{i}]/train", s, start=i, took=0 if s is StepState.CACHED else 30)
        for i, s in enumerate(states)
    )
    drawn = draw_timeline(replace(RUN, steps=loop), looping(count), NOW_MS)
    assert drawn is not None
    assert (drawn.rows, drawn.steps) == (1, count)
    assert len(drawn.art) < 60_000
    assert any(said.startswith("each/train: ") and "1 failed" in said for said in titles(drawn.art))
    flat = replace(RUN, steps=tuple(step(f"t{i}", start=i) for i in range(count)))
    many = draw_timeline(flat, None, NOW_MS)
    assert many is not None
    assert many.rows <= ROWS_MAX
    assert len(many.art) < 400_000


def test_the_critical_path_goes_through_graphs_and_turns() -> None:
    steps = (
        step("begin", start=0, took=100), step("each[0]/train", start=100, took=50),
        step("each[0]/score", start=150),
        step("each[1]/train", start=100, took=900), step("each[1]/score", start=1000, took=500),
        step("end", start=1500, took=10),
    )  # fmt: skip
    run = replace(RUN, steps=steps)
    assert critical_path(run, looping(2)) == ("begin", "each[1]/train", "each[1]/score", "end")
    assert critical_path(replace(run, steps=steps[:3]), looping(2)) == (
        "begin",
        "each[0]/train",
        "each[0]/score",
    )
    assert critical_path(run, None) == ()
    assert critical_path(RUN, looping(2)) == ()
    drawn = draw_timeline(run, looping(2), NOW_MS)
    assert drawn is not None
    assert drawn.critical_ms == 1510
    marked = [e for e in parsed(drawn.art).iter() if e.attrib.get("class", "").endswith(" critical")]
    assert len(marked) == 4


# ------------------------------------------------------------------------------------------------------- logs


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"), ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("a\r\nb\r\n", "a\nb\n"), ("10%\r50%\r100%\n", "100%\n"), ("50%\r", "50%"),
        ("bell\x07\x00", "bell\ufffd\ufffd"),
        ("tab\there", "tab\there"), ("\u202egnp.exe", "\ufffdgnp.exe"), ("\x1b(Bplain\x1b=", "plain"),
        ("grün 漢", "grün 漢"),
        ("\x9b1mx", "x"), ("", ""), ("\x1b", "\ufffd"),
    ],
)  # fmt: skip
def test_what_a_program_printed_does_nothing(said: str, shown: str) -> None:
    assert plain(said) == shown


@pytest.mark.parametrize("unit", ["x", "\r", "\x1b[", "\x1b]", "\x1b[1;", "1\r"])
def test_a_long_line_takes_no_longer_than_its_length(unit: str) -> None:
    plain(unit * 200_000)
