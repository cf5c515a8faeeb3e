"""Each native answer, as parsed JSON, is what MLflow's entities and protobuf messages make of the same."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from mlflow import entities as mlflow
from mlflow.entities import model_registry
from mlflow.protos import model_registry_pb2, service_pb2
from mlflow.server.handlers import get_endpoints
from mlflow.utils.proto_json_utils import message_to_json
from mlflow.utils.search_utils import SearchLoggedModelsPaginationToken, SearchUtils

from tallystick.doors.tracking import answers
from tallystick.doors.tracking.table import _ROUTES
from tallystick.record import asks, entries, model_asks
from tallystick.record.asks import NotPlain
from tests.doors.tracking.heard import RUN, Heard, Hub

ODD_TEXT = 'a "b"\\ \n\t é 😀 \x7f</script>'
POINTS = [
    entries.Point("loss", 0.1, 1_700_000_000_000, 3),
    entries.Point(ODD_TEXT, math.nan, 0, -(2**63)),
    entries.Point("up", math.inf, 2**63 - 1, 2**63 - 1),
    entries.Point("down", -math.inf, 1, 0),
    entries.Point("small", 5e-324, 1, 0),
    entries.Point("large", 1.7976931348623157e308, 1, 0),
    entries.Point("third", 1 / 3, 1, 0),
    entries.Point("whole", 3.0, 1, 0),
    entries.Point("zero", -0.0, 1, 0),
]
FULL = entries.Run(
    *(RUN, 12, "a name", "someone", "FINISHED", 1, 2, "mlflow-artifacts:/12/x/artifacts", "active"),
    metrics=POINTS,
    params=[("p", ODD_TEXT), ("empty", "")],
    tags=[("mlflow.runName", "a name")],
    datasets=[
        entries.DatasetInput("d", "1", "local", "{}", "[]", "{}", [("context", "train")]),
        entries.DatasetInput("e", "2", "local", "", None, "", []),
    ],
    model_inputs=["m-1"],
    model_outputs=[entries.ModelOutput("m-2", 0), entries.ModelOutput("m-3", 7)],
)
BARE = entries.Run("r", 0, None, "", "RUNNING", 0, None, None, "deleted", [], [], [], [], [], [])
RUNS = [FULL, BARE, FULL._replace(end_ms=0, name="", artifact_uri="")]


def said(text: bytes) -> Any:
    return json.loads(text)


def same(told: bytes, message: Any) -> None:
    assert said(told) == json.loads(message_to_json(message))


def metric(point: entries.Point) -> mlflow.Metric:
    return mlflow.Metric(point.key, point.value, point.timestamp_ms, point.step)


def info(run: entries.Run) -> mlflow.RunInfo:
    return mlflow.RunInfo(
        run_id=run.run_id,
        experiment_id=str(run.experiment_id),
        user_id=run.user_id,
        status=run.status,
        start_time=run.start_ms,
        end_time=run.end_ms,
        lifecycle_stage=run.lifecycle_stage,
        artifact_uri=run.artifact_uri,
        run_name=run.name,
    )


def run_entity(run: entries.Run, *, created: bool = False, searched: bool = False) -> mlflow.Run:
    data = mlflow.RunData(
        [metric(p) for p in run.metrics],
        [mlflow.Param(*p) for p in run.params],
        [mlflow.RunTag(*t) for t in run.tags],
    )
    inputs = [
        mlflow.DatasetInput(mlflow.Dataset(*d[:6]), [mlflow.InputTag(*t) for t in d.tags])
        for d in run.datasets
    ]
    outputs = [mlflow.LoggedModelOutput(model_id=m, step=step) for m, step in run.model_outputs]
    models = [] if created or searched else [mlflow.LoggedModelInput(model_id=m) for m in run.model_inputs]
    return mlflow.Run(
        info(run),
        data,
        mlflow.RunInputs(dataset_inputs=inputs, model_inputs=models),
        None if created else mlflow.RunOutputs(outputs),
    )


@pytest.mark.parametrize("run", RUNS)
def test_a_run(run: entries.Run) -> None:
    created = service_pb2.CreateRun.Response(run=run_entity(run, created=True).to_proto())
    same(answers.created_run(None, run), created)
    same(answers.got_run(None, run), service_pb2.GetRun.Response(run=run_entity(run).to_proto()))
    same(answers.updated_run(None, run), service_pb2.UpdateRun.Response(run_info=info(run).to_proto()))


@pytest.mark.parametrize(("runs", "next_offset"), [([], None), (RUNS, None), (RUNS, 1000)])
def test_runs(runs: list[entries.Run], next_offset: int | None) -> None:
    message = service_pb2.SearchRuns.Response()
    message.runs.extend([run_entity(r, searched=True).to_proto() for r in runs])
    if next_offset:
        message.next_page_token = SearchUtils.create_page_token(next_offset)
    same(answers.some_runs(None, entries.Page(runs, next_offset)), message)


@pytest.mark.parametrize("odd", [{"user_id": None}, {"start_ms": None}])
def test_a_run_over_which_mlflow_fails_is_not_told(odd: dict[str, Any]) -> None:
    run = FULL._replace(**odd)
    with pytest.raises(Exception, match="cannot be None"):
        run_entity(run).to_proto()
    with pytest.raises(NotPlain):
        answers.got_run(None, run)


EXPERIMENTS = [
    entries.Experiment(12, ODD_TEXT, "s3://b/12", "active", 5, 6, "default", [("k", "v"), ("note", "")]),
    entries.Experiment(0, "Default", "mlflow-artifacts:/0", "deleted", None, 0, "red", []),
]


def experiment(of: entries.Experiment) -> Any:
    return mlflow.Experiment(
        experiment_id=str(of.experiment_id),
        name=of.name,
        artifact_location=of.artifact_location,
        lifecycle_stage=of.lifecycle_stage,
        tags=[mlflow.ExperimentTag(*t) for t in of.tags],
        creation_time=of.created_ms,
        last_update_time=of.updated_ms,
        workspace=of.workspace,
    ).to_proto()


def test_experiments() -> None:
    for one in EXPERIMENTS:
        same(
            answers.one_experiment(None, one), service_pb2.GetExperiment.Response(experiment=experiment(one))
        )
    message = service_pb2.SearchExperiments.Response(experiments=[experiment(e) for e in EXPERIMENTS])
    same(answers.some_experiments(None, entries.Page(EXPERIMENTS, None)), message)
    message.next_page_token = SearchUtils.create_page_token(2)
    same(answers.some_experiments(None, entries.Page(EXPERIMENTS, 2)), message)
    same(answers.created_experiment(None, 7), service_pb2.CreateExperiment.Response(experiment_id="7"))
    same(answers.nothing(None, None), service_pb2.LogMetric.Response())


def test_a_history() -> None:
    message = service_pb2.GetMetricHistory.Response(metrics=[metric(p).to_proto() for p in POINTS])
    same(answers.history(None, entries.Page(POINTS, None)), message)
    message.next_page_token = SearchUtils.create_page_token(9)
    same(answers.history(None, entries.Page(POINTS, 9)), message)
    same(answers.history(None, entries.Page([], None)), service_pb2.GetMetricHistory.Response())


def test_histories_of_several_runs() -> None:
    points = [entries.RunPoint(RUN, p.value, p.timestamp_ms, p.step) for p in POINTS]
    with_ids = [
        mlflow.metric.MetricWithRunId(mlflow.Metric("k", p.value, p.timestamp_ms, p.step), p.run_id)
        for p in points
    ]
    thinned = asks.HistoryInterval((RUN,), "k", 9)
    message = service_pb2.GetMetricHistoryBulkInterval.Response(metrics=[m.to_proto() for m in with_ids])
    same(answers.history_interval(thinned, points), message)
    same(answers.history_interval(thinned, []), service_pb2.GetMetricHistoryBulkInterval.Response())
    bulk = asks.HistoryBulk((RUN,), "k", 9)
    finite = [i for i, p in enumerate(points) if math.isfinite(p.value)]
    told = said(answers.history_bulk(bulk, [points[i] for i in finite]))
    assert told == {"metrics": [with_ids[i].to_dict() for i in finite]}
    assert said(answers.history_bulk(bulk, [])) == {"metrics": []}
    with pytest.raises(NotPlain):
        answers.history_bulk(bulk, points)


MODELS = [
    entries.LoggedModel(
        *("m-1", 12, "model", "mlflow-artifacts:/12/models/m-1/artifacts", 5, 6, 2, "", "", None, "active"),
        tags=[("k", "v")],
        params=[("p", "q")],
        metrics=[
            entries.LoggedModelMetric("loss", math.nan, 1, 2, RUN, "rows", "d"),
            entries.LoggedModelMetric("acc", 0.5, 0, 0, RUN, None, None),
        ],
    ),
    entries.LoggedModel(
        *("m-2", 0, "m", "x", 0, 0, 1, None, None, "why", "active"), tags=[], params=[], metrics=[]
    ),
    entries.LoggedModel(
        *("m-3", 0, "m", "x", 0, 0, 3, "agent", RUN, None, "active"), tags=[], params=[], metrics=[]
    ),
]


def model(of: entries.LoggedModel) -> Any:
    return mlflow.LoggedModel(
        model_id=of.model_id,
        experiment_id=str(of.experiment_id),
        name=of.name,
        artifact_location=of.artifact_location,
        creation_timestamp=of.created_ms,
        last_updated_timestamp=of.updated_ms,
        status=mlflow.LoggedModelStatus.from_int(of.status),
        model_type=of.model_type,
        source_run_id=of.source_run_id,
        status_message=of.status_message,
        tags=dict(of.tags) or None,
        params=dict(of.params) or None,
        metrics=[
            mlflow.Metric(
                m.key,
                m.value,
                m.timestamp_ms,
                m.step,
                of.model_id,
                m.dataset_name,
                m.dataset_digest,
                m.run_id,
            )
            for m in of.metrics
        ]
        or None,
    ).to_proto()


def test_logged_models() -> None:
    for one in MODELS:
        same(answers.logged_model(None, one), service_pb2.GetLoggedModel.Response(model=model(one)))
    ask = model_asks.SearchLoggedModels((3, 12))
    message = service_pb2.SearchLoggedModels.Response(models=[model(m) for m in MODELS])
    same(answers.logged_models(ask, entries.Page(MODELS, None)), message)
    with pytest.raises(NotPlain):
        answers.logged_models(model_asks.SearchLoggedModels((3, 12), name="m"), entries.Page(MODELS, 100))
    message.next_page_token = SearchLoggedModelsPaginationToken(["3", "12"], offset=100).encode()
    same(answers.logged_models(ask, entries.Page(MODELS, 100)), message)


async def test_a_page_of_logged_models_goes_on_where_it_ended() -> None:
    hub = Hub(Heard(entries.Page(MODELS, 3)))
    first = await hub.call("POST", "logged-models/search", {"experiment_ids": ["3"], "max_results": 3})
    token = first.json()["next_page_token"]
    for ids in (["3"], ["4"]):
        await hub.call("POST", "logged-models/search", {"experiment_ids": ids, "page_token": token})
    assert [ask.offset for ask, _ in hub.record.asked] == [0, 3], (
        "another search's token is MLflow's to refuse"
    )


VERSIONS = [
    entries.ModelVersion(
        *("m", 3, 5, 6, "text", "u", "None", "models:/m-1", RUN, "", "READY", "ok", "s3://x"),
        tags=[("k", "v")],
        aliases=["best", "b"],
    ),
    entries.ModelVersion(
        *("m", 4, 0, None, "", None, None, None, None, None, None, "", None), tags=[], aliases=[]
    ),
]


def version(of: entries.ModelVersion) -> model_registry.ModelVersion:
    return model_registry.ModelVersion(
        name=of.name,
        version=of.version,
        creation_timestamp=of.created_ms,
        last_updated_timestamp=of.updated_ms,
        description=of.description,
        user_id=of.user_id,
        current_stage=of.stage,
        source=of.source,
        run_id=of.run_id,
        status=of.status,
        status_message=of.status_message,
        tags=[model_registry.ModelVersionTag(*t) for t in of.tags],
        run_link=of.run_link,
        aliases=of.aliases,
    )


@pytest.mark.parametrize("full", [True, False])
def test_registered_models(*, full: bool) -> None:
    for one in VERSIONS:
        message = model_registry_pb2.GetModelVersion.Response(model_version=version(one).to_proto())
        same(answers.model_version(None, one), message)
    for where, source, told in (("s3://x", "y", "s3://x"), (None, "y", "y"), ("", "y", "y"), (None, "", "")):
        one = VERSIONS[0]._replace(storage_location=where, source=source)
        message = model_registry_pb2.GetModelVersionDownloadUri.Response(artifact_uri=told)
        same(answers.download_uri(None, one), message)
    with pytest.raises(NotPlain):
        answers.download_uri(None, VERSIONS[1])
    found = entries.RegisteredModel("m", 5, 6, "text", [("a", "b")], [("best", "3")], VERSIONS)
    if not full:
        found = entries.RegisteredModel("m", None, None, "", [], [], [])
    registered = model_registry.RegisteredModel(
        found.name,
        found.created_ms,
        found.updated_ms,
        found.description,
        [version(v) for v in found.latest],
        [model_registry.RegisteredModelTag(*t) for t in found.tags],
        [model_registry.RegisteredModelAlias(*a) for a in found.aliases],
    )
    message = model_registry_pb2.GetRegisteredModel.Response(registered_model=registered.to_proto())
    same(answers.registered_model(None, found), message)


async def test_a_long_answer_is_told_whole() -> None:
    points = [entries.Point("k", float(i), i, i) for i in range(20_000)]
    hub = Hub(Heard(entries.Page(points, None)))
    answer = await hub.call("GET", "metrics/get-history", {"run_id": RUN, "metric_key": "k"})
    assert msgspec.json.decode(answer.content) == {
        "metrics": [{"key": "k", "value": float(i), "timestamp": i, "step": i} for i in range(20_000)]
    }


def test_native_paths_are_mlflows() -> None:
    known = {
        (method, path) for path, _, methods in get_endpoints() for method in methods if isinstance(path, str)
    }
    ours = {(method.removesuffix(" {id}"), path.decode()) for method, path in _ROUTES}
    for method, path in ours:
        if path.startswith(("/mlflow/", "/api/tally/")) or path.endswith("/get-history-bulk"):
            continue
        theirs = path.replace("{id}", "<model_id>").replace("{key}", "<tag_key>")
        assert (method, theirs) in known, (method, path)
