"""MLflow's search language as hypothesis makes it: entities, comparators, quotes, orders, and broken ones."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["experiment_filters", "run_filters", "run_orders"]

METRIC_KEYS = ["loss", "acc", "`val/loss`", '"a b"', "`ünï`", "missing", "'loss'"]
PARAM_KEYS = ["lr", "opt", "`a b`", '"x.y"', "missing"]
TAG_KEYS = ["stage", "`mlflow.runName`", '"a b"', "mlflow.user", "missing"]
NUMBERS = [
    "0",
    "1",
    "-1",
    "0.5",
    ".5",
    "1.",
    "1e3",
    "1e400",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "'1'",
    "'abc'",
    "-0",
    "+1",
    "0x1",
]
TEXTS = [
    "'a'",
    '"a"',
    "'A%'",
    "'%b%'",
    "'_'",
    "'ünï'",
    "'it''s'",
    "'0.1'",
    "''",
    "'%'",
    "'a_c'",
    "0.1",
    "nan",
    "'100%'",
]
LISTS = ["('a', 'b')", '("a","A")', "('a')", "()", "('a',)", "(1, 2)", "'a'"]
NUMBER_COMPARATORS = ["=", "!=", ">", ">=", "<", "<="] * 3 + ["LIKE", "IN", "==", "<>"]
TEXT_COMPARATORS = ["=", "!=", "LIKE", "ILIKE", "like", "ilike", "Like"] * 3 + [">", "==", "NOT LIKE"]
METRICS = ["metrics.", "metric.", "metrics."]
PARAMS = ["params.", "param.", "parameters.", "parameter."]
TAGS = ["tags.", "tag."]
ATTRIBUTES = ["", "attributes.", "attribute.", "attr.", "run."]
TEXT_ATTRIBUTES = [
    "status",
    "artifact_uri",
    "user_id",
    "run_name",
    "`run name`",
    "run_id",
    '"Run Name"',
    "User",
    "lifecycle_stage",
    "name",
]
NUMBER_ATTRIBUTES = ["start_time", "end_time", "Created", "created", "duration"]
STATUSES = ["'RUNNING'", "'FINISHED'", "'finished'", "'%IN%'", "'FAILED'"]
JOINERS = [" AND ", " and ", " And ", "  AND\n", " OR ", ", ", " "]


def _plainly(plain: list[str], odd: list[str]) -> st.SearchStrategy[str]:
    return st.sampled_from(plain * (len(odd) * 12 // max(len(plain), 1) + 1) + odd)


def _numeric(names: list[str], keys: list[str]) -> st.SearchStrategy[str]:
    parts = st.tuples(
        st.sampled_from(names),
        st.sampled_from(keys),
        st.sampled_from(NUMBER_COMPARATORS),
        st.sampled_from(NUMBERS),
    )
    return parts.map(lambda p: f"{p[0]}{p[1]} {p[2]} {p[3]}")


def _textual(names: list[str], keys: list[str], values: list[str]) -> st.SearchStrategy[str]:
    name = st.tuples(st.sampled_from(names), st.sampled_from(keys)).map("".join)
    compared = st.tuples(name, st.sampled_from(TEXT_COMPARATORS), st.sampled_from(values)).map(" ".join)
    listed = st.tuples(name, st.sampled_from(["IN", "NOT IN", "in", "not in"]), st.sampled_from(LISTS)).map(
        " ".join
    )
    void = st.tuples(name, st.sampled_from(["IS NULL", "IS NOT NULL", "is null", "Is Not Null"])).map(
        " ".join
    )
    return st.one_of(compared, compared, compared, listed, void)


def _run_condition() -> st.SearchStrategy[str]:
    return st.one_of(
        _numeric(METRICS, METRIC_KEYS),
        _numeric(METRICS, METRIC_KEYS),
        _textual(PARAMS, PARAM_KEYS, TEXTS),
        _textual(TAGS, TAG_KEYS, TEXTS),
        _textual(ATTRIBUTES, TEXT_ATTRIBUTES, [*TEXTS, *STATUSES]),
        _textual(ATTRIBUTES, ["status"], STATUSES),
        _numeric(ATTRIBUTES, NUMBER_ATTRIBUTES),
        _textual(
            ["dataset.", "datasets."],
            ["name", "digest", "context", "nope"],
            [*TEXTS, "'data'", "'d1'", "'train'"],
        ),
    )


def _joined(condition: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    joiner = st.sampled_from(JOINERS[:4] * 6 + JOINERS[4:])
    whole = st.tuples(st.lists(condition, min_size=1, max_size=3), joiner).map(
        lambda two: two[1].join(two[0])
    )
    bent = st.tuples(
        whole, st.sampled_from(["{}", "({})", "{} AND", "AND {}", "{};", " {} ", "{} -- x", "NOT {}", "{}'"])
    ).map(lambda two: two[1].format(two[0]))
    return st.one_of(whole, whole, whole, whole, bent)


def run_filters() -> st.SearchStrategy[str]:
    """A filter of runs; most can be read."""
    return _joined(_run_condition())


def experiment_filters() -> st.SearchStrategy[str]:
    """A filter of experiments."""
    named = _textual(ATTRIBUTES, ["name"], ["'e-a'", "'E-%'", "'%ünï%'", "'e_a'", *TEXTS])
    timed = _numeric(ATTRIBUTES, ["creation_time", "last_update_time", "experiment_id"])
    return _joined(st.one_of(named, named, timed, _textual(TAGS, ["stage", '"a b"', "missing"], TEXTS)))


def run_orders() -> st.SearchStrategy[list[str]]:
    """What to order runs by; few cannot be read. Not what has ids in it, as those are random."""
    metric = st.tuples(st.sampled_from(METRICS), st.sampled_from(METRIC_KEYS[:-1])).map("".join)
    text = st.tuples(st.sampled_from(PARAMS), st.sampled_from(PARAM_KEYS)).map("".join)
    tag = st.tuples(st.sampled_from(TAGS), st.sampled_from(TAG_KEYS)).map("".join)
    attribute = st.tuples(
        st.sampled_from(ATTRIBUTES[:3]),
        st.sampled_from(
            [
                "start_time",
                "end_time",
                "status",
                "run_name",
                "`Run Name`",
                "user_id",
                "Created",
                "nope",
                "Start Time",
                "Duration",
            ]
        ),
    ).map("".join)
    direction = st.sampled_from(["", " ASC", " DESC", " asc", " desc", " Desc"] * 3 + [" UP", " ASC ASC"])
    one = st.tuples(st.one_of(metric, metric, metric, text, tag, attribute), direction).map("".join)
    return st.lists(one, max_size=3)
