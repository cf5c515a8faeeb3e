"""The front itself: bodies in pieces, too long, cut off, and handed on; long work; a record in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.types import Message

from tallystick.doors.mlflow.proxy import mlflow_routes
from tallystick.doors.mlflow.relay import error_answer
from tallystick.doors.mlflow.step import step_app
from tallystick.doors.tracking import front
from tallystick.doors.tracking.front import NativeFront
from tallystick.doors.tracking.lane import Lane
from tallystick.doors.tracking.table import BODY_BYTES_MAX
from tallystick.record import asks
from tallystick.record.asks import NotPlain
from tallystick.record.entries import Page
from tests.doors.mlflow.house import Echo
from tests.doors.tracking.heard import RUN, Behind, Heard, Hub, client
from tests.fakes.clock import FakeClock
from tests.fakes.mlflow.tracking import FakeTracking

API = "/api/2.0/mlflow/"
POINT = {"run_id": RUN, "key": "loss", "value": 0.5, "timestamp": 7}


def scope(path: str = API + "runs/log-metric", **more: Any) -> dict[str, Any]:
    headers = [(b"content-type", b"application/json"), (b"host", b"127.0.0.1:5000")]
    told = {
        "type": "http",
        "method": "POST",
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
    }
    return told | more


class Wire:
    """Messages to receive, and those that were sent."""

    def __init__(self, *messages: Message) -> None:
        self._waiting = [*messages]
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        if not self._waiting:
            await asyncio.Event().wait()
        return self._waiting.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)


def part(body: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


GONE: Message = {"type": "http.disconnect"}


class Slow(Heard):
    """The first that asks waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_first, self.let_go = asyncio.Event(), asyncio.Event()

    async def write(self, ask: Any, workspace: str) -> Any:
        self.asked_first.set()
        await self.let_go.wait()
        return await super().write(ask, workspace)


def app(record: Any) -> tuple[NativeFront, Behind]:
    behind = Behind()
    return NativeFront(behind, Lane(record, FakeClock(), False), error_answer), behind


async def test_a_body_in_pieces_is_read_whole() -> None:
    said = json.dumps(POINT).encode()
    record = Heard()
    wire = Wire(part(said[:5]), part(b""), part(said[5:-1]), part(said[-1:], False))
    asking, _ = app(record)
    await asking(scope(), wire.receive, wire.send)
    assert record.asked[0][0].key == "loss"
    assert wire.sent[0]["status"] == 200


async def test_a_relayed_body_in_pieces_is_replayed_whole() -> None:
    wire = Wire(part(b"{"), part(b"["), part(b"]", False))
    asking, behind = app(Heard())
    await asking(scope(), wire.receive, wire.send)
    assert behind.bodies == [b"{[]"]


@pytest.mark.parametrize("first", [10, BODY_BYTES_MAX + 1])
async def test_a_body_that_is_too_long_streams_on(first: int) -> None:
    wire = Wire(part(b"x" * first), part(b"y" * BODY_BYTES_MAX), part(b"z", False))
    record = Heard()
    asking, behind = app(record)
    await asking(scope(), wire.receive, wire.send)
    assert behind.bodies == [b"x" * first + b"y" * BODY_BYTES_MAX + b"z"]
    assert record.asked == []


async def test_many_bodies_at_once_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "HELD_BYTES_MAX", 100)
    record = Heard()
    asking, behind = app(record)
    first = Wire(part(b"x" * 80))
    waiting = asyncio.create_task(asking(scope(), first.receive, first.send))
    await asyncio.sleep(0)
    said = json.dumps(POINT).encode()
    second = Wire(part(said[:60]), part(said[60:], False))
    await asking(scope(), second.receive, second.send)
    assert behind.bodies == [said], "it went on as a stream"
    third = Wire(part(said, False))
    await asking(scope(), third.receive, third.send)
    assert len(record.asked) == 1, "one in a single piece is never held"
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    fourth = Wire(part(said[:60]), part(said[60:], False))
    await asking(scope(), fourth.receive, fourth.send)
    assert len(record.asked) == 2, "what was held is let go of"


