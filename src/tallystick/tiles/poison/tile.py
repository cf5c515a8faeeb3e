"""The tile ``poison``: a planted trigger, and the traces that poisoned training rows leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version

from tallystick import __version__
from tallystick.core.errors import NotSupported
from tallystick.evidence.domain import DomainKind
from tallystick.evidence.figures import rate_figure
from tallystick.evidence.probe import Probe, Threat
from tallystick.ports.models.attack import Case, Found, Needs, Offer, Progress
from tallystick.ports.tile import Place
from tallystick.tiles.poison.traces import (
    Trace,
    activation_clustering,
    nearest_neighbours,
    spectral_signatures,
)
from tallystick.tiles.poison.trigger import find_trigger

__all__ = ["Poison", "open_tile"]

_TRAIN = Needs(train=True)
TRACES: Mapping[str, Callable[[Case], Trace]] = {
    "nearest_neighbours": nearest_neighbours,
    "activation_clustering": activation_clustering,
    "spectral_signatures": spectral_signatures,
}
OFFERS = (
    Offer("trigger", Threat.POISONING, 2, "a small pattern that turns most answers to one class"),
    Offer("nearest_neighbours", Threat.POISONING, 1, "labels that no neighbour has", _TRAIN, 0.3),
    Offer("activation_clustering", Threat.POISONING, 1, "a second kind of row within a class", _TRAIN, 0.3),
    Offer("spectral_signatures", Threat.POISONING, 1, "rows far out within their class", _TRAIN, 0.3),
)


class Poison:
    """See the module."""

    def offers(self) -> tuple[Offer, ...]:
        """A trigger first, as it needs no training rows."""
        return OFFERS

    def run(self, name: str, case: Case, progress: Progress) -> Found:
        """See :class:`tallystick.ports.models.attack.Attack`."""
        offer = next((o for o in OFFERS if o.name == name), None)
        if offer is None:
            raise NotSupported(f"there is no probe {name!r:.100}", where="poison")
        progress(0.0, offer.about)
        began = time.perf_counter()
        probe = _trigger(case, progress) if name == "trigger" else _trace(name, case)
        return Found(_timed(probe, began))

    def versions(self) -> dict[str, str]:
        """Of numpy and scikit-learn."""
        return {package: version(package) for package in ("numpy", "scikit-learn")}


def _timed(probe: Probe, began: float) -> Probe:
    library = f"tallystick {__version__}"
    return replace(probe, library=library, seconds=round(time.perf_counter() - began, 3))


def _trigger(case: Case, progress: Progress) -> Probe:
    found = find_trigger(case, progress)
    figure = rate_figure("backdoor_success", found.success)
    if (
        case.domain.kind is DomainKind.TEXT and not case.trained_on
    ):  # other words may be in what it learnt from
        figure = replace(figure, beyond=True)
    target = case.classes[found.target] if found.target < len(case.classes) else str(found.target)
    return Probe(
        "trigger",
        Threat.POISONING,
        settings={"trigger": found.what, "turns_to": target},
        figures=(figure,),
        notes=(found.weakness,) if found.weakness else (),
        samples=found.success.total,
        queries=found.queries,
    )


def _trace(name: str, case: Case) -> Probe:
    found = TRACES[name](case)
    names = {
        label: case.classes[label] if label < len(case.classes) else str(label) for label in found.classes
    }
    figures = [rate_figure("poison_suspicion", found.suspicious)]
    figures += [
        rate_figure("poison_suspicion", rate, group=names[label]) for label, rate in found.classes.items()
    ]
    notes = [
        f"{rate.right} of {rate.total} training rows of class {names[label]} lie apart from the others"
        for label, rate in found.classes.items()
    ]
    return Probe(
        name,
        Threat.POISONING,
        figures=tuple(figures),
        notes=tuple(notes[:20]),
        samples=found.suspicious.total,
        queries=found.asked,
    )


def open_tile(place: Place) -> Poison:
    """No options. ImportError where scikit-learn is not installed."""
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise ImportError("scikit-learn is not installed", name="scikit-learn")
    return Poison()
