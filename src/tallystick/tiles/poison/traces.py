"""Traces that poisoned training rows leave inside a model, class by class.

Rows that were planted reach their class by another way than the others, so inside the model they lie apart.
Two ways to see that: a second, smaller cluster (activation clustering, Chen et al., SafeAI 2019) and
outliers along the direction in which a class is widest (spectral signatures, Tran et al., NeurIPS 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from tallystick.core.errors import NotSupported
from tallystick.evidence.domain import DomainKind
from tallystick.evidence.figures import Rate
from tallystick.ports.models.attack import Case

__all__ = ["Trace", "activation_clustering", "nearest_neighbours", "spectral_signatures"]

ROWS_MIN = 30
"""Of a class: fewer make no two clusters that mean anything."""
ROWS_MAX = 3000
DIMENSIONS = 10
SMALL_MAX = 0.35
"""The share of a class up to which a cluster is what was planted, and not one of two honest kinds."""
APART_MIN = 0.4
"""The silhouette from which two clusters are apart."""
FAR = 5.0
"""Robust deviations from the middle of its class from which a row is an outlier."""


NEIGHBOURS = 10
AGREE_MAX = 0.2
"""Up to this share of neighbours with the same label, a label is suspicious."""


@dataclass(frozen=True)
class Trace:
    """Suspicious rows of all that were looked at, and those of each class that has some."""

    suspicious: Rate
    classes: dict[int, Rate]
    asked: int


def activation_clustering(case: Case) -> Trace:
    """See the module; NotSupported where no training rows are known or nobody sees inside the model."""
    return _by_class(case, lambda inside: _smaller_cluster(inside, case.budget.seed))


def spectral_signatures(case: Case) -> Trace:
    """See the module; NotSupported where no training rows are known or nobody sees inside the model."""
    return _by_class(case, _outliers)


def nearest_neighbours(case: Case) -> Trace:
    """Training rows whose nearest others have other labels; asks the model nothing. NotSupported as above."""
    from sklearn.neighbors import NearestNeighbors

    x, y = _train(case)
    if case.domain.kind is DomainKind.TEXT:
        raise NotSupported("texts have no distance here", where="poisoning")
    if len(x) <= 2 * NEIGHBOURS:
        raise NotSupported(f"{len(x)} training rows are too few", where="poisoning")
    spread = x.std(axis=0) if case.domain.kind is DomainKind.TABULAR else np.float32(1)
    rows = x / np.where(spread > 0, spread, 1)
    with threadpool_limits(1):
        near = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(rows).kneighbors(rows, return_distance=False)
    same = (y[near[:, 1:]] == y[:, None]).mean(axis=1)
    return _told(y, same <= AGREE_MAX, 0)


def _train(case: Case) -> tuple[np.ndarray, np.ndarray]:
    if case.train is None:
        raise NotSupported("no rows that it was trained on are known", where="poisoning")
    x, y = case.train
    taken = np.sort(np.random.default_rng([case.budget.seed, 5]).permutation(len(x))[:ROWS_MAX])
    return x[taken], y[taken]


def _told(y: np.ndarray, found: np.ndarray, asked: int) -> Trace:
    classes = {
        int(label): Rate(int(found[y == label].sum()), int((y == label).sum()))
        for label in np.unique(y[found])
    }
    return Trace(Rate(int(found.sum()), len(y)), classes, asked)


def _by_class(case: Case, look: Callable[[np.ndarray], np.ndarray]) -> Trace:
    x, y = _train(case)
    inside = case.victim.hidden(x)
    found, looked = np.zeros(len(y), bool), np.zeros(len(y), bool)
    for label in np.unique(y):
        here = y == label
        if here.sum() >= ROWS_MIN:
            looked |= here
            found[here] = look(inside[here])
    if not looked.any():
        raise NotSupported(f"no class has {ROWS_MIN} training rows", where="poisoning")
    return _told(y[looked], found[looked], len(x))


def _narrowed(inside: np.ndarray) -> np.ndarray:
    """The class in the few directions in which it is widest, (n, at most ``DIMENSIONS``)."""
    centred = inside.astype(np.float64) - inside.mean(axis=0)
    left, widths, _ = np.linalg.svd(centred, full_matrices=False)
    few = min(DIMENSIONS, int((widths > 1e-9 * max(widths[0], 1e-30)).sum()))
    narrowed: np.ndarray = left[:, :few] * widths[:few]
    return narrowed


def _smaller_cluster(inside: np.ndarray, seed: int) -> np.ndarray:
    """Which rows are in a second cluster that is small and stands apart: bool (n,)."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    none = np.zeros(len(inside), bool)
    narrowed = _narrowed(inside)
    if narrowed.shape[1] == 0:
        return none
    with threadpool_limits(1):  # sums in the same order, so that it is the same again
        said = KMeans(2, n_init=10, random_state=seed).fit_predict(narrowed)
    small = said == int(said.sum() <= len(said) / 2)
    if not 0 < small.sum() <= SMALL_MAX * len(said):
        return none
    return small if silhouette_score(narrowed, said) >= APART_MIN else none


def _outliers(inside: np.ndarray) -> np.ndarray:
    """Which rows lie far out along the widest direction, by the median absolute deviation: bool (n,)."""
    narrowed = _narrowed(inside)
    if narrowed.shape[1] == 0:
        return np.zeros(len(inside), bool)
    along = narrowed[:, 0]
    off = np.abs(along - np.median(along))
    spread = 1.4826 * np.median(off)
    found: np.ndarray = off > FAR * max(spread, 1e-12)
    return found
