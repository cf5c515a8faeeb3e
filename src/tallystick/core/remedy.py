"""Remedies: what to do about a signal, proposed by rule, carried out on request, never in silence."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from tallystick.core.data import Snapshot
from tallystick.core.endpoint import Endpoint
from tallystick.core.errors import Conflict
from tallystick.core.model import ModelVersion
from tallystick.core.names import DEFAULT_TENANT
from tallystick.core.signal import Signal

__all__ = ["Remedy", "RemedyAction", "RemedyState", "move", "propose"]


class RemedyAction(enum.StrEnum):
    """What can be done about a signal."""

    RERUN = "run the pipeline again"
    FALL_BACK = "fall back"
    LABEL = "label data"


class RemedyState(enum.StrEnum):
    """Where a remedy stands."""

    PROPOSED = "proposed"
    CARRYING = "carrying out"
    DONE = "done"
    FAILED = "failed"


_MOVES = {
    RemedyState.PROPOSED: {RemedyState.CARRYING},
    RemedyState.CARRYING: {RemedyState.DONE, RemedyState.FAILED},
    RemedyState.DONE: set(),
    RemedyState.FAILED: {RemedyState.CARRYING},
}


@dataclass(frozen=True, slots=True)
class Remedy:
    """One remedy. ``target`` is the snapshot to run on, or the model to fall back to."""

    key: str
    signal: str
    endpoint: str
    action: RemedyAction
    target: str
    why: str
    state: RemedyState = RemedyState.PROPOSED
    run: str = ""
    model: str = ""
    verdict: str = ""
    outcome: str = ""
    at_ms: int = 0
    tenant: str = DEFAULT_TENANT


def propose(
    key: str,
    signal: Signal,
    endpoint: Endpoint,
    model: ModelVersion | None,
    newest: Snapshot | None,
    at_ms: int,
) -> Remedy:
    """The remedy for ``signal``, by the first rule that fits.

    1. The model came from a pipeline run, and the table it was made from has a newer snapshot
       (``newest``): run the pipeline again on that.
    2. An earlier model served here and passed the gate: fall back to it.
    3. Otherwise only people can help: label what the endpoint has seen and ingest it.
    """
    made_from = dict(model.origin.snapshots) if model else {}
    if model and model.origin.run and newest and made_from and newest.key not in made_from:
        action, target = RemedyAction.RERUN, newest.key
        why = f"{newest.key} is newer than what {model.key} was made from"
    elif endpoint.previous:
        action, target = RemedyAction.FALL_BACK, endpoint.previous.model
        why = f"{target} served here before and passed"
    else:
        action, target = RemedyAction.LABEL, ""
        why = "there is no newer data and no earlier model: label what the endpoint has seen, and ingest it"
    return Remedy(
        key=key, signal=signal.key, endpoint=endpoint.name, action=action, target=target, why=why,
        at_ms=at_ms, tenant=signal.tenant,
    )  # fmt: skip


def move(
    remedy: Remedy,
    state: RemedyState,
    at_ms: int,
    *,
    outcome: str = "",
    run: str = "",
    model: str = "",
    verdict: str = "",
) -> Remedy:
    """The remedy in its new state; Conflict when it cannot go there from where it is.

    ``outcome`` says in words what came of it; ``run``, ``model`` and ``verdict`` are keys, kept when empty.
    """
    if state not in _MOVES[remedy.state]:
        raise Conflict(_not_again(remedy, state), where=remedy.key)
    return replace(
        remedy,
        state=state,
        at_ms=at_ms,
        outcome=outcome or remedy.outcome,
        run=run or remedy.run,
        model=model or remedy.model,
        verdict=verdict or remedy.verdict,
    )


def _not_again(remedy: Remedy, state: RemedyState) -> str:
    if remedy.state is RemedyState.DONE:
        return f"it was carried out already: {remedy.outcome}"
    if remedy.state is state:
        return "it is being carried out already"
    return f"a remedy that is {remedy.state} cannot become {state}"
