"""Membership inference: can an attacker tell rows that the model was trained on from rows that it was not?

Two attacks, the better of which counts. One puts a threshold on the loss (Yeom et al., CSF 2018). The other
learns from what the model says, on rows whose membership it knows, to tell the others apart (Shokri et al.,
S&P 2017, without shadow models: an attacker who has some of the training rows needs none). Either is fitted
on one half of the rows and measured on the other, so that the advantage of guessing is 0. Judged rows that
the model was trained on after all are left out: as others they would hide what it gives away.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from tallystick.core.errors import NotSupported
from tallystick.evidence.figures import Z_95, Figure
from tallystick.ports.models.attack import Case

__all__ = ["ROWS_MAX", "ROWS_MIN", "Told", "advantage", "infer_membership"]

ROWS_MIN = 40
"""Of members, and of others: with fewer, chance alone makes an advantage."""
ROWS_MAX = 2000
"""Of either that are asked about."""
FALSE_MAX = 0.01
"""The false positive rate at which a leak of few rows still shows (Carlini et al., S&P 2022)."""
_TINY = 1e-12


@dataclass(frozen=True)
class Told:
    """The advantage of the better attack, its name, the rows it was measured on, and at few false alarms."""

    figure: Figure
    attack: str
    rows: int
    asked: int
    true_at_low_false: float


def infer_membership(case: Case) -> Told:
    """Attack; NotSupported where too few rows of either kind are known."""
    if case.train is None:
        raise NotSupported("no rows that it was trained on are known", where="membership")
    chance = np.random.default_rng([case.budget.seed, 2])
    members = _some(case.train, chance)
    strange = _strange(case.x, case.train[0])
    others = _some((case.x[strange], case.y[strange]), chance)
    few = min(len(members[1]), len(others[1]))
    if few < ROWS_MIN:
        text = f"{few} rows are too few to tell leaking from chance: it takes {ROWS_MIN} of either kind"
        raise NotSupported(text, where="membership")
    seen = [_features(case, x, y) for x, y in (members, others)]
    half = [len(s) // 2 for s in seen]
    fit = np.concatenate([s[:h] for s, h in zip(seen, half, strict=True)])
    known = np.concatenate([np.ones(half[0], bool), np.zeros(half[1], bool)])
    test = [s[h:] for s, h in zip(seen, half, strict=True)]
    found = [_loss(fit, known, test), _learned(fit, known, test, case.budget.seed)]
    best = max(found, key=lambda told: told[0].value)
    figure, attack, low = best
    return Told(figure, attack, sum(map(len, test)), sum(map(len, seen)), low)


def _strange(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which rows are none that it was trained on, bool (n,): members among the others would hide a leak."""

    def plain(rows: np.ndarray) -> list[str | bytes]:
        if rows.dtype == object:
            return [str(row) for row in rows]
        return [row.tobytes() for row in np.asarray(rows, np.float32) + np.float32(0)]  # -0.0 is 0.0

    seen = set(plain(known))
    return np.array([row not in seen for row in plain(x)], bool)


def _some(rows: tuple[np.ndarray, np.ndarray], chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    taken = chance.permutation(len(rows[1]))[:ROWS_MAX]
    return rows[0][taken], rows[1][taken]


def _features(case: Case, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, 3 + classes) of what the model says: loss, right or wrong, entropy, and its scores sorted."""
    scores = case.victim.scores(x).astype(np.float64)
    if case.victim.gives == "logits":
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = odds / odds.sum(axis=1, keepdims=True)
    chances = np.clip(scores, _TINY, 1.0)
    loss = -np.log(chances[np.arange(len(y)), y])
    entropy = -(chances * np.log(chances)).sum(axis=1)
    right = scores.argmax(axis=1) == y
    return np.column_stack([loss, right, entropy, np.sort(scores, axis=1)])


def _loss(fit: np.ndarray, known: np.ndarray, test: list[np.ndarray]) -> tuple[Figure, str, float]:
    """Members have the lower loss: at the threshold that told the first half apart best."""
    losses = np.sort(fit[:, 0])
    places = np.unique(np.concatenate([losses, (losses[1:] + losses[:-1]) / 2]))
    hits = np.searchsorted(np.sort(fit[known, 0]), places, "right") / known.sum()
    alarms = np.searchsorted(np.sort(fit[~known, 0]), places, "right") / (~known).sum()
    at = places[(hits - alarms).argmax()]
    figure = advantage(test[0][:, 0] <= at, test[1][:, 0] <= at)
    return figure, "threshold on the loss", _true_at_low_false(-test[0][:, 0], -test[1][:, 0])


def _learned(
    fit: np.ndarray, known: np.ndarray, test: list[np.ndarray], seed: int
) -> tuple[Figure, str, float]:
    from sklearn.ensemble import RandomForestClassifier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of joblib, where a machine has one core
        forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=seed, n_jobs=1).fit(fit, known)
    said = [forest.predict_proba(rows)[:, 1] for rows in test]
    return advantage(said[0] > 0.5, said[1] > 0.5), "learned on the answers", _true_at_low_false(*said)


def advantage(hits: np.ndarray, alarms: np.ndarray) -> Figure:
    """True less false positive rate with its normal 95 % interval, of two bool arrays.

    The interval has Agresti and Caffo's one success and one failure more on either side (2000), so that it is
    no point where an attack is always right or always wrong.
    """
    value = float(hits.mean() - alarms.mean())
    (p, n), (q, m) = (((side.sum() + 1) / (len(side) + 2), len(side) + 2) for side in (hits, alarms))
    half = Z_95 * float(p * (1 - p) / n + q * (1 - q) / m) ** 0.5
    middle = float(p - q)
    low, high = max(-1.0, min(value, middle - half)), min(1.0, max(value, middle + half))
    return Figure("membership_advantage", value, low, high, len(hits) + len(alarms))


def _true_at_low_false(members: np.ndarray, others: np.ndarray) -> float:
    """The share of members found where at most one of a hundred others is taken for one."""
    allowed = int(FALSE_MAX * len(others))
    at = np.sort(others)[::-1][allowed]
    return float((members > at).mean())
