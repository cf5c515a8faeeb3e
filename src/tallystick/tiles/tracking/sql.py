"""All SQL of tracking, on the tables that MLflow's own migrations make: first what writes, then what reads.

``?`` stands for a value. The words are those that SQLite and PostgreSQL share. Our own tables begin with
``tally_``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tallystick.ports.database import IF_NEW, Row, Session

# ------------------------------------------------------------------------------------------------- the schema


SCHEMAS = {
    # revision of MLflow's migrations: the versions of MLflow that make and read it
    "dc11669786a5": "3.17",
}
SCHEMA_NOW = "SELECT version_num FROM alembic_version"

TABLES = (
    # The column batches that were applied, so that one that is sent again is applied once. Swept after a day.
    "CREATE TABLE IF NOT EXISTS tally_batches (batch_id VARCHAR(64) PRIMARY KEY, at_ms BIGINT NOT NULL)",
)


# ---------------------------------------------------------------------------------------------- writing: rows


class Table(NamedTuple):
    """Where rows go: the order of their columns, and what to do about rows that are there."""

    name: str
    columns: tuple[str, ...]
    tail: str = ""

    def put(self, session: Session, rows: Sequence[Row]) -> None:
        """Insert ``rows``, as few statements as there can be; of no rows, none."""
        if rows:
            session.put(self.name, self.columns, rows, self.tail)


# A point that is there already, all six alike, is dropped by the primary key.
METRICS = Table("metrics", ("key", "value", "timestamp", "run_uuid", "step", "is_nan"), IF_NEW)
# The latest point of each key gives way only to one that is strictly greater by step, then time, then value.
LATEST = Table(
    "latest_metrics",
    ("key", "value", "timestamp", "run_uuid", "step", "is_nan"),
    """ON CONFLICT (key, run_uuid) DO UPDATE SET
    value = excluded.value, timestamp = excluded.timestamp, step = excluded.step, is_nan = excluded.is_nan
    WHERE (excluded.step, excluded.timestamp, excluded.value)
        > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)""",
)
PARAMS = Table("params", ("key", "value", "run_uuid"))
TAGS = Table(
    "tags", ("key", "value", "run_uuid"), "ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value"
)
BATCHES = Table("tally_batches", ("batch_id", "at_ms"))
RUNS = Table(
    "runs",
    (
        *("run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status"),
        *("start_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id"),
    ),
)
EXPERIMENTS = Table(
    "experiments",
    ("name", "artifact_location", "lifecycle_stage", "creation_time", "last_update_time", "workspace"),
)
EXPERIMENT_TAGS = Table(
    "experiment_tags",
    ("key", "value", "experiment_id"),
    "ON CONFLICT (key, experiment_id) DO UPDATE SET value = excluded.value",
)
DATASETS = Table(
    "datasets",
    (
        *("dataset_uuid", "experiment_id", "name", "digest"),
        *("dataset_source_type", "dataset_source", "dataset_schema", "dataset_profile"),
    ),
)
INPUTS = Table(
    "inputs", ("input_uuid", "source_type", "source_id", "destination_type", "destination_id", "step")
)
# A model that a run read already only gets a new id for it, as SQLAlchemy's merge does it.
MODEL_INPUTS = INPUTS._replace(
    tail="""ON CONFLICT (source_type, source_id, destination_type, destination_id)
    DO UPDATE SET input_uuid = excluded.input_uuid"""
)
INPUT_TAGS = Table("input_tags", ("input_uuid", "name", "value"))
MODELS = Table(
    "logged_models",
    (
        *("model_id", "experiment_id", "name", "artifact_location", "creation_timestamp_ms"),
        *("last_updated_timestamp_ms", "status", "lifecycle_stage", "model_type", "source_run_id"),
    ),
)
MODEL_PARAMS = Table("logged_model_params", ("model_id", "experiment_id", "param_key", "param_value"))
MODEL_TAGS = Table(
    "logged_model_tags",
    ("model_id", "experiment_id", "tag_key", "tag_value"),
    """ON CONFLICT (model_id, tag_key)
    DO UPDATE SET tag_value = excluded.tag_value, experiment_id = excluded.experiment_id""",
)
MODEL_POINTS = Table(
    "logged_model_metrics",
    (
        *("model_id", "metric_name", "metric_timestamp_ms", "metric_step", "metric_value"),
        *("experiment_id", "run_id", "dataset_name", "dataset_digest"),
    ),
)

# ------------------------------------------------------------------------------- writing: many asks in one go

# {among} is what Session.among makes of a column and its values, {places} as many (?, ...) as there are.
RUNS_ACTIVE = """SELECT r.run_uuid, e.workspace FROM runs AS r CROSS JOIN experiments AS e
WHERE r.lifecycle_stage = 'active' AND {among} AND e.experiment_id = r.experiment_id"""
EXPERIMENTS_ACTIVE = """SELECT experiment_id, artifact_location, workspace FROM experiments
WHERE lifecycle_stage = 'active' AND {among}"""
# CROSS: the places first, then one look into the primary key for each, however many SQLite thinks they are.
PARAMS_KNOWN = """SELECT p.run_uuid, p.key, p.value FROM (VALUES {places}) AS v CROSS JOIN params AS p
WHERE p.key = v.column1 AND p.run_uuid = v.column2"""
RUNS_HOMES = "SELECT run_uuid, experiment_id FROM runs WHERE {among}"
MODELS_HOMES = """SELECT m.model_id, e.workspace FROM logged_models AS m CROSS JOIN experiments AS e
WHERE {among} AND e.experiment_id = m.experiment_id"""
MODEL_POINTS_KNOWN = """SELECT p.model_id, p.metric_name, p.metric_timestamp_ms, p.metric_step, p.run_id,
    p.metric_value, p.dataset_name, p.dataset_digest
