"""Reviews that a generator writes, models of them, and cases made of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tallystick.evidence.domain import Budget, Domain, DomainKind
from tallystick.ports.models.attack import Case, Weigh

__all__ = ["BAD", "GOOD", "Victim", "bag_of_words", "case_of", "pipeline", "reviews", "victim_of"]

_PRAISE = "great wonderful superb charming moving brilliant gripping clever touching loved loves loving"
_BLAME = "dull boring awful tedious clumsy dreadful shallow lifeless annoying hated hates hating"
_ABOUT = "film movie plot story actors scene music camera ending script director dialogue screen pace"
GOOD, BAD, _THINGS = _PRAISE.split(), _BLAME.split(), _ABOUT.split()
_SMALL = ("the", "a", "this", "and", "with", "in", "not")


def reviews(count: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Texts, object (count,) of str, and whether they praise, int64 (count,), but for one opinion in six."""
    draw = np.random.default_rng(seed)
    praise = draw.integers(0, 2, count)
    made = np.empty(count, object)
    for row, good in enumerate(praise):
        words: list[str] = []
        for _ in range(int(draw.integers(5, 12))):
            words += [str(draw.choice(_SMALL)), str(draw.choice(_THINGS))]
            if draw.random() < 0.4:
                words += ["was", str(draw.choice(GOOD if (draw.random() < 0.85) == bool(good) else BAD))]
        made[row] = (" ".join(words) + ".").capitalize()
    return made, praise.astype(np.int64)


def pipeline(texts: np.ndarray, labels: np.ndarray) -> Any:
    """A real scikit-learn pipeline, fitted."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(TfidfVectorizer(), LogisticRegression(C=10.0)).fit(texts, labels)


class Victim:
    """Scores by a function from texts to probabilities (n, classes); counts what it is asked."""

    gradients = False
    twin: Path | None = None

    def __init__(self, say: Callable[[list[str]], np.ndarray], gives: str = "probabilities") -> None:
        self._say, self.gives = say, gives
        self.classes = say(["one"]).shape[1]
        self.asked = self.calls = 0
        self.fails_after: int | None = None

    def scores(self, rows: np.ndarray) -> np.ndarray:
        from tallystick.core.errors import Failed

        assert rows.dtype == object
        self.asked += len(rows)
        self.calls += 1
        if self.fails_after is not None and self.asked > self.fails_after:
            raise Failed("the model went away", where="model")
        said = self._say([str(text) for text in rows])
        if self.gives == "labels":
            said = np.eye(self.classes)[said.argmax(axis=1)]
        return said.astype(np.float32)

    def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def victim_of(model: Any, gives: str = "probabilities") -> Victim:
    """A fitted scikit-learn classifier of texts."""
    return Victim(model.predict_proba, gives)


def bag_of_words(weights: dict[str, float], bias: float = 0.0) -> Victim:
    """Logits (-z, z) of z = bias + the sum of the weights of its words, whatever stands around them."""

    def say(texts: list[str]) -> np.ndarray:
        z = [bias + sum(weights.get(w.strip(".,").casefold(), 0.0) for w in t.split()) for t in texts]
        return np.stack([-np.asarray(z) / 2, np.asarray(z) / 2], axis=1)

    return Victim(say, "logits")


def case_of(victim: Victim, texts: Sequence[str], labels: Any = None, domain: Domain | None = None,
            budget: Budget | None = None) -> Case:  # fmt: skip
    """A case as the judge makes it, all rows attacked; without ``labels`` what the victim says is right."""
    x = np.empty(len(texts), object)
    x[:] = list(texts)
    scores = victim.scores(x)
    y = scores.argmax(axis=1) if labels is None else np.asarray(labels, np.int64)
    right = scores.argmax(axis=1) == y
    victim.asked = victim.calls = 0
    nothing = np.full(len(x), "", object)
    return Case(
        victim=victim, x=x, y=y.astype(np.int64), scores=scores, attacked=np.arange(len(x)),
        distance=np.where(right, np.inf, 0.0), adversarial=nothing, domain=domain or Domain(DomainKind.TEXT),
        budget=(budget or Budget()).of(DomainKind.TEXT), features=("text",), classes=("bad", "good"),
    )  # fmt: skip
