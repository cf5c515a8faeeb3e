"""Corners that random sessions seldom reach: limits, ties of metrics, odd spellings, paths and headers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.differential.asked.corners import API, BATCHES, RUN, SPELLINGS, of_model, pairs, points, post
from tests.differential.test_sequences import read_all
from tests.differential.twin import Call, Side, Twin

pytestmark = pytest.mark.slow

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def made(twin: Twin, request: pytest.FixtureRequest) -> Twin:
    """Both, with an experiment of this test's own, two runs and a model in it."""
    twin.ask(Call("POST", f"{API}/experiments/create", {"name": f"corner {request.node.name}"[:400]}))
    for start in (1, 2):
        body = {"experiment_id": "@experiment:0@", "start_time": start, "run_name": f"r{start}"}
        twin.ask(Call("POST", f"{API}/runs/create", body))
    twin.ask(Call("POST", f"{API}/logged-models", {"experiment_id": "@experiment:0@", "name": "m"}))
    return twin


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_of(made: Twin, name: str) -> None:
    made.ask(post("runs/log-batch", **RUN, **BATCHES[name]))
    read_all(made)
    made.ask(Call("GET", f"{API}/logged-models/@model:0@"))


def test_a_batch_that_meets_what_is_there(made: Twin) -> None:
    made.ask(post("runs/log-batch", **RUN, metrics=points(2), params=pairs(2), tags=pairs(2)))
    made.ask(post("runs/log-batch", **RUN, metrics=points(3), params=pairs(3), tags=pairs(3, "w")))
    read_all(made)
    made.ask(
        post("runs/log-batch", **RUN, metrics=points(5, "late"), params=pairs(4, "other"), tags=pairs(9))
    )
    made.ask(
        post(
            "runs/log-batch",
            **RUN,
            metrics=points(7),
            params=[{"key": "k9", "value": "v"}, {"key": "k0", "value": "w"}],
        )
    )
    read_all(made)


def test_the_latest_of_a_metric(made: Twin) -> None:
    """It is replaced by what is greater in (step, time, value) alone; NaN stands for 0 there."""
    told = [
        (1, 5, 5),
        (2, 5, 5),
        (1.5, 5, 5),
        (9, 4, 9),
        (NAN, 5, 5),
        (0, 5, 5),
        (-1, 6, 5),
        (INF, 5, 6),
        (7, 1, 7),
        (NAN, 1, 7),
        ("NaN", 2, 7),
        (-INF, 2, 7),
        (INF, 2, 7),
        ("-Infinity", 9, 7),
        ("Infinity", 9, 7),
        (1e308, 9, 7),
        (-0.0, 0, 8),
        (0.0, 0, 8),
    ]
    for value, time, step in told:
        made.ask(post("runs/log-metric", **RUN, key="m", value=value, timestamp=time, step=step))
        made.ask(Call("GET", f"{API}/runs/get", params=(("run_id", "@run:0@"),)))
    batch = [{"key": "m", "value": v, "timestamp": t, "step": s} for v, t, s in told]
    made.ask(post("runs/log-batch", run_id="@run:1@", metrics=batch))
    made.ask(post("runs/log-batch", run_id="@run:1@", metrics=batch[::-1]))
    read_all(made)


@pytest.mark.parametrize("count", [1, 2, 100, 101, 150])
def test_points_of_a_model_that_meet_what_is_there(made: Twin, count: int) -> None:
    """A run's own point is there once; another value, or another dataset, in its place is an error."""
    many, later = of_model(count), of_model(count, timestamp=9)
    told = [
        many,
        many,
        [*later, *many],
        of_model(1, value=7),
        of_model(count, value=7, timestamp=11),
        of_model(2, dataset_name="d", dataset_digest="1"),
        [*of_model(2, dataset_name="d", dataset_digest="1", timestamp=12), *points(3)],
        of_model(2, dataset_name="d", dataset_digest="1", timestamp=12),
        of_model(1, dataset_name="d", dataset_digest="2", timestamp=12),
    ]
    for metrics in told:
        made.ask(post("runs/log-batch", **RUN, metrics=metrics, params=pairs(1)))
        made.ask(Call("GET", f"{API}/logged-models/@model:0@"))
    for point in (of_model(1)[0], of_model(1, value=8)[0], of_model(1, timestamp=77)[0]):
        for run in ("@run:0@", "@run:1@", "@run:1@"):
            made.ask(post("runs/log-metric", **{**point, "run_id": run}))
    made.ask(Call("GET", f"{API}/logged-models/@model:0@"))
    read_all(made)


