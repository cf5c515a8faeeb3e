"""A record with everything odd in it, made with MLflow's own tables, and its answers in the words of ours."""

from __future__ import annotations

import math
import random
from typing import Any

from mlflow.entities import Experiment as TheirExperiment
from mlflow.entities import LoggedModel as TheirModel
from mlflow.entities import Run as TheirRun
from mlflow.store.model_registry.dbmodels import models as registry
from mlflow.store.tracking.dbmodels import models as tables
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from tallystick.record.entries import Experiment, LoggedModel, Run

__all__ = ["EXPERIMENTS", "KEYS", "fill", "told_experiment", "told_model", "told_run"]

EXPERIMENTS = (1, 2, 3)
KEYS = ("loss", "val/loss", "n")
START = 1_700_000_000_000
TOP = 1.7976931348623157e308
VALUES = (0.0, 0.5, 1.0, 1.0, -2.5, TOP, -TOP, math.nan, 1e-300)
TEXTS = ("a", "A", "b", "ab", "a_b", "a%b", "[a]", "a*", "é", "É", "", "x" * 300)


def fill(store: SqlAlchemyStore, runs: int = 60, seed: int = 7) -> list[str]:
    """Experiments 1 and 2, and 3, which is deleted, with runs and all that belongs to them; the runs' ids."""
    rnd = random.Random(seed)  # noqa: S311 - no secret: the same record every time
    with store.ManagedSessionMaker(read_only=False) as session:
        session.add_all(_experiments(rnd))
        session.flush()
        ids = [f"{rnd.getrandbits(128):032x}" for _ in range(runs)]
        for number, run_id in enumerate(ids):
            session.add(_run(rnd, number, run_id))
        session.add_all(_datasets())
        session.flush()
        for run_id in ids:
            session.add_all(_details(rnd, run_id))
        session.flush()
        for number in range(12):
            session.add_all(_model(rnd, number, ids))
        session.add_all(_registered())
    return ids


def _experiments(rnd: random.Random) -> list[Any]:
    found: list[Any] = []
    for number, name, stage in ((1, "one", "active"), (2, "Two_é", "active"), (3, "gone", "deleted")):
        created = START + rnd.randrange(3)
        found.append(
            tables.SqlExperiment(
                experiment_id=number,
                name=name,
                artifact_location=f"mlflow-artifacts:/{number}" if number != 2 else None,
                lifecycle_stage=stage,
                creation_time=created if number != 3 else START,
                last_update_time=created + 5,
                workspace="default",
            )
        )
        found += [
            tables.SqlExperimentTag(key=key, value=rnd.choice(TEXTS), experiment_id=number)
            for key in ("team", "a b")
            if rnd.random() < 0.7
        ]
    return found


def _run(rnd: random.Random, number: int, run_id: str) -> tables.SqlRun:
    return tables.SqlRun(
        run_uuid=run_id,
        name=rnd.choice(("night run", "Night Run", f"run-{number}", "", None)),
        source_type="UNKNOWN",
        source_name="",
        entry_point_name="",
        user_id=rnd.choice(("ada", "Bob", "")),
        status=rnd.choice(("RUNNING", "FINISHED", "FAILED", "KILLED", "SCHEDULED")),
        start_time=START + rnd.randrange(20),
        end_time=rnd.choice((None, START + rnd.randrange(50))),
        lifecycle_stage=rnd.choice(("active", "active", "active", "deleted")),
        artifact_uri=rnd.choice((f"mlflow-artifacts:/1/{run_id}/artifacts", "s3://B/x", None)),
        experiment_id=rnd.choice(EXPERIMENTS),
    )


def _datasets() -> list[Any]:
    return [
        tables.SqlDataset(
            dataset_uuid=f"d{number}",
            experiment_id=1 + number % 2,
            name=("iris", "Iris", "wine")[number % 3],
            digest=f"{number % 2}",
            dataset_source_type="local",
            dataset_source="{}",
            dataset_schema=None if number % 2 else '{"a": 1}',
            dataset_profile=None,
        )
        for number in range(6)
    ]


