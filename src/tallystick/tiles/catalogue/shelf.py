"""Tables on Iceberg: append, snapshots, export. Runs in the worker.

Anybody's pyiceberg opens the same tables::

    SqlCatalog("tallystick", uri="sqlite:///HOME/catalogue/catalogue.db", warehouse="HOME/warehouse")

with the tables in namespace ``default``. What tallystick knows of a snapshot stands in its summary:
``tallystick.digest``, ``.rows``, ``.chain`` (see :mod:`.content`), ``.at-ms``, ``.source-name``,
``.source-digest``, ``.source-size`` and ``.write``, the id in the names of its files. A snapshot
that another tool made has none of these; its digest is then computed by reading it, once a worker.

Stored order is the order of appends (Iceberg's sequence numbers), within one that of its files.
"""

from __future__ import annotations

import contextlib
import fcntl
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan, write_file
from pyiceberg.table import FileScanTask, Table, Transaction, WriteTask
from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot
from pyiceberg.table.snapshots import ancestors_of

from tallystick.core.data import Snapshot, Source
from tallystick.core.errors import BadInput, Conflict, NotFound, NotSupported, TallyError
from tallystick.core.names import DEFAULT_TENANT, check_name
from tallystick.tiles.catalogue.content import BLOCK_ROWS, ContentDigest
from tallystick.tiles.catalogue.durable import DurableFileIO
from tallystick.tiles.catalogue.formats import Limits, Rows, open_rows
from tallystick.tiles.catalogue.intents import Intents
from tallystick.tiles.catalogue.kinds import columns_of, table_schema

__all__ = ["CATALOG_NAME", "FILE_BYTES", "Shelf", "read_rows", "schema_at"]

CATALOG_NAME = "tallystick"
FILE_BYTES = 64 * 1024 * 1024
"""Arrow bytes of rows in one data file: what is held in memory when writing or reading it."""

_OURS = "tallystick."
_TABLE_PROPERTIES = {
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
}


