"""Rows as a body, and what the hub's own door reads in it."""

from __future__ import annotations

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from tallystick.client.wire import Row, encode, weigh
from tallystick.doors.tracking import columns
from tallystick.doors.tracking.columns import POINTS_MAX

Seen = dict[tuple[str, str], list[tuple[str, int, int]]]

VALUES = st.floats()
KEYS = st.sampled_from(["a", "b", "c", "val/loss"])


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """One call's: a single point, or several with keys of their own."""
    run, step, at_ms = draw(st.sampled_from("rs")), draw(st.integers(-3, 3)), draw(st.integers(0, 3))
    if draw(st.booleans()):
        return run, draw(KEYS), draw(VALUES), at_ms, step, None
    keys = tuple(draw(st.lists(KEYS, min_size=2, unique=True)))
    return run, keys, tuple(draw(VALUES) for _ in keys), at_ms, step, None


def put_in(logged: list[Row]) -> Seen:
    """The points of each key of each run, in their order."""
    seen: Seen = {}
    for run, keys, values, at_ms, step, _ in logged:
        pairs = [(keys, values)] if isinstance(keys, str) else zip(keys, values, strict=True)
        for key, value in pairs:
            seen.setdefault((run, key), []).append((repr(value), at_ms, step))
    return seen


def read_back(body: bytes) -> Seen:
    """The same, as the hub understands it."""
    seen: Seen = {}
    for run, points in columns.ask(columns.read(body), lambda: 0).runs:
        for key, value, at_ms, step in zip(
            points.keys, points.values, points.timestamps_ms, points.steps, strict=True
        ):
            seen.setdefault((run, key), []).append((repr(value), at_ms, step))
    return seen


@example([("r", f"k{at}", 1.0, 1, at, None) for at in range(300)])
@example([("r", "a", float("nan"), 1, 1, None), ("r", ("a", "b"), (float("inf"), -0.0), 1, 1, None)] * 2)
@given(st.lists(rows(), min_size=1, max_size=30))
def test_what_the_hub_reads_is_what_was_logged(logged: list[Row]) -> None:
    assert read_back(encode("batch", logged)) == put_in(logged)
    assert weigh(logged) == sum(map(len, put_in(logged).values())) <= POINTS_MAX


def test_keys_times_and_steps_that_are_shared_are_told_once() -> None:
    logged: list[Row] = [("r", ("a", "b"), (step / 2, 1.0), 7, step, None) for step in range(3)]
    assert msgspec.json.decode(encode("batch", logged)) == {
        "batch_id": "batch",
        "runs": [
            {
                "run_id": "r",
                "blocks": [
                    {
                        "names": ["a", "b"],
                        "values": [[0.0, 0.5, 1.0], [1.0, 1.0, 1.0]],
                        "timestamps": [7, 7, 7],
                        "steps": [0, 1, 2],
                    }
                ],
            }
        ],
    }
