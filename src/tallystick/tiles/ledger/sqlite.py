"""The embedded ledger: SQLite, in the file ``tally.db`` of the home.

One thread writes, with group commit; an append is answered after its commit is on disk (WAL with
``synchronous=FULL``). Reads go through a few connections of their own and see the last commit without
waiting. In a home of an earlier tallystick MLflow's tables are in the same file, and others write to it at
the same time: each waits its turn for the lock, ``LOCK_WAIT_MS`` at most. Nothing in this process may open
the file but through SQLite: closing it would drop SQLite's locks.

Option ``ledger_mib_max``: how large the file may grow by our hand (default 65,536 MiB).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tallystick import __version__
from tallystick.core.errors import BadInput, Conflict, Damaged, TooLarge, Unavailable
from tallystick.core.facts import NOUNS, Fact
from tallystick.core.names import canonical_json
from tallystick.ports.ledger import FACT_BYTES_MAX
from tallystick.ports.runs.journal import ENTRY_BYTES_MAX, Entry
from tallystick.ports.tile import Place
from tallystick.tiles.ledger import sql
from tallystick.tiles.ledger.faults import said_plainly
from tallystick.tiles.ledger.writer import Writer

__all__ = ["FILE_NAME", "SqliteLedger", "open_tile"]

FILE_NAME = "tally.db"
READERS = 4
LOCK_WAIT_MS = 10_000
KEYS_MAX = 1000
"""Keys that one statement asks for."""
INT64_MAX = 2**63 - 1
LOCAL_DISK = "keep the home on a local disk, not on a network's"

T = TypeVar("T")
Row = tuple[str, str, str, str, str, str, int]


def open_tile(place: Place) -> SqliteLedger:
    """Open, or make, the ledger of ``place.home``.

    Conflict when a newer tallystick made it, Damaged when the file is no database, Unavailable when it
    cannot be opened or written.
    """
    mib_max = place.options.get("ledger_mib_max", 65_536)
    if isinstance(mib_max, bool) or not isinstance(mib_max, int) or not 1 <= mib_max <= 2**24:
        raise BadInput(f"{mib_max!r} is not a number of MiB from 1 to 16777216", where="ledger_mib_max")
    return SqliteLedger(place.home / FILE_NAME, mib_max)


class SqliteLedger:
    """See the module; the methods are those of the ports ``Ledger`` and ``Journal``, and ``rebuild``."""

    def __init__(self, path: Path, mib_max: int) -> None:
        self._path = path
        self._writer = Writer(_open_writing(path, mib_max), path)
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="tally-ledger-read")
        self._own = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._closed = False

    async def append(self, facts: Sequence[Fact]) -> int:
        """Append all or none; ``seq`` of the last. Of no facts at all: 0, and nothing is written."""
        rows = [_row(fact) for fact in facts]
        if not rows:
            return 0
        size = sum(len(row[4]) for row in rows)
        return await self._writer.do(lambda connection: _append(connection, rows), size)

    async def latest(self, tenant: str, noun: str, key: str) -> Fact | None:
        """The newest fact of a key, or None."""
        found = await self._facts(sql.LATEST, (tenant, noun, key))
        return found[0] if found else None

    async def latest_of(self, tenant: str, noun: str, keys: Sequence[str]) -> Mapping[str, Fact]:
        """The newest facts of several keys."""
        found: dict[str, Fact] = {}
        for at in range(0, len(keys), KEYS_MAX):
            some = keys[at : at + KEYS_MAX]
            statement = sql.LATEST_OF.format(keys=", ".join("?" * len(some)))
            found |= {fact.key: fact for fact in await self._facts(statement, (tenant, noun, *some))}
        return found

    async def listing(self, tenant: str, noun: str, limit: int = 100) -> Sequence[Fact]:
        """The newest fact of each key, most recently changed first."""
        return await self._facts(sql.LISTING, (tenant, noun, _limit(limit)))

    async def history(
        self, tenant: str, *, noun: str = "", key: str = "", before: int = 0, limit: int = 100
    ) -> Sequence[Fact]:
        """Facts newest first, with ``seq`` below ``before`` (0: from the newest)."""
        page = (before if before > 0 else INT64_MAX, _limit(limit))
        if key:
            return await self._facts(sql.HISTORY_BY_KEY, (tenant, key, noun, *page))
        if noun:
            return await self._facts(sql.HISTORY_BY_NOUN, (tenant, noun, *page))
        return await self._facts(sql.HISTORY, (tenant, *page))

    async def counts(self, tenant: str) -> Mapping[str, int]:
        """How many keys each noun has."""
        return dict(await self._read(lambda c: c.execute(sql.COUNTS, (tenant,)).fetchall()))

    async def record(self, tenant: str, run: str, entries: Sequence[Entry]) -> None:
        """Add events, and the steps that they changed, to a run's journal: all or none."""
        size = sum(_size(entry, run) for entry in entries)
        if entries:
            await self._writer.do(lambda connection: _record(connection, tenant, run, entries), size)

    async def events(self, tenant: str, run: str) -> Sequence[str]:
        """Every event of a run, the oldest first."""
        return await self._texts(sql.JOURNAL_EVENTS, (tenant, run))

    async def steps(self, tenant: str, run: str, path: str = "") -> Sequence[str]:
        """The steps of a run as they now stand, or one of them."""
        if path:
            return await self._texts(sql.JOURNAL_STEP, (tenant, run, path))
        return await self._texts(sql.JOURNAL_STEPS, (tenant, run))

    async def rebuild(self) -> bool:
        """Derive the view from the facts again, if it is not what they say; True when it was not."""
        return bool(await self._writer.do(_rebuild))

    async def close(self) -> None:
        """Finish what was appended and let go of the file. Twice is fine."""
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.close()
        self._pool.shutdown(wait=True)
        while self._readers:
            self._readers.pop().close()

    async def _facts(self, statement: str, values: Sequence[Any]) -> list[Fact]:
        return await self._read(lambda c: [self._fact(row) for row in c.execute(statement, values)])

    async def _texts(self, statement: str, values: Sequence[Any]) -> list[str]:
        return await self._read(lambda c: [row[0] for row in c.execute(statement, values)])

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise Unavailable("the ledger is closed", where=str(self._path))
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._query, query)

    def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return query(self._connection())
        except sqlite3.Error as wrong:
            raise said_plainly(wrong, self._path) from wrong

    def _connection(self) -> sqlite3.Connection:
        """This thread's own connection, which cannot write."""
        mine: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if mine is None:
            mine = _connect(self._path)
            mine.execute(sql.READ_ONLY)
            self._own.connection = mine
            self._readers.append(mine)
        return mine

    def _fact(self, row: tuple[int, str, str, str, str, str, str, int]) -> Fact:
        seq, tenant, noun, key, event, text, note, at_ms = row
        try:
            state = json.loads(text)
        except ValueError as wrong:
            raise Damaged(f"fact {seq} is not JSON any more", where=str(self._path)) from wrong
        return Fact(noun, key, event, state, note, at_ms, tenant, seq)


