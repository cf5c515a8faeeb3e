"""Harden: what a run of the pipeline ``examples/harden`` is told, so that its model can stand in for another.

Pure: a command, or whatever else hardens, has the model's record and the policy, and submits what comes out.
"""

from __future__ import annotations

import enum
import json
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

__all__ = ["HELD_OUT_SHARE", "OUTPUT", "How", "Wish", "params_of"]

OUTPUT = "hardened"
"""The pipeline's output that is the model; ``test`` are the rows that it is judged by."""
HELD_OUT_SHARE = 0.2
SEED_MAX = 2**32 - 1
_SCORES = ("FP16", "FP32", "FP64")
_LABELS = ("BYTES", "INT32", "INT64")


class How(enum.StrEnum):
    """The ways; the first trains a new network on its own attacks, the last two can keep the model itself."""

    ADVERSARIAL = "adversarial"
    DISTILL = "distill"
    SMOOTH = "smooth"
    PREPROCESS = "preprocess"


_RANGES: Mapping[str, tuple[type, float, float]] = {
    "epochs": (int, 4, 10_000),
    "temperature": (float, 1, 1000),
    "bits": (int, 1, 16),
    "sigma": (float, 1e-9, 1e9),
    "draws": (int, 1, 1000),
}


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
    settings = _settings(wish, eps / (1 if _tabular(domain) else domain.high - domain.low), eps)
    _check_applies(model, wish.how, settings)
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
        hint = "hardened are models of rows of numbers: tables, images, series"
        raise NotSupported(f"{what}, and there is no hardening of texts here", where=model.key, hint=hint)
    several = [i for i in model.inputs if len(model.inputs) > 1 and i.shape[1:] not in ((), (1,))]
    if several:
        what = f"it takes {len(model.inputs)} inputs, and {several[0].name!r:.100} is not a single column"
        raise NotSupported(what, where=model.key, hint="one input for all features, or one for each column")


def _check_applies(model: ModelVersion, how: How, settings: Mapping[str, Any]) -> None:
    """NotSupported where a way needs what the model has not; what it names applies to every model."""
    keeps = how in (How.PREPROCESS, How.DISTILL) or settings.get("base") == "original"
    hint = "adversarial, and smooth on a network of its own, train a new network: they apply"
    if keeps and "onnx" not in model.flavors:
        what = f"{how} needs the model as ONNX, and it is {', '.join(model.flavors) or 'of no known kind'}"
        raise NotSupported(what, where=model.key, hint=hint)
    if how is How.PREPROCESS:
        whole = next((i for i in model.inputs if i.datatype not in _SCORES), None)
        if whole:
            what = f"its input {whole.name!r:.100} takes {whole.datatype}: there is nothing to round"
            raise NotSupported(what, where=model.key, hint=hint)
    elif keeps:
        if not any(len(o.shape) == 2 and o.datatype in _SCORES for o in model.outputs):
            what = f"it gives labels alone, and {how} needs a score for each class"
            raise NotSupported(what, where=model.key, hint=hint)
        if any(i.shape and i.shape[0] >= 0 for i in model.inputs):
            what = "it takes a fixed number of rows at once"
            raise NotSupported(what, where=model.key, hint=hint)


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


def _settings(wish: Wish, share: float, eps: float) -> dict[str, Any]:
    """The way's settings with what was wished; ``share`` is eps as a share of a feature's range."""
    bits = max(1, min(8, math.floor(math.log2(1 + 1 / (2 * share)))))
    known: Mapping[How, Mapping[str, Any]] = {
        How.ADVERSARIAL: {"epochs": 100},
        How.DISTILL: {"epochs": 100, "temperature": 20.0},
        How.SMOOTH: {"epochs": 100, "sigma": 2 * eps, "draws": 32, "base": "network"},
        How.PREPROCESS: {"bits": bits},
    }
    mine = dict(known[wish.how])
    for name, text in wish.settings.items():
        if name not in mine:
            hint = "it has " + ", ".join(mine)
            raise BadInput(f"{wish.how} has no setting {name!r:.50}", where="settings", hint=hint)
        mine[name] = _setting(name, text)
    return mine


def _setting(name: str, text: str) -> Any:
    if name == "base":
        if text not in ("network", "original"):
            raise BadInput(f"base is network or original, not {text!r:.50}", where="settings")
        return text
    kind, low, high = _RANGES[name]
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    right = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not right or (kind is int and not isinstance(value, int)):
        whole = "a whole number" if kind is int else "a number"
        raise BadInput(f"{name} is {whole} from {low:g} to {high:g}, not {text!r:.50}", where="settings")
    return kind(value)


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


def _tabular(domain: Domain) -> bool:
    return domain.kind is DomainKind.TABULAR


def _wire(domain: Domain) -> Mapping[str, Any]:
    """What the steps have to know of the domain."""
    columns = {
        c.name: {"low": c.low, "high": c.high, "scale": c.scale, "whole": c.integer or bool(c.one_hot)}
        | {"fixed": c.immutable}
        for c in domain.columns
    }
    about = {"low": domain.low, "high": domain.high, "tabular": _tabular(domain)}
    return {**about, "columns": columns, "apart": list(domain.groups)}


def _names(outputs: Sequence[TensorSpec]) -> list[str]:
    """What a new network's outputs are called: as the model's, where one is a label and one the scores."""
    labels = [o.name for o in outputs if o.datatype in _LABELS and o.shape[1:] in ((), (1,))]
    scores = [o.name for o in outputs if o.datatype in _SCORES and len(o.shape) == 2]
    return [*labels, *scores] if len(labels) == len(scores) == 1 else ["label", "probabilities"]
