"""The errand ``judge``: probes of a model on labelled rows, within a budget, and what each of them found.

Code that came with a model never runs in this process, as it could write a result of its own: a model whose
runtime runs code is asked over the socket of another process that serves it, and refused where there is none.

Order ``{"list": true, "out": folder}``: say which probes are installed; the result is a ``ThreatList``.

Any other order: ``rows`` (a Parquet file), ``label`` (its column with the right classes), ``domain``,
``budget``, ``out`` (a folder for the parts of the result), ``probes`` (the list of those to carry out, each a
``Listed``) and ``base`` (the key of what comes before them). The model is ``folder`` (an MLflow model) or
``endpoint`` (an address of the Open Inference Protocol); ``socket`` and ``name`` where it is served,
``twin`` (an ONNX file) where there is one or ``no_twin`` (why not). Optional are ``size_bytes`` of its files,
``train`` (a Parquet file) with ``train_digest`` and ``trained_on`` (whether the record shows that it was),
``threads``, ``restarts`` (whether a model that answers no more is started again), ``known``, ``given_up`` and
``probe_s`` (as of :class:`tallystick.crew.judging.engine.Plan`).

It says ``began`` with each probe's name and ``part`` with the name of a JSON file in ``out`` as soon as that
has ended: see :mod:`tallystick.crew.judging.parts`. The result is ``versions`` and ``seconds``.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick import __version__
from tallystick.core.errors import BadInput, TallyError
from tallystick.core.facts import from_json, to_json
from tallystick.crew.desk import Desk, attend
from tallystick.crew.serve import QUIET
from tallystick.evidence.domain import Budget, Domain
from tallystick.evidence.threats import Listed

if TYPE_CHECKING:
    from tallystick.crew.judging.engine import Plan
    from tallystick.crew.judging.parts import Parts
    from tallystick.crew.judging.rows import Given
    from tallystick.crew.judging.victims import Opened, Victims
    from tallystick.ports.models.attack import Attack, Case

__all__ = ["main"]

MIB = 2**20


def main(desk: Desk) -> Mapping[str, Any]:
    """Probe and tell; BadInput names the column, row or input that does not fit."""
    began = time.monotonic()
    os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})
    from tallystick.crew.judging.offers import list_threats, open_attacks  # late, as numpy comes with them

    try:
        out = Path(desk.order["out"])
        attacks, absent = open_attacks(out)
        if desk.order.get("list"):
            return dict(to_json(list_threats(attacks, absent)))
        return _judge(desk, desk.order, attacks, out, began)
    except KeyError as missing:
        raise BadInput(f"the order lacks {missing}", where="crew/judge") from None


def _judge(
    desk: Desk, order: Mapping[str, Any], attacks: Mapping[str, Attack], out: Path, began: float
) -> Mapping[str, Any]:
    from tallystick.crew.judging.base import begin_case
    from tallystick.crew.judging.engine import Engine
    from tallystick.crew.judging.pace import Pace
    from tallystick.crew.judging.parts import Parts
    from tallystick.crew.judging.victims import opened, victims

    budget = from_json(Budget, order["budget"], "budget")
    plan, parts = _plan(order), Parts(out, desk)
    desk.progress(0.0, "loading the model")
    with opened(order) as model:
        parts.waited = model.waited
        rows = _rows(order, order["rows"], model)
        desk.progress(0.0, f"asking it about {len(rows.truth):,} rows")
        seen = victims(model, rows, order, out)
        versions = {**_machine(), **model.versions}
        if plan.base not in plan.known:
            _tell_base(order, seen, rows, budget, model, parts, versions)
        itself = _trained(begin_case(seen.itself, seen.itself, rows, budget), seen, order, model)
        through = itself
        if seen.twin:
            through = _trained(begin_case(seen.twin, seen.itself, rows, budget), seen, order, model)
        engine = Engine(plan, attacks, seen, itself, through, parts, restarts=bool(order.get("restarts")))
        engine.run(Pace([p.weight for p in plan.probes], desk.progress), desk.began)
        desk.progress(1.0, "all probes have ended")
    return {
        "versions": versions,
        "seconds": round(time.monotonic() - began, 3),
    }


def _plan(order: Mapping[str, Any]) -> Plan:
    from tallystick.crew.judging.engine import Plan

    known = from_json(dict[str, str | None], order.get("known", {}), "known")
    probes = from_json(tuple[Listed, ...], order["probes"], "probes")
    given_up = {str(name): str(why) for name, why in dict(order.get("given_up", {})).items()}
    probe_s = float(order.get("probe_s", math.inf))
    return Plan(probes, str(order["base"]), str(order.get("train_digest", "")), known, given_up, probe_s)


def _rows(order: Mapping[str, Any], path: str, model: Opened) -> Given:
    """The rows at ``path``, as the domain says that they lie and as the model takes them."""
    from tallystick.crew.judging.rows import given
    from tallystick.crew.measure.target import columns_of, features_of

    inputs = model.predictor.inputs
    wanted = columns_of(inputs)
    count = len(wanted) or features_of(inputs[0])
    domain = from_json(Domain, order["domain"], "domain")
    return given(Path(path), str(order["label"]), domain, wanted, count)


def _tell_base(
    order: Mapping[str, Any],
    seen: Victims,
    rows: Given,
    budget: Budget,
    model: Opened,
    parts: Parts,
    versions: dict[str, str],
) -> None:
    from tallystick.crew.judging.base import measure_base

    notes = [f"the model was {model.asked}", *seen.notes]
    size = round(float(order.get("size_bytes", 0)) / MIB, 6)
    base = measure_base(seen.itself, rows, budget, key=str(order["base"]), size_mib=size, notes=notes)
    parts.tell_base(replace(base, versions=versions))


def _trained(case: Case, seen: Victims, order: Mapping[str, Any], model: Opened) -> Case:
    """The case with the rows that the model was trained on, where the order has them and they fit it."""
    import numpy as np

    if "train" not in order:
        return case
    try:
        rows = _rows(order, order["train"], model)
    except TallyError as wrong:
        seen.notes.append(f"the rows that it was trained on cannot be used: {wrong.what}")
        return case
    places = {name: place for place, name in enumerate(case.classes)}
    good = np.array([name in places for name in rows.truth], bool)
    if not good.any() or rows.x.shape[1:] != case.x.shape[1:]:
        return case
    y = np.array([places[name] for name in rows.truth[good]], np.int64)
    return replace(case, train=(rows.x[good], y), trained_on=bool(order.get("trained_on")))


def _machine() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "tallystick": __version__,
    }


if __name__ == "__main__":
    attend(main)
