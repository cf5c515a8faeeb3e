"""Queries, and searches that take more than a line to become an ask. ``said`` is what was read."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from tallystick.core.errors import BadInput
from tallystick.doors.tracking import plain
from tallystick.record import asks
from tallystick.record.search import ORDERS_MAX, read_conditions, read_orders

__all__ = [
    "history", "history_bulk", "history_interval", "query_reader", "search_experiments", "search_runs",
]  # fmt: skip

_SEARCH_MAX = 50_000
_INT32_MAX = 2**31 - 1
_STAGES = {"ACTIVE_ONLY": ("active",), "DELETED_ONLY": ("deleted",), "ALL": ("active", "deleted")}
_VIEWS: dict[Any, tuple[str, ...]] = _STAGES | dict(enumerate(_STAGES.values(), 1))
_WHOLE = re.compile(r"-?[0-9]{1,10}")
_OFFSET = re.compile(rb'\{"offset": ([1-9][0-9]{0,14})\}')


def query_reader(kind: type[msgspec.Struct]) -> Callable[[bytes], Any]:
    """What reads a query as a ``kind``: each field once, but for lists; text that can be read in one way."""
    types = {field.name: str(field.type) for field in msgspec.structs.fields(kind)}
    lists = frozenset(name for name, of in types.items() if of == "list[str]")
    numbers = frozenset(name for name, of in types.items() if "int" in of)

    def read(raw: bytes) -> Any:
        said: dict[str, Any] = {}
        for part in raw.split(b"&"):
            name, _, text = unquote_to_bytes(part.replace(b"+", b" ")).decode().partition("=")
            if part.count(b"=") != 1 or (name in said and name not in lists):
                raise asks.NotPlain
            if name in lists:
                said.setdefault(name, []).append(text)
            else:
                said[name] = int(text) if name in numbers and _WHOLE.fullmatch(text) else text
        return msgspec.convert(said, kind)

    return read


def _offset(token: str | None) -> int:
    """Where MLflow's page token goes on."""
    if not token:
        return 0
    found = _OFFSET.fullmatch(base64.b64decode(token, validate=True))
    if found is None:
        raise asks.NotPlain
    return int(found[1])


def search_runs(said: Any, _: Any) -> asks.SearchRuns:
    """Runs."""
    return asks.SearchRuns(tuple(map(plain.experiment_id, said.experiment_ids)), *_search(said, "run"))


def search_experiments(said: Any, _: Any) -> asks.SearchExperiments:
    """Experiments."""
    return asks.SearchExperiments(*_search(said, "experiment"))


def _search(said: Any, entity: str) -> Any:
    if len(said.order_by) > ORDERS_MAX:  # MLflow would take minutes over them, and then fail
        raise BadInput(f"order_by has {len(said.order_by)} entries, at most {ORDERS_MAX}", where="search")
    conditions = read_conditions(said.filter, entity) if said.filter else ()
    orders = read_orders(tuple(said.order_by), entity)
    if conditions is None or orders is None:
        raise asks.NotPlain
    stages = plain.one_of(_VIEWS, said.run_view_type if entity == "run" else said.view_type)
    most = plain.between(said.max_results, _SEARCH_MAX)
    return conditions, stages, orders, most, _offset(said.page_token)


def history(said: Any, _: Any) -> asks.History:
    """A metric's points."""
    most = None if said.max_results is None else plain.between(said.max_results, _INT32_MAX)
    key = plain.text(said.metric_key, 250, 1)
    return asks.History(plain.run(said), key, most, _offset(said.page_token))


def history_bulk(said: Any, _: Any) -> asks.HistoryBulk:
    """A metric's points in several runs."""
    plain.bounded(100, said.run_id)
    most = min(plain.between(said.max_results, _INT32_MAX), 25_000)
    return asks.HistoryBulk(tuple(map(plain.run_id, said.run_id)), plain.text(said.metric_key, 250, 1), most)


def history_interval(said: Any, _: Any) -> asks.HistoryInterval:
    """A metric's points in several runs, thinned out."""
    plain.bounded(100, said.run_ids)
    start, end = said.start_step, said.end_step
    if (start is None) != (end is None) or (start is not None and start > end):
        raise asks.NotPlain
    run_ids, key = tuple(map(plain.run_id, said.run_ids)), plain.text(said.metric_key, 250, 1)
    return asks.HistoryInterval(run_ids, key, plain.between(said.max_results, 2500), start, end)