FROM (VALUES {places}) AS v CROSS JOIN logged_model_metrics AS p
WHERE p.model_id = v.column1 AND p.metric_name = v.column2 AND p.metric_timestamp_ms = v.column3
AND p.metric_step = v.column4 AND p.run_id = v.column5"""
BATCHES_SEEN = "SELECT batch_id FROM tally_batches WHERE {among}"
BATCHES_SWEEP = "DELETE FROM tally_batches WHERE at_ms < ?"
RUN_RENAME = "UPDATE runs SET name = ? WHERE run_uuid = ?"

# ------------------------------------------------------------------------------------- writing: one at a time

RUN = """SELECT r.lifecycle_stage, r.experiment_id, r.name, r.user_id, r.status, r.start_time, r.end_time,
    r.artifact_uri
FROM runs AS r JOIN experiments AS e USING (experiment_id) WHERE r.run_uuid = ? AND e.workspace = ?"""
RUN_UPDATE = "UPDATE runs SET status = ?, end_time = ?, name = ? WHERE run_uuid = ?"
RUN_MOVE = "UPDATE runs SET lifecycle_stage = ?, deleted_time = ? WHERE run_uuid = ?"
TAG = "SELECT value FROM tags WHERE key = ? AND run_uuid = ?"
TAG_DELETE = "DELETE FROM tags WHERE key = ? AND run_uuid = ?"
# MLflow deletes assessments with the run that they came from.
ANY_ASSESSMENT = "SELECT 1 FROM assessments LIMIT 1"

EXPERIMENT = """SELECT lifecycle_stage, artifact_location FROM experiments
WHERE experiment_id = ? AND workspace = ?"""
EXPERIMENT_BY_NAME = "SELECT experiment_id FROM experiments WHERE workspace = ? AND name = ?"
EXPERIMENT_LOCATE = "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?"
EXPERIMENT_RENAME = "UPDATE experiments SET name = ?, last_update_time = ? WHERE experiment_id = ?"
EXPERIMENT_MOVE = "UPDATE experiments SET lifecycle_stage = ?, last_update_time = ? WHERE experiment_id = ?"
EXPERIMENT_MOVE_RUNS = "UPDATE runs SET lifecycle_stage = ?, deleted_time = ? WHERE experiment_id = ?"
EXPERIMENT_TAG_DELETE = "DELETE FROM experiment_tags WHERE key = ? AND experiment_id = ?"
WORKSPACE_ROOT = "SELECT default_artifact_root FROM workspaces WHERE name = ?"

DATASETS_KNOWN = "SELECT dataset_uuid, name, digest FROM datasets WHERE experiment_id = ? AND {among}"
INPUTS_KNOWN = """SELECT source_id FROM inputs WHERE source_type = 'DATASET' AND destination_type = 'RUN'
AND destination_id = ? AND {among}"""
MODEL_HOME = """SELECT m.experiment_id FROM logged_models AS m JOIN experiments AS e USING (experiment_id)
WHERE m.model_id = ? AND e.workspace = ?"""
MODEL_TAG_DELETE = "DELETE FROM logged_model_tags WHERE model_id = ? AND tag_key = ?"
MODEL_FINALIZE = """UPDATE logged_models SET status = ?, last_updated_timestamp_ms = ?
WHERE model_id = ? AND lifecycle_stage <> 'deleted'
AND experiment_id IN (SELECT experiment_id FROM experiments WHERE workspace = ?)"""

# ============================================================================================ reading (below)

# The indexes that MLflow lacks and reading wants: made, if they are not there, as the tile gets ready.
# Plain indexes: MLflow's migrations keep them as they copy a table, and nothing of MLflow's asks for them.
INDEXES = (
    # Runs in the order of a metric: its values in order, NaN apart, with no look into the table.
    "CREATE INDEX IF NOT EXISTS tally_ix_latest_metrics ON latest_metrics (key, is_nan, value, run_uuid)",
    # Runs of an experiment in the order that MLflow shows them in.
    """CREATE INDEX IF NOT EXISTS tally_ix_runs
    ON runs (experiment_id, lifecycle_stage, start_time DESC, run_uuid)""",
)
# An index without statistics beside others that have some misleads SQLite: MLflow's own searches, quick after
# an ANALYZE, then take up to a hundred times as long. So a new one is measured where the others were.
INDEXES_KNOWN = "SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'tally_ix_%'"
STATISTICS_KNOWN = "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'"
INDEXES_MEASURE = ("ANALYZE tally_ix_latest_metrics", "ANALYZE tally_ix_runs")

# {among} is what Session.among makes of a column and its values. CROSS JOIN keeps the order of tables in
# SQLite, which may know nothing of how many rows there are; to PostgreSQL it is a join like any other.

# ---------------------------------------------------------------------------------------------- reading: runs

RUN_VISIBLE = """SELECT r.run_uuid FROM runs AS r CROSS JOIN experiments AS e
WHERE {among} AND e.experiment_id = r.experiment_id AND e.workspace = ? ORDER BY r.run_uuid"""
RUNS_LOAD = """SELECT run_uuid, experiment_id, name, user_id, status, start_time, end_time, artifact_uri,
    lifecycle_stage FROM runs WHERE {among}"""
RUNS_METRICS = "SELECT run_uuid, key, value, timestamp, step, is_nan FROM latest_metrics WHERE {among}"
RUNS_PARAMS = "SELECT run_uuid, key, value FROM params WHERE {among}"
RUNS_TAGS = "SELECT run_uuid, key, value FROM tags WHERE {among}"
RUNS_DATASETS = """SELECT i.destination_id, i.input_uuid, d.dataset_uuid,
    d.name, d.digest, d.dataset_source_type, d.dataset_source, d.dataset_schema, d.dataset_profile
