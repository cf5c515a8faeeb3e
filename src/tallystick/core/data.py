"""Data: tables, their snapshots, and where each snapshot came from."""

from __future__ import annotations

from dataclasses import dataclass

from tallystick.core.errors import BadInput
from tallystick.core.names import DEFAULT_TENANT, check_digest, check_name, split_key

__all__ = [
    "ARTIFACT_URI",
    "RUN_URI",
    "TABLE_URI",
    "TRAINING",
    "Column",
    "Consent",
    "Snapshot",
    "Source",
    "TableRef",
    "check_append",
    "check_snapshot",
]

TABLE_URI = "tally://tables/"
TRAINING = "training"
"""The use that a model makes of the tables that it is made from."""
RUN_URI = "tally://runs/"
"""What a run put out, ``tally://runs/RUN/OUTPUT``, or one of its steps, ``tally://runs/RUN/STEP/OUTPUT``."""
ARTIFACT_URI = "tally://artifacts/"
"""A file or folder by its content: ``tally://artifacts/sha256:...``."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name and its Arrow type as text, for example ``double``."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was ingested: its name as the user gave it, its content digest and its size."""

    name: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Consent:
    """``owner`` allows the rows of a snapshot for ``use``, since ``at_ms``."""

    use: str
    owner: str
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table as it stood at one moment.

    ``digest`` covers the content (column names, types and all rows in order), not the files, so the
    same rows give the same digest on another machine. ``rows`` counts the whole table.
    """

    table: str
    snapshot_id: str
    digest: str
    rows: int
    columns: tuple[Column, ...]
    at_ms: int
    parent: str | None = None
    source: Source | None = None
    tenant: str = DEFAULT_TENANT
    consents: tuple[Consent, ...] = ()

    @property
    def key(self) -> str:
        """``table@snapshot_id``."""
        return f"{self.table}@{self.snapshot_id}"

    def consent(self, use: str = TRAINING) -> Consent | None:
        """Whoever allows ``use``; None where nobody is on record."""
        return next((c for c in self.consents if c.use == use), None)


@dataclass(frozen=True, slots=True)
class TableRef:
    """A table, at one snapshot or (``snapshot_id`` empty) at its newest."""

    table: str
    snapshot_id: str = ""

    @classmethod
    def parse(cls, text: str) -> TableRef:
        """From ``table``, ``table@snapshot`` or ``tally://tables/table@snapshot``."""
        return cls(*split_key("table", text.removeprefix(TABLE_URI)))

    def __str__(self) -> str:
        return f"{self.table}@{self.snapshot_id}" if self.snapshot_id else self.table


def check_append(table: str, existing: tuple[Column, ...], incoming: tuple[Column, ...]) -> None:
    """Refuse a file whose columns do not fit the table: nothing missing, nothing new, no other type.

    For a new table ``existing`` is empty and only the names are checked (not empty, no repeats).
    """
    check_name("table", table)
    names = [c.name for c in incoming]
    if not names:
        raise BadInput("the file has no columns", where=f"table {table}")
    for name in names:
        if not name or len(name) > 250 or any(ord(ch) < 32 for ch in name):
            raise BadInput(f"{name[:60]!r} cannot be a column name", where=f"table {table}")
    repeated = sorted({n for n in names if names.count(n) > 1})
    if repeated:
        raise BadInput(f"column {repeated[0]!r} appears twice", where=f"table {table}")
    if not existing:
        return
    have, want = {c.name: c.type for c in incoming}, {c.name: c.type for c in existing}
    for name in want:
        if name not in have:
            raise BadInput(f"column {name!r} is missing from the file", where=f"table {table}")
    for name, kind in have.items():
        if name not in want:
            raise BadInput(
                f"column {name!r} is not in the table",
                where=f"table {table}",
                hint="drop the column, or ingest into a new table",
            )
        if kind != want[name]:
            raise BadInput(f"column {name!r} is {kind}, the table has {want[name]}", where=f"table {table}")


def check_snapshot(snapshot: Snapshot) -> Snapshot:
    """The snapshot, if its name and digest are well formed and it counts no negative rows."""
    check_name("table", snapshot.table)
    check_digest(snapshot.digest)
    if snapshot.rows < 0:
        raise BadInput("a table cannot have fewer than 0 rows", where=snapshot.key)
    return snapshot
