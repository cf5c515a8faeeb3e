"""A loaded model as an attack sees it: rows of numbers in, class scores out, nothing else.

It adapts what models take (one table of numbers, an image, or an input for each column) and what they
give (scores, or labels alone).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tallystick.core.errors import BadInput, Failed, NotSupported
from tallystick.core.model import TensorSpec
from tallystick.ports.runtime import Predictor

__all__ = ["Seen", "columns_of", "features_of"]

ROWS_MAX = 4096
"""Rows of one call of the model."""

FLOATS: Mapping[str, type] = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
PROBABILITIES = "probabilities"


def columns_of(inputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """The inputs' names, where the model has an input for each column; empty where one holds them all."""
    if len(inputs) == 1 and len(inputs[0].shape) > 1 and inputs[0].shape[1:] != (1,):
        return ()
    for spec in inputs:
        if len(spec.shape) > 1 and spec.shape[1:] != (1,):
            raise NotSupported(
                f"the model takes {len(inputs)} inputs, and {spec.name!r} is not a single column",
                where="model",
                hint="attacked are models with one input for all features, or one for each",
            )
    return tuple(spec.name for spec in inputs)


def features_of(spec: TensorSpec) -> int:
    """How many features a row of an input has; 0 where its shape leaves that open."""
    lengths = spec.shape[1:]
    return 0 if -1 in lengths else math.prod(lengths)


class Seen:
    """Callable as :data:`tallystick.ports.attack.Target`.

    ``classes`` is how many scores a row has; ``labels_only`` is true where the model gives no scores,
    so that 1 stands for the class it says and 0 for all others (the last column: any class unknown).
    """

    def __init__(self, predictor: Predictor, x: np.ndarray, y: np.ndarray) -> None:
        self._predictor = predictor
        self._columns = columns_of(predictor.inputs)
        self._check_inputs(x.shape[1])
        answers = self._answers(x)
        self._output = _scores_output(answers)
        self.labels_only = not self._output
        if self.labels_only:
            self._output = _label_output(answers)
            said = answers[self._output].reshape(-1)
            self.classes = int(max(said.max(initial=0), y.max(initial=0))) + 2
        else:
            self.classes = answers[self._output].shape[1]
            _check_numbering(answers, self._output)
        known = self.classes - self.labels_only
        if y.max(initial=0) >= known:
            raise BadInput(
                f"label {y.max()} is not one of the model's {known} classes, which are numbered from 0",
                where="rows",
            )

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """float32 rows (n, features) to float32 scores (n, classes); Failed where one is not a number."""
        found = self._answers(rows)[self._output]
        if self.labels_only:
            said = found.reshape(-1).astype(np.int64)
            said = np.where((said < 0) | (said >= self.classes), self.classes - 1, said)
            return np.eye(self.classes, dtype=np.float32)[said]
        scores = found.astype(np.float32)
        if not np.isfinite(scores).all():
            raise Failed("the model answered with a score that is no finite number", where="model")
        return scores

    def _check_inputs(self, features: int) -> None:
        for spec in self._predictor.inputs:
            if spec.datatype not in FLOATS:
                hint = "attacked are models that take FP16, FP32 or FP64"
                raise NotSupported(f"input {spec.name!r} is {spec.datatype}", where="model", hint=hint)
            if spec.shape[:1] != (-1,):
                hint = "export it with a free first axis"
                text = f"input {spec.name!r} of shape {list(spec.shape)} takes no table of rows"
                raise NotSupported(text, where="model", hint=hint)
        wanted = len(self._columns) or features_of(self._predictor.inputs[0])
        if wanted not in (0, features):
            raise BadInput(
                f"the model takes {wanted} features, the rows have {features}",
                where="rows",
                hint="judge on the columns that the model was trained on, and name the label's with --label",
            )

    def _answers(self, rows: np.ndarray) -> Mapping[str, np.ndarray]:
        parts = [self._predict(rows[at : at + ROWS_MAX]) for at in range(0, len(rows), ROWS_MAX)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _predict(self, rows: np.ndarray) -> Mapping[str, np.ndarray]:
        specs = self._predictor.inputs
        parts = rows.T if self._columns else (rows,)
        inputs: dict[str, np.ndarray] = {
            spec.name: np.ascontiguousarray(part, FLOATS[spec.datatype]).reshape(_shape(spec, rows))
            for spec, part in zip(specs, parts, strict=True)
        }
        answers = self._predictor.predict(inputs)
        if any(len(answer) != len(rows) for answer in answers.values()):
            raise Failed("the model does not answer row by row", where="model")
        return answers


def _shape(spec: TensorSpec, rows: np.ndarray) -> tuple[int, ...]:
    """The shape to give ``rows`` (or one column of them): lengths that are free become what is there."""
    if len(spec.shape) == 1:
        return (len(rows),)
    if spec.shape[1:] == (-1,):
        return rows.shape
    if -1 in spec.shape[1:]:
        text = f"input {spec.name!r} of shape {list(spec.shape)} does not say how its features lie"
        raise NotSupported(text, where="model", hint="export it with fixed lengths but for the first")
    return (len(rows), *spec.shape[1:])


def _scores_output(answers: Mapping[str, np.ndarray]) -> str:
    """``probabilities``, or else the first 2-D output of floats; empty where there is none."""
    able = [n for n, a in answers.items() if a.ndim == 2 and a.dtype.kind == "f" and a.shape[1] > 1]
    return PROBABILITIES if PROBABILITIES in able else next(iter(able), "")


def _label_output(answers: Mapping[str, np.ndarray]) -> str:
    for name, answer in answers.items():
        if answer.dtype.kind in "iu" and answer.size == len(answer):
            return name
    shown = ", ".join(f"{name} {a.dtype.name} {list(a.shape)}" for name, a in answers.items())
    raise NotSupported(
        "the model gives neither class scores nor class numbers",
        where="model",
        hint=f"it gives {shown}; judged are classifiers",
    )


def _check_numbering(answers: Mapping[str, np.ndarray], output: str) -> None:
    """BadInput where the labels that the model says beside its scores are not the scores' places."""
    for answer in answers.values():
        if answer.dtype.kind in "iu" and answer.size == len(answer):
            places = answers[output].argmax(axis=1)
            if np.mean(answer.reshape(-1) != places) > 1 / 2:
                raise NotSupported(
                    "the model's classes are not numbered from 0 in the order of its scores",
                    where="model",
                    hint="train it on labels 0, 1, 2, ...",
                )
