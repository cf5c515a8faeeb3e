"""Column batches, a protocol of our own: whole or not at all, once, and with errors that say what to do."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest

from tallystick.doors.tracking import columns as told
from tallystick.doors.tracking.columns import PATH, POINTS_MAX
from tallystick.record import asks
from tallystick.record.asks import Columns, LogColumns
from tests.doors.tracking.heard import RUN, Heard, Hub
from tests.fakes.mlflow.tracking import FakeTracking

WHERE = PATH.decode()
COLUMNS: dict[str, Any] = {
    "run_id": RUN,
    "keys": ["a", "b"],
    "values": [1, "NaN"],
    "timestamps": [5, 6],
    "steps": [0, -1],
}
BATCH: dict[str, Any] = {"batch_id": "b-1_X", "runs": [COLUMNS]}

BLOCK: dict[str, Any] = {
    "names": ["a", "b"],
    "values": [[1, 2], [3, 4]],
    "timestamps": [8, 9],
    "steps": [0, 1],
}


def one(**odd: Any) -> dict[str, Any]:
    return {**BATCH, "runs": [{**COLUMNS, **odd}]}


async def test_columns_become_one_ask() -> None:
    hub = Hub(Heard())
    answer = await hub.call("POST", WHERE, BATCH)
    assert (answer.status_code, answer.json()) == (200, {"points": 2})
    ask = hub.record.asked[0][0]
    assert isinstance(ask, LogColumns)
    (run_id, columns), *_ = ask.runs
    assert (ask.batch_id, run_id, columns.keys, columns.timestamps_ms, columns.steps) == (
        *("b-1_X", RUN, ["a", "b"], [5, 6], [0, -1]),
    )
    assert columns.values[0] == 1.0
    assert math.isnan(columns.values[1])


async def test_keys_may_be_said_once_each() -> None:
    hub = Hub(Heard())
    keys = {"names": ["loss", "acc"], "of": [1, 0, 1]}
    said = one(keys=keys, values=[1.0, 2.0, 3.0], timestamps=[1, 1, 1], steps=[1, 2, 3])
    assert (await hub.call("POST", WHERE, said)).json() == {"points": 3}
    assert hub.record.asked[0][0].runs == (
        (RUN, Columns(["acc", "loss", "acc"], [1.0, 2.0, 3.0], [1, 1, 1], [1, 2, 3])),
    )


async def test_keys_with_the_same_times_and_steps_may_be_a_block() -> None:
    hub = Hub(Heard())
    blocks = [BLOCK, {**BLOCK, "names": ["c"], "values": [["-Infinity", 5]]}]
    said = {**BATCH, "runs": [{"run_id": RUN, "blocks": blocks}]}
    assert (await hub.call("POST", WHERE, said)).json() == {"points": 6}
    assert hub.record.asked[0][0].runs == (
        (
            RUN,
            Columns(
                ["a", "a", "b", "b", "c", "c"], [1.0, 2.0, 3.0, 4.0, -math.inf, 5.0], [8, 9] * 3, [0, 1] * 3
            ),
        ),
    )


async def test_a_run_may_have_columns_and_blocks() -> None:
    hub = Hub(Heard())
    said = one(values=[1, 2], blocks=[BLOCK])
    assert (await hub.call("POST", WHERE, said)).json() == {"points": 6}
    (_, columns), *_ = hub.record.asked[0][0].runs
    assert (columns.keys, columns.steps) == (["a", "b", "a", "a", "b", "b"], [0, -1, 0, 1, 0, 1])


ODD: list[Any] = [
    {},
    [],
    {**BATCH, "batch_id": ""},
    {**BATCH, "batch_id": "x" * 65},
    {**BATCH, "batch_id": "a b"},
    {**BATCH, "extra": 1},
    {**BATCH, "runs": [COLUMNS, COLUMNS]},
    one(run_id="a b"),
    one(keys=["a"]),
    one(keys=["a", "../b"]),
    one(keys={"names": ["a"], "of": [0, 1]}),
    one(keys={"names": ["a"], "of": [0, -1]}),
    one(values=[1, "nan"]),
    one(values=[1, None]),
    one(values=[1]),
    one(timestamps=[1, -1]),
    one(timestamps=[1, 1.5]),
    one(steps=[0, 2**63]),
    {**BATCH, "runs": [{"run_id": RUN, "keys": ["a"]}]},
    *(
        {**BATCH, "runs": [{"run_id": RUN, "blocks": [{**BLOCK, **odd}]}]}
        for odd in (
            {"names": ["a"]},
            {"names": ["a", "../b"]},
            {"names": ["a", "b", "c"]},
            {"values": [[1, 2], [3]]},
            {"values": [[1, 2], [3, "nan"]]},
            {"values": [[1, 2], [3, None]]},
            {"timestamps": [8]},
            {"timestamps": [8, -1]},
            {"steps": [0]},
            {"steps": [0, 2**63]},
            {"extra": 1},
        )
    ),
]


@pytest.mark.parametrize("said", ODD, ids=[str(said)[-60:] for said in ODD])
async def test_what_is_malformed_is_refused_by_us(said: Any) -> None:
    hub = Hub(Heard())
    answer = await hub.call("POST", WHERE, said)
    assert (answer.status_code, answer.json()["error"]) == (400, "BadInput")
    assert (hub.record.asked, hub.behind.bodies) == ([], [])


async def test_headers_that_are_not_plain_are_refused_too() -> None:
    hub = Hub(Heard())
    for headers in ({"content_type": "text/plain"}, {"x_mlflow_workspace": "red"}):
        assert (await hub.call("POST", WHERE, BATCH, **headers)).status_code == 400
    assert hub.record.asked == []


async def test_as_many_points_as_are_allowed_and_no_more() -> None:
    hub = Hub(Heard())
    for count, status in ((POINTS_MAX, 200), (POINTS_MAX + 1, 400)):
        keys = {"names": ["k"], "of": [0] * count}
        said = one(keys=keys, values=[0.25] * count, timestamps=[1] * count, steps=[*range(count)])
        assert (await hub.call("POST", WHERE, said)).status_code == status
        rows = [*range(count // 5)]
        block = {"names": [*"abcde"], "values": [[0.25] * len(rows)] * 5, "timestamps": rows, "steps": rows}
        more = [block] if status == 200 else [block, BLOCK]
        said = {**BATCH, "runs": [{"run_id": RUN, "blocks": more}]}
        assert (await hub.call("POST", WHERE, said)).status_code == status
    assert len(hub.record.asked) == 2


async def test_a_body_beyond_the_limit_is_too_large() -> None:
    hub = Hub(Heard())
    answer = await hub.call("POST", WHERE, raw=b" " * (16 * 2**20 + 1))
    assert (answer.status_code, hub.behind.bodies) == (413, [])


async def test_a_batch_is_applied_once_and_whole() -> None:
    record = FakeTracking()
    hub = Hub(record)
    for run_id in ("r1", "r2"):
        await record.write(asks.CreateRun(run_id, 0, "u", 1, "n"), "default")
    runs = [{**COLUMNS, "run_id": run_id} for run_id in ("r1", "r2")]
    for _ in range(2):
        assert (await hub.call("POST", WHERE, {**BATCH, "runs": runs})).json() == {"points": 4}
    await record.write(asks.MoveRun("r2", "deleted", 1), "default")
    for last, status, hint in (("r2", 409, "restore it first"), ("r3", 404, "")):
        said = {
            "batch_id": last,
            "runs": [{**COLUMNS, "run_id": "r1", "steps": [7, 8]}, {**COLUMNS, "run_id": last}],
        }
        answer = await hub.call("POST", WHERE, said)
        assert (answer.status_code, answer.json()["where"], answer.json()["hint"]) == (status, last, hint)
    told = await record.read(asks.History("r1", "a"), "default")
    assert [p.step for p in told.items] == [0], "nothing of the batches that were refused"


async def test_before_the_record_is_ready_a_batch_is_to_be_sent_again() -> None:
    hub = Hub(Heard())
    hub.record.is_ready = False
    answer = await hub.call("POST", WHERE, BATCH)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("name", ["keys", "values", "timestamps", "steps", "blocks"])
async def test_no_list_is_read_beyond_the_limit(name: str) -> None:
    """Three million short keys in 16 MiB would weigh hundreds of MiB, once they are Python's."""
    hub = Hub(Heard())
    items: dict[str, Any] = {"keys": "k", "values": 0.5, "timestamps": 1, "steps": 1, "blocks": BLOCK}
    said = one(**{name: [items[name]] * (POINTS_MAX + 1)})
    with pytest.raises(msgspec.ValidationError, match=rf"length <= {POINTS_MAX}"):
        told.read(json.dumps(said).encode())
    if name != "blocks":
        assert (await hub.call("POST", WHERE, said)).status_code == 400
