"""Extraction: how well does a copy answer that was trained on nothing but the model's own answers?

An attacker who has inputs of the right kind, but no labels, asks about them and trains on the answers: on
the labels alone (Copycat, Correia-Silva et al., IJCNN 2018) or on the scores (Knockoff, Orekondy et al.,
CVPR 2019). What counts is the agreement of the best copy with the model on rows that neither saw, at the
queries that it cost.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from tallystick.core.errors import NotSupported
from tallystick.evidence.domain import DomainKind
from tallystick.evidence.figures import Figure, Rate, rate_figure
from tallystick.evidence.probe import Curve
from tallystick.ports.models.attack import Case

__all__ = ["Copied", "extract"]

ROWS_MIN = 60
SHARES = (0.05, 0.15, 0.4, 1.0)
"""Of the queries that the budget allows; a curve shows what each buys."""
QUERIES_MAX = 20_000
JITTER = 0.1
"""Of a deviation, as noise: on the rows that the attacker makes up, mixtures of two that it has."""


@dataclass(frozen=True)
class Copied:
    """The best copy's agreement, what it costs to get there, and how it was made."""

    figure: Figure
    curve: Curve
    queries: int
    copy: str


def extract(case: Case) -> Copied:
    """Copy the model; NotSupported for texts, and where there are too few rows to ask about.

    Half of the rows are the attacker's, the other half tells how well the copy agrees.
    """
    if case.domain.kind is DomainKind.TEXT:
        raise NotSupported("copies are made of models that take numbers", where="extraction")
    chance = np.random.default_rng([case.budget.seed, 4])
    order = chance.permutation(len(case.x))
    own, others = case.x[order[: len(order) // 2]], case.x[order[len(order) // 2 :]]
    if len(others) < ROWS_MIN // 2:
        raise NotSupported(f"{len(case.x)} rows are too few: it takes {ROWS_MIN}", where="extraction")
    queries = min(QUERIES_MAX, case.budget.queries_max)
    asked = _inputs(own, queries, chance, case)
    answers = case.victim.scores(asked)
    truth = case.scores[order[len(order) // 2 :]].argmax(axis=1)
    points, best_copy = [], ""
    for share in SHARES:
        count = max(ROWS_MIN // 2, int(len(asked) * share))
        rate, copy = _best(asked[:count], answers[:count], others, truth, case.budget.seed)
        points.append((float(min(count, len(asked))), rate))
        best_copy = copy
    curve = Curve("agreement of the copy", "queries", *zip(*points, strict=True))
    return Copied(rate_figure("copy_agreement", points[-1][1]), curve, len(asked), best_copy)


def _inputs(own: np.ndarray, queries: int, chance: np.random.Generator, case: Case) -> np.ndarray:
    """The attacker's own rows, then mixtures of two of them with a little noise."""
    more = max(0, queries - len(own))
    one, other = own[chance.integers(0, len(own), more)], own[chance.integers(0, len(own), more)]
    share = chance.random((more, 1), np.float32)
    noise = (
        chance.normal(0, 1, (more, own.shape[1])).astype(np.float32) * own.std(axis=0) * np.float32(JITTER)
    )
    made = share * one + (1 - share) * other + noise
    return np.ascontiguousarray(
        np.concatenate([own, np.clip(made, *_range(case, own))])[:queries], np.float32
    )


def _range(case: Case, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if case.domain.kind is DomainKind.TABULAR:
        return own.min(axis=0), own.max(axis=0)
    return np.float32(case.domain.low), np.float32(case.domain.high)  # type: ignore[return-value]  # reason: they broadcast


def _best(
    asked: np.ndarray, answers: np.ndarray, others: np.ndarray, truth: np.ndarray, seed: int
) -> tuple[Rate, str]:
    """The agreement of the better of two kinds of copy on rows that it never saw."""
    said = answers.argmax(axis=1)
    if len(np.unique(said)) == 1:
        right = int((truth == said[0]).sum())
        return Rate(right, len(truth)), "the only class it ever said"
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of copies that have not converged: they are only as good as they are
        for name, copy in _copies(seed).items():
            copy.fit(asked, said)
            found[name] = int((copy.predict(others) == truth).sum())
    name = max(found, key=lambda each: found[each])
    return Rate(found[name], len(truth)), name


def _copies(seed: int) -> dict[str, Any]:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = MLPClassifier((128,), max_iter=60, early_stopping=True, random_state=seed)
    return {
        "network of 128 units": make_pipeline(StandardScaler(), network),
        "200 extra trees": ExtraTreesClassifier(200, random_state=seed, n_jobs=1),
    }
