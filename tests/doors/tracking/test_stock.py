"""Whatever the native lane takes, MLflow takes too, and understands the same by it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.json_format import ParseError
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model
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

from tallystick.doors.tracking import plain, reads
from tallystick.doors.tracking.lane import Lane
from tallystick.doors.tracking.table import find
from tallystick.record.asks import LogBatch, NotPlain
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
of_model = {
    "model_id": st.sampled_from(["m-1", "m-1", "", "a b", 5]),
    "dataset_name": st.sampled_from(["d", "d", "", "d" * 501]),
    "dataset_digest": st.sampled_from(["1", "1", "", None, "1" * 37]),
}
pairs = st.lists(st.fixed_dictionaries({"key": keys}, optional={"value": texts, "odd": texts}), max_size=3)


def read(path: str, said: Any) -> Any:
    """The ask, or None."""
    route = find("POST", f"/api/2.0/mlflow/runs/{path}".encode())
    assert route
    try:
        return LANE._asked(route, b"", json.dumps(said).encode())
    except NotPlain:
        return None


def same_points(ask: LogBatch, messages: Sequence[Any]) -> None:
    """The points of a batch, and those of models, as MLflow's own entities have them."""
    points = zip(ask.points.keys, ask.points.values, ask.points.timestamps_ms, ask.points.steps, strict=True)
    for point, m in zip(points, messages, strict=True):
        assert (point[0], point[2:]) == (m.key, (m.timestamp, m.step))
        assert equal(point[1], m.value)
    of_models = dict.fromkeys(Metric.from_proto(m) for m in messages if m.model_id)
    for one, theirs in zip(ask.of_models, of_models, strict=True):
        assert (one.model_id, one.key) == (theirs.model_id, theirs.key)
        assert (one.timestamp_ms, one.step) == (theirs.timestamp, theirs.step)
        assert (one.dataset_name, one.dataset_digest) == (theirs.dataset_name, theirs.dataset_digest)
        assert equal(one.value, theirs.value)


def equal(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@given(
    st.fixed_dictionaries(
        {"key": keys, "value": numbers, "timestamp": wholes},
        optional={"run_id": ids, "run_uuid": ids, "step": wholes, "runId": ids, **of_model},
    )
)
@example({"key": "k", "value": 1, "timestamp": 0, "run_id": RUN, "model_id": "m", "dataset_name": ""})
@example({"key": "k", "value": "NaN", "timestamp": 0, "run_id": RUN, "run_uuid": RUN})
@example({"key": "k", "value": 2**64 + 1, "timestamp": 2**63 - 1, "run_uuid": RUN, "step": -(2**63)})
def test_a_metric(said: dict[str, Any]) -> None:
    ask = read("log-metric", said)
    if ask is None:
        return
    message = service_pb2.LogMetric()
    parse_dict(said, message)
    _validate_metric(message.key, message.value, message.timestamp, message.step)
    assert ask.run_id == (message.run_id or message.run_uuid)
    if isinstance(ask, LogBatch):
        same_points(ask, [message])
    else:
        assert not message.model_id
        assert equal(ask.value, message.value)
        assert (ask.key, ask.timestamp_ms, ask.step) == (message.key, message.timestamp, message.step)
    assert said.get("run_id", RUN) not in ("", 5), "MLflow requires it"


@given(
    st.fixed_dictionaries(
        {"run_id": ids},
        optional={
            "metrics": st.lists(
                st.fixed_dictionaries(
                    {"key": keys, "value": numbers, "timestamp": wholes},
                    optional={"step": wholes, **of_model},
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
    same_points(ask, message.metrics)
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


columns = st.fixed_dictionaries(
    {"type": st.sampled_from(["long", "string", "double", "tensor", "decimal", "any", 5])},
    optional={
        "name": st.sampled_from(["a", "b", "", None]),
        "required": st.sampled_from([True, False, None]),
        "tensor-spec": st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["float32", "str", "object", "U5", "no type"]),
                "shape": st.sampled_from([[-1], [], 3]),
            }
        ),
    },
)
sides = st.lists(columns, max_size=3).map(json.dumps) | st.sampled_from([None, "", "x", "[]", "null"])
tensor: dict[str, Any] = {"type": "tensor", "tensor-spec": {"dtype": "str", "shape": [-1]}}


@given(st.fixed_dictionaries({}, optional={"inputs": sides, "outputs": sides, "params": st.just("[]")}))
@example({"inputs": json.dumps([{"type": "long", "name": "a", "required": False}])})
@example(
    {"inputs": json.dumps([tensor | {"name": "a"}, tensor | {"name": "b"}]), "outputs": json.dumps([tensor])}
)
def test_a_models_signature(signature: dict[str, Any]) -> None:
    said = {"artifact_path": "m", "flavors": {"f": {"config": 1}}, "utc_time_created": "x", "run_id": RUN}
    ask = read("log-model", {"run_id": RUN, "model_json": json.dumps({**said, "signature": signature})})
    if ask is not None:
        kept = Model.from_dict({**said, "signature": signature}).get_tags_dict()
        assert ask.model_json == json.dumps(kept)


def test_usual_signatures_are_plain() -> None:
    table = [{"type": "long", "name": "a", "required": True}]
    for side in (table, [{"type": "string", "required": True}] * 2, [tensor]):
        said = {"artifact_path": "m", "flavors": {}, "utc_time_created": "x", "run_id": RUN}
        model = {**said, "signature": {"inputs": json.dumps(side)}}
        assert read("log-model", {"run_id": RUN, "model_json": json.dumps(model)}) is not None