class Shelf:
    """All tables of one home. Not for several threads."""

    def __init__(self, database: Path, warehouse: Path, limits: Limits) -> None:
        io = f"{DurableFileIO.__module__}.{DurableFileIO.__name__}"
        properties = {"uri": f"sqlite:///{database}", "warehouse": str(warehouse), "py-io-impl": io}
        with (database.parent / "making.lock").open("a") as lock:
            # pyiceberg looks for its tables, then makes them: two who open a new home would both do so.
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.catalog = SqlCatalog(CATALOG_NAME, **properties)
            self.catalog.create_namespace_if_not_exists(DEFAULT_TENANT)
        self.warehouse = warehouse
        self._io = DurableFileIO(properties)
        self.limits = limits
        self._digests: dict[tuple[str, int], tuple[str, int]] = {}
        self.intents = Intents(database.parent / "intents")
        self.intents.sweep(self._landed, self._folder)

    def tables(self) -> list[str]:
        """Names of all tables that have a name we can use, sorted."""
        return sorted(i[-1] for i in self.catalog.list_tables(DEFAULT_TENANT) if _is_name(i[-1]))

    def snapshots(self, name: str) -> list[Snapshot]:
        """All snapshots of a table, oldest first; NotFound."""
        table = self._table(name)
        return [self._said(table, name, s) for s in reversed(_lineage(table))]

    def find(self, name: str, snapshot_id: str) -> tuple[Table, IcebergSnapshot, Snapshot]:
        """A table's snapshot, the newest for an empty id; NotFound."""
        table = self._table(name)
        lineage = _lineage(table)
        found = next((s for s in lineage if snapshot_id in ("", str(s.snapshot_id))), None)
        if found is None:
            raise NotFound(f"there is no snapshot {snapshot_id or 'yet'}", where=f"table {name}")
        return table, found, self._said(table, name, found)

    def append(
        self, name: str, path: Path, kind: str, source: Source, *, at_ms: int, allow_nan: bool
    ) -> Snapshot:
        """Append a file's rows as one snapshot; see the port. Conflict when another writer came first."""
        check_name("table", name)
        table = self._table(name, missing_ok=True)
        existing = _appendable(table, name) if table else None
        rows = open_rows(path, kind, name, existing, allow_nan, self.limits)
        content = self._resume(table, rows.schema) if table else ContentDigest(rows.schema)
        transaction = table.transaction() if table else self._new_table(name, rows)
        with self.intents.writing(name) as write_id:
            landed = False
            try:
                files = list(_write(transaction, self._io, write_id, _counted(rows, content)))
                said = _summary(content, source, at_ms, write_id)
                _commit(transaction, files, said, write_id, name)
                landed = True
            except (CommitFailedException, TableAlreadyExistsError) as lost:
                raise _conflict(name) from lost
            finally:
                if not landed and not self._maybe_landed(name, write_id):
                    self.intents.discard(self._folder(name), write_id)
        return next(s for s in self._written(name, write_id))

    def _written(self, name: str, write_id: uuid.UUID) -> Iterator[Snapshot]:
        table = self._table(name)
        for snapshot in _lineage(table):
            if _property(snapshot, "write") == str(write_id):
                yield self._said(table, name, snapshot)

    def _maybe_landed(self, name: str, write_id: uuid.UUID) -> bool:
        """True unless it is known that nothing refers to the files: never delete what may be in use."""
        with contextlib.suppress(Exception):  # any: this only decides whether it is safe to tidy up now
            return self._landed(name, write_id)
        return True

    def _landed(self, name: str, write_id: uuid.UUID) -> bool:
        table = self._table(name, missing_ok=True)
        return bool(table) and any(
            _property(s, "write") == str(write_id) for s in (table.snapshots() if table else ())
        )

    def _folder(self, name: str) -> Path:
        return self.warehouse / DEFAULT_TENANT / check_name("table", name)

    def _new_table(self, name: str, rows: Rows) -> Transaction:
        return self.catalog.create_table_transaction(
            (DEFAULT_TENANT, name), rows.schema, str(self._folder(name)), properties=_TABLE_PROPERTIES
        )

    def _table(self, name: str, *, missing_ok: bool = False) -> Any:
        check_name("table", name)
        try:
            table = self.catalog.load_table((DEFAULT_TENANT, name))
        except NoSuchTableError:
            if missing_ok:
                return None
            raise NotFound(f"there is no table {name!r}", where="catalogue") from None
        # A retry would commit digests that were computed before the other writer's rows came in.
        unretried = {**table.metadata.properties, "commit.retry.num-retries": "0"}
        table.metadata = table.metadata.model_copy(update={"properties": unretried})
        return table

    def _resume(self, table: Table, schema: Any) -> ContentDigest:
        """A digest that has taken in all rows of the table: by its chain and last rows where it can."""
        newest = table.current_snapshot()
        if newest is None:
            return ContentDigest(schema)
        chain = _property(newest, "chain")
        if chain and columns_of(schema_at(table, newest)) == columns_of(schema):
            rows = int(_property(newest, "rows"))
            content = ContentDigest(schema, chain, rows - rows % BLOCK_ROWS)
            for batch in _last_rows(table, newest, rows % BLOCK_ROWS):
                content.take(batch)
            return content
        content = ContentDigest(schema)
        for batch in read_rows(table, newest, table.schema()):
            content.take(batch)
        return content

    def _said(self, table: Table, name: str, snapshot: IcebergSnapshot) -> Snapshot:
        digest, rows = self._digest(table, snapshot)
        parent = snapshot.parent_snapshot_id
        return Snapshot(
            table=name,
            snapshot_id=str(snapshot.snapshot_id),
            digest=digest,
            rows=rows,
            columns=columns_of(schema_at(table, snapshot)),
            at_ms=int(_property(snapshot, "at-ms") or snapshot.timestamp_ms),
            parent=None if parent is None else str(parent),
            source=_source(snapshot),
        )

    def _digest(self, table: Table, snapshot: IcebergSnapshot) -> tuple[str, int]:
        known = _property(snapshot, "digest")
        if known:
            return known, int(_property(snapshot, "rows"))
        key = (str(table.metadata.table_uuid), snapshot.snapshot_id)
        if key not in self._digests:
            content = ContentDigest(schema_at(table, snapshot))
            for batch in read_rows(table, snapshot):
                content.take(batch)
            self._digests[key] = (content.digest(), content.rows)
        return self._digests[key]


def _is_name(name: str) -> bool:
    try:
        return bool(check_name("table", name))
    except BadInput:
        return False


def _conflict(name: str) -> TallyError:
    return Conflict("another writer changed the table meanwhile", where=f"table {name}", hint="try again")


def _lineage(table: Table) -> list[IcebergSnapshot]:
    """The current snapshot and those before it, newest first."""
    return list(ancestors_of(table.current_snapshot(), table.metadata))


def _property(snapshot: IcebergSnapshot, key: str) -> str:
    said = snapshot.summary.additional_properties if snapshot.summary else {}
    return said.get(_OURS + key, "")


def _source(snapshot: IcebergSnapshot) -> Source | None:
    digest = _property(snapshot, "source-digest")
    if not digest:
        return None
    return Source(_property(snapshot, "source-name"), digest, int(_property(snapshot, "source-size")))


