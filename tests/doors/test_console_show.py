"""Words, layout and charts of the console: pure functions, tried with figures and graphs of all kinds."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.core.pipeline.spec import Component, Dag, FromInput, Function, Loop, Pipeline, Task
from tallystick.core.run.events import Run, RunState, Step, StepState
from tallystick.core.signal import ColumnDrift
from tallystick.core.verdict import Verdict
from tallystick.doors.console.show import words
from tallystick.doors.console.show.chart import (
    curve,
    drift_bars,
    heat_map,
    sparkline,
    square_columns,
    ticks,
    timeline,
)
from tallystick.doors.console.show.graph import TASKS_DRAWN_MAX, draw_run
from tallystick.doors.console.show.layout import Size, layered
from tallystick.doors.console.show.spine import Stop, draw_spine, state_words
from tallystick.doors.console.show.svg import MARKS, el
from tallystick.doors.console.view import View
from tests.fakes.life import EVIL, NOW_MS, build_life, pipeline

RUN = Run("run-1", "p", "sha256:" + "0" * 64, {}, started_ms=NOW_MS)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (words.duration(0), "0 ms"), (words.duration(840), "840 ms"), (words.duration(1240), "1.24 s"),
        (words.duration(123_000), "2 min 3 s"), (words.duration(12_000_000), "3 h 20 min"),
        (words.duration(200_000_000), "2 days 7 h"), (words.duration(-5), "0 ms"),
        (words.number(1797), "1,797"),
        (words.number(0.98333), "0.9833"), (words.number(3.0), "3"), (words.percent(0.5), "50.0 %"),
        (words.percent(0.00025), "0.03 %"), (words.percent(0), "0.0 %"), (words.plural(1, "row"), "1 row"),
        (words.plural(1797, "row"), "1,797 rows"), (words.bytes_text(999), "999 bytes"),
        (words.bytes_text(402_113), "402 kB"), (words.bytes_text(31_457_280), "31.5 MB"),
        (words.relative(NOW_MS, NOW_MS), "just now"), (words.relative(NOW_MS - 40_000, NOW_MS), "40 s ago"),
        (words.relative(NOW_MS - 200_000, NOW_MS), "3 min ago"),
        (words.relative(NOW_MS - 10**7, NOW_MS), "2 h ago"),
        (words.relative(NOW_MS - 10**9, NOW_MS), "11 days ago"), (words.relative(0, NOW_MS), ""),
        (words.relative(NOW_MS + 60_000, NOW_MS), "in 1 min 0 s"),
        (words.iso(1000), "1970-01-01T00:00:01.000Z"),
        (words.iso(10**20), ""), (words.clip("abcdef", 4), "abc…"), (words.kind_of("anything"), "none"),
        (words.href("digits@3", "data"), "/data/digits#at-3"), (words.href("m@2", "model"), "/models/m/2"),
        (words.href("run-1/model", "data"), "/runs/run-1"), (words.href("a b", "run"), "/runs/a%20b"),
    ],
)  # fmt: skip
def test_figures_read_as_people_write_them(said: str, wanted: str) -> None:
    assert said == wanted


def test_every_state_has_a_mark() -> None:
    assert set(words.KINDS.values()) | {"none"} == set(MARKS)


def test_markup_is_escaped_in_names_and_attributes() -> None:
    assert el("text", EVIL, class_='"><script>') == (
        '<text class="&#34;&gt;&lt;script&gt;">'
        "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;</text>"
    )


Graph = tuple[dict[str, Size], list[tuple[str, str]]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(0, 12))
    names = [f"n{i}" for i in range(count)]
    sizes = {n: Size(draw(st.integers(20, 200)), draw(st.integers(10, 300))) for n in names}
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return sizes, draw(st.lists(st.sampled_from(pairs), max_size=20)) if pairs else []


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_boxes_never_overlap_and_every_edge_goes_right(
    graph: tuple[dict[str, Size], list[tuple[str, str]]],
) -> None:
    sizes, edges = graph
    layout = layered(sizes, edges)
    assert set(layout.boxes) == set(sizes)
    assert set(layout.edges) == set(edges)
    boxes = list(layout.boxes.values())
    for box in boxes:
        assert box.x >= -0.01 <= box.y + 0.02
        assert box.x + box.width <= layout.width + 0.01
        assert box.y + box.height <= layout.height + 0.01
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            apart = a.x + a.width <= b.x or b.x + b.width <= a.x
            assert apart or a.y + a.height <= b.y + 0.01 or b.y + b.height <= a.y + 0.01
    for (source, target), points in layout.edges.items():
        assert layout.boxes[source].x + layout.boxes[source].width <= layout.boxes[target].x
        assert all(left[0] <= right[0] for left, right in pairwise(points))


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_the_same_graph_is_always_laid_out_the_same(
    graph: tuple[dict[str, Size], list[tuple[str, str]]],
) -> None:
    assert layered(*graph) == layered(*graph)


def test_a_cycle_and_unknown_names_are_left_out() -> None:
    sizes = {"a": Size(10, 10), "b": Size(10, 10)}
    layout = layered(sizes, [("a", "b"), ("b", "a"), ("a", "a"), ("a", "nope")])
    assert list(layout.edges) == [("a", "b")]


def test_an_edge_that_passes_a_layer_goes_around_its_boxes() -> None:
    sizes = {n: Size(100, 40) for n in "abc"}
    layout = layered(sizes, [("a", "b"), ("b", "c"), ("a", "c")])
    box = layout.boxes["b"]
    through = [y for x, y in layout.edges[("a", "c")] if box.x <= x <= box.x + box.width]
    assert through
    assert all(y < box.y or y > box.y + box.height for y in through)


def step(path: str, state: StepState = StepState.SUCCEEDED) -> Step:
    return Step(path, state, started_ms=NOW_MS, ended_ms=NOW_MS + 1000)


def texts(picture: str) -> list[str]:
    return [e.text or "" for e in ET.fromstring(picture).iter() if e.tag == "text"]  # noqa: S314 - our own output


def test_a_graph_shows_each_iteration_and_what_waits() -> None:
    run = replace(RUN, steps=tuple(step(f"for-each-depth[{i}]/train") for i in (0, 1, 10)))
    drawn = draw_run(run, pipeline(), NOW_MS)
    assert drawn is not None
    assert {"[0]", "[1]", "[10]", "for-each-depth: 3 iterations"} <= set(texts(drawn))
    assert texts(drawn).count("waits") == 3 + 6
    ended = draw_run(replace(run, state=RunState.FAILED), pipeline(), NOW_MS)
    assert ended is not None
    assert "not started" in texts(ended)


def test_a_graph_that_was_skipped_is_drawn_with_all_that_is_in_it() -> None:
    never = replace(step("notify", StepState.SKIPPED), attempt=0, error="its condition is false")
    drawn = draw_run(replace(RUN, steps=(step("split"), never)), pipeline(), NOW_MS)
    assert drawn is not None
    assert {"notify: skipped", "mail", "skipped"} <= set(texts(drawn))
    assert "notify: its condition is false" in drawn
    assert 'href="#step-notify"' in drawn


def test_a_step_that_was_tried_again_says_so() -> None:
    again = replace(step("split", StepState.RUNNING), attempt=2, ended_ms=0)
    rests = replace(step("card", StepState.BACKING_OFF), attempt=1)
    drawn = draw_run(replace(RUN, steps=(again, rests)), pipeline(), NOW_MS + 500)
    assert drawn is not None
    assert {"running · try 2", "backing off · 1 s"} <= set(texts(drawn))
    assert "split: running · try 2 · 500 ms" in drawn
    bars = timeline(replace(RUN, steps=(again, rests)), NOW_MS + 500)
    assert bars is not None
    assert "500 ms, try 2" in texts(bars)


def test_a_timeline_has_a_mark_for_what_was_skipped() -> None:
    never = replace(step("never", StepState.SKIPPED), attempt=0, ended_ms=NOW_MS)
    drawn = timeline(replace(RUN, steps=(step("a"), never)), NOW_MS)
    assert drawn is not None
    assert {"never", "skipped"} <= set(texts(drawn))


def test_many_iterations_are_counted_and_some_drawn() -> None:
    run = replace(RUN, steps=tuple(step(f"for-each-depth[{i}]/train") for i in range(100)))
    drawn = draw_run(run, pipeline(), NOW_MS)
    assert drawn is not None
    assert "for-each-depth: 100 iterations (6 drawn)" in texts(drawn)


def test_what_is_too_large_is_not_drawn() -> None:
    steps = tuple(step(f"s{i}") for i in range(TASKS_DRAWN_MAX + 1))
    assert draw_run(replace(RUN, steps=steps), None, NOW_MS) is None
    assert draw_run(replace(RUN, steps=steps), pipeline(), NOW_MS) is None
    body = Component("c", Function("f", "..."))
    wide = Pipeline("p", Dag(tuple(Task(f"t{i}", body) for i in range(TASKS_DRAWN_MAX + 1))))
    assert draw_run(RUN, wide, NOW_MS) is None


def test_nested_graphs_and_hostile_names_are_drawn_as_text() -> None:
    leaf = Dag((Task(EVIL, Component("c", Function("f", "..."))),))
    loop = Dag((Task("inner", leaf, loop=Loop(FromInput("xs"), "x")),))
    drawn = draw_run(
        RUN, Pipeline("p", Dag((Task("outer", loop), Task("after", leaf, after=("outer",))))), NOW_MS
    )
    assert drawn is not None
    assert "<script>alert" not in drawn
    assert "inner: for each item" in texts(drawn)
    empty = draw_run(RUN, None, NOW_MS)
    assert empty is not None
    assert "no step has started" in empty


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_ticks_are_few_even_and_reach_the_top(high: float) -> None:
    found = ticks(high)
    assert found[0] == 0
    assert 2 <= len(found) <= 12
    assert found[-1] >= high * 0.999


def test_ticks_of_nothing() -> None:
    assert ticks(0) == [0.0, 1.0]
    assert ticks(float("nan")) == [0.0, 1.0]


async def test_the_curve_says_in_words_what_it_shows(tmp_path: Path) -> None:
    life = await build_life(tmp_path)
    view = View(life.ledger, life.journal, life.traffic, life.artifacts, life.clock, "", life.pipeline)
    evidence = (await view.one(Verdict, "verdict-019c2f7b0276-1a2b3c")).evidence
    assert evidence is not None
    drawn = ET.fromstring(curve(evidence))  # noqa: S314 - our own output
    about = drawn.findtext("desc") or ""
    assert drawn.findtext("title") == "Accuracy over eps"
    assert "at eps 0.2 1.7 % (0.5 % to 5.9 %)" in about
    assert "under random noise of that size 95.8 %" in about
    assert ET.fromstring(curve(replace(evidence, curve=()))) is not None  # noqa: S314 - our own output


def test_a_timeline_needs_a_start_and_shows_what_still_runs() -> None:
    assert timeline(RUN, NOW_MS) is None
    running = Step("long one", StepState.RUNNING, started_ms=NOW_MS + 500)
    drawn = timeline(replace(RUN, steps=(step("a"), running)), NOW_MS + 60_500)
    assert drawn is not None
    assert {"a", "long one", "1 s", "1 min 0 s"} <= set(texts(drawn))


def test_a_sparkline_of_silence_has_no_bars() -> None:
    assert 'class="bar"' not in sparkline((0,) * 60, "x")
    assert "0 requests" in sparkline((), "x")
    assert "at most 9 in one second" in sparkline((1, 9), "x")


def columns(names: list[str]) -> list[ColumnDrift]:
    return [ColumnDrift(name, 0.1, 0.2, 0.5) for name in names]


def test_only_numbered_squares_become_a_map() -> None:
    pixels = columns([f"p{i:02d}" for i in range(64)])
    found = square_columns(list(reversed(pixels)))
    assert found == pixels
    assert square_columns(columns([f"pixel_{i}_0" for i in range(64)])) is None
    assert square_columns(columns([f"x{i}" for i in range(1, 10)])) is not None
    assert square_columns(columns([f"x{i}" for i in range(2, 11)])) is None
    assert square_columns(columns(["a", "b", "c", "d"])) is None
    assert square_columns(columns([f"p{i}" for i in range(63)])) is None
    assert square_columns(columns([f"{'ab'[i % 2]}{i}" for i in range(9)])) is None
    assert square_columns([]) is None
    assert heat_map(pixels, ["p03"]).count("cell-mark") == 1


def test_bars_name_the_worst_first_and_mark_what_drifted() -> None:
    found = [ColumnDrift("a", 0.1, 0.1, 0.5), ColumnDrift("b", 2.0, 0.9, 1e-9)]
    drawn = texts(drift_bars(found, ["b"]))
    assert drawn.index("b") < drawn.index("a")
    assert "0.900 drifted" in drawn
    assert drift_bars([], [])


def test_the_spine_says_its_states_most_urgent_first() -> None:
    said = state_words({"succeeded": 3, "failed": 1, "running": 2, "cancelled": 1})
    assert [text for _, text in said] == ["2 running", "1 failed", "3 succeeded", "1 cancelled"]
    stop = Stop("run", "runs", "/runs", 7, said)
    drawn = draw_spine([stop])
    assert 'aria-label="runs: 7, 2 running, 1 failed, 3 succeeded, 1 cancelled"' in drawn
    assert "3 succeeded +1" in texts(drawn)