def test_points_of_models_elsewhere_and_deleted_ones(made: Twin) -> None:
    made.ask(post("experiments/create", name="a models other place"))
    made.ask(post("logged-models", experiment_id="@experiment:1@", name="other"))
    for model in ("@model:1@", "@model:0@", "m-none"):
        point = of_model(1, model_id=model)[0]
        made.ask(post("runs/log-metric", **RUN, **point))
        made.ask(post("runs/log-batch", **RUN, metrics=of_model(3, model_id=model)))
    made.ask(Call("DELETE", f"{API}/logged-models/@model:0@"))
    made.ask(post("runs/log-metric", **RUN, **of_model(1, timestamp=5)[0]))
    made.ask(Call("PATCH", f"{API}/logged-models/@model:0@/tags", {"tags": pairs(2)}))
    made.ask(post("logged-models/@model:0@/params", model_id="@model:0@", params=pairs(2)))
    made.ask(Call("DELETE", f"{API}/logged-models/@model:0@/tags/k1"))
    made.ask(post("runs/delete", **RUN))
    made.ask(post("runs/log-metric", **RUN, **of_model(1, model_id="@model:1@", timestamp=5)[0]))
    made.ask(post("experiments/delete", experiment_id="@experiment:1@"))
    made.ask(post("runs/log-metric", run_id="@run:1@", **of_model(1, model_id="@model:1@")[0]))
    read_all(made)


def test_params_and_tags_of_a_model(made: Twin) -> None:
    at = f"{API}/logged-models/@model:0@"
    for params in (
        [],
        pairs(2),
        pairs(1),
        pairs(3),
        [*pairs(1, "w"), {"key": "k9", "value": "v"}],
        pairs(1) * 2,
    ):
        made.ask(post("logged-models/@model:0@/params", model_id="@model:0@", params=params))
        made.ask(Call("GET", at))
    for body in ({}, {"model_id": "other", "params": pairs(7)}, {"model_id": "", "params": pairs(8)}):
        made.ask(post("logged-models/@model:0@/params", **body))
    for tags in (
        [],
        pairs(2),
        pairs(1, "w"),
        [*pairs(1), *pairs(1, "x")],
        pairs(1, "x" * 9000),
        [{"key": "k"}],
    ):
        made.ask(Call("PATCH", f"{at}/tags", {"tags": tags}))
        made.ask(Call("GET", at))
    for body in (
        {"model_id": "other", "tags": pairs(1)},
        {"model_id": "@model:0@"},
        {"model_id": None},
        None,
    ):
        made.ask(Call("PATCH", f"{at}/tags", body))
    for key in ("k1", "k1", "none", "k%31", "k 1", "k0/", "ü", ".k", "k" * 251):
        made.ask(Call("DELETE", f"{at}/tags/{key}"))
    made.ask(Call("DELETE", f"{at}/tags/k0", params=(("model_id", "other"),)))
    for path in ("logged-models/m-none/tags/k1", "logged-models/m-" + "0" * 32 + "/tags/k1"):
        made.ask(Call("DELETE", f"{API}/{path}"))
    made.ask(Call("PATCH", f"{API}/logged-models/m-{'0' * 32}/tags", {"tags": pairs(1)}))
    made.ask(post(f"logged-models/m-{'0' * 32}/params", model_id=f"m-{'0' * 32}", params=pairs(1)))
    made.ask(Call("GET", at))