def schema_at(table: Table, snapshot: IcebergSnapshot) -> Any:
    """The columns that a table had at a snapshot, in our types; NotSupported when they are not ours."""
    schema = table.schemas()[snapshot.schema_id] if snapshot.schema_id is not None else table.schema()
    return table_schema(schema.as_arrow(), f"table {table.name()[-1]}")


def _appendable(table: Table, name: str) -> Any:
    """The schema of a table that we may append to; another tool may have made one that we may not."""
    if table.spec().fields or any(f.required for f in table.schema().fields):
        raise NotSupported(
            "it is partitioned or has required columns, which tallystick does not write",
            where=f"table {name}",
            hint="append with the tool that made it, or ingest into a new table",
        )
    return table_schema(table.schema().as_arrow(), f"table {name}")


def _summary(content: ContentDigest, source: Source, at_ms: int, write_id: uuid.UUID) -> Mapping[str, str]:
    said = {
        "digest": content.digest(),
        "rows": str(content.rows),
        "chain": content.chain,
        "at-ms": str(at_ms),
        "write": str(write_id),
        "source-name": source.name,
        "source-digest": source.digest,
        "source-size": str(source.size_bytes),
    }
    return {_OURS + key: value for key, value in said.items()}


def _counted(rows: Rows, content: ContentDigest) -> Iterator[Any]:
    for batch in rows.batches:
        content.take(batch)
        yield batch


def _write(
    transaction: Transaction, io: DurableFileIO, write_id: uuid.UUID, batches: Iterator[Any]
) -> Iterator[Any]:
    """Data files of at most about ``FILE_BYTES``, one after the other: pyiceberg would hold all at once."""
    metadata = transaction.table_metadata
    for number, group in enumerate(_groups(batches)):
        task = WriteTask(write_id, number, metadata.schema(), group)
        yield from write_file(io, metadata, iter([task]))


def _groups(batches: Iterator[Any]) -> Iterator[list[Any]]:
    group: list[Any] = []
    size = 0
    for batch in batches:
        group.append(batch)
        size += batch.nbytes
        if size >= FILE_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _commit(
    transaction: Transaction, files: list[Any], said: Mapping[str, str], write_id: uuid.UUID, name: str
) -> None:
    with transaction.update_snapshot(snapshot_properties=dict(said)).fast_append() as append:
        append.commit_uuid = write_id  # so that its manifests too can be told from others' after a crash
        for file in files:
            append.append_data_file(file)
    transaction.commit_transaction()


def _ordered_tasks(table: Table, snapshot: IcebergSnapshot) -> list[FileScanTask]:
    """The snapshot's data files in stored order."""
    place: dict[str, tuple[int, int, int]] = {}
    for m, manifest in enumerate(snapshot.manifests(table.io)):
        for e, entry in enumerate(manifest.fetch_manifest_entry(table.io)):
            place[entry.data_file.file_path] = (entry.sequence_number or 0, m, e)
    tasks = table.scan(snapshot_id=snapshot.snapshot_id).plan_files()
    return sorted(tasks, key=lambda task: place[task.file.file_path])


def read_rows(table: Table, snapshot: IcebergSnapshot, schema: Any = None) -> Iterator[Any]:
    """The rows of a snapshot in stored order, as batches in our types; ``schema``: with its columns."""
    for task in _ordered_tasks(table, snapshot):
        yield from _read_file(table, snapshot, task, schema)


def _read_file(table: Table, snapshot: IcebergSnapshot, task: FileScanTask, schema: Any) -> Iterator[Any]:
    wanted = schema or table.scan(snapshot_id=snapshot.snapshot_id).projection()
    held = table_schema(wanted.as_arrow(), f"table {table.name()[-1]}")
    for batch in ArrowScan(table.metadata, table.io, wanted, AlwaysTrue()).to_record_batches([task]):
        columns = [batch.column(f.name).cast(f.type) for f in held]
        yield pa.RecordBatch.from_arrays(columns, schema=held)


def _last_rows(table: Table, snapshot: IcebergSnapshot, rows: int) -> list[Any]:
    """The last ``rows`` rows, reading no more files than hold them."""
    found: list[Any] = []
    have = 0
    for task in reversed(_ordered_tasks(table, snapshot)) if rows else ():
        batches = list(_read_file(table, snapshot, task, None))
        found[:0] = batches
        have += sum(b.num_rows for b in batches)
        if have >= rows:
            break
    return list(pa.Table.from_batches(found).slice(have - rows).to_batches()) if rows else []
