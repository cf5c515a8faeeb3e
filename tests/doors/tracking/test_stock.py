"""Whatever the native lane takes, MLflow takes too, and understands the same by it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from google.protobuf.json_format import ParseError
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.protos import service_pb2
from mlflow.utils.proto_json_utils import parse_dict
from mlflow.utils.search_utils import SearchUtils
from mlflow.utils.validation import (
    _validate_batch_log_data,
    _validate_batch_log_limits,
    _validate_experiment_tag,
    _validate_metric,
    _validate_metric_name,
    _validate_param,
    _validate_param_keys_unique,
    _validate_run_id,
    _validate_tag,
)

from tallystick.core.tracking.asks import NotPlain
from tallystick.doors.tracking import plain, reads
from tallystick.doors.tracking.lane import Lane
from tallystick.doors.tracking.table import find
from tests.doors.tracking.heard import RUN, Heard
from tests.fakes.clock import FakeClock

LANE = Lane(Heard(), FakeClock(), False)

keys = st.text(st.sampled_from("ab/._- :\n\0é.?"), max_size=8) | st.text(max_size=4) | st.just("k" * 250)
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
    st.sampled_from(
        ["NaN", "Infinity", "-Infinity", "nan", "inf", "1", "", None, True, 10**400, 2**63, 1e300]
    ),
)
wholes = st.one_of(st.integers(-(2**64), 2**64), st.sampled_from([0, 2**63 - 1, 2**63, 1.0, "1", None, True]))
texts = st.text(max_size=5) | st.sampled_from(["x" * 6000, "x" * 6001, "x" * 8000, "x" * 8001, None, 5])
ids = st.sampled_from([RUN, "", None, "a-b", "a b", 5, "x" * 257])
pairs = st.lists(st.fixed_dictionaries({"key": keys}, optional={"value": texts, "odd": texts}), max_size=3)


def read(path: str, said: Any) -> Any:
    """The ask, or None."""
    route = find("POST", f"/api/2.0/mlflow/runs/{path}".encode())
    assert route
    try:
        return LANE._asked(route, b"", json.dumps(said).encode())
    except NotPlain:
        return None


def equal(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@given(
    st.fixed_dictionaries(
        {"key": keys, "value": numbers, "timestamp": wholes},
        optional={"run_id": ids, "run_uuid": ids, "step": wholes, "runId": ids},
    )
)
@example({"key": "k", "value": "NaN", "timestamp": 0, "run_id": RUN, "run_uuid": RUN})
@example({"key": "k", "value": 2**64 + 1, "timestamp": 2**63 - 1, "run_uuid": RUN, "step": -(2**63)})
def test_a_metric(said: dict[str, Any]) -> None:
    ask = read("log-metric", said)
    if ask is None:
        return
    message = service_pb2.LogMetric()
    parse_dict(said, message)
    _validate_metric(message.key, message.value, message.timestamp, message.step)
    assert (ask.run_id, ask.key) == (message.run_id or message.run_uuid, message.key)
    assert equal(ask.value, message.value)
    assert (ask.timestamp_ms, ask.step) == (message.timestamp, message.step)
    assert said.get("run_id", RUN) not in ("", 5), "MLflow requires it"


@given(
    st.fixed_dictionaries(
        {"run_id": ids},
        optional={
            "metrics": st.lists(
                st.fixed_dictionaries(
                    {"key": keys, "value": numbers, "timestamp": wholes}, optional={"step": wholes}
                ),
                max_size=3,
            ),
            "params": pairs,
            "tags": pairs,
        },
    )
)
def test_a_batch(said: dict[str, Any]) -> None:
    ask = read("log-batch", said)
    if ask is None:
        return
    message = service_pb2.LogBatch()
    parse_dict(said, message)
    _validate_run_id(message.run_id)
    _validate_batch_log_data(message.metrics, message.params, message.tags)
    _validate_batch_log_limits(message.metrics, message.params, message.tags)
    _validate_param_keys_unique(message.params)
    points = zip(ask.points.keys, ask.points.values, ask.points.timestamps_ms, ask.points.steps, strict=True)
    for point, m in zip(points, message.metrics, strict=True):
        assert (point[0], point[2:]) == (m.key, (m.timestamp, m.step))
        assert equal(point[1], m.value)
    assert ask.params == tuple((p.key, p.value) for p in message.params)
    assert ask.tags == tuple((t.key, t.value) for t in message.tags)


@given(keys, st.sampled_from(["", "v", "v" * 6000, "v" * 8000]))
def test_a_param_and_a_tag(key: str, value: str) -> None:
    for path, validate in (("log-parameter", _validate_param), ("set-tag", _validate_tag)):
        ask = read(path, {"run_id": RUN, "key": key, "value": value})
        if ask is not None:
            kept = validate(key, value)
            assert (kept.key, kept.value) == (ask.key, ask.value), "not even cut"


@pytest.mark.parametrize(
    "key", ["loss", "a/b c:d", "é", "..a", "a..", ".a", "a.b", "-", " ", "a/..b", "x" * 250]
)
def test_usual_keys_are_plain_where_mlflow_takes_them(key: str) -> None:
    try:
        _validate_metric_name(key)
        taken = True
    except MlflowException:
        taken = False
    assert (read("log-metric", {"run_id": RUN, "key": key, "value": 1, "timestamp": 1}) is not None) is taken


@given(st.integers(1, 10**14))
def test_page_tokens_are_mlflows(offset: int) -> None:
    token = SearchUtils.create_page_token(offset).decode()
    assert reads._offset(token) == offset == SearchUtils.parse_start_offset_from_page_token(token)


@given(st.binary(max_size=30) | st.text(max_size=20))
def test_any_other_token_is_left_to_mlflow(token: Any) -> None:
    try:
        offset = reads._offset(token if isinstance(token, str) else token.decode("latin-1"))
    except (NotPlain, ValueError):
        return
    assert offset == SearchUtils.parse_start_offset_from_page_token(token)


def test_numbers_that_protobuf_refuses_are_not_taken() -> None:
    for odd in (True, "nan", "0x1", None, [], 10**400):
        said = {"run_id": RUN, "key": "k", "value": odd, "timestamp": 1}
        assert read("log-metric", said) is None
    with pytest.raises(ParseError):
        parse_dict({"value": "x"}, service_pb2.LogMetric())
    assert plain.number("-Infinity") == -math.inf


def test_an_experiments_tag() -> None:
    for key, value in [("a", "v" * 20_000), ("mlflow.note.content", "x")]:
        _validate_experiment_tag(key, value)
        said = {"experiment_id": "1", "key": key, "value": value}
        route = find("POST", b"/api/2.0/mlflow/experiments/set-experiment-tag")
        assert route
        assert LANE._asked(route, b"", json.dumps(said).encode())
