"""Black-box evasion: what is found by asking alone.

The queries that the budget grants a sample are divided among the probes that apply to the model and the
domain, by fixed shares, whether or not a policy names all of them: so what one finds never depends on another
being there. Gradients, of a victim that has them, only guide the edits of tables.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tallystick.core.errors import NotSupported
from tallystick.evidence.domain import DomainKind
from tallystick.evidence.figures import Figure
from tallystick.evidence.probe import Probe, Threat
from tallystick.ports.models.attack import Case, Found, Needs, Offer, Progress
from tallystick.tiles.attack.boundary import boundary
from tallystick.tiles.attack.hop import hop_skip_jump
from tallystick.tiles.attack.hunt import Hunt
from tallystick.tiles.attack.square import square
from tallystick.tiles.attack.tables.told import Told
from tallystick.tiles.attack.zoo import zoo

__all__ = ["LIBRARY", "NUMBERS", "OFFERS", "Said", "run_black", "share_of"]

NUMBERS = (DomainKind.IMAGE, DomainKind.TABULAR, DomainKind.SERIES, DomainKind.VECTOR)

_ANY, _SCORES = Needs(kinds=NUMBERS), Needs(scores=True, kinds=NUMBERS)
_TABLES = Needs(kinds=(DomainKind.TABULAR,))

OFFERS = tuple(
    Offer(name, Threat.EVASION, 2 if name == "table_edits" else 1, about, needs, weight)
    for name, about, needs, weight in (
        ("hop_skip_jump", "walks along the boundary by labels alone (Chen et al. 2020)", _ANY, 3.0),
        ("square", "random search by patches of features (Andriushchenko et al. 2020)", _SCORES, 3.0),
        ("table_edits", "the cheapest edit of a table's row that turns its answer", _TABLES, 2.0),
        ("boundary", "random walk on the wrong side by labels alone (Brendel et al. 2018)", _ANY, 1.0),
        ("zoo", "descent by gradients guessed from scores (Chen et al. 2017)", _SCORES, 1.0),
    )
)

LIBRARY = "tallystick"
QUERIES_MIN = 10
"""Of one sample in one probe: with fewer, none of them gets anywhere."""


@dataclass
class _Words:
    """What a probe says beside what its hunt holds."""

    settings: Mapping[str, Any]
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    gradients: int = 0
    show: np.ndarray | None = None


def share_of(name: str, case: Case) -> float:
    """The share, 0 to 1, of a sample's queries that the probe ``name`` may spend."""
    applies = [
        offer
        for offer in OFFERS
        if case.domain.kind in offer.needs.kinds
        and not (offer.needs.scores and case.victim.gives == "labels")
    ]
    return sum(o.weight for o in applies if o.name == name) / sum(o.weight for o in applies)


def run_black(name: str, case: Case, progress: Progress) -> Found:
    """Carry out one of :data:`OFFERS`; NotSupported where the budget is too small for it to begin."""
    queries = int(case.budget.queries_max * share_of(name, case))
    if queries < QUERIES_MIN:
        text = (
            f"its share of {case.budget.queries_max} queries a row is {queries}, and it needs {QUERIES_MIN}"
        )
        raise NotSupported(text, where="budget.queries_max")
    hunt = Hunt(case, queries)
    began, opened = time.perf_counter(), len(hunt.open())

    def said(share: float, more: str = "") -> None:
        left = int((hunt.distance > case.budget.eps[-1]).sum())
        text = f"{left} of {len(hunt)} samples withstand so far"
        progress(min(1.0, share), f"{more}: {text}" if more else text)

    told = _RUNS[name](hunt, said)
    hunt.check()
    spent = {
        "queries_most": int(hunt.used.max(initial=0)),
        "samples_nearer": int((hunt.distance < case.distance).sum()),
    }
    probe = Probe(
        name=name,
        threat=Threat.EVASION,
        library=LIBRARY,
        settings={**told.settings, **spent},
        figures=told.figures,
        notes=told.notes,
        samples=opened,
        queries=int(hunt.used.sum()),
        gradients=told.gradients,
        seconds=round(time.perf_counter() - began, 3),
    )
    return Found(probe, hunt.distance, hunt.adversarial, told.show)


Said = Callable[..., None]


def _hop(hunt: Hunt, said: Said) -> _Words:
    return _walked(hop_skip_jump(hunt, said))


def _boundary(hunt: Hunt, said: Said) -> _Words:
    return _walked(boundary(hunt, said))


def _walked(settings: Mapping[str, Any]) -> _Words:
    missing = settings["without_start"]
    text = f"{missing} samples were left out: no row was found that the model gets wrong, to start from"
    return _Words(settings, notes=(text,) if missing else ())


def _edits(hunt: Hunt, said: Said) -> _Words:
    edits = Told(hunt)
    edits.search(said)
    return _Words(edits.settings(), edits.figures(), edits.notes(), edits.gradients, hunt.cheapest)


_RUNS: Mapping[str, Callable[[Hunt, Said], _Words]] = {
    "hop_skip_jump": _hop,
    "square": lambda hunt, said: _Words(square(hunt, said)),
    "table_edits": _edits,
    "boundary": _boundary,
    "zoo": lambda hunt, said: _Words(zoo(hunt, said)),
}
