"""What a model's answers mean: which output holds its scores, and which class each score is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tallystick.core.errors import BadInput, Failed, NotSupported
from tallystick.crew.measure.columns import named

__all__ = ["Answer", "Classes", "Reader"]

PROBABILITIES = "probabilities"
AGREE = 0.9
"""The share of rows on which a label that is said must be that of the highest score: ties may differ."""

SHOWN_MAX = 20
SUM_SLACK = 1e-3
OTHER = "(any other)"


@dataclass(frozen=True, slots=True)
class Answer:
    """Of some rows: ``scores`` float32 (n, k), and the names of the classes ``said`` (n,); or None."""

    scores: np.ndarray | None
    said: np.ndarray | None


@dataclass(frozen=True, slots=True)
class Reader:
    """Which outputs of a model say what: the names of those with scores and with labels, empty for none.

    ``chance``: the scores are one number a row, the chance of the second of two classes.
    """

    scores: str
    chance: bool
    said: str

    @classmethod
    def of(cls, answers: Mapping[str, np.ndarray]) -> Reader:
        """Scores are ``probabilities``, or else the first 2-D output of floats, or a single chance.

        NotSupported for a model that gives neither scores nor labels.
        """
        said = next((n for n, a in answers.items() if _are_labels(a)), "")
        able = [n for n, a in answers.items() if a.ndim == 2 and a.dtype.kind == "f" and a.shape[1] > 1]
        if able:
            return cls(PROBABILITIES if PROBABILITIES in able else able[0], False, said)
        single = [n for n, a in answers.items() if a.dtype.kind == "f" and a.size == len(a)]
        chance = next((n for n in single if n != said), "")
        if not chance and not said:
            shown = ", ".join(f"{name} {a.dtype.name} {list(a.shape)}" for name, a in answers.items())
            raise NotSupported(
                "the model gives neither class scores nor classes",
                where="model",
                hint=f"it gives {shown}; judged are classifiers"[:500],
            )
        return cls(chance, bool(chance), said)

    def __call__(self, answers: Mapping[str, np.ndarray]) -> Answer:
        """Failed where an output is gone, or a score is not a finite number."""
        if missing := {self.scores, self.said} - {""} - answers.keys():
            raise Failed(f"its answer lacks {min(missing)!r:.100}", where="model")
        said = named(_whole(answers[self.said].reshape(-1))) if self.said else None
        return Answer(self._scores(answers[self.scores]) if self.scores else None, said)

    def _scores(self, answer: np.ndarray) -> np.ndarray:
        scores = np.asarray(answer, np.float32)
        finite = np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0]) + 1
            text = f"it answered row {row:,} of {len(scores):,} with a score that is no finite number"
            raise Failed(text, where="model")
        return _both(scores.reshape(-1)) if self.chance else scores


def _are_labels(answer: np.ndarray) -> bool:
    if answer.size != len(answer):
        return False
    if answer.dtype.kind == "f":
        return bool((answer == np.floor(answer)).all())
    return answer.dtype.kind in "biuOUS"


def _whole(said: np.ndarray) -> np.ndarray:
    if said.dtype.kind == "f" and not (np.isfinite(said) & (said == np.floor(said))).all():
        raise Failed("it answered with a label that is no whole number", where="model")
    return said


def _both(chance: np.ndarray) -> np.ndarray:
    """The chance of the second of two classes, 0 to 1, as scores (n, 2)."""
    if not ((chance >= 0) & (chance <= 1)).all():
        raise NotSupported(
            "the model gives one number a row, and not a chance from 0 to 1",
            where="model",
            hint="judged are classifiers",
        )
    return np.stack([1 - chance, chance], axis=1)


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a model: ``names`` by the places of its scores; ``gives`` as of a Victim."""

    names: tuple[str, ...]
    gives: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, answer: Answer, truth: np.ndarray) -> Classes:
        """From answers to rows whose right classes are ``truth`` (n,) of str.

        BadInput where a right class is none of the model's; NotSupported where nobody can tell which score
        is of which class.
        """
        scores = answer.scores
        if scores is None:
            known = _sorted({*(answer.said if answer.said is not None else ()), *truth})
            return cls((*known, OTHER), "labels", ("the model gives labels only, no scores",))
        notes: tuple[str, ...] = ()
        if answer.said is not None:
            names = _by_what_is_said(scores, answer.said, truth)
        else:
            names, notes = _by_number_or_order(scores.shape[1], truth)
        unknown = sorted(set(truth) - set(names))
        if unknown:
            shown = ", ".join(names[:SHOWN_MAX]) + (", ..." if len(names) > SHOWN_MAX else "")
            raise BadInput(
                f"label {unknown[0]:.100} is not one of the model's {len(names)} classes",
                where="rows",
                hint=f"they are {shown}",
            )
        return cls(tuple(names), _kind(scores), notes)

    def places(self, truth: np.ndarray) -> np.ndarray:
        """The classes ``truth`` as places of scores, int64 (n,)."""
        at = {name: place for place, name in enumerate(self.names)}
        return np.array([at[name] for name in truth], np.int64)

    def scores(self, answer: Answer) -> np.ndarray:
        """float32 (n, classes); of labels 1 for the one that was said, 0 for all others."""
        if self.gives == "labels":
            if answer.said is None:
                raise Failed("it gives no labels any more", where="model")
            at = {name: place for place, name in enumerate(self.names)}
            places = [at.get(name, len(self.names) - 1) for name in answer.said]
            return np.eye(len(self.names), dtype=np.float32)[places]
        if answer.scores is None or answer.scores.shape[1] != len(self.names):
            raise Failed("it answers with other outputs than at first", where="model")
        return answer.scores


