"""All SQL of the ledger, in the order in which a home lives: made, checked, appended to, read, rebuilt.

In a home of an earlier tallystick MLflow's tables are in the same file: ours all begin with ``tally_``.
"""

from __future__ import annotations

__all__ = [
    "APPEND",
    "BEGIN",
    "COUNTS",
    "CREATE",
    "DURABLE",
    "HAS_META",
    "HISTORY",
    "HISTORY_BY_KEY",
    "HISTORY_BY_NOUN",
    "JOURNAL_ADD",
    "JOURNAL_EVENTS",
    "JOURNAL_STEP",
    "JOURNAL_STEPS",
    "JOURNAL_STEP_PUT",
    "LATEST",
    "LATEST_OF",
    "LISTING",
    "META",
    "META_SET",
    "MIGRATE",
    "NEWEST_SEQ",
    "PAGES_MAX",
    "PAGE_BYTES",
    "READ_ONLY",
    "SCHEMA",
    "VIEW_DIFFERS",
    "VIEW_EMPTY",
    "VIEW_FILL",
    "VIEW_NEWEST_SEQ",
    "WAIT_FOR_LOCK",
    "WAL",
]

SCHEMA = 2
"""The schema that this version writes. A home with a larger number was made by a newer tallystick."""

# --------------------------------------------------------------------------------------- opening a connection

# Readers never wait for the writer (WAL), an acknowledged commit is on disk (FULL), and whoever finds the
# file locked, by MLflow's process for example, waits for a while before giving up.
WAIT_FOR_LOCK = "PRAGMA busy_timeout = {lock_wait_ms}"
WAL = "PRAGMA journal_mode = WAL"
DURABLE = "PRAGMA synchronous = FULL"
READ_ONLY = "PRAGMA query_only = ON"
PAGE_BYTES = "PRAGMA page_size"
PAGES_MAX = "PRAGMA max_page_count = {pages_max}"

# IMMEDIATE takes the write lock at once: a transaction that has begun can no longer lose it to MLflow
# halfway.
BEGIN = "BEGIN IMMEDIATE"

# ---------------------------------------------------------------------------------------------- making a home

