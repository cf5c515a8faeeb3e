"""The model itself, where its ONNX twin was attacked before: what the twin does not show is looked for there.

A twin is made by the model's own process, and seen to be its equal on a number of rows: code could answer as
its twin near those rows, and otherwise elsewhere. So the strongest attacks from outside go on, on the model,
from what was found through the twin: random search by corners, which is quick, walks along the boundary, and
of tables the cheapest edits. The caller grants as many rows and questions as the model's speed allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tallystick.core.errors import NotSupported
from tallystick.evidence.domain import DomainKind
from tallystick.evidence.figures import Figure
from tallystick.evidence.probe import Probe, Threat
from tallystick.ports.models.attack import Case, Found, Needs, Offer, Progress
from tallystick.tiles.attack.black import LIBRARY, NUMBERS, Said
from tallystick.tiles.attack.hop import hop_skip_jump
from tallystick.tiles.attack.hunt import Hunt
from tallystick.tiles.attack.square import square
from tallystick.tiles.attack.tables.told import Told

__all__ = ["OFFER", "run_itself"]

OFFER = Offer(
    "model_itself",
    Threat.EVASION,
    1,
    "attacks on the model itself, where its ONNX twin was asked before",
    Needs(itself=True, kinds=NUMBERS),
    weight=3.0,
)

QUERIES_MIN = 30
"""Of one sample: with fewer, none of its parts gets anywhere."""

_SEARCHES: Mapping[str, Callable[[Hunt, Said], object]] = {"square": square, "hop_skip_jump": hop_skip_jump}


def run_itself(case: Case, progress: Progress) -> Found:
    """Each part that applies, with an equal share of the questions, from what the parts before it found."""
    if case.budget.queries_max < QUERIES_MIN:
        text = f"{case.budget.queries_max} queries a row are too few: it takes {QUERIES_MIN}"
        raise NotSupported(text, where="budget.queries_max")
    began, parts = time.perf_counter(), _parts(case)
    each = case.budget.queries_max // len(parts)
    settings: dict[str, Any] = {"parts": parts, "queries_each": each}
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    opened, asked, now = int((case.distance > case.budget.eps[0]).sum()), 0, case
    for turn, name in enumerate(parts):
        hunt = Hunt(now, each)

        def said(share: float, more: str = "", name: str = name, turn: int = turn, hunt: Hunt = hunt) -> None:
            left = int((hunt.distance > case.budget.eps[-1]).sum())
            text = f"{name} on the model itself: {left} of {len(hunt)} samples withstand so far"
            progress((turn + min(1.0, share)) / len(parts), text)

        if name == "table_edits":
            figures, notes = _edits(hunt, said)
        else:
            _SEARCHES[name](hunt, said)
        hunt.check()
        asked += int(hunt.used.sum())
        settings[f"{name}_nearer"] = int((hunt.distance < now.distance).sum())
        now = replace(now, distance=hunt.distance, adversarial=hunt.adversarial)
    probe = Probe(
        name=OFFER.name,
        threat=Threat.EVASION,
        library=LIBRARY,
        settings=settings,
        figures=figures,
        notes=notes,
        samples=opened,
        queries=asked,
        seconds=round(time.perf_counter() - began, 3),
    )
    return Found(probe, now.distance, now.adversarial)


def _parts(case: Case) -> list[str]:
    scores, table = case.victim.gives != "labels", case.domain.kind is DomainKind.TABULAR
    return [*(["square"] if scores else []), "hop_skip_jump", *(["table_edits"] if table else [])]


def _edits(hunt: Hunt, said: Said) -> tuple[tuple[Figure, ...], tuple[str, ...]]:
    """The figure is of the model itself, and as such beside that which was found through its twin."""
    try:
        told = Told(hunt)
    except NotSupported as wrong:
        return (), (f"no edits were looked for: {wrong.what}",)
    told.search(said)
    return told.figures(), told.notes()