def _limit(limit: int) -> int:
    return max(0, min(limit, INT64_MAX))


def _row(fact: Fact) -> Row:
    """What is stored of ``fact``, checked."""
    where = f"fact {fact.noun[:60]} {fact.key[:60]!r}"
    if fact.noun not in NOUNS:
        raise BadInput(f"{fact.noun[:60]!r} is not a noun", where=where, hint="one of " + ", ".join(NOUNS))
    if not fact.key or not fact.tenant:
        raise BadInput("a fact needs a key and a tenant", where=where)
    if not 0 <= fact.at_ms <= INT64_MAX:
        raise BadInput(f"at_ms {fact.at_ms} is not a time", where=where)
    try:
        state = canonical_json(dict(fact.state))
        row = (fact.tenant, fact.noun, fact.key, fact.event, state, fact.note, fact.at_ms)
        sizes = [len(text.encode()) for text in row[:6]]
    except (TypeError, ValueError, RecursionError) as wrong:
        raise BadInput(f"the fact is not JSON: {wrong}", where=where) from wrong
    if max(sizes) > FACT_BYTES_MAX:
        raise TooLarge(
            f"a fact has {max(sizes)} bytes, the limit is {FACT_BYTES_MAX}",
            where=where,
            hint="keep what is large among the artifacts, and its digest in the fact",
        )
    return row


def _size(entry: Entry, run: str) -> int:
    """Bytes of an entry, if no piece of it is too large."""
    try:
        sizes = [len(text.encode()) for text in (entry.event, *(step for _, step in entry.steps))]
    except UnicodeError as wrong:
        raise BadInput(f"an entry is not text: {wrong}", where=f"journal of {run}") from wrong
    if max(sizes) > ENTRY_BYTES_MAX:
        raise TooLarge(
            f"an entry has {max(sizes)} bytes, the limit is {ENTRY_BYTES_MAX}",
            where=f"journal of {run}",
            hint="keep what is large among the artifacts",
        )
    return sum(sizes)


