"""What stands in the fields of requests, mostly plain, now and then odd."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

__all__ = [
    "START",
    "STATUSES",
    "a_dataset",
    "a_key",
    "a_model",
    "a_number",
    "a_pair",
    "a_point",
    "a_point_again",
    "a_signed_model",
    "a_text",
    "a_whole",
    "body_of",
    "experiment",
    "few",
    "keys",
    "mostly",
    "names",
    "ref",
    "run",
]

START = 424242
"""Stands for a start of a run that no other has: runs that start together are in the order of random ids."""

LONG = "k" * 251
KEYS = ["loss", "acc", "a b", "val/loss", "ünï-çødé", "日本", "x.y", "lr", "k" * 250]
ODD_KEYS = [
    "",
    LONG,
    "../up",
    "/abs",
    "a//b",
    "a\nb",
    "bad:key",
    "mlflow.runName",
    "mlflow.user",
    "q'q",
    'd"d',
    ".",
    "a" * 300,
]
NUMBERS: list[Any] = [
    0,
    1,
    -1,
    0.5,
    1.5,
    0.1,
    1e308,
    1e-320,
    -0.0,
    2**53 + 1,
    float("nan"),
    float("inf"),
    float("-inf"),
    "NaN",
    "Infinity",
    "-Infinity",
    "1.5",
    3.0,
]
ODD_NUMBERS: list[Any] = [
    "abc",
    "",
    None,
    True,
    [],
    {},
    "1e5",
    "inf",
    "nan",
    "-inf",
    " 1",
    10**400,
    1e999,
    2**63,
    "0x10",
]
WHOLE: list[Any] = [0, 1, 2, 5, 100, 1000, -3, 2**53]
ODD_WHOLE: list[Any] = [
    "7",
    "-7",
    1.0,
    1.5,
    "1.0",
    None,
    True,
    "x",
    2**63 - 1,
    2**63,
    -(2**63),
    "",
    [],
    1e3,
    "+1",
    " 2",
]
TEXTS = [
    "v",
    "",
    "1",
    "0.1",
    "a b",
    "ünï 日本 \U0001f600",
    "x" * 500,
    "%",
    "_",
    "it's",
    '"q"',
    "NULL",
    "nan",
    "{}",
]
ODD_TEXTS: list[Any] = ["x" * 6001, "x" * 8001, None, 5, 1.5, True, [], {}, "\ud800", "\x00", "a\x00b"]
STATUSES = ["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]


def keys() -> st.SearchStrategy[str]:
    return st.sampled_from(KEYS)


def mostly(plain: list[Any], odd: list[Any], share: int = 12) -> st.SearchStrategy[Any]:
    """One of ``plain``, and one time in ``share`` one of ``odd``."""
    return st.integers(0, share - 1).flatmap(lambda n: st.sampled_from(odd if n == share - 1 else plain))


def a_key() -> st.SearchStrategy[Any]:
    return mostly(KEYS, ODD_KEYS, 16)


def a_number() -> st.SearchStrategy[Any]:
    return mostly(NUMBERS, ODD_NUMBERS)


def a_whole() -> st.SearchStrategy[Any]:
    return mostly(WHOLE, ODD_WHOLE)


def a_text() -> st.SearchStrategy[Any]:
    return mostly(TEXTS, ODD_TEXTS, 16)


def ref(kind: str) -> st.SearchStrategy[Any]:
    known = st.integers(0, 3).map(lambda n: f"@{kind}:{n}@")
    return st.one_of(
        known, known, known, known, known, mostly([f"@{kind}:0@"], ["", "missing", None, "0" * 32, 5], 3)
    )


def a_point(model: bool = False) -> st.SearchStrategy[Any]:
    optional: dict[str, Any] = {"step": a_whole()}
    if model:
        optional |= {
            "model_id": ref("model"),
            "dataset_name": mostly(["data"], ["other", "", None, "d" * 501, 5]),
            "dataset_digest": mostly(["d1"], ["d2", "", None, "d" * 37, 5]),
        }
    return st.fixed_dictionaries(
        {"key": a_key(), "value": a_number(), "timestamp": a_whole()}, optional=optional
    )


def a_pair() -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({"key": a_key(), "value": a_text()})


def body_of(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(required, optional=optional)


def run() -> dict[str, Any]:
    return {"run_id": ref("run")}


def few(what: st.SearchStrategy[Any], most: int = 4) -> st.SearchStrategy[Any]:
    return st.lists(what, max_size=most)


def a_dataset() -> st.SearchStrategy[Any]:
    name = st.sampled_from(["data", "other", "ünï"])
    fields = {
        "name": name,
        "digest": st.sampled_from(["d1", "d2"]),
        "source_type": st.just("local"),
        "source": st.just("{}"),
    }
    inner = body_of(fields, schema=st.just('{"a": 1}'), profile=st.just("{}"))
    context = st.fixed_dictionaries(
        {"key": st.just("mlflow.data.context"), "value": st.sampled_from(["train", "eval"])}
    )
    return body_of({"dataset": inner}, tags=few(context, 1))


def a_point_again() -> st.SearchStrategy[Any]:
    """Of a model, in one of few places, so that it often meets another."""
    return st.fixed_dictionaries(
        {
            "key": st.sampled_from(["loss", "acc"]),
            "value": st.sampled_from([0, 1, -0.0, "NaN", "Infinity"]),
            "timestamp": st.sampled_from([1, 2]),
            "model_id": st.sampled_from(["@model:0@", "@model:0@", "@model:1@"]),
        },
        optional={
            "dataset_name": st.just("data"),
            "dataset_digest": st.just("d1"),
            "run_id": st.sampled_from(["@run:0@", "@run:1@"]),
        },
    )


_TENSOR = '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]'
_SIGNATURES: list[Any] = [
    {"inputs": '[{"type": "long", "name": "a", "required": true}]', "outputs": _TENSOR, "params": None},
    {"inputs": '[{"type": "double"}, {"type": "string"}]'},
    None,
]
_ODD_SIGNATURES: list[Any] = [
    {},
    "x",
    {"inputs": "[]"},
    {"inputs": "x"},
    {"inputs": '[{"type": "long"}, {"type": "long", "name": "a"}]'},
    {"inputs": '[{"type": "no type"}]'},
    {"inputs": '[{"type": "long", "required": false}]'},
    {"outputs": '[{"type": "array", "items": {"type": "long"}}]'},
    {"params": '[{"name": "p", "type": "long", "default": 1, "shape": null}]'},
]


def a_signed_model() -> st.SearchStrategy[Any]:
    """An MLmodel file with a signature."""
    plain = {"artifact_path": "m", "flavors": {"sklearn": {"code": None}}, "run_id": "@run:0@"}
    plain |= {"utc_time_created": "2020-01-01 00:00:00.000000", "model_size_bytes": 5, "metadata": {"a": 1}}
    signed = mostly(_SIGNATURES, _ODD_SIGNATURES, 2)
    return signed.map(lambda one: json.dumps({**plain, "signature": one}))


def a_model() -> st.SearchStrategy[Any]:
    plain = {
        "artifact_path": "model",
        "flavors": {},
        "utc_time_created": "2020-01-01 00:00:00.000000",
        "run_id": "@run:0@",
    }
    odd = [
        json.dumps(plain | {"flavors": {"python_function": {"env": "x"}}, "model_uuid": "u"}),
        json.dumps({"a": 1}),
        "no json",
        "[]",
        "",
        5,
    ]
    return mostly([json.dumps(plain), json.dumps(plain | {"artifact_path": "m2"})], odd, 4)


def experiment() -> dict[str, Any]:
    return {"experiment_id": ref("experiment")}


def names(prefix: str) -> st.SearchStrategy[Any]:
    return st.sampled_from([f"{prefix}-a", f"{prefix}-b", f"{prefix} ünï", f"{prefix}-missing"])