async def test_a_body_is_held_until_it_has_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it becomes as it is read weighs more than itself; a batch of ours then has to come again."""
    monkeypatch.setattr(front, "HELD_BYTES_MAX", 100)
    record = Slow()
    asking, behind = app(record)
    said = json.dumps({**POINT, "key": "k" * 60}).encode()
    first = Wire(part(said[:60]), part(said[60:], False))
    waiting = asyncio.create_task(asking(scope(), first.receive, first.send))
    await record.asked_first.wait()
    ours = scope(path="/api/tally/metrics/columns")
    second = Wire(part(b"{"), part(b"}", False))
    await asking(ours, second.receive, second.send)
    assert (second.sent[0]["status"], behind.bodies) == (503, [])
    record.let_go.set()
    await waiting
    assert first.sent[0]["status"] == 200
    third = Wire(part(b"{"), part(b"}", False))
    await asking(ours, third.receive, third.send)
    assert third.sent[0]["status"] == 400


@pytest.mark.parametrize("messages", [[GONE], [part(b"{"), GONE]])
async def test_whoever_goes_away_leaves_nothing_behind(messages: list[Message]) -> None:
    wire = Wire(*messages)
    record = Heard()
    asking, behind = app(record)
    await asking(scope(), wire.receive, wire.send)
    assert (record.asked, behind.bodies, wire.sent) == ([], [], [])


async def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "BODY_S", 0.01)
    wire = Wire(part(b"{"))
    asking, _ = app(Heard())
    await asking(scope(), wire.receive, wire.send)
    assert wire.sent[0]["status"] == 400


async def test_what_is_not_http_or_not_native_goes_on_untouched() -> None:
    seen: list[Any] = []

    async def behind(told: Any, receive: Any, send: Any) -> None:
        seen.append((told, receive, send))

    asking = NativeFront(behind, Lane(Heard(), FakeClock(), False), error_answer)
    wire = Wire()
    for told in ({"type": "lifespan"}, scope("/v2/models/x/infer"), scope(method="OPTIONS")):
        receive, send = wire.receive, wire.send
        await asking(told, receive, send)
        assert seen.pop() == (told, receive, send)


async def test_a_run_is_lived_natively() -> None:
    hub = Hub(FakeTracking())
    created = await hub.call("POST", "runs/create", {"experiment_id": "0", "start_time": 5, "run_name": "n"})
    run_id = created.json()["run"]["info"]["run_id"]
    for value in (0.5, "NaN"):
        await hub.call("POST", "runs/log-metric", {**POINT, "run_id": run_id, "value": value})
    batch = {"run_id": run_id, "params": [{"key": "lr", "value": "1"}], "tags": [{"key": "t", "value": "u"}]}
    assert (await hub.call("POST", "runs/log-batch", batch)).json() == {}
    changed = {"run_id": run_id, "params": [{"key": "lr", "value": "2"}]}
    assert (await hub.call("POST", "runs/log-batch", changed)).status_code == 299, "MLflow says why not"
    told = (await hub.call("GET", "metrics/get-history", {"run_id": run_id, "metric_key": "loss"})).json()
    assert [m["value"] for m in told["metrics"]] == ["NaN", 0.5], "NaN stands where 0 does"
    found = (await hub.call("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 1})).json()[
        "runs"
    ]
    assert found[0]["data"]["params"] == [{"key": "lr", "value": "1"}]
    await hub.call("POST", "runs/delete", {"run_id": run_id})
    assert (await hub.call("POST", "runs/log-metric", {**POINT, "run_id": run_id})).status_code == 299
    assert (await hub.call("POST", "runs/search", {"experiment_ids": ["0"]})).json() == {}
    assert len(hub.behind.bodies) == 2


class Named(FakeTracking):
    """A record in memory that finds experiments by name."""

    async def read(self, ask: Any, workspace: str) -> Any:
        if isinstance(ask, asks.SearchExperiments):
            (condition,) = ask.conditions
            assert (condition.key, condition.comparator, ask.stages) == ("name", "=", ("active", "deleted"))
            found = [e for e in self._experiments.values() if e.name == condition.value]
            return Page(found, None)
        return await super().read(ask, workspace)


async def test_that_no_experiment_has_a_name_is_said_as_mlflow_says_it() -> None:
    hub = Hub(Named())
    path = "experiments/get-by-name"
    answer = await hub.call("GET", path, {"experiment_name": "it's"})
    assert answer.status_code == 404
    assert answer.json() == {
        "error_code": "RESOURCE_DOES_NOT_EXIST",
        "message": "Could not find experiment with name 'it's'",
        "sqlstate": "KAM00",
        "error_class": "RESOURCE_NOT_FOUND",
    }
    assert (await hub.call("GET", path, {"experiment_name": "Default"})).status_code == 200
    assert (await Hub(FakeTracking()).call("GET", path, {"experiment_name": "x"})).status_code == 299
    red = Hub(Named(), workspaces=True)
    told = await red.call("GET", path, {"experiment_name": "x"}, x_mlflow_workspace="red")
    assert told.status_code == 299, "whether there is such a workspace, MLflow knows"


class Writing(Echo):
    """MLflow's server, which says how many writes the record knew to be under way."""

    def __init__(self, record: Heard) -> None:
        super().__init__(body=b'{"experiment_id": "1"}')
        self.record = record
        self.known: list[list[int]] = []

    async def _say(self, request: httpx.Request) -> httpx.Response:
        self.known.append([*self.record.yielded])
        return await super()._say(request)


