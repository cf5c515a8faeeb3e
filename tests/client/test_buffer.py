"""The buffer alone: what it sends, when, and what it says when that fails."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import msgspec
import pytest
from mlflow.exceptions import MlflowException

from tallystick.client.buffer import Buffer
from tallystick.client.post import NotNow, Refused, TooLong
from tallystick.client.settings import Limits
from tallystick.client.wire import POINTS_MAX, Row
from tests.client.keeper import points_of

NEVER_MS = 3_600_000
PATIENCE_S = 60


class Hub:
    """Takes bodies; ``answers`` are what it raises first. A batch that it knows it does not take again."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, object]] = []
        self.taken: dict[str, list[tuple[str, str, int]]] = {}
        self.answers: deque[Exception] = deque()
        self.refused: dict[str, Exception] = {}
        self.most = 1 << 62
        self.gate = threading.Event()
        self.gate.set()
        self.came = threading.Semaphore(0)

    def __call__(self, body: bytes, workspace: str | None) -> None:
        batch = msgspec.json.decode(body)
        self.bodies.append(batch | {"workspace": workspace})
        self.came.release()
        assert self.gate.wait(PATIENCE_S)
        if self.answers:
            raise self.answers.popleft()
        points = [(run["run_id"], key, step) for run in batch["runs"] for key, _, _, step in points_of(run)]
        if len(points) > self.most:
            raise TooLong("too many")
        for run in batch["runs"]:
            if run["run_id"] in self.refused:
                raise self.refused[run["run_id"]]
        self.taken.setdefault(batch["batch_id"], points)

    def steps(self, run: str = "r") -> list[int]:
        return [step for points in self.taken.values() for run_id, _, step in points if run_id == run]

    def ids(self) -> list[object]:
        return [body["batch_id"] for body in self.bodies]


def point(step: int, run: str = "r", workspace: str | None = None) -> Row:
    return run, "loss", 0.5, 1, step, workspace


def row(step: int, run: str = "r") -> Row:
    return run, ("a", "b", "c", "d"), (0.1, 0.2, 0.3, 0.4), 1, step, None


def fill(buffer: Buffer) -> None:
    for step in range(1000):
        buffer.put(point(step))


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def buffer(hub: Hub) -> Buffer:
    return Buffer(hub, Limits(NEVER_MS, 100_000, retry_s=300))


def test_flush_sends_what_was_put_in_order_in_one_request(hub: Hub, buffer: Buffer) -> None:
    for step in range(1000):
        buffer.put(point(step))
    assert hub.bodies == []
    buffer.flush()
    assert hub.steps() == list(range(1000))
    assert len(hub.bodies) == 1
    assert buffer.waiting == 0


def test_one_request_is_for_many_runs(hub: Hub, buffer: Buffer) -> None:
    for step in range(10):
        for run in "abc":
            buffer.put(point(step, run))
    buffer.flush()
    assert len(hub.bodies) == 1
    assert all(hub.steps(run) == list(range(10)) for run in "abc")


def test_an_empty_flush_asks_nothing(hub: Hub, buffer: Buffer) -> None:
    buffer.flush()
    buffer.settle()
    assert hub.bodies == []


