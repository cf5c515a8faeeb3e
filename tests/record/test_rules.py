"""MLflow's rules: whatever is taken comes out as MLflow itself has it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.uri import append_to_uri_path

from tallystick.record.asks import NotPlain
from tallystick.record.rules import kept, under, with_model

RUN = "0123456789abcdef0123456789abcdef"
USUAL = [
    "mlflow-artifacts:/0",
    "mlflow-artifacts:/",
    "mlflow-artifacts:/workspaces/blue/3",
    "mlflow-artifacts://127.0.0.1:5000/0",
    "s3://bucket",
    "s3://bucket/",
    "s3://bucket/a b/ü",
    "gs://b/x//y",
    "abfss://container@account.dfs.core.windows.net/path",
    "dbfs:/databricks/mlflow",
    "file:///home/me/mlruns/0",
    "/home/me/my runs/0",
    "./mlruns/0",
    "mlruns",
]
ODD = [
    *(
        None,
        "",
        "s3://b/x?versionId=1",
        "s3://b/x#y",
        "/a;b",
        "file:/a",
        "file://",
        "s3:",
        "s3:b",
        "S3://b/x",
    ),
    *("C:\\runs", "C:/runs", "hdfs:/x", "s3:///x", "mlflow-artifacts:0", "mlflow-artifacts://", " /a"),
    *("/a\nb", "s3://[::1", "s3://bü/x", "file:////a"),
]


@pytest.mark.parametrize("location", USUAL)
def test_usual_places_are_plain(location: str) -> None:
    for parts in ((RUN, "artifacts"), ("models", "m-1", "artifacts"), ("7",)):
        assert under(location, *parts) == append_to_uri_path(location, *parts)


@pytest.mark.parametrize("location", ODD)
def test_odd_places_are_mlflows(location: str | None) -> None:
    with pytest.raises(NotPlain):
        under(location, RUN)


WORDS = ["s3", "file", "mlflow-artifacts", "dbfs", "hdfs", "a", "A", "c", "1", "ü", "%20", ".", ".."]
MARKS = [":", "/", "//", "@", "?", "#", ";", "\\", "[", "]", "+", "-", " ", "\t"]
pieces = st.sampled_from(WORDS + MARKS)


@given(st.lists(pieces, max_size=8).map("".join) | st.text(max_size=12))
@example("file:///")
@example("//host/x")
def test_any_place_is_mlflows_or_as_mlflow_has_it(location: str) -> None:
    try:
        found = under(location, RUN, "artifacts")
    except NotPlain:
        return
    assert found == append_to_uri_path(location, RUN, "artifacts")


@given(st.floats())
@example(math.nan)
@example(math.inf)
@example(-math.inf)
@example(-0.0)
def test_a_value_is_kept_as_mlflow_keeps_it(value: float) -> None:
    is_nan, theirs = SqlAlchemyStore.sanitize_metric_value(None, value)
    assert (repr(kept(value)[0]), kept(value)[1]) == (repr(float(theirs)), int(is_nan))


def test_a_history_of_models_grows() -> None:
    one = with_model(None, '{"a": 1}')
    assert json.loads(with_model(one, '{"é": null}')) == [{"a": 1}, {"é": None}]
    assert with_model("[]", "{}") == json.dumps([{}])


@pytest.mark.parametrize("history", ["{", "{}", "null", "5", '"[]"', "", json.dumps(["x" * 8000])])
def test_a_history_that_is_none_or_is_full_is_mlflows(history: str) -> None:
    with pytest.raises(NotPlain):
        with_model(history, "{}")
