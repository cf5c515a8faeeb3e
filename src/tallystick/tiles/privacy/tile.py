"""The tile ``privacy``: probes ``membership``, ``attribute`` and ``extraction``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from tallystick import __version__
from tallystick.core.errors import NotSupported
from tallystick.evidence.domain import DomainKind
from tallystick.evidence.figures import Figure
from tallystick.evidence.probe import Curve, Probe, Threat
from tallystick.ports.models.attack import Case, Found, Needs, Offer, Progress
from tallystick.ports.tile import Place
from tallystick.tiles.privacy.attribute import infer_attributes
from tallystick.tiles.privacy.extraction import extract
from tallystick.tiles.privacy.membership import infer_membership

__all__ = ["Privacy", "open_tile"]


@dataclass(frozen=True)
class _Result:
    figures: tuple[Figure, ...]
    samples: int
    queries: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()


def _membership(case: Case) -> _Result:
    told = infer_membership(case)
    settings = {"attack": told.attack, "true_positives_at_1_percent_false": round(told.true_at_low_false, 4)}
    return _Result((told.figure,), told.rows, told.asked, settings)


def _attribute(case: Case) -> _Result:
    figures, asked = infer_attributes(case)
    return _Result(
        tuple(figures), figures[0].samples, asked, {"columns": [f.group for f in figures if f.group]}
    )


def _extraction(case: Case) -> _Result:
    copied = extract(case)
    return _Result(
        (copied.figure,), copied.figure.samples, copied.queries, {"copy": copied.copy}, (copied.curve,)
    )


_TABLE = Needs(train=True, kinds=(DomainKind.TABULAR,))
PROBES: Mapping[str, tuple[Offer, Callable[[Case], _Result]]] = {
    "extraction": (
        Offer("extraction", Threat.EXTRACTION, 1, "a copy trained on the model's own answers"), _extraction,
    ),
    "membership": (
        Offer("membership", Threat.INFERENCE, 1, "telling training rows from others", Needs(train=True), 0.5),
        _membership,
    ),
    "attribute": (
        Offer("attribute", Threat.INFERENCE, 1, "learning a hidden column of training rows", _TABLE, 0.5),
        _attribute,
    ),
}  # fmt: skip


class Privacy:
    """See the module; each probe needs scikit-learn, with which the attacker learns."""

    def offers(self) -> tuple[Offer, ...]:
        """Extraction, membership and attribute inference."""
        return tuple(offer for offer, _ in PROBES.values())

    def run(self, name: str, case: Case, progress: Progress) -> Found:
        """See :class:`tallystick.ports.models.attack.Attack`."""
        if name not in PROBES:
            raise NotSupported(f"there is no probe {name!r:.100}", where="privacy")
        offer, attack = PROBES[name]
        progress(0.0, offer.about)
        began = time.perf_counter()
        result = attack(case)
        return Found(
            Probe(
                name,
                offer.threat,
                library=f"tallystick {__version__} with scikit-learn {version('scikit-learn')}",
                settings=result.settings,
                figures=result.figures,
                curves=result.curves,
                samples=result.samples,
                queries=result.queries,
                seconds=round(time.perf_counter() - began, 3),
            )
        )

    def versions(self) -> dict[str, str]:
        """Of numpy and scikit-learn."""
        return {package: version(package) for package in ("numpy", "scikit-learn")}


def open_tile(place: Place) -> Privacy:
    """No options. ImportError where scikit-learn is not installed."""
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise ImportError("scikit-learn is not installed", name="scikit-learn")
    return Privacy()
