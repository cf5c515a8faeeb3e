"""Queries, and searches that take more than a line to become an ask. ``said`` is what was read."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from tallystick.core.tracking import asks
from tallystick.core.tracking.search import read_conditions, read_orders
from tallystick.doors.tracking import plain

__all__ = [
    "ModelsToken", "history", "history_bulk", "history_interval", "model_version", "query_reader",
    "search_experiments", "search_logged_models", "search_runs",
]  # fmt: skip

_SEARCH_MAX = 50_000
_INT32_MAX = 2**31 - 1
_STAGES = {"ACTIVE_ONLY": ("active",), "DELETED_ONLY": ("deleted",), "ALL": ("active", "deleted")}
_VIEWS: dict[Any, tuple[str, ...]] = _STAGES | dict(enumerate(_STAGES.values(), 1))
_WHOLE = re.compile(r"-?[0-9]{1,10}")
_OFFSET = re.compile(rb'\{"offset": ([1-9][0-9]{0,14})\}')
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_ALIAS = re.compile(r"(?!v[0-9]+$)(?!latest$)[\w\-]{1,255}", re.IGNORECASE)


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


class ModelsToken(plain.Body):
    """Where a search of logged models goes on, as MLflow says it."""

    experiment_ids: list[str]
    filter_string: None
    order_by: None
    offset: int


def search_logged_models(said: Any, _: Any) -> asks.SearchLoggedModels:
    """The plain listing of logged models, the newest first."""
    plain.bounded(0, said.filter or "")
    offset = 0
    if said.page_token:
        token = msgspec.json.decode(base64.b64decode(said.page_token, validate=True), type=ModelsToken)
        offset = plain.between(token.offset, _INT32_MAX if token.experiment_ids == said.experiment_ids else 0)
    experiment_ids = tuple(map(plain.experiment_id, said.experiment_ids))
    return asks.SearchLoggedModels(experiment_ids, plain.between(said.max_results, 1000), offset)


def model_version(said: Any, _: Any) -> asks.GetModelVersion:
    """A version by number, or by an alias that is no word of MLflow's own."""
    by_alias = hasattr(said, "alias")
    if not (_ALIAS.fullmatch(said.alias) if by_alias else _VERSION.fullmatch(said.version)):
        raise asks.NotPlain
    name = plain.text(said.name, 256, 1)
    return (
        asks.GetModelVersion(name, alias=said.alias)
        if by_alias
        else asks.GetModelVersion(name, int(said.version))
    )