def _details(rnd: random.Random, run_id: str) -> list[Any]:
    found: list[Any] = []
    for key in KEYS:
        found += _points(rnd, run_id, key)
    found += [
        tables.SqlParam(key=key, value=rnd.choice(TEXTS), run_uuid=run_id)
        for key in "pqr"
        if rnd.random() < 0.7
    ]
    tags = [key for key in ("t", "a b", "mlflow.runName") if rnd.random() < 0.6]
    found += [tables.SqlTag(key=key, value=rnd.choice(TEXTS), run_uuid=run_id) for key in tags]
    for dataset in rnd.sample(range(6), rnd.randrange(3)):
        found += _input(rnd, run_id, dataset)
    for way, number in (("INPUT", 1), ("OUTPUT", 2)):
        found += [
            tables.SqlInput(
                input_uuid=f"{way}-{run_id}-{n}"[:36],
                source_type=f"RUN_{way}",
                source_id=run_id,
                destination_type=f"MODEL_{way}",
                destination_id=f"m-{n}",
                step=n,
            )
            for n in range(rnd.randrange(number + 1))
        ]
    return found


def _points(rnd: random.Random, run_id: str, key: str) -> list[Any]:
    seen: dict[tuple[Any, ...], Any] = {}
    for _ in range(rnd.choice((0, 1, 2, 7, 25))):
        value, at, step = rnd.choice(VALUES), START + rnd.randrange(4), rnd.randrange(-2, 8)
        nan = math.isnan(value)
        stored = 0.0 if nan else value
        point = {
            "key": key,
            "value": stored,
            "timestamp": at,
            "step": step,
            "is_nan": nan,
            "run_uuid": run_id,
        }
        seen[at, step, stored, nan] = point
    points = [tables.SqlMetric(**point) for point in seen.values()]
    if not seen:
        return []
    latest = seen[max(seen, key=lambda one: (one[1], one[0], one[2]))]
    return [*points, tables.SqlLatestMetric(**latest)]


def _input(rnd: random.Random, run_id: str, dataset: int) -> list[Any]:
    input_id = f"i{dataset}-{run_id}"[:36]
    found: list[Any] = [
        tables.SqlInput(
            input_uuid=input_id,
            source_type="DATASET",
            source_id=f"d{dataset}",
            destination_type="RUN",
            destination_id=run_id,
        )
    ]
    if rnd.random() < 0.7:
        found.append(
            tables.SqlInputTag(
                input_uuid=input_id, name="mlflow.data.context", value=rnd.choice(("train", "Test", "a_b"))
            )
        )
    return found


def _model(rnd: random.Random, number: int, runs: list[str]) -> list[Any]:
    model_id, experiment = f"m-{number:032x}", rnd.choice(EXPERIMENTS)
    found: list[Any] = [
        tables.SqlLoggedModel(
            model_id=model_id,
            experiment_id=experiment,
            name=f"model {number}",
            artifact_location=f"mlflow-artifacts:/{experiment}/models/{model_id}/artifacts",
            creation_timestamp_ms=START + rnd.randrange(4),
            last_updated_timestamp_ms=START + 9,
            status=rnd.choice((1, 2, 3)),
            lifecycle_stage=rnd.choice(("active", "active", "deleted")),
            model_type=rnd.choice((None, "agent")),
            source_run_id=rnd.choice((None, runs[0])),
            status_message=None,
        )
    ]
    whose = {"model_id": model_id, "experiment_id": experiment}
    found += [tables.SqlLoggedModelTag(tag_key=key, tag_value=rnd.choice(TEXTS), **whose) for key in "tu"]
    found += [
        tables.SqlLoggedModelParam(param_key=key, param_value=rnd.choice(TEXTS), **whose) for key in "p"
    ]
    found += [
        tables.SqlLoggedModelMetric(
            metric_name="loss",
            metric_timestamp_ms=START + step,
            metric_step=step,
            metric_value=0.5 * step,
            run_id=runs[number],
            dataset_name="iris" if step else None,
            dataset_digest="0" if step else None,
            **whose,
        )
        for step in range(rnd.randrange(3))
    ]
    return found


