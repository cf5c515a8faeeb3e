"""Harden: what a run of the pipeline ``examples/harden`` is told, so that its model can stand in for another.

Pure: a command, or whatever else hardens, has the model's record and the policy, and submits what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.data import RUN_URI, TABLE_URI
from tallystick.core.errors import BadInput, Conflict, NotSupported
from tallystick.core.model import MODEL_URI, ModelVersion, TensorSpec
from tallystick.core.verdict import Severity
from tallystick.evidence.domain import Domain, DomainKind
from tallystick.evidence.policy import Policy
from tallystick.judging.ways import SCORES, How, check_applies, settings_of

__all__ = ["HELD_OUT_SHARE", "OUTPUT", "Wish", "params_of"]

OUTPUT = "hardened"
"""The pipeline's output that is the model; ``test`` are the rows that it is judged by."""
HELD_OUT_SHARE = 0.2
SEED_MAX = 2**32 - 1
_LABELS = ("BYTES", "INT32", "INT64")


@dataclass(frozen=True, slots=True)
class Wish:
    """How to harden. ``eps`` 0 is the radius that the policy refuses by; ``data`` (``TABLE``,
    ``TABLE@SNAPSHOT`` or ``RUN/OUTPUT``) is by default the table that the model was made from. ``settings``
    are the way's own, as texts.
    """

    how: How
    label: str
    eps: float = 0.0
    data: str = ""
    seed: int = 7
    settings: Mapping[str, str] = field(default_factory=dict)


def params_of(
    model: ModelVersion, outputs: Sequence[str], policy: Policy, wish: Wish
) -> tuple[Mapping[str, Any], Sequence[str]]:
    """The run's parameters, and sentences about what is not known; ``outputs`` are of the model's own run.

    NotSupported where the way does not apply to the model, Conflict for one that was never loaded, BadInput
    for what cannot be wished.
    """
    domain = policy.domain(model.name)
    _check_numbers(model, domain)
    eps = _eps(model, policy, wish.eps)
    if not 0 <= wish.seed <= SEED_MAX:
        raise BadInput(f"a seed is 0 to {SEED_MAX}", where="seed")
    share = eps / (1 if _tabular(domain) else domain.high - domain.low)
    settings = settings_of(wish.how, wish.settings, share, eps)
    check_applies(model, wish.how, settings, domain)
    data, notes = _data(model, wish.data), []
    if "test" in outputs:
        held_out = f"{RUN_URI}{model.origin.run}/test"
    else:
        held_out = data
        notes.append(
            f"no run held out rows for {model.key}: a fifth of {data.removeprefix(TABLE_URI)} is held out"
            f" now, and whether {model.key} was trained on those is not known"
        )
    about = {
        "of": model.key,
        "label": wish.label,
        "domain": _wire(domain),
        "inputs": [{"name": i.name, "type": i.datatype, "shape": list(i.shape)} for i in model.inputs],
        "names": _names(model.outputs),
        "taken_from": "test" in outputs and _its_own(model, wish.data),
    }
    params: dict[str, Any] = {"model": f"{MODEL_URI}{model.key}", "data": data, "held_out": held_out}
    params |= {"how": str(wish.how)}
    params |= {"about": about, "settings": settings, "eps": eps, "seed": wish.seed, "share": HELD_OUT_SHARE}
    return params, notes


def _check_numbers(model: ModelVersion, domain: Domain) -> None:
    """Refuse what is no row of numbers: text, and what nobody has loaded yet."""
    if not model.inputs:
        hint = f"tally sign {model.key}, if you know where it comes from"
        raise Conflict("it was never loaded, so what it takes is not known", where=model.key, hint=hint)
    text = next((i.name for i in model.inputs if i.datatype == "BYTES"), "")
    if text or domain.kind is DomainKind.TEXT:
        what = f"its input {text or model.inputs[0].name!r:.100} takes text"
        hint = "hardened are models of rows of numbers: tables, images"
        raise NotSupported(f"{what}, and there is no hardening of texts here", where=model.key, hint=hint)
    if domain.kind is DomainKind.SERIES:  # its eps counts in spreads of channels, which the steps do not know
        what, hint = "its rows are series", "hardened are models of rows of numbers: tables, images"
        raise NotSupported(f"{what}, and there is no hardening of series here", where=model.key, hint=hint)
    several = [i for i in model.inputs if len(model.inputs) > 1 and i.shape[1:] not in ((), (1,))]
    if several:
        what = f"it takes {len(model.inputs)} inputs, and {several[0].name!r:.100} is not a single column"
        raise NotSupported(what, where=model.key, hint="one input for all features, or one for each column")


def _eps(model: ModelVersion, policy: Policy, eps: float) -> float:
    """As wished, else the largest radius that a rule refuses by (or warns), else the budget's middle one."""
    if eps:
        if not (math.isfinite(eps) and eps > 0):
            raise BadInput(f"eps is a number above 0, not {eps:g}", where="eps")
        return eps
    mine = [r for r in policy.rules if r.eps and any(r.applies(model.key, s, model.tenant) for s in r.stages)]
    robust = [r for r in mine if r.measure == "robust_accuracy"]
    refusing = [r.eps for r in robust if r.eps and r.severity is Severity.REFUSE]
    radii = refusing or [r.eps for r in robust if r.eps]
    return max(radii) if radii else policy.budget.eps[len(policy.budget.eps) // 2]


def _data(model: ModelVersion, data: str) -> str:
    """The URI of the rows to train on; BadInput where the model's own table is not known."""
    if data:
        return f"{RUN_URI if '/' in data else TABLE_URI}{data}"
    snapshots = list(model.origin.snapshots)
    if len(snapshots) != 1:
        made = f"{len(snapshots)} tables" if snapshots else "no table that is known"
        hint = f"tally harden {model.key} --data TABLE"
        raise BadInput(f"it was made from {made}: say which rows to train on", where=model.key, hint=hint)
    return f"{TABLE_URI}{snapshots[0]}"


def _its_own(model: ModelVersion, data: str) -> bool:
    """Whether the rows to train on are the table of the model's own run, of which it held out some."""
    return not data or data.partition("@")[0] in model.origin.tables


def _tabular(domain: Domain) -> bool:
    return domain.kind is DomainKind.TABULAR


def _wire(domain: Domain) -> Mapping[str, Any]:
    """What the steps have to know of the domain."""
    columns = {
        c.name: {"low": c.low, "high": c.high, "scale": c.scale, "whole": c.integer or bool(c.one_hot)}
        | {"fixed": c.immutable, "group": c.one_hot, "way": c.direction}
        for c in domain.columns
    }
    about = {"low": domain.low, "high": domain.high, "tabular": _tabular(domain)}
    shape = {"shape": list(domain.shape), "channels_first": domain.channels_first}
    return {**about, **shape, "columns": columns, "apart": list(domain.groups)}


def _names(outputs: Sequence[TensorSpec]) -> list[str]:
    """What a new network's outputs are called: as the model's, where one is a label and one the scores."""
    labels = [o.name for o in outputs if o.datatype in _LABELS and o.shape[1:] in ((), (1,))]
    scores = [o.name for o in outputs if o.datatype in SCORES and len(o.shape) == 2]
    return [*labels, *scores] if len(labels) == len(scores) == 1 else ["label", "probabilities"]