FROM inputs AS i CROSS JOIN datasets AS d
WHERE i.destination_type = 'RUN' AND {among} AND d.dataset_uuid = i.source_id"""
INPUTS_TAGS = "SELECT input_uuid, name, value FROM input_tags WHERE {among}"
RUNS_MODELS = """SELECT source_id, destination_id, step FROM inputs
WHERE source_type = ? AND {among} AND destination_type = ?"""

# --------------------------------------------------------------------------------- reading: a search for runs
# Pieces of one query over runs AS r; find.py says which table comes first.

EXPERIMENTS_VISIBLE = "SELECT experiment_id FROM experiments WHERE {among} AND workspace = ?"
FIND_RUNS = "SELECT r.run_uuid FROM {tables} WHERE {tests} ORDER BY {orders} LIMIT ? OFFSET ?"
COUNT_RUNS = "SELECT count(*) FROM {tables} WHERE {tests}"
# How many there are, as far as it matters: a sample of the cost of starting from this table.
COUNT_UP_TO = "SELECT count(*) FROM (SELECT 1 FROM {tables} WHERE {tests} LIMIT ?) AS part"
RUNS_AT_MOST = "SELECT max(rowid) FROM runs"

METRIC_ORDERED = "latest_metrics AS o"
METRIC_ORDERED_TEST = "o.key = ? AND o.is_nan = {nan} AND o.run_uuid = r.run_uuid"
METRIC_NONE = "NOT EXISTS (SELECT 1 FROM latest_metrics AS n WHERE n.key = ? AND n.run_uuid = r.run_uuid)"
METRIC_FIRST = "latest_metrics AS d"
METRIC_FIRST_TEST = "d.key = ? AND d.is_nan = FALSE AND d.value {comparator} ?"
SAME_RUN = "r.run_uuid = d.run_uuid"
# NaN is stored as 0 and marked: it is unequal to everything, and nothing else.
METRIC_TEST = """EXISTS (SELECT 1 FROM latest_metrics AS f
WHERE f.key = ? AND f.run_uuid = r.run_uuid AND f.value {comparator} ? AND f.is_nan = FALSE)"""
METRIC_UNEQUAL = """EXISTS (SELECT 1 FROM latest_metrics AS f
WHERE f.key = ? AND f.run_uuid = r.run_uuid AND (f.value <> ? OR f.is_nan = TRUE))"""
ITEM_TEST = "EXISTS (SELECT 1 FROM {table} AS f WHERE f.key = ? AND f.run_uuid = r.run_uuid AND {test})"
ITEM_ABSENT = "NOT EXISTS (SELECT 1 FROM {table} AS f WHERE f.key = ? AND f.run_uuid = r.run_uuid)"
ITEM_PRESENT = "EXISTS (SELECT 1 FROM {table} AS f WHERE f.key = ? AND f.run_uuid = r.run_uuid)"
DATASET_TEST = """EXISTS (SELECT 1 FROM inputs AS i CROSS JOIN datasets AS f
WHERE i.destination_type = 'RUN' AND i.destination_id = r.run_uuid
AND f.dataset_uuid = i.source_id AND {test})"""
CONTEXT_TEST = """EXISTS (SELECT 1 FROM inputs AS i CROSS JOIN datasets AS d CROSS JOIN input_tags AS f
WHERE i.destination_type = 'RUN' AND i.destination_id = r.run_uuid AND d.dataset_uuid = i.source_id
AND f.input_uuid = i.input_uuid AND f.name = 'mlflow.data.context' AND {test})"""

ITEM_JOIN = "LEFT JOIN {table} AS {alias} ON {alias}.key = ? AND {alias}.run_uuid = r.run_uuid"
METRIC_RANK = "CASE WHEN {alias}.is_nan = TRUE THEN 1 WHEN {alias}.value IS NULL THEN 2 ELSE 0 END"
NULLS_LAST = "CASE WHEN {column} IS NULL THEN 1 ELSE 0 END"

# --------------------------------------------------------------------------------------- reading: experiments

EXPERIMENTS_LOAD = """SELECT experiment_id, name, artifact_location, lifecycle_stage, creation_time,
    last_update_time, workspace FROM experiments AS e WHERE {tests}"""
EXPERIMENTS_ORDER = " ORDER BY {orders} LIMIT ? OFFSET ?"
EXPERIMENTS_TAGS = "SELECT experiment_id, key, value FROM experiment_tags WHERE {among}"
EXPERIMENT_TAG_TEST = """EXISTS (SELECT 1 FROM experiment_tags AS f
WHERE f.key = ? AND f.experiment_id = e.experiment_id AND {test})"""
EXPERIMENT_TAG_PRESENT = """EXISTS (SELECT 1 FROM experiment_tags AS f
WHERE f.key = ? AND f.experiment_id = e.experiment_id)"""

# -------------------------------------------------------------------------------------------- reading: points

# Left to itself SQLite likes the primary key, which has all columns, and goes through the points of all runs.
BY_RUN = {"sqlite": "metrics INDEXED BY index_metrics_run_uuid_key_step", "postgresql": "metrics"}
POINTS = """SELECT value, timestamp, step, is_nan FROM {table} WHERE run_uuid = ? AND key = ?
ORDER BY timestamp, step, value LIMIT ? OFFSET ?"""
STEPS = "run_uuid = ? AND key = ?"
STEPS_BETWEEN = "run_uuid = ? AND key = ? AND step >= ? AND step <= ?"
POINTS_COUNT = "SELECT count(*) FROM {table} WHERE {tests}"
POINTS_ALL = """SELECT value, timestamp, step, is_nan FROM {table} WHERE {tests}
ORDER BY step, timestamp, value, is_nan"""
# n points in k heaps, as NTILE makes them: the first of every heap but the last, and the last of all. The
# first n - n / k * k heaps have one point more than the others. (Both databases have no modulo in common.)
POINTS_THINNED = """SELECT value, timestamp, step, is_nan FROM (
    SELECT value, timestamp, step, is_nan,
        row_number() OVER (ORDER BY step, timestamp, value, is_nan) - 1 AS place
    FROM {table} WHERE {tests}) AS placed
