"""Searches are read as MLflow reads them, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.store.tracking import sqlalchemy_store as store
from mlflow.utils.search_utils import SearchExperimentsUtils, SearchUtils

from tallystick.record.search import Condition, Order, read_conditions, read_orders

QUICK = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
KINDS = {
    "metric": "metric",
    "parameter": "param",
    "tag": "tag",
    "attribute": "attribute",
    "dataset": "dataset",
}


def theirs(text: str, entity: str) -> tuple[Condition, ...] | None:
    """MLflow's reading, None for a refusal, be it one that comes only as MLflow makes SQL of it."""
    try:
        if entity == "run":
            parsed = SearchUtils.parse_search_filter(text)
            for one in parsed:
                _check_run(one)
        else:
            parsed = SearchExperimentsUtils.parse_search_filter(text)
            store._get_search_experiments_filter_clauses(parsed, "sqlite")
    except MlflowException:
        return None
    return tuple(_ours(one, entity) for one in parsed)


def _check_run(one: dict[str, Any]) -> None:
    kind, comparator = one["type"], one["comparator"].upper()
    checks = (
        SearchUtils.is_metric(kind, comparator),
        SearchUtils.is_param(kind, comparator),
        SearchUtils.is_tag(kind, comparator),
        SearchUtils.is_dataset(kind, comparator),
        SearchUtils.is_attribute(kind, SearchUtils.translate_key_alias(one["key"]), comparator),
    )
    assert any(checks)


def _ours(one: dict[str, Any], entity: str) -> Condition:
    value = float(one["value"]) if one["type"] == "metric" else one["value"]
    key = (
        SearchUtils.translate_key_alias(one["key"])
        if one["type"] == "attribute" and entity == "run"
        else one["key"]
    )
    return Condition(KINDS[one["type"]], key, one["comparator"].upper(), value)


def theirs_orders(texts: tuple[str, ...], entity: str) -> tuple[Order, ...] | None:
    try:
        if entity == "run":
            parsed = [SearchUtils.parse_order_by_for_search_runs(text) for text in texts]
        else:
            parsed = [SearchExperimentsUtils.parse_order_by_for_search_experiments(text) for text in texts]
    except (MlflowException, ValueError):
        return None
    orders = tuple(
        Order(KINDS[kind], SearchUtils.translate_key_alias(key) if kind == "attribute" else key, up)
        for kind, key, up in parsed
    )
    if len({(one.kind, one.key) for one in orders}) < len(orders):
        return None
    refused = ("dataset",) if entity == "run" else ("tag", "dataset")
    return None if any(one.kind in refused for one in orders) else orders