# Since schema 2: what happened in each run, an event a row, and its steps as they now stand.
_JOURNAL = (
    """
    CREATE TABLE tally_journal (
        tenant TEXT NOT NULL,
        run TEXT NOT NULL,
        seq INTEGER NOT NULL,
        event TEXT NOT NULL,
        PRIMARY KEY (tenant, run, seq)
    ) STRICT, WITHOUT ROWID
    """,
    # `place` is the order in which steps came.
    """
    CREATE TABLE tally_steps (
        tenant TEXT NOT NULL,
        run TEXT NOT NULL,
        path TEXT NOT NULL,
        place INTEGER NOT NULL,
        step TEXT NOT NULL,
        PRIMARY KEY (tenant, run, path)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX tally_steps_place ON tally_steps (tenant, run, place)",
)

CREATE = (
    # What this home is: `schema`, and `made_by`, the version of tallystick that made it.
    "CREATE TABLE tally_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    # Every fact, once, for ever. `seq` counts from 1 without holes: rows are never deleted, and rolled back
    # ones leave nothing behind. `state` is canonical JSON.
    """
    CREATE TABLE tally_facts (
        seq INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        noun TEXT NOT NULL,
        key TEXT NOT NULL,
        event TEXT NOT NULL,
        state TEXT NOT NULL,
        note TEXT NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT
    """,
    # For a tenant's history: of everything, of one noun, of one key.
    "CREATE INDEX tally_facts_tenant ON tally_facts (tenant, seq)",
    "CREATE INDEX tally_facts_noun ON tally_facts (tenant, noun, seq)",
    "CREATE INDEX tally_facts_key ON tally_facts (tenant, key, seq)",
    # The view: which fact is the newest of each key. Derived: it could be emptied and filled again at any
    # time.
    """
    CREATE TABLE tally_nouns (
        tenant TEXT NOT NULL,
        noun TEXT NOT NULL,
        key TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (tenant, noun, key)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX tally_nouns_recent ON tally_nouns (tenant, noun, seq)",
    "CREATE UNIQUE INDEX tally_nouns_seq ON tally_nouns (seq)",
    # Facts are only ever added. The third trigger is for INSERT OR REPLACE, which deletes without asking the
    # second.
    """
    CREATE TRIGGER tally_facts_no_update BEFORE UPDATE ON tally_facts
    BEGIN SELECT RAISE(ABORT, 'facts are never changed'); END
    """,
    """
    CREATE TRIGGER tally_facts_no_delete BEFORE DELETE ON tally_facts
    BEGIN SELECT RAISE(ABORT, 'facts are never deleted'); END
    """,
    """
    CREATE TRIGGER tally_facts_no_replace BEFORE INSERT ON tally_facts
    WHEN EXISTS (SELECT 1 FROM tally_facts WHERE seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'facts are never replaced'); END
    """,
    # The view follows in the same transaction, whoever appends.
    """
    CREATE TRIGGER tally_facts_view AFTER INSERT ON tally_facts
    BEGIN
        INSERT INTO tally_nouns (tenant, noun, key, seq) VALUES (NEW.tenant, NEW.noun, NEW.key, NEW.seq)
        ON CONFLICT (tenant, noun, key) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > seq;
    END
    """,
    *_JOURNAL,
)

MIGRATE = {1: _JOURNAL}
"""What brings a home from each schema to the next."""

META_SET = """INSERT INTO tally_meta (name, value) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET value = excluded.value"""

# -------------------------------------------------------------------------------------------- checking a home

HAS_META = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'tally_meta'"
META = "SELECT name, value FROM tally_meta"

# Both are one look into an index, however large the home is: cheap enough for every start.
NEWEST_SEQ = "SELECT coalesce(max(seq), 0) FROM tally_facts"
VIEW_NEWEST_SEQ = "SELECT coalesce(max(seq), 0) FROM tally_nouns"

# -------------------------------------------------------------------------------------------------- appending

APPEND = """
INSERT INTO tally_facts (tenant, noun, key, event, state, note, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)
"""

# ---------------------------------------------------------------------------------------------------- reading

_FACT = "SELECT f.seq, f.tenant, f.noun, f.key, f.event, f.state, f.note, f.at_ms"

LATEST = f"""{_FACT} FROM tally_nouns AS n JOIN tally_facts AS f ON f.seq = n.seq
WHERE n.tenant = ? AND n.noun = ? AND n.key = ?"""

LATEST_OF = f"""{_FACT} FROM tally_nouns AS n JOIN tally_facts AS f ON f.seq = n.seq
WHERE n.tenant = ? AND n.noun = ? AND n.key IN ({{keys}})"""

LISTING = f"""{_FACT} FROM tally_nouns AS n JOIN tally_facts AS f ON f.seq = n.seq
WHERE n.tenant = ? AND n.noun = ? ORDER BY n.seq DESC LIMIT ?"""

# History newest first, below `before`; one statement for each index. The last serves one key of one noun or
# of all (an empty noun).
HISTORY = f"{_FACT} FROM tally_facts AS f WHERE f.tenant = ? AND f.seq < ? ORDER BY f.seq DESC LIMIT ?"
HISTORY_BY_NOUN = f"""{_FACT} FROM tally_facts AS f
WHERE f.tenant = ? AND f.noun = ? AND f.seq < ? ORDER BY f.seq DESC LIMIT ?"""
HISTORY_BY_KEY = f"""{_FACT} FROM tally_facts AS f
WHERE f.tenant = ? AND f.key = ? AND (?3 = '' OR f.noun = ?3) AND f.seq < ? ORDER BY f.seq DESC LIMIT ?"""

COUNTS = "SELECT noun, count(*) FROM tally_nouns WHERE tenant = ? GROUP BY noun ORDER BY noun"

# ------------------------------------------------------------------------------------------- journals of runs

JOURNAL_ADD = """
INSERT INTO tally_journal (tenant, run, seq, event)
SELECT ?1, ?2, coalesce(max(seq), 0) + 1, ?3 FROM tally_journal WHERE tenant = ?1 AND run = ?2
"""
JOURNAL_STEP_PUT = """
INSERT INTO tally_steps (tenant, run, path, place, step)
SELECT ?1, ?2, ?3, coalesce(max(place), 0) + 1, ?4 FROM tally_steps WHERE tenant = ?1 AND run = ?2
ON CONFLICT (tenant, run, path) DO UPDATE SET step = excluded.step
"""
JOURNAL_EVENTS = "SELECT event FROM tally_journal WHERE tenant = ? AND run = ? ORDER BY seq"
JOURNAL_STEPS = "SELECT step FROM tally_steps WHERE tenant = ? AND run = ? ORDER BY place"
JOURNAL_STEP = "SELECT step FROM tally_steps WHERE tenant = ? AND run = ? AND path = ?"

# ------------------------------------------------------------------------------------------------- rebuilding

_DERIVED = "SELECT tenant, noun, key, max(seq) AS seq FROM tally_facts GROUP BY tenant, noun, key"
_VIEW = "SELECT tenant, noun, key, seq FROM tally_nouns"

# 1 when the view is not what the facts say: a row too many, too few or of another seq.
VIEW_DIFFERS = (
    f"SELECT EXISTS (SELECT * FROM ({_DERIVED}) EXCEPT {_VIEW})"  # noqa: S608 - both parts stand right here
    f" OR EXISTS ({_VIEW} EXCEPT SELECT * FROM ({_DERIVED}))"
)
VIEW_EMPTY = "DELETE FROM tally_nouns"
VIEW_FILL = f"INSERT INTO tally_nouns (tenant, noun, key, seq) {_DERIVED}"
