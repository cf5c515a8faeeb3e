"""A file store (``./mlruns``) as MLflow's own client leaves it, with a bit of everything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

__all__ = ["make_filestore"]

_SCRIPT = """
import json, logging, os, sys, warnings
warnings.simplefilter("ignore")
os.environ.update(MLFLOW_ALLOW_FILE_STORE="true", DO_NOT_TRACK="true", MLFLOW_DISABLE_TELEMETRY="true")
os.chdir(sys.argv[1])
import mlflow, pandas
mlflow.set_tracking_uri("file:./mlruns")
mlflow.set_experiment("old work")
runs = []
for n in range(3):
    with mlflow.start_run(run_name=f"run {n}") as run:
        runs.append(run.info.run_id)
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1) + n, step=step)
        mlflow.log_metric("odd", [float("nan"), float("inf"), -float("inf")][n])
        mlflow.log_param("rate", n)
        mlflow.log_text(f"hello {n}", "deep/a.txt")
        mlflow.log_input(mlflow.data.from_pandas(pandas.DataFrame({"a": [1]}), name="d"), context="train")
class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input
with mlflow.start_run() as run:
    runs.append(run.info.run_id)
    mlflow.pyfunc.log_model(name="m", python_model=Model(), registered_model_name="reg", pip_requirements=[])
client = mlflow.MlflowClient()
client.set_registered_model_alias("reg", "best", 1)
client.set_experiment_tag("0", "kind", "first")
mlflow.delete_run(runs[2])
mlflow.delete_experiment(mlflow.create_experiment("gone"))
elsewhere = mlflow.create_experiment("elsewhere", artifact_location="s3://bucket/old")
client.create_run(elsewhere)
with mlflow.start_span("s") as span:
    span.set_inputs({"q": 1})
mlflow.flush_trace_async_logging()
sys.stdout.write(json.dumps(runs))
"""


def make_filestore(folder: Path) -> list[str]:
    """Make ``<folder>/mlruns`` in a process of its own; the ids of its four runs in "old work".

    The third is deleted, and the fourth has a logged model, which is version 1 of registered model ``reg``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(folder)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    runs: list[str] = json.loads(done.stdout.splitlines()[-1])
    return runs