words = st.sampled_from(
    [
        "a",
        "loss",
        "f1_score",
        "x.y",
        "model_type",
        "mlflow.runName",
        "end",
        "case",
        "values",
        "from",
        "as",
        "in",
        "key",
        "value",
        "order",
        "group",
        "date",
        "timestamp",
        "select",
        "null",
        "not",
        "and",
        "like",
        "desc",
        "asc",
        "is",
        "if",
        "for",
        "begin",
        "go",
        "create",
        "table",
        "double",
        "join",
        "_x",
        "e5",
        "context",
        "name",
        "digest",
        "5",
        "a-b",
        "status",
        "start_time",
        "Created",
        "run_id",
        "userid",
        "ä",
        "\u017f",
    ]
)
inner = st.text(st.sampled_from("ab1 .%_-;()=<>,$#/*?:\\'\"`\n\t\u00e9\u0130\U0001f600"), max_size=6)
keys = st.one_of(
    words,
    st.builds("`{}`".format, inner),
    st.builds('"{}"'.format, inner),
    st.builds("'{}'".format, inner),
)
prefixes = st.sampled_from(
    [
        "metrics",
        "metric",
        "params",
        "parameters",
        "parameter",
        "param",
        "tags",
        "tag",
        "attributes",
        "attribute",
        "attr",
        "run",
        "datasets",
        "dataset",
        "Metrics",
        "`metrics`",
        "trace",
    ]
)
bare = st.sampled_from(
    [
        "status",
        "start_time",
        "end_time",
        "run_id",
        "run_name",
        "user_id",
        "artifact_uri",
        "created",
        "Created",
        "`Run Name`",
        '"run name"',
        "name",
        "experiment_id",
        "creation_time",
        "last_update_time",
        "foo",
        "timestamp",
    ]
)
names = st.one_of(st.builds("{}.{}".format, prefixes, keys), bare, st.builds("attributes.{}".format, bare))
strings = st.one_of(st.builds("'{}'".format, inner), st.builds('"{}"'.format, inner))
numbers = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=True).map(repr),
    st.sampled_from(
        [
            "1e5",
            "1E-5",
            "1e+5",
            ".5",
            "-.5",
            "5.",
            "1.e5",
            "0x1F",
            "-0",
            "1_000",
            "1.5e3",
            "1.5e-3",
            "nan",
            "NaN",
            "inf",
            "-inf",
            "1e999",
            "'5'",
            "007",
        ]
    ),
)
lists = st.lists(st.one_of(strings, st.just("1"), st.just("u'a'")), max_size=3).map(
    lambda items: "(" + ", ".join(items) + ")"
)
operators = st.sampled_from(
    [
        "=",
        "!=",
        ">",
        ">=",
        "<",
        "<=",
        "LIKE",
        "ILIKE",
        "like",
        "iLike",
        "IN",
        "NOT IN",
        "not  in",
        "in",
        "==",
        "<>",
        "RLIKE",
        "NOT LIKE",
        "BETWEEN",
        "is",
        "~",
        "=!",
    ]
)
spaces = st.sampled_from(["", " ", " ", " ", "  ", "\t", "\n", "\r\n", "\u00a0", " -- x\n", "/* y */"])
nulls = st.sampled_from(["IS NULL", "IS NOT NULL", "is null", "is  not  null", "IS  NULL", "NOT NULL"])
values = st.one_of(strings, numbers, lists, words)
clauses = st.one_of(
    st.builds("{}{}{}{}{}".format, names, spaces, operators, spaces, values),
    st.builds("{} {} {}".format, names, operators, values),
    st.builds("{} {}".format, names, nulls),
)
joints = st.sampled_from([" AND "] * 8 + [" and ", "\nAND\t", " OR ", " ", "AND", " AND AND ", ";", ", "])
ends = st.sampled_from([""] * 6 + [" ", " AND", ";", "\n", ")"])


@st.composite
def filters(draw: st.DrawFn) -> str:
    text = draw(clauses)
    for _ in range(draw(st.integers(0, 2))):
        text += draw(joints) + draw(clauses)
    return draw(ends.filter(str.isspace)) * draw(st.integers(0, 1)) + text + draw(ends)


@QUICK
@given(filters(), st.sampled_from(["run", "experiment"]))
def test_whatever_is_read_is_read_as_mlflow_reads_it(text: str, entity: str) -> None:
    ours = read_conditions(text, entity)
    if ours is not None:
        assert ours == theirs(text, entity)


@QUICK
@given(st.text(max_size=40), st.sampled_from(["run", "experiment"]))
def test_so_is_garbage(text: str, entity: str) -> None:
    ours = read_conditions(text, entity)
    if ours is not None:
        assert ours == theirs(text, entity)


@QUICK
@given(
    st.lists(
        st.one_of(
            st.builds(
                "{}{}{}{}".format,
                names,
                spaces,
                st.sampled_from(["", "ASC", "DESC", "desc", "Asc", "DSC", "DESC NULLS LAST"]),
                st.sampled_from(["", "", "", " ", ","]),
            ),
            st.builds("{} {}".format, names, st.sampled_from(["ASC", "DESC", "desc"])),
            st.text(max_size=12),
        ),
        max_size=3,
    ),
    st.sampled_from(["run", "experiment"]),
)
def test_so_is_an_order(texts: list[str], entity: str) -> None:
    ours = read_orders(tuple(texts), entity)
    if ours is not None:
        assert ours == theirs_orders(tuple(texts), entity)


