"""Evasion from outside, and attacks of the Adversarial Robustness Toolbox (ART) that policies may name.

What is usual is our own (:mod:`tallystick.tiles.attack.black`). ART's are there for those who name them in a
policy: each is one call of ART's, whose rows are then looked at as everybody's are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from tallystick.core.errors import BadInput, Failed, NotSupported, TallyError
from tallystick.evidence.domain import DomainKind
from tallystick.evidence.probe import Probe, Threat
from tallystick.ports.models.attack import Case, Found, Needs, Offer, Progress
from tallystick.ports.tile import Place
from tallystick.tiles.attack import black, itself
from tallystick.tiles.attack.library import LIBRARY, estimator, evasion, seeded, versions
from tallystick.tiles.attack.project import Space

__all__ = ["ArtAttack", "open_tile"]

BATCH = 128
_KINDS = (DomainKind.IMAGE, DomainKind.VECTOR)
"""ART knows one radius for all numbers: of tables and series each column or channel has its own span."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    """One of ART's attacks: its class, what it is, and its arguments for a case and a radius."""

    kind: str
    about: str
    settings: Callable[[Case, float], dict[str, Any]]
    each_eps: bool = False


_RECIPES: Mapping[str, _Recipe] = {
    "art_deep_fool": _Recipe(
        "DeepFool",
        "ART's DeepFool: the nearest boundary in L2 (Moosavi-Dezfooli et al. 2016)",
        lambda case, eps: {"max_iter": case.budget.steps_max, "nb_grads": min(10, case.victim.classes)},
    ),
    "art_elastic_net": _Recipe(
        "ElasticNet",
        "ART's elastic net: few features changed (Chen et al. 2018)",
        lambda case, eps: {"max_iter": case.budget.steps_max, "binary_search_steps": 4},
    ),
    "art_auto_conjugate_gradient": _Recipe(
        "AutoConjugateGradient",
        "ART's conjugate gradients (Yamamura et al. 2022)",
        lambda case, eps: {
            "eps": eps,
            "eps_step": 2 * eps,
            "max_iter": case.budget.steps_max,
            "nb_random_init": case.budget.restarts,
        },
        each_eps=True,
    ),
}


class ArtAttack:
    """See :class:`tallystick.ports.models.attack.Attack`."""

    def offers(self) -> tuple[Offer, ...]:
        """See the port: our own from outside, then ART's, which run only where a policy names them."""
        needs = Needs(gradients=True, kinds=_KINDS)
        named = [Offer(n, Threat.EVASION, 1, r.about, needs, 8.0, usual=False) for n, r in _RECIPES.items()]
        return (*black.OFFERS, itself.OFFER, *named)

    def run(self, name: str, case: Case, progress: Progress) -> Found:
        """See the port. BadInput for a name that is not offered."""
        if name in _RECIPES:
            return _run_art(name, case, progress)
        if name in {offer.name for offer in black.OFFERS}:
            return black.run_black(name, case, progress)
        if name == itself.OFFER.name:
            return itself.run_itself(case, progress)
        known = ", ".join(offer.name for offer in self.offers())
        raise BadInput(f"no probe {name!r:.100}", where="attack", hint=f"known: {known}")

    def versions(self) -> dict[str, str]:
        """Of ART, numpy and scipy."""
        return versions()


def _run_art(name: str, case: Case, progress: Progress) -> Found:
    """One of ART's attacks on the samples that still withstand, at each radius or once."""
    if not case.victim.gradients:
        raise NotSupported("it needs gradients", where="model")
    recipe, began = _RECIPES[name], time.perf_counter()
    hunt = _Kept(case)
    opened, radii = (
        len(hunt.open(case.budget.eps[0])),
        case.budget.eps if recipe.each_eps else case.budget.eps[:1],
    )
    art = estimator(case.victim, _shape(case), case.domain.low, case.domain.high)
    for at, eps in enumerate(radii):
        who = hunt.open(eps)
        if len(who):
            progress(0.95 * at / len(radii), f"ART's {recipe.kind} on {len(who)} samples")
            hunt.keep(who, _generate(recipe, art, case, hunt.x[who], hunt.y[who], eps))
    progress(1.0, f"{len(hunt.open(case.budget.eps[-1]))} of {len(hunt.x)} samples withstand")
    settings = {k: v for k, v in recipe.settings(case, radii[-1]).items() if k != "eps"}
    probe = Probe(
        name=name,
        threat=Threat.EVASION,
        library=f"{LIBRARY} {version(LIBRARY)}",
        settings={"attack": recipe.kind, **settings},
        samples=opened,
        queries=art.asked + hunt.asked,
        gradients=art.pulled,
        seconds=round(time.perf_counter() - began, 3),
    )
    return Found(probe, hunt.distance, hunt.adversarial)


def _generate(recipe: _Recipe, art: Any, case: Case, x: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
    """What ART makes of the rows; Failed, with its own words, where it breaks off."""
    right = np.eye(case.victim.classes, dtype=np.float32)[y]
    try:
        attack = getattr(evasion(), recipe.kind)(
            art, batch_size=BATCH, verbose=False, **recipe.settings(case, eps)
        )
        with seeded(case.budget.seed):
            made = attack.generate(x.reshape(len(x), *_shape(case)).copy(), y=right)
    except TallyError:
        raise
    except Exception as wrong:
        raise Failed(f"ART's {recipe.kind} broke off: {type(wrong).__name__}: {wrong!s:.200}") from wrong
    return np.asarray(made, np.float32).reshape(len(x), -1)


def _shape(case: Case) -> tuple[int, ...]:
    return (case.x.shape[1],)


class _Kept:
    """The nearest adversarials, of what is allowed and what the model itself gets wrong."""

    def __init__(self, case: Case) -> None:
        self._case, self.asked = case, 0
        self.x, self.y = case.x[case.attacked], case.y[case.attacked]
        self.distance, self.adversarial = case.distance.copy(), case.adversarial.copy()
        self._space = Space(case.domain, case.features, self.x.shape[1])

    def open(self, eps: float) -> np.ndarray:
        """Samples that are not known to fall within ``eps``."""
        return np.flatnonzero(self.distance > eps)

    def keep(self, who: np.ndarray, made: np.ndarray) -> None:
        """Look at what was made of ``who``; what is no finite number changes nothing."""
        rows = self._space.project(np.where(np.isfinite(made), made, self.x[who]), self.x[who])
        self.asked += len(rows)
        wrong = self._case.victim.scores(rows).argmax(axis=1) != self.y[who]
        far = self._space.distance(rows, self.x[who])
        nearer = wrong & (far < self.distance[who])
        self.distance[who[nearer]], self.adversarial[who[nearer]] = far[nearer], rows[nearer]


def open_tile(place: Place) -> ArtAttack:
    """No options. ImportError where ART is not installed, so that the answer is how to install it."""
    from importlib.util import find_spec

    if find_spec("art") is None:
        raise ImportError("adversarial-robustness-toolbox is not installed", name=LIBRARY)
    return ArtAttack()