async def test_the_record_yields_while_mlflow_writes_and_only_then() -> None:
    record = Heard()
    child = Writing(record)
    routes = mlflow_routes(child, Lane(record, FakeClock(), False))
    http = client(Starlette(routes=routes))
    await http.post(API + "registered-models/create", json={"name": "m"})
    assert (child.known.pop(), record.yielded) == ([1], [1, 0])
    for method, path in [
        ("GET", "runs/get"),
        ("POST", "runs/search"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/x"),
    ]:
        await http.request(method, path if path[0] == "/" else API + path, content=b"{}")
    assert record.yielded == [1, 0]


@pytest.fixture
async def step() -> AsyncIterator[tuple[httpx.AsyncClient, Writing]]:
    """A step's door on a record in memory, and MLflow's server behind it."""
    record = FakeTracking()
    child = Writing(Heard())
    lane = Lane(record, FakeClock(), False)
    async with client(step_app(child, {"tally.run": "r1"}, lane=lane)) as http:
        yield http, child


async def test_a_step_is_answered_natively_and_owns_what_it_made(
    step: tuple[httpx.AsyncClient, Writing],
) -> None:
    http, child = step
    made = await http.post(
        API + "runs/create", json={"experiment_id": "0", "tags": [{"key": "tally.run", "value": "x"}]}
    )
    info = made.json()["run"]["info"]
    assert {"key": "tally.run", "value": "r1"} in made.json()["run"]["data"]["tags"]
    point = {**POINT, "run_id": info["run_id"]}
    assert (await http.post(API + "runs/log-metric", json=point)).json() == {}
    assert (await http.post(API + "runs/log-metric", json=POINT)).status_code == 403, "not its own"
    assert (await http.post(API + "runs/delete", json={"run_id": info["run_id"]})).status_code == 403
    told = await http.get(API + "runs/get", params={"run_id": info["run_id"]})
    assert told.json()["run"]["data"]["metrics"][0]["value"] == 0.5
    assert child.seen == [], "MLflow's own server was not needed"
    await http.post(API + "runs/log-metric", json={**point, "value": "0.5"})
    await http.get(API + "runs/get", params={"run_id": "nobody"})
    await http.post(API + "runs/search", json={"experiment_ids": ["0"]})
    assert len(child.seen) == 3
    assert (await http.post("/api/tally/metrics/columns", json={})).status_code == 403


async def test_a_refused_write_of_a_step_is_mlflows_to_answer() -> None:
    record = Heard(NotPlain())
    child = Writing(record)
    async with client(step_app(child, lane=Lane(record, FakeClock(), False))) as http:
        await http.post(API + "experiments/create", json={"name": "x"})
    assert (len(record.asked), len(child.seen), record.yielded) == (1, 1, [1, 0])
