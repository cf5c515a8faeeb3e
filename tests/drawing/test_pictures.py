"""Words, layout and charts: pure functions, tried with figures and graphs of all kinds."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.core.signal import ColumnDrift
from tallystick.drawing import words
from tallystick.drawing.chart import (
    drift_bars,
    heat_map,
    sparkline,
    square_columns,
    ticks,
)
from tallystick.drawing.layout import Size, layered
from tallystick.drawing.spine import Stop, draw_spine, state_words
from tallystick.drawing.svg import MARKS, el
from tests.fakes.life import EVIL, NOW_MS


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


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_ticks_are_few_even_and_reach_the_top(high: float) -> None:
    found = ticks(high)
    assert found[0] == 0
    assert 2 <= len(found) <= 12
    assert found[-1] >= high * 0.999


def test_ticks_of_nothing() -> None:
    assert ticks(0) == [0.0, 1.0]
    assert ticks(float("nan")) == [0.0, 1.0]


def test_a_sparkline_of_silence_has_no_bars() -> None:
    assert 'class="bar"' not in sparkline((0,) * 60, "x")
    assert "0 requests" in sparkline((), "x")
    assert "at most 9 in one second" in sparkline((1, 9), "x")


def texts(picture: str) -> list[str]:
    return [e.text or "" for e in ET.fromstring(picture).iter() if e.tag == "text"]  # noqa: S314 - our own output


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