@pytest.mark.parametrize("most", ["1", "2", "7", "100"])
def test_a_history_by_pages_and_thinned_out(made: Twin, most: str) -> None:
    body = [{"key": "m", "value": n * 7 % 5, "timestamp": n // 3, "step": n % 10} for n in range(30)]
    made.ask(post("runs/log-batch", **RUN, metrics=body))
    made.ask(post("runs/log-batch", run_id="@run:1@", metrics=body[:4]))
    asked: tuple[tuple[str, str], ...] = (("run_id", "@run:0@"), ("metric_key", "m"), ("max_results", most))
    answer = made.ask(Call("GET", f"{API}/metrics/get-history", params=asked)).body
    while "next_page_token" in answer:
        last = len(made.sides[0].made["token"]) - 1
        answer = made.ask(
            Call("GET", f"{API}/metrics/get-history", params=(*asked, ("page_token", f"@token:{last}@")))
        ).body
    made.ask(Call("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk", params=asked))
    both = (("run_ids", "@run:1@"), ("run_ids", "@run:0@"), *asked[1:])
    for root in ("/api", "/ajax-api"):
        made.ask(Call("GET", f"{root}/2.0/mlflow/metrics/get-history-bulk-interval", params=both))
        between = (*both, ("start_step", "2"), ("end_step", "6"))
        made.ask(Call("GET", f"{root}/2.0/mlflow/metrics/get-history-bulk-interval", params=between))


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_request_spelled_with(made: Twin, name: str) -> None:
    made.ask(SPELLINGS[name])
    read_all(made)


WRITES = [
    post("runs/log-metric", **RUN, key="m", value=1, timestamp=1),
    post("runs/log-parameter", **RUN, key="p", value="1"),
    post("runs/set-tag", **RUN, key="t", value="1"),
    post("runs/delete-tag", **RUN, key="mlflow.runName"),
    post("runs/log-batch", **RUN, metrics=points(1)),
    post("runs/log-batch", **RUN),
    post("runs/log-inputs", **RUN, models=[{"model_id": "@model:0@"}]),
    post("runs/outputs", **RUN, models=[{"model_id": "@model:0@"}]),
    post("runs/update", **RUN, status="FINISHED"),
    post("runs/delete", **RUN),
    post("runs/restore", **RUN),
    post("runs/restore", **RUN),
]


def test_writing_to_a_deleted_run(made: Twin) -> None:
    made.ask(post("runs/delete", **RUN))
    for call in WRITES:
        made.ask(call)
    read_all(made)


def test_writing_within_a_deleted_experiment(made: Twin) -> None:
    made.ask(post("experiments/delete", experiment_id="@experiment:0@"))
    for call in [*WRITES, post("runs/create", experiment_id="@experiment:0@", start_time=9)]:
        made.ask(call)
    for call in (
        post("experiments/delete", experiment_id="@experiment:0@"),
        post("logged-models", experiment_id="@experiment:0@", name="n"),
    ):
        made.ask(call)
    made.ask(Call("GET", f"{API}/logged-models/@model:0@"))
    read_all(made)
    made.ask(post("experiments/restore", experiment_id="@experiment:0@"))
    made.ask(post("experiments/restore", experiment_id="@experiment:0@"))
    read_all(made)


def test_a_registered_model_by_name_and_alias(made: Twin) -> None:
    made.ask(post("registered-models/create", name="corner ünï", tags=pairs(2)))
    for stage in ("", "Staging", "Production", "Staging"):
        made.ask(post("model-versions/create", name="corner ünï", source="s3://b/m", tags=pairs(1)))
        made.ask(post("model-versions/transition-stage", name="corner ünï", version="1", stage=stage))
    made.ask(post("registered-models/alias", name="corner ünï", alias="champion", version="2"))
    for name in ("corner ünï", "corner none", ""):
        for root in ("/api", "/ajax-api"):
            at = f"{root}/2.0/mlflow"
            made.ask(Call("GET", f"{at}/registered-models/get", params=(("name", name),)))
            made.ask(
                Call("GET", f"{at}/registered-models/alias", params=(("name", name), ("alias", "champion")))
            )
            made.ask(Call("GET", f"{at}/registered-models/alias", params=(("name", name), ("alias", "none"))))
            for version in ("1", "2", "4", "5", "x", "1.0", "-1", ""):
                which = (("name", name), ("version", version))
                made.ask(Call("GET", f"{at}/model-versions/get", params=which))
                made.ask(Call("GET", f"{at}/model-versions/get-download-uri", params=which))
    made.ask(Call("DELETE", f"{API}/model-versions/delete", {"name": "corner ünï", "version": "4"}))
    made.ask(Call("GET", f"{API}/model-versions/get", params=(("name", "corner ünï"), ("version", "4"))))
    made.ask(Call("GET", f"{API}/registered-models/get", params=(("name", "corner ünï"),)))


def test_a_logged_models_life(made: Twin) -> None:
    body = {"model_id": "@model:0@", "status": "LOGGED_MODEL_READY"}
    made.ask(Call("PATCH", f"{API}/logged-models/@model:0@", body))
    made.ask(post("logged-models/@model:0@/params", params=pairs(2)))
    made.ask(Call("PATCH", f"{API}/logged-models/@model:0@/tags", {"tags": pairs(2)}))
    for n in range(4):
        made.ask(
            post(
                "logged-models",
                experiment_id="@experiment:0@",
                name=f"m{n}",
                source_run_id="@run:0@",
                params=pairs(n),
                tags=pairs(n),
            )
        )
    made.ask(
        post(
            "runs/log-metric",
            **RUN,
            key="m",
            value=NAN,
            timestamp=1,
            model_id="@model:1@",
            dataset_name="d",
            dataset_digest="1",
        )
    )
    asked: dict[str, Any] = {"experiment_ids": ["@experiment:0@"], "max_results": 2}
    answer = made.ask(post("logged-models/search", **asked)).body
    while "next_page_token" in answer:
        asked["page_token"] = f"@token:{len(made.sides[0].made['token']) - 1}@"
        answer = made.ask(post("logged-models/search", **asked)).body
    for more in (
        {"filter": "name = 'm1'"},
        {"filter": "name='m1'", "max_results": 1},
        {"filter": "name = 'M1'"},
        {"filter": "name = 'm1' AND name = 'm1'"},
        {"filter": "name LIKE 'm%'", "max_results": 1},
        {"filter": "attributes.name = 'm1'"},
        {"filter": "name = m1"},
        {"order_by": [{"field_name": "creation_time", "ascending": True}]},
        {"max_results": 51},
        {"max_results": 0},
    ):
        made.ask(post("logged-models/search", experiment_ids=["@experiment:0@"], **more))
    made.ask(Call("DELETE", f"{API}/logged-models/@model:1@"))
    for params in ((), (("allow_deleted", "true"),)):
        made.ask(Call("GET", f"{API}/logged-models/@model:1@", params=params))
    made.ask(
        Call(
            "PATCH",
            f"{API}/logged-models/@model:1@",
            {"model_id": "@model:1@", "status": "LOGGED_MODEL_READY"},
        )
    )
    made.ask(post("logged-models/search", experiment_ids=["@experiment:0@"]))


def test_what_must_differ_is_known_and_nothing_else_is_made_equal(made: Twin) -> None:
    """The comparison itself: a float is no whole number, and only a time of today is the server's."""
    side = Side("one", "http://127.0.0.1:9")
    assert side.normal({"a": 1, "b": 1.0, "start_time": 1000}) == {"a": 1, "b": 1.0, "start_time": 1000}
    assert json.dumps(side.normal([1.0])) != json.dumps(side.normal([1]))
    assert side.normal({"data": {"tags": ["b", "a"]}, "runs": ["b", "a"]}) == {
        "data": {"tags": ["a", "b"]},
        "runs": ["b", "a"],
    }
    assert side.normal({"metrics": [2, 1]}) == {"metrics": [2, 1]}
