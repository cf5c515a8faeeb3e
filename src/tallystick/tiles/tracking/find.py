"""Searches made SQL: the ids that are found, in order, and then their page.

What MLflow asks in one query over outer joins is asked here in parts that indexes answer. A search by a
metric goes through that metric's values in order, then through the runs whose value is NaN, then through
those that have none; a part is asked only where the page is not full before it. On SQLite, which has no
statistics unless somebody ran ANALYZE, samples tell whether to start from the order, from the runs, or from
a condition.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from math import isqrt
from typing import NamedTuple

from tallystick.ports.database import Session
from tallystick.record.asks import NotPlain, SearchExperiments, SearchRuns
from tallystick.record.entries import Page
from tallystick.record.rules import RUN_NAME
from tallystick.record.search import Condition, Order
from tallystick.tiles.tracking import sql
from tallystick.tiles.tracking.runs import among, load_runs, tell_experiments

__all__ = ["search_experiments", "search_runs"]

MAX_ROWS = 2**62
TABLES = {"metric": "latest_metrics", "param": "params", "tag": "tags"}
RUN_COLUMNS = {
    **{name: f"r.{name}" for name in ("user_id", "status", "artifact_uri", "start_time", "end_time")},
    "run_id": "r.run_uuid",
    "run_name": "r.name",
}
EXPERIMENT_COLUMNS = {
    name: f"e.{name}" for name in ("experiment_id", "name", "creation_time", "last_update_time")
}
DATASET_COLUMNS = {"name": "f.name", "digest": "f.digest", "context": "f.value"}
COMPARATORS = {sign: sign for sign in ("=", "!=", ">", ">=", "<", "<=", "LIKE", "ILIKE")}


class Part(NamedTuple):
    """A piece of SQL, and the values for its ``?``."""

    text: str
    values: tuple[object, ...] = ()


class Stretch(NamedTuple):
    """Part of all that is found, before the next part: what it is read from, tested for and ordered by."""

    tables: tuple[Part, ...] = ()
    tests: tuple[Part, ...] = ()
    orders: tuple[str, ...] = ()


RUNS = Part("runs AS r")
IN_ORDER = Stretch()


def search_runs(session: Session, ask: SearchRuns, workspace: str) -> Page:
    """See :class:`SearchRuns`."""
    _check_page(ask.max_results, ask.offset)
    found = among(session, sql.EXPERIMENTS_VISIBLE, "experiment_id", ask.experiment_ids, workspace)
    visible = [row[0] for row in found]
    if not visible or not ask.stages:
        return Page([], None)
    scope = (_one_of(session, "r.experiment_id", visible), _one_of(session, "r.lifecycle_stage", ask.stages))
    ids = _find(session, ask, scope)
    then = ask.offset + ask.max_results if len(ids) > ask.max_results else None
    return Page(load_runs(session, ids[: ask.max_results]), then)


def _check_page(max_results: int, offset: int) -> None:
    if not (1 <= max_results < MAX_ROWS and 0 <= offset < MAX_ROWS):
        raise NotPlain


def _one_of(session: Session, column: str, values: Iterable[object]) -> Part:
    """``=`` for one value, so that an index goes on giving the order of what follows in it."""
    listed = tuple(dict.fromkeys(values))
    if len(listed) == 1:
        return Part(f"{column} = ?", listed)
    text, bound = session.among(column, listed)
    return Part(text, tuple(bound))


def _find(session: Session, ask: SearchRuns, scope: tuple[Part, ...]) -> list[str]:
    """The ids of a page, and one more where there is one."""
    need, skip = ask.max_results + 1, ask.offset
    first = _start(session, ask, scope)
    found: list[str] = []
    for stretch in _stretches(session, ask, scope):
        tables, tests, values = _joined((*first.tables, *stretch.tables), (*first.tests, *stretch.tests))
        query = sql.FIND_RUNS.format(tables=tables, tests=tests, orders=", ".join(stretch.orders))
        rows = session.rows(query, [*values, need - len(found), skip])
        found += [row[0] for row in rows]
        if len(found) == need:
            break
        if rows:
            skip = 0
        elif skip:
            skip -= session.rows(sql.COUNT_RUNS.format(tables=tables, tests=tests), values)[0][0]
    return found


def _joined(all_tables: tuple[Part, ...], all_tests: tuple[Part, ...]) -> tuple[str, str, list[object]]:
    """Tables, tests and values. Tables stand in the order to be read in; what is joined LEFT comes last."""
    inner = dict.fromkeys(part.text for part in all_tables if not part.text.startswith("LEFT"))
    outer = [part for part in all_tables if part.text.startswith("LEFT")]
    tables = " ".join([" CROSS JOIN ".join(inner), *(part.text for part in outer)])
    tests = " AND ".join(part.text for part in all_tests)
    return tables, tests, list(chain.from_iterable(part.values for part in (*outer, *all_tests)))


# ---------------------------------------------------------------------------------------- what comes in order


def _stretches(session: Session, ask: SearchRuns, scope: tuple[Part, ...]) -> list[Stretch]:
    """One after the other in the order that is asked for, each with all conditions."""
    tests = (*scope, *(_test(session, condition) for condition in ask.conditions))
    first = ask.orders[0] if ask.orders else None
    started = ("attribute", "start_time")
    indexed = first is not None and (first.kind == "metric" or (first.kind, first.key) == started)
    joins, terms = _further(ask.orders[1:] if indexed else ask.orders)
    all_of = Stretch((RUNS, *joins), tests, (*terms, *_last(ask.orders)))
    if first is None or not indexed:
        return [all_of]
    if first.kind == "metric":
        return _by_metric(ask, first, all_of)
    has, lacks = Part("r.start_time IS NOT NULL"), Part("r.start_time IS NULL")
    way = "ASC" if first.ascending else "DESC"
    return [
        Stretch(all_of.tables, (*tests, has), (f"r.start_time {way}", *all_of.orders)),
        all_of._replace(tests=(*tests, lacks)),
    ]


def _by_metric(ask: SearchRuns, first: Order, all_of: Stretch) -> list[Stretch]:
    """Values, NaN, none. A condition on the same metric leaves out NaN (but not ``!=``), and none always."""
    own = [one for one in ask.conditions if (one.kind, one.key) == ("metric", first.key)]
    tables, way = (Part(sql.METRIC_ORDERED), *all_of.tables), "ASC" if first.ascending else "DESC"
    orders = (f"o.value {way}", *all_of.orders)
    values, nans = (Part(sql.METRIC_ORDERED_TEST.format(nan=nan), (first.key,)) for nan in ("FALSE", "TRUE"))
    bounds = [Part(f"o.value {_word(COMPARATORS, one.comparator)} ?", (one.value,)) for one in own]
    found = [Stretch(tables, (values, *bounds, *all_of.tests), orders)]
    if all(one.comparator == "!=" for one in own):
        found.append(Stretch(tables, (nans, *all_of.tests), orders))
    if not own:
        found.append(all_of._replace(tests=(*all_of.tests, Part(sql.METRIC_NONE, (first.key,)))))
    return found


def _further(orders: tuple[Order, ...]) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """Joins and terms of orders that no index gives."""
    joins, terms = [], []
    for number, order in enumerate(orders):
        alias, way = f"o{number}", "ASC" if order.ascending else "DESC"
        column = f"{alias}.value" if order.kind in TABLES else _word(RUN_COLUMNS, order.key)
        if order.kind in TABLES:
            joins.append(Part(sql.ITEM_JOIN.format(table=TABLES[order.kind], alias=alias), (order.key,)))
        rank = (
            sql.METRIC_RANK.format(alias=alias)
            if order.kind == "metric"
            else sql.NULLS_LAST.format(column=column)
        )
        terms += [rank, f"{column} {way}"]
    return tuple(joins), tuple(terms)


def _last(orders: tuple[Order, ...]) -> tuple[str, ...]:
    started = any((order.kind, order.key) == ("attribute", "start_time") for order in orders)
    return ("r.run_uuid",) if started else ("r.start_time DESC", "r.run_uuid")


def _word(words: dict[str, str], key: str) -> str:
    """Names and operators go into SQL as they are, so only those that are known do."""
    if key not in words:
        raise NotPlain
    return words[key]


# --------------------------------------------------------------------------------------------- where to start


def _start(session: Session, ask: SearchRuns, scope: tuple[Part, ...]) -> Stretch:
    """What to put before the tables of every stretch; nothing to go through them in order.

    Going in order costs about (rows needed) x (all runs) / (runs that match); starting elsewhere costs what
    is found there, all of it sorted. So elsewhere wins below the square root of needed x all.
    """
    if session.name != "sqlite":  # PostgreSQL knows its numbers, and the order of tables is its own
        return IN_ORDER
    if any(one.key == "run_id" and one.comparator in ("=", "IN") for one in ask.conditions):
        return Stretch((RUNS,))
    samples = _samples(ask, scope)
    if not samples:
        return IN_ORDER
    ((total,),) = session.rows(sql.RUNS_AT_MOST)
    best, least = IN_ORDER, isqrt((ask.offset + ask.max_results + 1) * (total or 1))
    for start, table, rows in samples:
        tables, tests, values = _joined((table,), rows)
        ((count,),) = session.rows(sql.COUNT_UP_TO.format(tables=tables, tests=tests), [*values, least])
        if count < least:
            best, least = start, count
    return best


def _samples(ask: SearchRuns, scope: tuple[Part, ...]) -> list[tuple[Stretch, Part, tuple[Part, ...]]]:
    """Where one could start, each with the table and the tests of what would be found there."""
    first = ask.orders[0] if ask.orders and ask.orders[0].kind == "metric" else None
    samples: list[tuple[Stretch, Part, tuple[Part, ...]]] = []
    for one in ask.conditions:
        if one.kind == "metric" and one.comparator != "!=":
            text = sql.METRIC_FIRST_TEST.format(comparator=_word(COMPARATORS, one.comparator))
            table, test = Part(sql.METRIC_FIRST), Part(text, (one.key, one.value))
            # An order by the same metric goes through no more than these by itself.
            own = first is not None and one.key == first.key
            start = IN_ORDER if own else Stretch((table, RUNS), (test, Part(sql.SAME_RUN)))
            samples.append((start, table, (test,)))
    if first is not None:
        samples.append((Stretch((RUNS,)), RUNS, scope))
    return samples


# ------------------------------------------------------------------------------------------------- conditions


def _test(session: Session, condition: Condition) -> Part:
    """A condition as a test of ``runs AS r``."""
    kind, key, comparator, value = condition.kind, condition.key, condition.comparator, condition.value
    if kind == "attribute" and key != "run_name":
        return _compare(session, _word(RUN_COLUMNS, key), comparator, value)
    if kind == "metric":
        test = sql.METRIC_TEST.format(comparator=_word(COMPARATORS, comparator))
        return Part(sql.METRIC_UNEQUAL if comparator == "!=" else test, (key, value))
    if kind == "dataset":
        compared = _compare(session, _word(DATASET_COLUMNS, key), comparator, value)
        text = sql.CONTEXT_TEST if key == "context" else sql.DATASET_TEST
        return Part(text.format(test=compared.text), compared.values)
    table = TABLES.get(kind, "tags")
    if comparator in ("IS NULL", "IS NOT NULL"):
        text = sql.ITEM_ABSENT if comparator == "IS NULL" else sql.ITEM_PRESENT
        return Part(text.format(table=table), (key,))
    # Runs of before 1.30 have their name in a tag only, so that is where MLflow looks for it.
    named = RUN_NAME if kind == "attribute" else key
    compared = _compare(session, "f.value", comparator, value)
    return Part(sql.ITEM_TEST.format(table=table, test=compared.text), (named, *compared.values))


def _compare(session: Session, column: str, comparator: str, value: object) -> Part:
    """One comparison as MLflow makes it. LIKE minds case: SQLite's sessions are set so, like MLflow's own."""
    if comparator in ("IN", "NOT IN") and isinstance(value, tuple):
        listed = _one_of(session, column, value)
        return listed if comparator == "IN" else Part(f"NOT ({listed.text})", listed.values)
    if comparator == "ILIKE" and session.name == "sqlite":
        return Part(f"lower({column}) LIKE lower(?)", (value,))
    return Part(f"{column} {_word(COMPARATORS, comparator)} ?", (value,))


# ------------------------------------------------------------------------------------------------ experiments


def search_experiments(session: Session, ask: SearchExperiments, workspace: str) -> Page:
    """See :class:`SearchExperiments`."""
    _check_page(ask.max_results, ask.offset)
    if not ask.stages:
        return Page([], None)
    tests = [Part("e.workspace = ?", (workspace,)), _one_of(session, "e.lifecycle_stage", ask.stages)]
    tests += [_experiment_test(session, condition) for condition in ask.conditions]
    orders = [
        f"{_word(EXPERIMENT_COLUMNS, order.key)} {'ASC' if order.ascending else 'DESC'}"
        for order in ask.orders
    ]
    if not ask.orders:
        orders = ["e.creation_time DESC", "e.experiment_id ASC"]
    elif all(order.key != "experiment_id" for order in ask.orders):
        orders.append("e.experiment_id DESC")
    query = sql.EXPERIMENTS_LOAD.format(tests=" AND ".join(test.text for test in tests))
    query += sql.EXPERIMENTS_ORDER.format(orders=", ".join(orders))
    values = chain.from_iterable(test.values for test in tests)
    rows = session.rows(query, [*values, ask.max_results + 1, ask.offset])
    then = ask.offset + ask.max_results if len(rows) > ask.max_results else None
    return Page(tell_experiments(session, rows[: ask.max_results]), then)


def _experiment_test(session: Session, condition: Condition) -> Part:
    """A condition as a test of ``experiments AS e``."""
    key, comparator = condition.key, condition.comparator
    value: object = condition.value
    if condition.kind == "attribute":
        if key == "experiment_id":
            value = tuple(map(int, value)) if isinstance(value, tuple) else int(str(value))
        return _compare(session, _word(EXPERIMENT_COLUMNS, key), comparator, value)
    if comparator in ("IS NULL", "IS NOT NULL"):
        negation = "NOT " if comparator == "IS NULL" else ""
        return Part(negation + sql.EXPERIMENT_TAG_PRESENT, (key,))
    test = _compare(session, "f.value", comparator, value)
    return Part(sql.EXPERIMENT_TAG_TEST.format(test=test.text), (key, *test.values))
