"""Joining rows that were read from a file store to those that a database has.

What is there already stays as it is. So a second import of the same folder brings only what is new in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tallystick.crew.filestore.outcome import Outcome

__all__ = ["Join", "Row"]

Row = dict[str, Any]
ROWS = 1000
WORKSPACE = "default"
"""A file store knows no other."""
_CUT = ("experiments", "runs", "logged_models")
"""Of these a text that is too long is cut; of the tables around them such a row is left out."""


class Join:
    """From ``read``, a connection to what was read, into ``db``, one to the database, in a transaction."""

    def __init__(self, read: Any, db: Any, outcome: Outcome) -> None:
        import mlflow.store.model_registry.dbmodels.models
        import mlflow.store.tracking.dbmodels.models  # noqa: F401  reason: these two fill the metadata
        from mlflow.store.db.base_sql_model import Base

        self._tables = Base.metadata.tables
        self._read, self._db, self._outcome = read, db, outcome
        self._loose = db.dialect.name == "sqlite"  # it holds nobody to a column's length

    def experiments(self) -> tuple[dict[int, int], set[int]]:
        """Each experiment's number in the database, that of the same name or a new one; and which are new."""
        known = {str(r["name"]): r for r in self._there("experiments")}
        taken = {int(r["experiment_id"]) for r in known.values()}
        ids: dict[int, int] = {}
        made: set[int] = set()
        for row in self.rows("experiments"):
            old, there = int(row["experiment_id"]), known.get(str(row["name"]))
            if there:
                ids[old] = int(there["experiment_id"])
                self._outcome.there["experiments"] += 1
                if there["lifecycle_stage"] == "deleted" != row["lifecycle_stage"]:
                    self._outcome.note(
                        f"experiment {row['name']!r} is deleted in the database; its runs came to it"
                    )
                continue
            # A server's numbers are small and come from a sequence; a file has room for the old ones.
            if old in taken or not (self._loose or old == 0):
                del row["experiment_id"]
            result = self._db.execute(
                self._tables["experiments"].insert().values(**(self._fitted("experiments", row) or {}))
            )
            ids[old] = int(result.inserted_primary_key[0])
            taken.add(ids[old])
            made.add(old)
        self._outcome.brought["experiments"] += len(made)
        return ids, made

    def relocate(self, experiment_id: int, location: str | None) -> None:
        """Say where an experiment's artifacts are from now on."""
        table = self._tables["experiments"]
        row = table.columns["experiment_id"] == experiment_id
        self._db.execute(table.update().where(row).values(artifact_location=location))

    def new(self, name: str, key: str, word: str) -> set[str]:
        """The keys of rows that the database does not have yet."""
        read = {str(r[0]) for r in self._read.execute(self._columns(name, key))}
        known = {str(r[0]) for r in self._db.execute(self._columns(name, key))} if read else set()
        self._outcome.there[word] += len(read & known)
        return read - known

    def new_registered(self) -> set[str]:
        """Names of registered models that are not there, or came from here before; others are left alone."""
        known = {str(r["name"]): r["creation_time"] for r in self._there("registered_models")}
        fine = set()
        for row in self.rows("registered_models"):
            name = str(row["name"])
            if name in known and known[name] != row["creation_time"]:
                self._outcome.note(
                    f"registered model {name!r}: another of this name is there, and stayed as it is"
                )
            else:
                fine.add(name)
        return fine

    def copy(
        self,
        name: str,
        keep: Callable[[Row], bool],
        change: Callable[[Row], Row] = dict,
        *,
        word: str = "",
        absent: tuple[str, ...] = (),
    ) -> None:
        """Rows of table ``name`` that ``keep`` says, as ``change`` makes them, counted as ``word``.

        ``absent`` are columns of a key: rows whose key the database has are not copied.
        """
        known = {tuple(r) for r in self._db.execute(self._columns(name, *absent))} if absent else set()
        batch: list[Row] = []
        for row in self.rows(name):
            new = self._fitted(name, change(row)) if keep(row) else None
            if new is None:
                continue
            is_there = bool(absent) and tuple(new[c] for c in absent) in known
            (self._outcome.there if is_there else self._outcome.brought)[word] += bool(word)
            if not is_there:
                batch.append(new)
            if len(batch) == ROWS:
                self._insert(name, batch)
                batch = []
        self._insert(name, batch)

    def datasets(self, ids: Mapping[int, int]) -> dict[str, str]:
        """Copy datasets, known by experiment, name and digest; each one's id in the database, by its own."""
        key = ("experiment_id", "name", "digest")
        known = {tuple(r[c] for c in key): str(r["dataset_uuid"]) for r in self._there("datasets")}
        uuids: dict[str, str] = {}
        for row in self.rows("datasets"):
            row["experiment_id"] = ids[row["experiment_id"]]
            found = known.get(tuple(row[c] for c in key))
            new = None if found else self._fitted("datasets", row)
            if new:
                self._insert("datasets", [new])
                self._outcome.brought["datasets"] += 1
            if found or new:
                uuids[str(row["dataset_uuid"])] = found or str(row["dataset_uuid"])
        return uuids

    def rows(self, name: str) -> Iterator[Row]:
        """Rows of a table as they were read."""
        return self._rows(self._read, name)

    def _there(self, name: str) -> Iterator[Row]:
        """Rows that the database has, of the workspace that all goes to."""
        return (r for r in self._rows(self._db, name) if r.get("workspace", WORKSPACE) == WORKSPACE)

    def _rows(self, connection: Any, name: str) -> Iterator[Row]:
        keys = [c.name for c in self._tables[name].columns if c.computed is None]
        with connection.execute(self._columns(name, *keys)) as result:
            for row in result.yield_per(ROWS):
                yield dict(zip(keys, row, strict=True))

    def _columns(self, name: str, *keys: str) -> Any:
        from sqlalchemy import select

        return select(*(self._tables[name].columns[key] for key in keys))

    def _insert(self, name: str, rows: list[Row]) -> None:
        """Also where something is left of a run that was deleted for good: that stays."""
        from sqlalchemy.dialects import postgresql, sqlite

        if rows:
            insert = sqlite.insert if self._loose else postgresql.insert
            self._db.execute(insert(self._tables[name]).on_conflict_do_nothing(), rows)

    def _fitted(self, name: str, row: Row) -> Row | None:
        """The row as the database takes it; None, and a note, where it cannot."""
        if self._loose:
            return row
        fitted = dict(row)
        for column in self._tables[name].columns:
            value, most = row.get(column.name), getattr(column.type, "length", None)
            if not isinstance(value, str) or ("\0" not in value and (not most or len(value) <= most)):
                continue
            if name not in _CUT:
                of = next(
                    (f" of {row[k]}" for k in ("run_uuid", "request_id", "model_id", "name") if k in row), ""
                )
                self._outcome.note(
                    f"{name}{of}: {column.name} is over {most} characters or has a null: left out"
                )
                return None
            fitted[column.name] = value.replace("\0", "")[:most]
        return fitted
