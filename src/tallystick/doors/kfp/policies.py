"""When a task starts, how often it is tried, and whether its outputs may come from the cache."""

from __future__ import annotations

import re

from tallystick.core.pipeline.spec import Cache, Retry, Trigger
from tallystick.doors.kfp.node import Node

__all__ = ["read_cache", "read_retry", "read_trigger"]

_STRATEGIES = {
    "TRIGGER_STRATEGY_UNSPECIFIED": False,
    "ALL_UPSTREAM_TASKS_SUCCEEDED": False,
    "ALL_UPSTREAM_TASKS_COMPLETED": True,
}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)s", re.ASCII)
_RETRY = frozenset({"maxRetryCount", "backoffDuration", "backoffFactor", "backoffMaxDuration"})


def read_trigger(node: Node | None) -> Trigger:
    """The condition as it is written, and whether the task starts however those before it ended."""
    if node is None:
        return Trigger()
    fields = node.fields(frozenset({"condition", "strategy"}))
    strategy = fields.get("strategy")
    if strategy is not None and strategy.text() not in _STRATEGIES:
        raise strategy.wrong(f"unknown trigger strategy {strategy.text()[:80]!r}")
    return Trigger(
        condition=fields["condition"].string() if "condition" in fields else "",
        regardless=_STRATEGIES[strategy.text()] if strategy is not None else False,
    )


def read_retry(node: Node | None) -> Retry:
    """No retry unless it says so; what it leaves open is as PipelineSpec has it, which is also ours."""
    if node is None:
        return Retry()
    fields = node.fields(_RETRY)
    return Retry(
        tries=fields["maxRetryCount"].whole() if "maxRetryCount" in fields else 0,
        backoff_s=_seconds(fields.get("backoffDuration")),
        factor=_factor(fields.get("backoffFactor")) or Retry().factor,
        backoff_max_s=_seconds(fields.get("backoffMaxDuration")) or Retry().backoff_max_s,
    )


def read_cache(node: Node | None) -> Cache:
    """Off unless it says on: so PipelineSpec has it, and kfp's compiler writes ``{}`` for off."""
    if node is None:
        return Cache(enabled=False)
    fields = node.fields(frozenset({"enableCache", "cacheKey"}))
    enabled = fields["enableCache"].flag() if "enableCache" in fields else False
    return Cache(enabled, fields["cacheKey"].string() if "cacheKey" in fields else "")


def _seconds(node: Node | None) -> float:
    """A duration as protobuf's JSON has it, ``3.5s``, as seconds."""
    if node is None:
        return 0.0
    found = _DURATION.fullmatch(node.text())
    if not found:
        raise node.wrong(f"{node.text()[:80]!r} is not a duration", hint="for example 30s or 3.5s")
    return float(found[1])


def _factor(node: Node | None) -> float:
    factor = node.number() if node else 0.0
    if node and (factor < 0 or factor > 1e6):
        raise node.wrong(f"{factor} is not a backoff factor")
    return factor
