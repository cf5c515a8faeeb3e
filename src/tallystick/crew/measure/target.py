"""A loaded model as a probe sees it: rows in, class scores out, and gradients where it has them.

It adapts what models take (one table of numbers, an image, an input for each column, or texts) and what they
give (scores, one chance, or labels alone, as numbers or as text).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tallystick.core.errors import BadInput, Failed, NotSupported
from tallystick.core.model import TensorSpec
from tallystick.crew.measure.classes import Classes, Reader
from tallystick.ports.models.attack import Weigh
from tallystick.ports.models.runtime import Differentiable, Predictor

__all__ = ["Seen", "columns_of", "features_of"]

ROWS_MAX = 4096
"""Rows of one call of the model."""

TRIED_ROWS = 16
"""On so many rows it is tried whether gradients are of the function that answers."""

FLOATS: Mapping[str, type] = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
TEXT = "BYTES"


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
    """A :class:`tallystick.ports.models.attack.Victim` made of a predictor.

    Rows ``x`` (n, features) or object (n,) of str, and the names ``truth`` (n,) of their classes, tell what
    kind of answers it gives; ``clean`` (n, classes) are the scores of these rows, ``y`` (n,) their right
    classes as places of scores, and ``names`` those of the classes. ``notes`` say what had to be assumed,
    ``no_gradients`` why there are none. ``patience`` is called before each question, and may raise.
    """

    patience: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, predictor: Predictor, x: np.ndarray, truth: np.ndarray) -> None:
        self._predictor = predictor
        self._columns = columns_of(predictor.inputs)
        self._text = x.dtype == object
        self._check_inputs(1 if self._text else x.shape[1])
        first = self._answers(x)
        self._read = Reader.of(first)
        answer = self._read(first)
        self._classes = Classes.of(answer, truth)
        self.names, self.notes = self._classes.names, list(self._classes.notes)
        self.classes = len(self.names)
        self.y = self._classes.places(truth)
        self.clean = self._classes.scores(answer)
        self.gives = self._classes.gives
        self.twin: Path | None = None
        self.no_gradients = self._try_gradients(x)
        self.gradients = not self.no_gradients

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """See the port; Failed where a score is not a finite number."""
        return self._classes.scores(self._read(self._answers(rows)))

    def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
        """See the port; all rows in one call, as ``weigh`` may know them by their places."""
        if not isinstance(self._predictor, Differentiable):
            raise NotSupported("the runtime that loads it gives no gradients", where="model")
        self.patience()
        logits, gradients = self._predictor.pull(self._inputs(rows), weigh)
        return _finite(logits), _finite(self._beside(gradients, len(rows)))

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        """See the port."""
        if not isinstance(self._predictor, Differentiable):
            raise NotSupported("the runtime that loads it shows no layers", where="model")
        self.patience()
        parts = [rows[at : at + ROWS_MAX] for at in range(0, len(rows), ROWS_MAX)]
        return _finite(np.concatenate([self._predictor.hidden(self._inputs(part)) for part in parts]))

    def _try_gradients(self, x: np.ndarray) -> str:
        """Why there are no gradients, or none to be believed; empty where there are."""
        if self._text:
            return "there are no gradients of texts"
        rows = x[:TRIED_ROWS]
        try:
            logits, _ = self.pull(rows, np.zeros_like)
        except (NotSupported, Failed, BadInput) as wrong:
            return wrong.what
        if logits.shape != (len(rows), self.classes):
            return f"it gives logits of shape {list(logits.shape)} where it gives {self.classes} scores"
        if (logits.argmax(axis=1) != self.clean[: len(rows)].argmax(axis=1)).any():
            return "its gradients are of another function than its answers"
        return ""

    def _beside(self, gradients: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
        """Gradients by input as float32 (rows, features), in the order of the features."""
        parts = [np.asarray(gradients[spec.name]).reshape(rows, -1) for spec in self._predictor.inputs]
        return np.concatenate(parts, axis=1)

    def _check_inputs(self, features: int) -> None:
        able = [TEXT] if self._text else list(FLOATS)
        for spec in self._predictor.inputs:
            if spec.datatype not in able:
                hint = f"these rows can be asked about as {', '.join(able)}"
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
        kinds = [{name: (a.dtype.kind, a.shape[1:]) for name, a in part.items()} for part in parts]
        if any(kind != kinds[0] for kind in kinds):
            raise Failed("the model answers with other outputs than at first", where="model")
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _predict(self, rows: np.ndarray) -> Mapping[str, np.ndarray]:
        self.patience()
        answers = self._predictor.predict(self._inputs(rows))
        if not answers or any(answer.shape[:1] != (len(rows),) for answer in answers.values()):
            raise Failed("the model does not answer row by row", where="model")
        return answers

    def _inputs(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        specs = self._predictor.inputs
        if self._text:
            said = np.empty(len(rows), object)
            said[:] = [str(text).encode() for text in rows]
            return {specs[0].name: said.reshape((len(rows), *[1] * (len(specs[0].shape) - 1)))}
        parts = rows.T if self._columns else (rows,)
        return {
            spec.name: np.ascontiguousarray(part, FLOATS[spec.datatype]).reshape(_shape(spec, rows))
            for spec, part in zip(specs, parts, strict=True)
        }


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


def _finite(found: np.ndarray) -> np.ndarray:
    made = np.asarray(found, np.float32)
    if not np.isfinite(made).all():
        raise Failed("the model answered with a gradient that is no finite number", where="model")
    return made
