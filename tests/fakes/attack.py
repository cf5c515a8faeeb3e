"""An attack for tests: it tries every point of a grid around a sample. Fit for two or three features."""

from __future__ import annotations

import itertools
import time

import numpy as np

from tallystick.core.errors import BadInput, Failed
from tallystick.core.verdict import AttackRecord, Budget, Point, Rate
from tallystick.ports.attack import AttackResult, Progress, Target

__all__ = ["FakeAttack"]

STEPS = (-1.0, -0.5, 0.0, 0.5, 1.0)


class FakeAttack:
    """Honest within its grid: what it finds is adversarial, and it is exact for linear models."""

    def run(
        self, target: Target, x: np.ndarray, y: np.ndarray, budget: Budget, progress: Progress
    ) -> AttackResult:
        self._check(x, y, budget)
        progress(0.0, "clean")
        scores = self._ask(target, x)
        if y.max() >= scores.shape[1]:
            raise BadInput("a label has no score", where="labels")
        draw = np.random.default_rng(budget.seed)
        attacked = draw.permutation(len(x))[: budget.samples_max]
        chosen, truth = x[attacked], y[attacked]
        distance = np.where(scores[attacked].argmax(axis=1) == truth, np.inf, 0.0)
        adversarial = np.full_like(chosen, np.nan)
        began, queries = time.perf_counter(), 0
        grid = np.array(list(itertools.product(STEPS, repeat=x.shape[1])))
        if len(grid) * len(budget.eps) > budget.queries_max:
            raise BadInput("too few queries for the grid", where="budget.queries_max")
        for sample in range(len(chosen)):
            progress(sample / len(chosen), "grid")
            for eps in budget.eps:
                if not np.isinf(distance[sample]):
                    break
                points = np.clip(chosen[sample] + eps * grid, budget.low, budget.high).astype(np.float32)
                wrong = np.flatnonzero(self._ask(target, points).argmax(axis=1) != truth[sample])
                queries += len(points)
                if len(wrong):
                    far = np.abs(points[wrong].astype(np.float64) - chosen[sample]).max(axis=1)
                    distance[sample] = far.min()
                    adversarial[sample] = points[wrong[far.argmin()]]
        noise = draw.uniform(-1, 1, chosen.shape)
        curve, noisy = [], chosen
        for eps in budget.eps:
            noisy = np.clip(chosen + eps * noise, budget.low, budget.high).astype(np.float32)
            right = int((self._ask(target, noisy).argmax(axis=1) == truth).sum())
            robust = int((distance > eps + self._tolerance(budget)).sum())
            curve.append(Point(eps, Rate(robust, len(chosen)), Rate(right, len(chosen))))
        progress(1.0, "done")
        seconds = time.perf_counter() - began
        record = AttackRecord("grid", "fake 1", queries, seconds, {"steps": list(STEPS)})
        clean = Rate(int((scores.argmax(axis=1) == y).sum()), len(x))
        return AttackResult(clean, tuple(curve), (record,), attacked, adversarial, distance, noisy)

    def versions(self) -> dict[str, str]:
        return {"fake": "1"}

    def _check(self, x: np.ndarray, y: np.ndarray, budget: Budget) -> None:
        if x.ndim != 2 or y.shape != (len(x),) or not x.size or x.dtype != np.float32 or y.dtype != np.int64:
            raise BadInput("shapes or types do not fit", where="rows")
        if not np.isfinite(x).all() or x.min() < budget.low or x.max() > budget.high or y.min() < 0:
            raise BadInput("a value is out of range", where="rows")

    def _tolerance(self, budget: Budget) -> float:
        step = np.spacing(np.float32(max(abs(budget.low), abs(budget.high))))
        return max(1e-6 * (budget.high - budget.low), float(step))

    def _ask(self, target: Target, rows: np.ndarray) -> np.ndarray:
        scores = target(rows)
        if not np.isfinite(scores).all():
            raise Failed("a score is no number", where="model")
        return scores