def test_points_leave_when_they_are_many(hub: Hub, buffer: Buffer) -> None:
    for step in range(POINTS_MAX // 2):
        buffer.put(point(step))
    assert hub.came.acquire(timeout=PATIENCE_S)


def test_points_leave_when_it_is_time(hub: Hub) -> None:
    buffer = Buffer(hub, Limits(1, 1000))
    buffer.put(point(1))
    assert hub.came.acquire(timeout=PATIENCE_S)
    buffer.put(point(2))
    assert hub.came.acquire(timeout=PATIENCE_S)


def test_no_request_is_too_large(hub: Hub, buffer: Buffer) -> None:
    buffer.put_all([point(step) for step in range(3 * POINTS_MAX + 7)])
    buffer.flush()
    assert hub.steps() == list(range(3 * POINTS_MAX + 7))
    assert max(len(points) for points in hub.taken.values()) <= POINTS_MAX


def test_what_the_hub_finds_too_long_is_split(hub: Hub, buffer: Buffer) -> None:
    hub.most = 100
    buffer.put_all([point(step) for step in range(1000)])
    buffer.flush()
    assert hub.steps() == list(range(1000))


def test_a_body_over_the_limit_is_split_before_it_is_sent(
    hub: Hub, buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.client.courier.BODY_MAX", 2000)
    buffer.put_all([point(step) for step in range(1000)])
    buffer.flush()
    assert hub.steps() == list(range(1000))
    assert all(len(msgspec.json.encode(body)) < 2100 for body in hub.bodies)


def most_waiting(hub: Hub, made: Callable[[int], Row], calls: int, fit: int) -> int:
    """The most points that ever wait in a buffer of 100, whose hub answers only once that is full.

    By then at most ``fit`` of ``calls`` calls have come back.
    """
    buffer = Buffer(hub, Limits(NEVER_MS, 100))
    hub.gate.clear()
    most = []

    def log() -> None:
        for step in range(calls):
            buffer.put(made(step))
            most.append(buffer.waiting)

    thread = in_thread(log)
    assert hub.came.acquire(timeout=PATIENCE_S)
    while buffer.waiting < 100:
        assert thread.is_alive()
    assert len(most) <= fit
    hub.gate.set()
    thread.join(PATIENCE_S)
    buffer.flush()
    return max(most)


def test_a_full_buffer_makes_the_caller_wait(hub: Hub) -> None:
    assert most_waiting(hub, point, calls=1000, fit=100) <= 100
    assert hub.steps() == list(range(1000))


def test_rows_count_as_the_points_that_they_are(hub: Hub) -> None:
    most = most_waiting(hub, row, calls=50, fit=25)
    assert most <= 103, "over by no more than what is put in one piece"
    assert hub.steps() == [step for step in range(50) for _ in "abcd"]


def test_no_request_of_rows_is_too_large(hub: Hub, buffer: Buffer) -> None:
    for step in range(POINTS_MAX // 2):
        buffer.put(row(step))
    buffer.flush()
    assert hub.steps() == [step for step in range(POINTS_MAX // 2) for _ in "abcd"]
    assert max(len(points) for points in hub.taken.values()) <= POINTS_MAX


def test_a_row_that_the_hub_finds_too_long_is_split(hub: Hub, buffer: Buffer) -> None:
    hub.most = 1
    buffer.put(row(1))
    buffer.put(row(2))
    buffer.flush()
    assert sorted(point for points in hub.taken.values() for point in points) == sorted(
        ("r", key, step) for step in (1, 2) for key in "abcd"
    )


def test_refused_rows_are_counted_as_points(hub: Hub, buffer: Buffer) -> None:
    hub.refused["b"] = Refused("RESOURCE_DOES_NOT_EXIST", "no such run")
    for step in range(10):
        buffer.put(row(step, "a"))
        buffer.put(row(step, "b"))
    assert buffer.waiting == 80
    with pytest.raises(MlflowException, match=r"40 metric point\(s\) of run b were refused"):
        buffer.flush()
    assert len(hub.steps("a")) == 40


def test_many_threads_lose_nothing(hub: Hub) -> None:
    buffer = Buffer(hub, Limits(1, 500))

    def log(run: str) -> None:
        for step in range(2000):
            buffer.put(point(step, run))
            if step % 500 == 0:
                buffer.flush()
                assert step in hub.steps(run)

    threads = [in_thread(lambda run=f"run{at}": log(run)) for at in range(8)]
    for thread in threads:
        thread.join(PATIENCE_S)
    buffer.flush()
    assert all(hub.steps(f"run{at}") == list(range(2000)) for at in range(8))


def test_a_try_that_failed_is_repeated_under_the_same_id(hub: Hub, buffer: Buffer) -> None:
    hub.answers.extend([NotNow("away"), NotNow("busy", after_s=0.001)])
    buffer.put(point(1))
    buffer.flush()
    assert len(hub.bodies) == 3
    assert len(set(hub.ids())) == 1
    buffer.put(point(2))
    buffer.flush()
    assert len(set(hub.ids())) == 2
    assert hub.steps() == [1, 2]


def test_a_hub_that_stays_away_is_an_error_and_the_points_are_kept(hub: Hub) -> None:
    buffer = Buffer(hub, Limits(NEVER_MS, 1000, retry_s=0))
    hub.answers.extend([NotNow("nobody listens")] * 3)
    buffer.put(point(1))
    with pytest.raises(MlflowException, match=r"nobody listens.* 1 point\(s\) wait in this process") as error:
        buffer.flush()
    assert error.value.error_code == "TEMPORARILY_UNAVAILABLE"
    with pytest.raises(MlflowException, match="nobody listens"):
        buffer.put(point(2))
    hub.answers.clear()
    buffer.flush()
    buffer.put(point(3))
    buffer.flush()
    assert hub.steps() == [1, 3]
    assert len(set(hub.ids())) == 2


def test_what_waiting_will_not_mend_is_said_at_once(hub: Hub, buffer: Buffer) -> None:
    hub.answers.append(NotNow("HTTP 401: who are you?", plain=True))
    buffer.put(point(1))
    with pytest.raises(MlflowException, match="who are you"):
        buffer.flush()
    buffer.flush()
    assert hub.steps() == [1]


def test_a_caller_that_waits_for_room_hears_that_the_hub_is_away(hub: Hub) -> None:
    buffer = Buffer(hub, Limits(NEVER_MS, 10, retry_s=0))
    hub.answers.extend([NotNow("nobody listens")] * 100)
    with pytest.raises(MlflowException, match="nobody listens"):
        fill(buffer)
    assert buffer.waiting <= 10
    hub.answers.clear()
    buffer.flush()
    assert hub.steps() == list(range(len(hub.steps())))


def test_flush_gives_up_when_it_was_told_to(hub: Hub, buffer: Buffer) -> None:
    hub.gate.clear()
    buffer.put(point(1))
    with pytest.raises(MlflowException, match=r"1 metric point\(s\) are not durable"):
        buffer.flush(0.01)
    hub.gate.set()
    buffer.flush()
    assert hub.steps() == [1]


def test_a_refused_run_is_named_once_and_the_others_are_kept(hub: Hub, buffer: Buffer) -> None:
    hub.refused["b"] = Refused("RESOURCE_DOES_NOT_EXIST", "no such run")
    for step in range(10):
        for run in "abcd":
            buffer.put(point(step, run))
    with pytest.raises(
        MlflowException, match=r"10 metric point\(s\) of run b were refused.*no such run"
    ) as error:
        buffer.flush()
    assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert all(hub.steps(run) == list(range(10)) for run in "acd")
    assert hub.steps("b") == []
    buffer.flush()


def test_a_refusal_is_told_to_its_own_run_and_not_to_others(hub: Hub, buffer: Buffer) -> None:
    hub.refused["b"] = Refused("INVALID_PARAMETER_VALUE", "deleted")
    buffer.put(point(1, "b"))
    buffer.settle("a")
    buffer.put(point(1, "a"))
    buffer.settle()
    with pytest.raises(MlflowException, match="run b"):
        buffer.put(point(2, "b"))
    assert hub.steps("a") == [1]


def test_many_refused_runs_are_counted(hub: Hub, buffer: Buffer) -> None:
    for at in range(9):
        hub.refused[f"run{at}"] = Refused("RESOURCE_DOES_NOT_EXIST", "gone")
        buffer.put(point(1, f"run{at}"))
    with pytest.raises(MlflowException, match="and those of 4 more runs"):
        buffer.flush()


def test_an_error_of_our_own_ends_nothing(hub: Hub, buffer: Buffer) -> None:
    hub.answers.append(ZeroDivisionError("a bug"))
    buffer.put(point(1))
    with pytest.raises(MlflowException, match=r"run r were refused.*a bug"):
        buffer.flush()
    buffer.put(point(2))
    buffer.flush()
    assert hub.steps() == [2]


def test_each_workspace_gets_a_request_of_its_own(hub: Hub, buffer: Buffer) -> None:
    buffer.put(point(1, "a", "red"))
    buffer.put(point(1, "b"))
    buffer.put(point(2, "a", "red"))
    buffer.flush()
    assert sorted(str(body["workspace"]) for body in hub.bodies) == ["None", "red"]
    assert hub.steps("a") == [1, 2]


def test_values_that_json_lacks_are_words(hub: Hub, buffer: Buffer) -> None:
    values = [1.5, float("nan"), float("inf"), float("-inf"), 1e308, 1e308]
    buffer.put_all([("r", "loss", value, 1, 1, None) for value in values])
    buffer.flush()
    (run,) = hub.bodies[0]["runs"]  # type: ignore[misc]
    said = [value for _, value, _, _ in points_of(run)]
    assert said == [1.5, "NaN", "Infinity", "-Infinity", 1e308, 1e308]