WHERE place = ? OR (place < ?
    AND ((place < ? AND place / ? * ? = place) OR (place >= ? AND (place - ?) / ? * ? = place - ?)))
ORDER BY place"""

# -------------------------------------------------------------------------------------------- reading: models

MODEL = """SELECT model_id, experiment_id, name, artifact_location, creation_timestamp_ms,
    last_updated_timestamp_ms, status, model_type, source_run_id, status_message, lifecycle_stage
FROM logged_models
WHERE model_id = ? AND lifecycle_stage <> 'deleted'
AND experiment_id IN (SELECT experiment_id FROM experiments WHERE workspace = ?)"""
MODELS_SEARCH = """SELECT model_id, experiment_id, name, artifact_location, creation_timestamp_ms,
    last_updated_timestamp_ms, status, model_type, source_run_id, status_message, lifecycle_stage
FROM logged_models
WHERE {among} AND lifecycle_stage <> 'deleted' AND (? = '' OR name = ?)
AND experiment_id IN (SELECT experiment_id FROM experiments WHERE workspace = ?)
ORDER BY creation_timestamp_ms DESC, model_id LIMIT ? OFFSET ?"""
MODELS_TAGS = "SELECT model_id, tag_key, tag_value FROM logged_model_tags WHERE {among}"
MODELS_PARAMS = "SELECT model_id, param_key, param_value FROM logged_model_params WHERE {among}"
MODELS_METRICS = """SELECT model_id, metric_name, metric_value, metric_timestamp_ms, metric_step, run_id,
    dataset_name, dataset_digest FROM logged_model_metrics WHERE {among}"""

REGISTERED = """SELECT name, creation_time, last_updated_time, description FROM registered_models
WHERE workspace = ? AND name = ?"""
REGISTERED_TAGS = "SELECT key, value FROM registered_model_tags WHERE workspace = ? AND name = ?"
REGISTERED_ALIASES = "SELECT alias, version FROM registered_model_aliases WHERE workspace = ? AND name = ?"
VERSION = """SELECT name, version, creation_time, last_updated_time, description, user_id, current_stage,
    source, run_id, run_link, status, status_message, storage_location FROM model_versions
WHERE workspace = ? AND name = ? AND version = ? AND current_stage <> 'Deleted_Internal'"""
# The newest version of every stage. A stage that is NULL is one of its own, as MLflow's own loop has it.
VERSIONS_LATEST = """SELECT name, version, creation_time, last_updated_time, description, user_id,
    current_stage, source, run_id, run_link, status, status_message, storage_location FROM (
    SELECT *, row_number() OVER (PARTITION BY current_stage ORDER BY version DESC) AS place
    FROM model_versions
    WHERE workspace = ? AND name = ?
    AND (current_stage IS NULL OR current_stage <> 'Deleted_Internal')) AS placed
WHERE place = 1"""
HELD = """SELECT v.name, v.version, a.alias, v.current_stage, v.source, v.storage_location
FROM model_versions v LEFT JOIN registered_model_aliases a
    ON a.workspace = v.workspace AND a.name = v.name AND a.version = v.version
WHERE v.workspace = ? AND (v.current_stage IS NULL OR v.current_stage <> 'Deleted_Internal')
    AND (a.alias IS NOT NULL OR v.current_stage <> 'None')"""
VERSION_TAGS = """SELECT version, key, value FROM model_version_tags
WHERE workspace = ? AND name = ? AND {among}"""