def _registered() -> list[Any]:
    whose = {"workspace": "default", "name": "forecaster"}
    stages = ("None", "Production", "Staging", "Production", "Deleted_Internal")
    return [
        registry.SqlRegisteredModel(
            creation_time=START, last_updated_time=START + 1, description="d", **whose
        ),
        registry.SqlRegisteredModelTag(key="k", value="v", **whose),
        registry.SqlRegisteredModelAlias(alias="champion", version=2, **whose),
        registry.SqlRegisteredModelAlias(alias="old", version=2, **whose),
        registry.SqlRegisteredModelAlias(alias="lost", version=5, **whose),
        *(
            registry.SqlModelVersion(
                version=number + 1,
                creation_time=START,
                last_updated_time=START + number,
                description=None if number else "first",
                user_id=None,
                current_stage=stage,
                source="s3://b/x",
                run_id=None,
                run_link=None,
                status="READY",
                status_message=None,
                storage_location=None,
                **whose,
            )
            for number, stage in enumerate(stages)
        ),
        registry.SqlModelVersionTag(version=2, key="k", value="2", **whose),
        registry.SqlRegisteredModel(workspace="default", name="empty", creation_time=START),
    ]


# ---------------------------------------------------------------------------------------- in the same words


def told_run(run: TheirRun | Run) -> dict[str, Any]:
    """A run of theirs or of ours, its lists in order, NaN comparable."""
    if isinstance(run, Run):
        told = run._asdict() | {"points": [tuple(point) for point in run.metrics]}
        datasets = [(*dataset[:6], sorted(dataset.tags)) for dataset in run.datasets]
        told |= {"datasets": datasets, "model_outputs": [tuple(one) for one in run.model_outputs]}
        del told["metrics"]
    else:
        told = _told_theirs(run)
    told["points"] = sorted((key, repr(value), at, step) for key, value, at, step in told["points"])
    for name in ("params", "tags", "datasets", "model_inputs", "model_outputs"):
        told[name] = sorted(told[name], key=repr)
    return told


def _told_theirs(run: TheirRun) -> dict[str, Any]:
    info, data = run.info, run.data
    return {
        "run_id": info.run_id,
        "experiment_id": int(info.experiment_id),
        "name": info.run_name,
        "user_id": info.user_id,
        "status": info.status,
        "start_ms": info.start_time,
        "end_ms": info.end_time,
        "artifact_uri": info.artifact_uri,
        "lifecycle_stage": info.lifecycle_stage,
        "points": [(one.key, one.value, one.timestamp, one.step) for one in data._metric_objs],
        "params": list(data.params.items()),
        "tags": list(data.tags.items()),
        "datasets": [
            (
                *(one.dataset.name, one.dataset.digest, one.dataset.source_type),
                *(one.dataset.source, one.dataset.schema, one.dataset.profile),
                sorted((tag.key, tag.value) for tag in one.tags),
            )
            for one in run.inputs.dataset_inputs
        ],
        "model_inputs": [one.model_id for one in run.inputs.model_inputs],
        "model_outputs": [(one.model_id, one.step) for one in run.outputs.model_outputs],
    }


def told_experiment(one: TheirExperiment | Experiment) -> dict[str, Any]:
    """An experiment of theirs or of ours."""
    if isinstance(one, Experiment):
        return one._asdict() | {"tags": sorted(one.tags)}
    return {
        "experiment_id": int(one.experiment_id),
        "name": one.name,
        "artifact_location": one.artifact_location,
        "lifecycle_stage": one.lifecycle_stage,
        "created_ms": one.creation_time,
        "updated_ms": one.last_update_time,
        "workspace": one.workspace,
        "tags": sorted(one.tags.items()),
    }


def told_model(one: TheirModel | LoggedModel) -> dict[str, Any]:
    """A logged model of theirs or of ours; theirs says nothing of its lifecycle."""
    if isinstance(one, LoggedModel):
        told = one._asdict() | {"tags": sorted(one.tags), "params": sorted(one.params)}
        del told["lifecycle_stage"]
        return told | {"metrics": sorted(map(repr, map(tuple, one.metrics)))}
    return {
        "model_id": one.model_id,
        "experiment_id": int(one.experiment_id),
        "name": one.name,
        "artifact_location": one.artifact_location,
        "created_ms": one.creation_timestamp,
        "updated_ms": one.last_updated_timestamp,
        "status": one.status.to_int(),
        "model_type": one.model_type,
        "source_run_id": one.source_run_id,
        "status_message": one.status_message,
        "tags": sorted(one.tags.items()),
        "params": sorted(one.params.items()),
        "metrics": sorted(
            repr((m.key, m.value, m.timestamp, m.step, m.run_id, m.dataset_name, m.dataset_digest))
            for m in one.metrics or ()
        ),
    }
