#!/usr/bin/env python3
"""HopSkipJump on a random forest of the digits: ours through its ONNX twin, ART through scikit-learn.

    python bench/attacks/forest.py ORDER.json

The order says ``samples`` and ``threads``, and may say ``queries``. Both get the same forest, rows, starts
(the nearest row of another class) and queries for each row, after which they are stopped; of both the nearest
wrong row that they came by is taken, whether or not they hand it back, and shown to the forest itself at the
end, which is timed as well. Making the twin, and proving it the equal of the forest, is timed apart, as
``twin_s``.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tallystick.crew.judging.twins import prove_equal
from tallystick.evidence.domain import Budget, Domain
from tallystick.ports.models.attack import Case
from tallystick.tiles.attack.hop import PROBE, hop_skip_jump
from tallystick.tiles.attack.hunt import Hunt
from tallystick.tiles.attack.library import evasion, seeded

TREES, TRAINED, QUERIES = 100, 1000, 2000


class Spent(Exception):
    """A row's queries are used up."""


class Asked:
    """A victim: ``ask`` answers rows (n, features) with probabilities (n, classes)."""

    gives, gradients, twin = "probabilities", False, None

    def __init__(self, ask: Any, classes: int) -> None:
        self._ask, self.classes = ask, classes

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """As the port has it."""
        return np.asarray(self._ask(rows), np.float32)


def session(forest: Any, features: int) -> Any:
    """The forest's twin, loaded."""
    import onnxruntime
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    made = to_onnx(
        forest,
        initial_types=[("X", FloatTensorType([None, features]))],
        options={id(forest): {"zipmap": False}},
        target_opset={"": 15, "ai.onnx.ml": 3},
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # as the forest's own: of few rows, more threads only cost time
    return onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])


def case_of(victim: Asked, x: np.ndarray, y: np.ndarray, samples: int, queries: int) -> Case:
    """Rows that the forest is right about, with nothing found yet."""
    scores = victim.scores(x)
    attacked = np.flatnonzero(scores.argmax(axis=1) == y)[:samples]
    return Case(
        victim=victim,  # type: ignore[arg-type]  # reason: it has no gradients, and nobody asks for any
        x=x,
        y=y,
        scores=scores,
        attacked=attacked,
        distance=np.full(len(attacked), np.inf),
        adversarial=np.full((len(attacked), x.shape[1]), np.nan, np.float32),
        domain=Domain(low=0.0, high=1.0),
        budget=Budget(eps=(1e-6,), samples_max=samples, queries_max=queries),
    )


def confirmed(hunt: Hunt, forest: Any) -> list[float]:
    """Distances of what the forest itself gets wrong; infinity of the rest."""
    wrong = forest.predict(np.nan_to_num(hunt.adversarial)) != hunt.y
    return [float(d) for d in np.where(wrong, hunt.distance, np.inf)]


def by_art(hunt: Hunt, starts: np.ndarray, forest: Any) -> None:
    """ART's own walk, row after row, over its own wrapper of the forest."""
    attacks = evasion()
    from art.estimators.classification import SklearnClassifier

    for sample in hunt.open():
        art = SklearnClassifier(model=forest, clip_values=(0.0, 1.0))

        def ask(x: np.ndarray, sample: int = sample, **_: Any) -> np.ndarray:
            some = x[: hunt.left[sample]].astype(np.float32)
            scores = hunt.ask(np.full(len(some), sample), some)[0]
            if len(some) < len(x):
                raise Spent
            return scores

        art.predict = ask
        attack = attacks.HopSkipJump(art, norm=np.inf, max_iter=10_000, batch_size=4096, verbose=False)
        place = slice(sample, sample + 1)
        right = np.eye(hunt.case.victim.classes, dtype=np.float32)[hunt.y[place]]
        with seeded(7 + int(sample)):
            try:
                attack.generate(hunt.x[place].copy(), y=right, x_adv_init=starts[place].copy())
            except Spent:
                continue


def compared(samples: int, threads: int, queries: int) -> dict[str, Any]:
    """Both, one after the other."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int64)
    forest = RandomForestClassifier(TREES, random_state=0, n_jobs=threads).fit(x[:TRAINED], y[:TRAINED])
    began = time.perf_counter()
    twin = session(forest, x.shape[1])

    def by_twin(rows: np.ndarray) -> np.ndarray:
        return np.asarray(twin.run(["probabilities"], {"X": rows})[0])

    def by_forest(rows: np.ndarray) -> np.ndarray:
        return np.asarray(forest.predict_proba(rows), np.float32)

    same = prove_equal(by_twin, by_forest, x[TRAINED:], domain=Domain(low=0.0, high=1.0))
    ready = time.perf_counter()
    forest.set_params(n_jobs=1)
    case = case_of(Asked(by_twin, 10), x[TRAINED:], y[TRAINED:], samples, queries)
    ours = Hunt(case, queries)
    begins = time.perf_counter()
    hop_skip_jump(ours, lambda share: None)
    mine = confirmed(ours, forest)
    done = time.perf_counter()
    theirs = Hunt(replace(case, victim=Asked(forest.predict_proba, 10)), queries)  # type: ignore[arg-type]  # reason: as above
    starts = Hunt(case, queries).starts(PROBE)
    evasion()  # imported before the clock starts
    started = time.perf_counter()
    by_art(theirs, starts, forest)
    art = confirmed(theirs, forest)
    ended = time.perf_counter()
    return {
        "rows": len(ours),
        "queries": queries,
        "queries_most": [int(ours.used.max()), int(theirs.used.max())],
        "ours": float(np.median(mine)),
        "art": float(np.median(art)),
        "means": [float(np.mean(mine)), float(np.mean(art))],
        "ours_s": done - begins,
        "art_s": ended - started,
        "twin_s": ready - began,
        "twin": same.says,
        "trees": TREES,
    }


def main() -> None:
    """Read the order and print what came of it."""
    warnings.simplefilter("ignore")
    order = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps(compared(order["samples"], order["threads"], order.get("queries", QUERIES))))


if __name__ == "__main__":
    main()
