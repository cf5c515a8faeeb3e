"""MLflow's record after kill -9: every acknowledged write is there, once, and nothing is there in part.

``TALLY_REPLAY`` says from how many seeds (default 3). Each kills the hub at another moment of the work of
64 clients, on one and the same database, so that what came before must survive too.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.fakes.machine.disk import make_read_only, mounted
from tests.fakes.mlflow.postgres import PostgresServer
from tests.journeys.conftest import RunningHub, processes_of, start_hub, tally, wait_until
from tests.replay.writers import API, Writers, begun, check_record, check_sqlite

pytestmark = pytest.mark.slow

SEEDS = int(os.environ.get("TALLY_REPLAY", "3"))
CLIENTS = 64


def hub_on(database: Path | str, home: Path) -> RunningHub:
    url = database if isinstance(database, str) else f"sqlite:///{database}"
    return start_hub(home, "--database", url)


def at_a_moment(hub: RunningHub, writers: Writers, seed: int) -> None:
    """SIGKILL after a number of writes and a while that the seed says."""
    lots = random.Random(seed)  # noqa: S311  reason: the same lots again
    writers.wait_for(lots.randrange(1, 400))
    time.sleep(lots.random() * 0.05)
    os.kill(hub.process.pid, signal.SIGKILL)


def test_killed_in_the_middle_of_64_clients(database: Path, tmp_path: Path) -> None:
    home, before = tmp_path / "home", list[Writers]()
    for seed in range(SEEDS):
        hub = hub_on(database, home)
        with begun(hub.url, CLIENTS, seed) as writers:
            at_a_moment(hub, writers, seed)
            hub.process.communicate(timeout=60)
        again = hub_on(database, home)
        first = writers.clients[0]
        answer = httpx.get(f"{again.url}{API}/runs/get", params={"run_id": first.run_id}, timeout=120)
        assert answer.status_code == 200, (seed, answer.text)
        check_sqlite(database, writers)
        before.append(writers)
        again.end()
    for writers in before:
        check_sqlite(database, writers)
    assert wait_until(lambda: not processes_of(home)), processes_of(home)


def test_killed_twice_while_it_starts_again(database: Path, tmp_path: Path) -> None:
    hub = hub_on(database, tmp_path / "home")
    with begun(hub.url, 8, 7001) as writers:
        writers.wait_for(50)
        hub.kill()
    for _ in range(2):
        hub_on(database, tmp_path / "home").kill()
    again = hub_on(database, tmp_path / "home")
    check_sqlite(database, writers)
    again.end()


def test_ended_in_good_order_it_answers_what_it_has_begun(database: Path, tmp_path: Path) -> None:
    hub = hub_on(database, tmp_path / "home")
    with begun(hub.url, CLIENTS, 7002) as writers:
        writers.wait_for(200)
        status, _ = hub.end()
    assert status == 0
    check_sqlite(database, writers)


def recovers(hub: RunningHub, writers: Writers, database: Path) -> None:
    """Work goes on after the trouble, and what was said before it was true."""
    writers.wait_for(50)
    writers.__exit__()
    writers.check_refusals()
    check_sqlite(database, writers)
    assert hub.process.poll() is None


def test_a_database_that_another_process_locks(database: Path, tmp_path: Path) -> None:
    hub = hub_on(database, tmp_path / "home")
    try:
        with (
            begun(hub.url, 8, 1) as writers,
            closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as other,
        ):
            writers.wait_for(20)
            other.execute("BEGIN EXCLUSIVE")
            before = writers.acknowledged
            answer = httpx.get(
                f"{hub.url}{API}/runs/get", params={"run_id": writers.clients[0].run_id}, timeout=60
            )
            assert answer.status_code == 200, "reads do not wait for a writer"
            time.sleep(3)
            assert writers.acknowledged <= before + len(writers.clients), "written past a lock?"
            other.execute("ROLLBACK")
            recovers(hub, writers, database)
    finally:
        hub.end()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB; it needs leave to mount."""
    with mounted(tmp_path / "disk", "size=24m") as place:
        yield place


