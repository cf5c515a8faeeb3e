"""The routes that are native, and some beside them: how often each is asked, and with what."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.differential.asked.values import (
    START,
    STATUSES,
    a_dataset,
    a_key,
    a_model,
    a_pair,
    a_point,
    a_point_again,
    a_signed_model,
    a_text,
    a_whole,
    body_of,
    experiment,
    few,
    keys,
    mostly,
    names,
    ref,
    run,
)

__all__ = ["Routes", "reads", "writes"]

FILTERS = [
    "name = 'm'",
    "name='m'",
    "name= 'm'",
    "name ='m'",
    "name = 'none'",
    "name = 'ünï'",
    "name = 'm.1'",
]
Routes = dict[str, tuple[str, int, st.SearchStrategy[Any]]]


def writes(prefix: str) -> Routes:
    """Route: method, weight and bodies. Experiments and models are named after ``prefix``."""
    return {
        **_run_writes(),
        **_run_links(),
        **_experiment_writes(prefix),
        **_model_writes(),
        **_registered_writes(prefix),
    }


def _run_writes() -> Routes:
    """What runs are made of."""
    return {
        "runs/create": (
            "POST",
            5,
            body_of(
                {
                    "experiment_id": st.just("@experiment:0@"),
                    "start_time": mostly([START], ["x", 1.5, True, "", 2**63], 16),
                },
                tags=few(a_pair(), 2),
                run_name=a_text(),
                user_id=st.sampled_from(["me", "ünï"]),
            ),
        ),
        "runs/update": (
            "POST",
            3,
            body_of(
                run(),
                status=mostly(STATUSES, ["WRONG", "", 3, None, "finished"], 8),
                end_time=a_whole(),
                run_name=a_text(),
            ),
        ),
        "runs/delete": ("POST", 1, body_of(run())),
        "runs/restore": ("POST", 1, body_of(run())),
        "runs/log-metric": (
            "POST",
            8,
            st.tuples(body_of(run()), a_point(model=True) | a_point_again()).map(lambda two: two[1] | two[0]),
        ),
        "runs/log-parameter": (
            "POST",
            4,
            st.tuples(body_of(run()), a_pair()).map(lambda two: two[0] | two[1]),
        ),
        "runs/set-tag": ("POST", 4, st.tuples(body_of(run()), a_pair()).map(lambda two: two[0] | two[1])),
        "runs/delete-tag": ("POST", 2, body_of({**run(), "key": a_key()})),
        "runs/log-batch": (
            "POST",
            6,
            body_of(
                run(),
                metrics=few(a_point()) | few(a_point(model=True)) | few(a_point_again()),
                params=few(a_pair()),
                tags=few(a_pair()),
            ),
        ),
    }


def _run_links() -> Routes:
    """What runs have to do with data and models."""
    return {
        "runs/log-inputs": (
            "POST",
            2,
            body_of(run(), datasets=few(a_dataset(), 2), models=few(body_of({"model_id": ref("model")}), 2)),
        ),
        "runs/outputs": (
            "POST",
            2,
            body_of(run(), models=few(body_of({"model_id": ref("model")}, step=a_whole()), 2)),
        ),
        "runs/log-model": ("POST", 2, body_of({**run(), "model_json": a_model() | a_signed_model()})),
    }


def _experiment_writes(prefix: str) -> Routes:
    """Experiments."""
    return {
        "experiments/create": (
            "POST",
            1,
            body_of(
                {"name": names(prefix)},
                tags=few(a_pair(), 2),
                artifact_location=st.sampled_from(["", "s3://b/x", "mlflow-artifacts:/here"]),
            ),
        ),
        "experiments/update": ("POST", 1, body_of(experiment(), new_name=names(prefix))),
        "experiments/delete": (
            "POST",
            1,
            body_of({"experiment_id": st.sampled_from(["@experiment:1@", "@experiment:2@", "none"])}),
        ),
        "experiments/restore": (
            "POST",
            1,
            body_of({"experiment_id": st.sampled_from(["@experiment:1@", "@experiment:2@", "none"])}),
        ),
        "experiments/set-experiment-tag": (
            "POST",
            1,
            st.tuples(body_of(experiment()), a_pair()).map(lambda two: two[0] | two[1]),
        ),
        "experiments/delete-experiment-tag": ("POST", 1, body_of({**experiment(), "key": a_key()})),
    }


def _model_writes() -> Routes:
    """Logged models."""
    return {
        "logged-models": (
            "POST",
            2,
            body_of(
                {
                    "experiment_id": st.just("@experiment:0@"),
                    "name": st.sampled_from(["m", "ünï", "a/b", "m.1"]),
                },
                model_type=a_text(),
                source_run_id=ref("run"),
                params=few(a_pair(), 2),
                tags=few(a_pair(), 2),
            ),
        ),
        "logged-models/@model:0@": (
            "PATCH",
            2,
            body_of(
                {
                    "model_id": st.just("@model:0@"),
                    "status": mostly(
                        ["LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED", "LOGGED_MODEL_PENDING"],
                        ["LOGGED_MODEL_STATUS_UNSPECIFIED", 2, "x", None],
                        5,
                    ),
                }
            ),
        ),
        "logged-models/@model:1@/tags": (
            "PATCH",
            2,
            body_of(
                {"tags": few(a_pair(), 2)}, model_id=mostly(["@model:1@"], ["@model:0@", "", 5, None], 3)
            ),
        ),
        "logged-models/@model:0@/tags": ("PATCH", 1, body_of({}, tags=few(a_pair(), 2))),
        "logged-models/@model:0@/tags/lr": ("DELETE", 2, st.none()),
        "logged-models/@model:1@/tags/a%20b": ("DELETE", 1, st.none()),
        "logged-models/@model:0@/params": (
            "POST",
            2,
            body_of(
                {"model_id": mostly(["@model:0@"], ["@model:1@", "", 5, None], 6)}, params=few(a_pair(), 2)
            ),
        ),
        "logged-models/@model:1@": ("DELETE", 1, st.none()),
    }


def _registered_writes(prefix: str) -> Routes:
    """Registered models."""
    return {
        "registered-models/create": (
            "POST",
            1,
            body_of({"name": names(prefix)}, tags=few(a_pair(), 2), description=st.just("ünï")),
        ),
        "registered-models/alias": (
            "POST",
            1,
            body_of(
                {
                    "name": names(prefix),
                    "alias": st.sampled_from(["champion", "Ünï", "v1", "latest"]),
                    "version": st.sampled_from(["1", "2", 1, "x"]),
                }
            ),
        ),
        "model-versions/create": (
            "POST",
            2,
            body_of(
                {"name": names(prefix), "source": st.just("s3://bucket/model")},
                run_id=ref("run"),
                tags=few(a_pair(), 2),
            ),
        ),
    }


def reads(prefix: str) -> Routes:
    """Route: method, weight and query parameters (GET) or bodies (POST)."""
    return {**_run_reads(), **_search_reads(prefix), **_model_reads(prefix)}


def _run_reads() -> Routes:
    """Runs and histories."""
    few_runs = st.lists(st.integers(0, 3).map(lambda n: f"@run:{n}@"), max_size=3, unique=True)
    all_of_them = body_of(
        {"run_id": few_runs, "metric_key": keys()}, max_results=st.sampled_from(["1000", "30000"])
    )
    some_of_one = body_of(
        {"run_id": few_runs.map(lambda runs: runs[:1]), "metric_key": keys()},
        max_results=st.sampled_from(["1", "2", "0", "-1", "x", ""]),
    )
    page = st.sampled_from(["1", "2", "3", "1000", "0", "-1", "x", ""])
    return {
        "runs/get": ("GET", 5, body_of({}, run_id=ref("run"), run_uuid=ref("run"))),
        "metrics/get-history": (
            "GET",
            4,
            body_of(
                {"metric_key": keys()}, run_id=ref("run"), max_results=page, page_token=st.just("@token:0@")
            ),
        ),
        "metrics/get-history-bulk": ("GET", 2, all_of_them | some_of_one),
        "metrics/get-history-bulk-interval": (
            "GET",
            2,
            body_of(
                {"run_ids": few_runs, "metric_key": keys()},
                max_results=page,
                start_step=st.sampled_from(["0", "1", "-3", "x"]),
                end_step=st.sampled_from(["0", "2", "100", ""]),
            ),
        ),
    }


def _search_reads(prefix: str) -> Routes:
    """Experiments, and runs by search."""
    return {
        "experiments/get": ("GET", 2, body_of(experiment())),
        "experiments/get-by-name": ("GET", 1, body_of({"experiment_name": names(prefix)})),
        "experiments/search": (
            "POST",
            2,
            body_of(
                {
                    "filter": st.sampled_from(
                        [
                            f"name LIKE '{prefix}%'",
                            f"name = '{prefix}-a'",
                            f"name ILIKE '{prefix.upper()}%' AND tags.lr = 'v'",
                        ]
                    )
                },
                max_results=st.sampled_from([1, 2, 1000, "2", 0, None]),
                view_type=st.sampled_from(["ALL", "DELETED_ONLY", "ACTIVE_ONLY", 3, "x"]),
                order_by=st.sampled_from(
                    [["name"], ["name DESC"], ["experiment_id ASC"], ["creation_time"], ["nope"]]
                ),
            ),
        ),
        "runs/search": (
            "POST",
            3,
            body_of(
                {
                    "experiment_ids": st.sampled_from(
                        [["@experiment:0@"], ["@experiment:0@", "@experiment:1@"], [], ["x"]]
                    )
                },
                max_results=st.sampled_from([1000, 50000, 50001, "1000"]),
                run_view_type=st.sampled_from(["ALL", "DELETED_ONLY", "ACTIVE_ONLY", "x"]),
                order_by=st.sampled_from(
                    [["metrics.loss"], ["metrics.loss DESC", "params.lr"], ["attributes.start_time"]]
                ),
                page_token=st.just("@token:0@"),
            ),
        ),
    }


def _model_reads(prefix: str) -> Routes:
    """Logged and registered models."""
    return {
        "logged-models/@model:0@": ("GET", 2, body_of({})),
        "logged-models/search": (
            "POST",
            1,
            body_of(
                {"experiment_ids": st.just(["@experiment:0@"])},
                max_results=st.sampled_from([1, 2, 50]),
                filter=st.sampled_from(FILTERS),
            ),
        ),
        "registered-models/get": ("GET", 1, body_of({"name": names(prefix)})),
        "registered-models/alias": (
            "GET",
            1,
            body_of({"name": names(prefix), "alias": st.sampled_from(["champion", "none"])}),
        ),
        "model-versions/get": (
            "GET",
            1,
            body_of({"name": names(prefix), "version": st.sampled_from(["1", "2", "x"])}),
        ),
        "model-versions/get-download-uri": (
            "GET",
            1,
            body_of({"name": names(prefix), "version": st.sampled_from(["1", "2", "x"])}),
        ),
        "registered-models/search": ("GET", 1, body_of({"filter": st.just(f"name LIKE '{prefix}%'")})),
    }
