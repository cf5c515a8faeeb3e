"""Databases as older MLflows left them: their schema at a revision of then, and rows in it."""

from __future__ import annotations

import subprocess
import sys

__all__ = ["AT_2_0", "AT_2_10", "AT_3_0", "make_old_mlflow"]

AT_2_0 = "97727af70f4d"
"""The schema of MLflow 2.0: the last revision before 2.3's aliases."""
AT_2_10 = "acf3f17fdcc7"
"""The schema of MLflow 2.10, with datasets and inputs."""
AT_3_0 = "6953534de441"
"""The schema of MLflow 3.0, with logged models."""

_SCRIPT = """
import logging, sys, warnings
warnings.simplefilter("ignore")
import sqlalchemy as sa
from alembic import command
from mlflow.store.db import utils
from mlflow.store.tracking.dbmodels.initial_models import Base
url, revision = sys.argv[1:]
engine = sa.create_engine(url)
Base.metadata.create_all(engine)
config = utils._get_alembic_config(url)
with engine.begin() as connection:
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
with engine.begin() as db:
    def put(table, **row):
        names = ", ".join(row)
        db.execute(sa.text(f"insert into {table} ({names}) values ({', '.join(':' + n for n in row)})"), row)
    for number, name in ((0, "Default"), (1, "old work")):
        put("experiments", experiment_id=number, name=name, artifact_location=f"mlflow-artifacts:/{number}",
            lifecycle_stage="active", creation_time=1668000000000, last_update_time=1668000000000)
    for n in range(20):
        run = f"{n:032x}"
        put("runs", run_uuid=run, name=f"run {n}", source_type="UNKNOWN", source_name="", entry_point_name="",
            user_id="ada", status="FINISHED", start_time=1668000000000 + n, end_time=1668000001000 + n,
            source_version="", lifecycle_stage="active", artifact_uri=f"mlflow-artifacts:/1/{run}/artifacts",
            experiment_id=1)
        put("params", key="rate", value=str(n / 10), run_uuid=run)
        put("tags", key="mlflow.runName", value=f"run {n}", run_uuid=run)
        put("latest_metrics", key="loss", value=1.0 / (n + 1), timestamp=1668000000009, step=9, is_nan=False,
            run_uuid=run)
        for step in range(10):
            put("metrics", key="loss", value=1.0 / (n + 1) + 9 - step, timestamp=1668000000000 + step,
                step=step, is_nan=False, run_uuid=run)
    put("registered_models", name="old model", creation_time=1668000000000, last_updated_time=1668000000000)
    put("model_versions", name="old model", version=1, creation_time=1668000000000, status="READY",
        last_updated_time=1668000000000, current_stage="Production", source="mlflow-artifacts:/1/x/artifacts")
"""


def make_old_mlflow(url: str, revision: str = AT_2_0) -> None:
    """Make a database at ``url`` (as SQLAlchemy has it) with MLflow's schema of ``revision``, 20 runs in it.

    In a process of its own, as MLflow and its warnings would stay in this one.
    """
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, url, revision],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