def _kind(scores: np.ndarray) -> str:
    """``probabilities`` where rows are from 0 to 1 and sum to 1, else ``logits``."""
    chances = (scores >= -SUM_SLACK).all() and np.allclose(scores.sum(axis=1), 1, atol=SUM_SLACK)
    return "probabilities" if chances else "logits"


def _sorted(names: set[str]) -> list[str]:
    """Numbers by value, anything else by letter: as scikit-learn puts classes in order."""
    numbers = all(name.lstrip("-").isdecimal() and name.isascii() for name in names)
    return sorted(names, key=int) if numbers else sorted(names)


def _by_what_is_said(scores: np.ndarray, said: np.ndarray, truth: np.ndarray) -> list[str]:
    """Names by place, where the model says a label beside its scores: that of the highest, row by row."""
    places = scores.argmax(axis=1)
    found: dict[int, str] = {}
    for place in np.unique(places):
        names, counts = np.unique(said[places == place].astype(str), return_counts=True)
        found[int(place)] = str(names[counts.argmax()])
    agree = np.mean([found[int(p)] == s for p, s in zip(places, said, strict=True)])
    if agree < AGREE or len(set(found.values())) < len(found):
        raise NotSupported(
            "the labels that the model says are not those of its highest scores",
            where="model",
            hint="judged are classifiers that say the class of the highest score",
        )
    return _filled(scores.shape[1], found, truth)


def _filled(count: int, found: Mapping[int, str], truth: np.ndarray) -> list[str]:
    """All names, where those of the places that were never highest have to be inferred."""
    if len(found) == count:
        return [found[place] for place in range(count)]
    if all(name == str(place) for place, name in found.items()):
        return [str(place) for place in range(count)]
    known = _sorted({*found.values(), *truth})
    if len(known) == count and all(known[place] == name for place, name in found.items()):
        return known
    taken = set(found.values())
    return [found.get(place) or _free(place, taken) for place in range(count)]


def _free(place: int, taken: set[str]) -> str:
    name = f"score {place}"
    return name if name not in taken else f"{name} (unnamed)"


def _by_number_or_order(count: int, truth: np.ndarray) -> tuple[list[str], tuple[str, ...]]:
    """Names by place, where the model gives scores alone: numbers from 0, or the labels put in order."""
    known = _sorted(set(truth))
    numbers = [str(place) for place in range(count)]
    if set(known) <= set(numbers) or all(n.lstrip("-").isdecimal() for n in known):
        return numbers, ()
    if len(known) == count:
        return known, (f"the scores were taken to be of the labels in order: {', '.join(known)}"[:500],)
    raise BadInput(
        f"the labels are text, {len(known)} of them, and the model gives {count} scores without names",
        where="rows",
        hint="judge on rows of every class, or on a model that says its labels",
    )