def _record(connection: sqlite3.Connection, tenant: str, run: str, entries: Sequence[Entry]) -> int:
    connection.executemany(sql.JOURNAL_ADD, [(tenant, run, entry.event) for entry in entries])
    steps = [(tenant, run, path, step) for entry in entries for path, step in entry.steps]
    connection.executemany(sql.JOURNAL_STEP_PUT, steps)
    return len(entries)


def _append(connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
    *more, last = rows  # apart, as to ask for its number would cost another turn of Python's lock
    if more:
        connection.executemany(sql.APPEND, more)
    return int(connection.execute(sql.APPEND, last).lastrowid or 0)


def _rebuild(connection: sqlite3.Connection) -> int:
    if not _number(connection, sql.VIEW_DIFFERS):
        return 0
    connection.execute(sql.VIEW_EMPTY)
    connection.execute(sql.VIEW_FILL)
    return 1


def _number(connection: sqlite3.Connection, statement: str) -> int:
    return int(connection.execute(statement).fetchone()[0])


def _connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode that any one thread at a time may use."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(sql.WAIT_FOR_LOCK.format(lock_wait_ms=LOCK_WAIT_MS))
    return connection


def _open_writing(path: Path, mib_max: int) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = _connect(path)
    except sqlite3.Error as wrong:
        raise said_plainly(wrong, path) from wrong
    except OSError as wrong:
        raise Unavailable(
            f"the home folder cannot be made: {wrong.strerror}", where=str(path.parent)
        ) from wrong
    with contextlib.ExitStack() as undo:
        undo.callback(connection.close)
        try:
            _prepare(connection, path, mib_max)
        except sqlite3.Error as wrong:
            raise said_plainly(wrong, path) from wrong
        undo.pop_all()
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, mib_max: int) -> None:
    """Make the tables where there are none, check what is there, and mend the view if it is behind."""
    if connection.execute(sql.WAL).fetchone()[0] != "wal":
        raise Unavailable(
            "the disk does not allow SQLite's write-ahead log", where=str(path), hint=LOCAL_DISK
        )
    connection.execute(sql.DURABLE)
    pages_max = mib_max * 2**20 // _number(connection, sql.PAGE_BYTES)
    connection.execute(sql.PAGES_MAX.format(pages_max=pages_max))
    if not _number(connection, sql.HAS_META):
        _create(connection)
    _migrate(connection, _check_schema(dict(connection.execute(sql.META).fetchall()), path))
    if _number(connection, sql.NEWEST_SEQ) != _number(connection, sql.VIEW_NEWEST_SEQ):
        with _transaction(connection):
            _rebuild(connection)


def _create(connection: sqlite3.Connection) -> None:
    with _transaction(connection):
        if _number(connection, sql.HAS_META):
            return  # another process made them while this one waited for the lock
        for statement in sql.CREATE:
            connection.execute(statement)
        connection.executemany(sql.META_SET, [("schema", str(sql.SCHEMA)), ("made_by", __version__)])


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute(sql.BEGIN)
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _migrate(connection: sqlite3.Connection, found: int) -> None:
    """Bring an older home to this schema; another process may do the same at the same time."""
    if found == sql.SCHEMA:
        return
    with _transaction(connection):
        at = int(dict(connection.execute(sql.META).fetchall())["schema"])
        for schema in range(at, sql.SCHEMA):
            for statement in sql.MIGRATE[schema]:
                connection.execute(statement)
        connection.executemany(sql.META_SET, [("schema", str(sql.SCHEMA)), ("made_by", __version__)])


def _check_schema(meta: Mapping[str, str], path: Path) -> int:
    """The schema of the home, if this version knows it."""
    schema, made_by = meta.get("schema", ""), meta.get("made_by", "an unknown version")
    if not schema.isdigit():
        raise Damaged("the database does not say its schema", where=str(path), hint="restore it from a copy")
    if int(schema) > sql.SCHEMA:
        raise Conflict(
            f"this home has schema {schema}, made by tallystick {made_by}; "
            f"this is {__version__}, which knows schema {sql.SCHEMA}",
            where=str(path),
            hint=f"install tallystick {made_by} or newer, or choose another home",
        )
    return int(schema)
