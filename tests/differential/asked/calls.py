"""Random requests to MLflow's tracking and registry routes, plain ones and odd ones."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.differential.asked.routes import reads, writes
from tests.differential.asked.values import START
from tests.differential.twin import Call

__all__ = ["START", "any_call", "calls"]

ROOTS = st.sampled_from(["/api/2.0/mlflow"] * 6 + ["/ajax-api/2.0/mlflow"] * 3 + ["/api/3.0/mlflow"])


def _as_params(body: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    pairs = [(k, one) for k, v in body.items() for one in (v if isinstance(v, list) else [v])]
    return tuple((k, str(v)) for k, v in pairs if v is not None)


def _camel(text: str) -> str:
    head, *rest = text.split("_")
    return head + "".join(part.title() for part in rest)


def _camelled(body: Any) -> Any:
    if isinstance(body, dict):
        return {_camel(k): _camelled(v) for k, v in body.items()}
    return [_camelled(v) for v in body] if isinstance(body, list) else body


def _bent(call: Call, how: str, which: int) -> Call:
    """``call`` sent in a way that is seldom: ``how`` says which, ``which`` picks a field."""
    body = call.body
    if not isinstance(body, dict) or not body:
        return call
    field = sorted(body)[which % len(body)]
    raw = json.dumps(body)
    changed: dict[str, dict[str, Any]] = {
        "drop": {"body": {k: v for k, v in body.items() if k != field}},
        "null": {"body": body | {field: None}},
        "list": {"body": body | {field: [body[field]]}},
        "object": {"body": body | {field: {"a": body[field]}}},
        "unknown": {"body": body | {"nothing_known": {"a": [1]}}},
        "camel": {"body": _camelled(body)},
        "both": {"body": body | {_camel(field): body[field]}},
        "uuid": {"body": {("run_uuid" if k == "run_id" else k): v for k, v in body.items()}},
        "twice": {"raw": json.dumps(raw)},
        "repeated": {"raw": raw[:-1] + ", " + json.dumps(field) + ": " + json.dumps(body[field]) + "}"},
        "cut": {"raw": raw[:-1]},
        "plain": {"headers": {"content-type": "text/plain"}},
        "charset": {"headers": {"content-type": "application/json; charset=utf-8"}},
        "array": {"raw": f"[{raw}]"},
        "spaced": {"raw": f" \n{raw}\t "},
    }
    parts = {"body": body, "raw": None, "headers": {}} | changed[how]
    return Call(call.method, call.path, parts["body"], call.params, parts["headers"], parts["raw"])


WAYS = [
    "drop",
    "null",
    "list",
    "object",
    "unknown",
    "camel",
    "camel",
    "both",
    "uuid",
    "twice",
    "repeated",
    "cut",
    "plain",
    "charset",
    "array",
    "spaced",
]


@st.composite
def any_call(draw: st.DrawFn, prefix: str) -> Call:
    """A request of any kind, mostly plain; experiments and models are named after ``prefix``."""
    routes = [*writes(prefix).items(), *reads(prefix).items()]
    weighted = [(route, method, bodies) for route, (method, weight, bodies) in routes for _ in range(weight)]
    route, method, bodies = draw(st.sampled_from(weighted))
    root = draw(ROOTS)
    if route == "metrics/get-history-bulk":
        root = "/ajax-api/2.0/mlflow"  # MLflow has it nowhere else
    body = draw(bodies)
    if method == "GET":
        return Call("GET", f"{root}/{route}", params=_as_params(body))
    call = Call(method, f"{root}/{route}", body)
    if draw(st.integers(0, 7)) == 7:
        return _bent(call, draw(st.sampled_from(WAYS)), draw(st.integers(0, 5)))
    return call


def calls(prefix: str) -> st.SearchStrategy[list[Call]]:
    """A session: up to 40 requests, in order."""
    return st.lists(any_call(prefix), min_size=8, max_size=40)
