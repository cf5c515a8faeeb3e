"""PostgreSQL: one connection that writes, a few that read; other hubs may share it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import BadInput
from tallystick.ports.database import IF_NEW, Fault, Row, Session
from tallystick.ports.tile import Place
from tallystick.tiles.database.faults import meaning_of_postgresql

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresqlSession", "PostgresqlSource", "open_tile"]

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2")
# What the URL does not say: give up on a server that does not answer, rather than wait for hours.
DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "application_name": "tallystick",
}
LOCK_WAIT = "SET lock_timeout = '20s'"
READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

COPY_MIN = 64
"""Rows from which on a ``COPY`` is worth its two or three messages."""

TYPES = """SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
WHERE attrelid = ?::regclass AND attnum > 0 AND NOT attisdropped"""


def open_tile(place: Place) -> PostgresqlSource:
    """The database that option ``database`` names as SQLAlchemy does, there or not yet."""
    return PostgresqlSource(str(place.options.get("database", "")))


class PostgresqlSource:
    """Sessions with one database. BadInput where ``url`` is none of PostgreSQL's."""

    writers = 2  # each session keeps one core of the server busy, and this process less than a quarter of one

    def __init__(self, url: str) -> None:
        import psycopg.conninfo

        scheme, found, rest = url.partition("://")
        try:
            if scheme not in SCHEMES or not found:
                raise ValueError(f"its scheme is none of {', '.join(SCHEMES)}")
            told = psycopg.conninfo.conninfo_to_dict(f"postgresql://{rest}")
        except (ValueError, psycopg.Error) as wrong:
            raise BadInput(
                f"this is no URL of a PostgreSQL database: {wrong}",
                where="database",
                hint="write postgresql://user:password@host:5432/name",
            ) from wrong
        all_told = {**DEFAULTS, **{name: str(value) for name, value in told.items() if value is not None}}
        self._told = psycopg.conninfo.make_conninfo("", **all_told)
        self.where = f"postgresql://{all_told.get('host', 'localhost')}/{all_told.get('dbname', '')}"

    def connect(self, *, reading: bool) -> Session:
        """A new session."""
        import psycopg

        connection = psycopg.connect(self._told, autocommit=True)
        try:
            if not reading:
                connection.execute(LOCK_WAIT)
        except BaseException:
            connection.close()
            raise
        return PostgresqlSession(connection, reading=reading)

    def meaning(self, wrong: Exception) -> Fault:
        """See :func:`tallystick.tiles.database.faults.meaning_of_postgresql`."""
        return meaning_of_postgresql(wrong, self.where)


class PostgresqlSession:
    """See :class:`tallystick.ports.database.Session`."""

    name = "postgresql"

    def __init__(self, connection: psycopg.Connection[Row], *, reading: bool) -> None:
        self._connection = connection
        self._begin = READING if reading else "BEGIN"
        self._inserts: dict[tuple[str, tuple[str, ...], str], tuple[str, list[bool]]] = {}

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Every row that a query finds."""
        return self._connection.execute(_translated(sql), values).fetchall()

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Carry out a statement; how many rows it touched."""
        return self._connection.execute(_translated(sql), values).rowcount

    def put(self, table: str, columns: Sequence[str], rows: Sequence[Row], tail: str = "") -> None:
        """Insert all rows in one go: as ``COPY`` where they are many, unless they change what is there.

        A row that is there already ends a ``COPY``: all is then inserted anew, one row's conflict at a time.
        """
        many = len(rows) >= COPY_MIN
        if many and not tail:
            self._copy(table, columns, rows)
        elif not many or tail != IF_NEW or not self._copied(table, columns, rows):
            self._insert(table, columns, rows, tail)

    def _copied(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> bool:
        """Whether a ``COPY`` took all rows, none of which was there; if not, nothing has changed."""
        import psycopg.errors

        self._connection.execute(b"SAVEPOINT before_copy")
        try:
            self._copy(table, columns, rows)
        except psycopg.errors.UniqueViolation:
            self._connection.execute(b"ROLLBACK TO SAVEPOINT before_copy")
            return False
        self._connection.execute(b"RELEASE SAVEPOINT before_copy")
        return True

    def _copy(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """As text: a boolean may be 0 or 1 there, and a text that is too long is an error, and not cut."""
        statement = f"COPY {table} ({_names(columns)}) FROM STDIN"
        with self._connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for row in rows:
                copy.write_row(row)

    def _insert(self, table: str, columns: Sequence[str], rows: Sequence[Row], tail: str) -> None:
        """In one statement, which is told whole columns."""
        if not rows:
            return
        statement, truths = self._statement(table, tuple(columns), tail)
        told: list[Sequence[Any]] = list(zip(*rows, strict=True))
        for n, truth in enumerate(truths):
            told[n] = list(map(bool, told[n])) if truth else list(told[n])
        self._connection.execute(statement.encode(), told)

    def _statement(self, table: str, columns: tuple[str, ...], tail: str) -> tuple[str, list[bool]]:
        """The statement, and which columns are booleans."""
        found = self._inserts.get((table, columns, tail))
        if found is None:
            types: dict[str, str] = dict(self.rows(TYPES, (table,)))
            arrays = ", ".join(f"%s::{_plain(types[name])}[]" for name in columns)
            start = f"INSERT INTO {table} ({_names(columns)}) SELECT * FROM"  # the names are those of sql.py
            statement = f"{start} unnest({arrays}) {tail}"
            found = statement, [types[name] == "boolean" for name in columns]
            self._inserts[table, columns, tail] = found
        return found

    def among(self, column: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
        """``= ANY`` of one array."""
        return f"{column} = ANY(?)", [list(values)]

    def begin(self) -> None:
        """A reader sees one state of things until it ends the transaction."""
        self._connection.execute(self._begin.encode())

    def end(self, *, keep: bool) -> None:
        """Make it durable, or undo it: harmless where the connection is gone."""
        if keep:
            self._connection.execute(b"COMMIT")
        elif not self._connection.closed and self._connection.info.transaction_status:
            self._connection.execute(b"ROLLBACK")

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def _plain(kind: str) -> str:
    """Text of any length: a value that is too long is then an error, and not cut."""
    return "text" if kind.startswith("character") else kind


@lru_cache(maxsize=4096)
def _translated(sql: str) -> bytes:
    """Our ``?`` in the words of psycopg."""
    return sql.replace("%", "%%").replace("?", "%s").encode()