RUN_FILTERS = [
    "metrics.loss < 0.2",
    "metrics.loss<0.2 and metrics.acc>=-1e-3",
    "metric.`val/loss` != 5",
    'metrics."a b" = 1',
    "metrics.m = 1.5E10",
    "params.model = 'rf'",
    "parameters.lr LIKE '%0.1%' AND param.`batch size` ilike \"1_\"",
    "params.\"a.b\" != 'x'",
    "tags.mlflow.source.name = 'main.py'",
    "tags.`mlflow.parentRunId` = 'abc' AND attributes.status = 'FINISHED'",
    "tag.team IS NULL",
    "tags.team IS NOT NULL AND params.x is null",
    "attributes.start_time >= 1700000000000",
    "start_time > 1 AND end_time < 2.5",
    "Created > 5",
    "run.run_name ILIKE '%night%'",
    "attribute.`Run name` = 'x'",
    "run_id IN ('a', 'b')",
    "attributes.run_id NOT IN ('a')",
    'run_id = "abc"',
    "user_id = 'me' AND status != 'FAILED'",
    "artifact_uri LIKE 's3://%'",
    "dataset.name = 'iris'",
    "datasets.digest IN ('d1','d2')",
    "dataset.context = 'train'",
    "params.where = 'a -- b' AND tags.key = 'it (is) /* ok */; $$'",
    "tags.x = 'back\\slash' and tags.y = ''",
]
EXPERIMENT_FILTERS = [
    "name = 'a'",
    "attribute.name LIKE 'a%'",
    "name ILIKE '%x%' AND tags.team = 'vision'",
    "creation_time > 1700000000000",
    "last_update_time <= 5",
    "tag.`mlflow.note.content` != 'x'",
    "tags.a IS NOT NULL",
    "experiment_id IN ('1', '2')",
    "experiment_id = '12'",
]


@pytest.mark.parametrize("text", RUN_FILTERS)
def test_usual_filters_of_runs_are_read(text: str) -> None:
    ours = read_conditions(text, "run")
    assert ours is not None
    assert ours == theirs(text, "run")


@pytest.mark.parametrize("text", EXPERIMENT_FILTERS)
def test_usual_filters_of_experiments_are_read(text: str) -> None:
    ours = read_conditions(text, "experiment")
    assert ours is not None
    assert ours == theirs(text, "experiment")


@pytest.mark.parametrize(
    ("entity", "texts"),
    [
        ("run", ("metrics.loss",)),
        ("run", ("metrics.`val loss` DESC", "params.x asc", "tags.a.b DESC", "start_time ASC")),
        ("run", ('metrics."a/b" ASC', "attributes.end_time DESC", "run_id", "attribute.status desc")),
        ("run", ("attributes.Created DESC", "run_name ASC", "user_id", "artifact_uri DESC")),
        (
            "experiment",
            ("name ASC", "attribute.creation_time DESC", "last_update_time", "experiment_id DESC"),
        ),
    ],
)
def test_usual_orders_are_read(entity: str, texts: tuple[str, ...]) -> None:
    ours = read_orders(texts, entity)
    assert ours is not None
    assert ours == theirs_orders(texts, entity)


def test_nothing_is_no_condition() -> None:
    assert read_conditions("", "run") == ()
    assert read_orders((), "run") == ()


@pytest.mark.parametrize(
    "text", ["metrics.a = " + "1" * 9000, "a", "metrics.a = '1'", "start_time = 99999999999999999999"]
)
def test_what_is_too_long_or_wrong_is_left_to_mlflow(text: str) -> None:
    assert read_conditions(text, "run") is None