def test_a_full_disk(sqlite_schema: Path, small_disk: Path) -> None:
    database = Path(shutil.copy(sqlite_schema, small_disk / "mlflow.db"))
    hub = hub_on(database, small_disk / "home")
    try:
        with begun(hub.url, 8, 2) as writers:
            writers.wait_for(20)
            filler = small_disk / "filler"
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
            seen = len(writers.refusals())
            assert wait_until(lambda: len(writers.refusals()) > seen + 20, 60), "nobody was told"
            answer = httpx.get(
                f"{hub.url}{API}/runs/get", params={"run_id": writers.clients[0].run_id}, timeout=60
            )
            assert answer.status_code == 200, answer.text
            filler.unlink()
            recovers(hub, writers, database)
        assert any("full" in text or "space" in text for text in writers.refusals()), writers.refusals()[-3:]
    finally:
        hub.end()


def test_a_read_only_disk(sqlite_schema: Path, small_disk: Path, tmp_path: Path) -> None:
    """It is said at the start, and not once runs are lost."""
    database = shutil.copy(sqlite_schema, small_disk / "mlflow.db")
    make_read_only(small_disk)
    done = tally(
        "up", "--home", str(tmp_path / "home"), "--port", "0", "--database", f"sqlite:///{database}", status=4
    )
    assert "read-only" in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------------------- PostgreSQL


def check_postgres(server: PostgresServer, database: str, writers: Writers) -> None:
    with psycopg.connect(server.url_of(database, "")) as db:
        check_record(
            lambda text, *given: db.execute(text.replace("?", "%s").encode(), given).fetchall(), writers
        )


def test_a_postgres_that_goes_away(
    postgres: PostgresServer, new_on_postgres: Callable[[str], str], tmp_path: Path
) -> None:
    hub = hub_on(new_on_postgres("goes_away"), tmp_path / "home")
    try:
        with begun(hub.url, 16, 4) as writers:
            writers.wait_for(100)
            postgres.kill()
            try:
                time.sleep(4)
            finally:
                postgres.start()
            writers.wait_for(100)
        writers.check_refusals()
        check_postgres(postgres, "goes_away", writers)
        # The hub too, while it writes there.
        with begun(hub.url, 16, 5) as writers:
            writers.wait_for(150)
            os.kill(hub.process.pid, signal.SIGKILL)
            hub.process.communicate(timeout=60)
        check_postgres(postgres, "goes_away", writers)
    finally:
        if hub.process.poll() is None:
            hub.end()


def test_two_hubs_on_one_postgres(
    postgres: PostgresServer, new_on_postgres: Callable[[str], str], tmp_path: Path
) -> None:
    """They write the same runs at once: no write is lost, none is there twice, and no deadlock is seen."""
    url = new_on_postgres("two_hubs")
    first, second = hub_on(url, tmp_path / "first"), hub_on(url, tmp_path / "second")
    try:
        shared = begun(first.url, 1, 6).clients[0].run_id
        with begun(first.url, 8, 8) as ours, begun(second.url, 8, 9) as theirs:
            told = both_write(first.url, second.url, shared)
            ours.wait_for(100)
            theirs.wait_for(100)
        assert told == []
        assert [w.refusals() for w in (ours, theirs)] == [[], []]
        check_postgres(postgres, "two_hubs", ours)
        check_postgres(postgres, "two_hubs", theirs)
        answers = [
            httpx.get(f"{hub.url}{API}/runs/get", params={"run_id": shared}, timeout=60).json()["run"]["data"]
            for hub in (first, second)
        ]
        assert answers[0] == answers[1]
        assert {m["key"]: m["value"] for m in answers[0]["metrics"]} == {"x": 99.0, "y": 99.0}
    finally:
        first.end()
        second.end()


def both_write(first: str, second: str, run_id: str) -> list[str]:
    """The same points and tags of one run through both hubs, keys in opposite order; what was refused."""
    refused: list[str] = []

    def write(url: str, turn: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as http:
            for step in range(100):
                points = [{"key": key, "value": step, "timestamp": 1, "step": step} for key in "xy"][::turn]
                tags = [{"key": key, "value": str(step)} for key in "ab"][::turn]
                answer = http.post(
                    f"{API}/runs/log-batch", json={"run_id": run_id, "metrics": points, "tags": tags}
                )
                if answer.status_code != 200:
                    refused.append(answer.text[:500])

    threads = [
        threading.Thread(target=write, args=(url, turn)) for url, turn in ((first, 1), (second, -1)) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return refused
