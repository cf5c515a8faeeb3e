"""What a session with a database does with many rows at once, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.ports.database import IF_NEW, Row, Session, Source
from tallystick.ports.tile import Place
from tallystick.tiles.database import postgresql, sqlite
from tests.fakes.mlflow.postgres import PostgresServer, postgres

__all__ = ["postgres"]

TABLE = """CREATE TABLE things (name VARCHAR(250) NOT NULL, value DOUBLE PRECISION NOT NULL,
    at BIGINT NOT NULL, odd BOOLEAN NOT NULL, note TEXT, PRIMARY KEY (name, value, at, odd))"""
COLUMNS = ("name", "value", "at", "odd", "note")
ALL = "SELECT name, value, at, odd, note FROM things ORDER BY at, name, value"
MANY = 3 * postgresql.COPY_MIN

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
values = st.floats(allow_nan=False, allow_infinity=False).map(
    lambda value: value + 0.0
)  # SQLite has one zero
numbers = st.integers(-(2**63), 2**63 - 1)
things = st.tuples(names, values, numbers, st.integers(0, 1), names | st.none())


@pytest.fixture(params=["sqlite", "postgresql"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    if request.param == "sqlite":
        (tmp_path / "it.db").touch()
        yield sqlite.open_tile(Place(tmp_path, {"database": f"sqlite:///{tmp_path / 'it.db'}"}))
    else:
        postgres: PostgresServer = request.getfixturevalue("postgres")
        name = f"things_{abs(hash(request.node.nodeid)):x}"
        yield postgresql.open_tile(Place(tmp_path, {"database": postgres.create(name)}))
        postgres.drop(name)


@pytest.fixture
def session(source: Source) -> Iterator[Session]:
    session = source.connect(reading=False)
    session.run(TABLE)
    yield session
    session.close()


def _rows(first: int, count: int) -> list[Row]:
    return [(f"n\t{n}\\", n / 7, n, n % 2, None if n % 3 else "a\nb") for n in range(first, first + count)]


def _there(session: Session) -> list[Row]:
    return [(name, value, at, int(odd), note) for name, value, at, odd, note in session.rows(ALL)]


@pytest.mark.parametrize("tail", ["", IF_NEW])
@pytest.mark.parametrize("count", [0, 1, MANY])
def test_rows_come_out_as_they_went_in(session: Session, count: int, tail: str) -> None:
    session.begin()
    session.put("things", COLUMNS, _rows(0, count), tail)
    session.end(keep=True)
    assert _there(session) == _rows(0, count)


@given(rows=st.lists(things, min_size=5, max_size=8, unique_by=lambda row: row[:4]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_rows_do(session: Session, rows: list[Row]) -> None:
    """Many, so that they go the way of many: each is there under as many other numbers."""
    spread = [(f"{n} {row[0]}", *row[1:]) for n in range(postgresql.COPY_MIN) for row in rows]
    session.begin()
    session.put("things", COLUMNS, spread, IF_NEW)
    found = _there(session)
    session.end(keep=False)
    assert sorted(map(repr, found)) == sorted(map(repr, spread))


@pytest.mark.parametrize("twice", ["before", "within"])
def test_what_is_there_already_is_there_once(session: Session, twice: str) -> None:
    rows = _rows(0, MANY)
    session.begin()
    if twice == "before":
        session.put("things", COLUMNS, rows[MANY // 2 :][:3], IF_NEW)
        session.put("things", COLUMNS, rows, IF_NEW)
    else:
        session.put("things", COLUMNS, [*rows, *rows[:5]], IF_NEW)
    session.put("things", COLUMNS, _rows(MANY, MANY), IF_NEW)
    session.end(keep=True)
    assert _there(session) == _rows(0, 2 * MANY)


def test_a_row_that_cannot_be_leaves_nothing_and_is_to_blame(source: Source, session: Session) -> None:
    session.put("things", COLUMNS, _rows(0, 1))
    bad: list[Row] = [*_rows(1, MANY), (None, 0.0, 0, 0, None)]
    session.begin()
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each driver's own; what it means is asserted
        session.put("things", COLUMNS, bad, IF_NEW)
    assert source.meaning(raised.value).kind == "guilty"
    session.end(keep=False)
    assert _there(session) == _rows(0, 1)


@pytest.mark.parametrize("name", ["x" * 251, "a\0b", "\ud800"])
def test_a_text_that_postgresql_cannot_hold_is_no_shorter_one(
    tmp_path: Path, postgres: PostgresServer, name: str
) -> None:
    source = postgresql.open_tile(Place(tmp_path, {"database": postgres.create("texts")}))
    session = source.connect(reading=False)
    try:
        session.run(TABLE)
        session.begin()
        with pytest.raises((psycopg.Error, UnicodeError)) as raised:
            session.put("things", COLUMNS, [*_rows(0, MANY), (name, 0.0, 0, 0, None)], IF_NEW)
        assert source.meaning(raised.value).kind == "guilty"
        session.end(keep=False)
        assert _there(session) == []
    finally:
        session.close()
        postgres.drop("texts")
