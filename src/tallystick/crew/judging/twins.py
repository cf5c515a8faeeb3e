"""Twins: ONNX files that answer as a model does, believed only where they are seen to.

A twin is made in the model's own sandbox (errand ``twin``), so it is somebody's word: here, in the process
that measures, it is opened as data and compared with the model itself. A twin that differs is refused with
the numbers. Equality on the rows of a test is no proof for all rows, so whatever an attack finds through a
twin has to be confirmed on the model, which is then attacked itself, on as many rows as its speed allows: of
the others a robustness is the twin's, and reports say of how many. Where an attack comes by rows that the two
answer differently, the twin is not believed from there on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tallystick.core.errors import BadInput, NotSupported
from tallystick.evidence.domain import Domain, DomainKind
from tallystick.ports.models.runtime import Predictor
from tallystick.ports.tile import Place
from tallystick.wiring.tiles import open_tile

__all__ = ["SCORES_APART_MAX", "TWIN_BYTES_MAX", "Equality", "differing", "open_twin", "prove_equal"]

TWIN_BYTES_MAX = 1024 * 1024 * 1024
SCORES_APART_MAX = 1e-3
"""How far scores may be apart, for each unit that they are large: float32 against float64 stays under it."""

EDGES_SHARE_MAX = 0.1
"""Of the rows that are compared: so many may differ by rounding. Models of the converted kinds come to about
a hundredth; with more, a model whose scores are hardly ever apart would have any other for its equal.
"""

ROWS_MAX = 512
"""Rows that are changed for the comparison; all given ones are compared as they are."""

RADII = (0.01, 0.1, 0.5)
"""Sizes of noise, in units of each column's span."""

NEAR_ROWS = 16
NEAR_STEPS = 8
"""How many neighbours of a row are looked at, and how many float32 steps off each of their numbers may be."""

STEPS = 10
"""Halvings on the way to the twin's decision boundary."""

Scores = Callable[[np.ndarray], np.ndarray]
"""Rows float32 (n, features) to scores (n, classes)."""


@dataclass(frozen=True, slots=True)
class Equality:
    """How a twin compares with its model.

    ``rows`` and ``changed`` are how many rows were compared as given, and changed. ``apart`` is on how many
    of them the labels differ, and ``edges`` on how many labels or scores do, but only by rounding: the
    model's two best scores are hardly apart, or the twin says the same of a row a few float32 steps away (a
    threshold of a tree lies between). ``largest`` is the largest difference of a score on all other rows, for
    each unit that the score is large; None of a model that gives labels alone.
    """

    rows: int
    changed: int
    apart: int
    edges: int
    largest: float | None

    @property
    def equal(self) -> bool:
        """Whether the twin may stand for the model."""
        near = self.largest is None or self.largest <= SCORES_APART_MAX
        return self.apart == 0 and near and not self._too_many

    @property
    def _too_many(self) -> bool:
        return self.edges > EDGES_SHARE_MAX * (self.rows + self.changed)

    @property
    def says(self) -> str:
        """All of it in a sentence."""
        total = self.rows + self.changed
        scores = "of labels alone" if self.largest is None else f"scores at most {self.largest:.2g} apart"
        many = ", more than rounding explains" if self._too_many else ""
        edges = f", {self.edges} edges of rounding aside{many}" if self.edges else ""
        return (
            f"the ONNX twin gives the model's label on {total - self.apart} of {total} rows "
            f"({self.rows} as given, {self.changed} changed){edges}, {scores}"
        )


def open_twin(file: Path, home: Path, features: int) -> Predictor:
    """The twin at ``file``, loaded from a copy in ``home`` (an empty folder that only this process writes).

    It takes one float32 input (n, ``features``) and gives ``label`` and ``probabilities``. BadInput where the
    file is none or a link, is too large, or is no such model; Refused where it reaches outside itself.
    """
    (home / "MLmodel").write_text("flavors: {onnx: {data: twin.onnx}}\n")
    _copy(file, home / "twin.onnx")
    found: Predictor = open_tile("runtime", "onnx", Place(home)).load(home)
    shapes = [(spec.datatype, spec.shape[:1], spec.shape[1:]) for spec in found.inputs]
    if shapes != [("FP32", (-1,), (features,))]:
        text = f"it does not take one table of {features} float32 numbers a row"
        raise BadInput(text, where="twin")
    if "probabilities" not in {spec.name for spec in found.outputs}:
        raise BadInput("it gives no probabilities", where="twin")
    return found


def _copy(source: Path, target: Path) -> None:
    """The bytes of a regular file, no links followed: it lies where code that is not ours could write."""
    try:
        opened = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as wrong:
        raise BadInput(f"there is no file to read: {wrong.strerror}", where="twin") from None
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise BadInput("it is no regular file", where="twin")
    with os.fdopen(opened, "rb") as file, target.open("xb") as copy:
        left = TWIN_BYTES_MAX
        while chunk := file.read(min(1024 * 1024, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise BadInput(f"it is over {TWIN_BYTES_MAX} bytes", where="twin")
            copy.write(chunk)


def prove_equal(
    twin: Scores,
    model: Scores,
    x: np.ndarray,
    *,
    domain: Domain,
    labels_only: bool = False,
    seed: int = 7,
) -> Equality:
    """Compare the two on all of ``x`` (n, features), and on rows made of it.

    Made are: rows with noise of three sizes, rows of which each number is another row's, and rows halfway
    again and again towards where the twin's label turns, which is where attacks look. They stay in the
    domain: of a table with a column for each feature, and of a series with one for each channel, within its
    range, and whole where it is; of another table within what ``x`` spans; else between its ``low`` and
    ``high``. ``labels_only``: the model says no scores, so that labels alone are compared. The same seed
    compares the same rows. NotSupported for scores of another shape.
    """
    draw = np.random.default_rng(seed)
    fit, span = _box(domain, x)
    chosen = x[draw.permutation(len(x))[:ROWS_MAX]]
    made = [fit(chosen + radius * span * draw.uniform(-1, 1, chosen.shape)) for radius in RADII]
    made.append(np.stack([draw.permutation(column) for column in chosen.T], axis=1))
    made.append(fit(_boundary(twin, chosen, draw)))
    changed = np.concatenate(made).astype(np.float32)
    apart, edges, largest = 0, 0, 0.0
    for part in (x, changed):
        one, other = _like(twin(part), model(part), labels_only)
        labels, gaps = _differences(one, other)
        doubtful = labels if labels_only else labels | (gaps > SCORES_APART_MAX)
        edge = doubtful.copy()
        if doubtful.any():
            edge[doubtful] = _rounding(twin, part[doubtful], other[doubtful], labels_only, draw)
        apart, edges = apart + int((labels & ~edge).sum()), edges + int(edge.sum())
        largest = max(largest, float(gaps[~edge].max(initial=0.0)))
    return Equality(len(x), len(changed), apart, edges, None if labels_only else largest)


def differing(
    twin: Scores, model: Scores, rows: np.ndarray, *, labels_only: bool = False, seed: int = 7
) -> np.ndarray:
    """Which of ``rows`` (n, features) the two give different labels, and not by rounding: bool (n,)."""
    one, other = _like(twin(rows), model(rows), labels_only)
    found = np.flatnonzero(_differences(one, other)[0])
    apart = np.zeros(len(rows), bool)
    if len(found):
        draw = np.random.default_rng(seed)
        apart[found] = ~_rounding(twin, rows[found], other[found], labels_only, draw)
    return apart


def _like(one: np.ndarray, other: np.ndarray, labels_only: bool) -> tuple[np.ndarray, np.ndarray]:
    """Both with the same columns. A model of labels alone may have one more, for labels that nobody knows."""
    if one.shape != other.shape and not (labels_only and one.shape[1] < other.shape[1]):
        text = f"it has scores of shape {list(one.shape[1:])}, the model of {list(other.shape[1:])}"
        raise NotSupported(text, where="twin")
    return np.pad(one, ((0, 0), (0, other.shape[1] - one.shape[1]))), other


def _differences(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row: whether the labels differ, and the largest difference of a score."""
    gaps = (np.abs(one - other) / np.maximum(1, np.abs(other))).max(axis=1, initial=0.0)
    return one.argmax(axis=1) != other.argmax(axis=1), np.nan_to_num(gaps, nan=np.inf)


def _rounding(
    twin: Scores, rows: np.ndarray, said: np.ndarray, labels_only: bool, draw: np.random.Generator
) -> np.ndarray:
    """Of each row whether it differs by rounding alone, where the model ``said`` these scores of it."""
    labels, gaps = _differences(*_like(twin(rows), said, labels_only))
    best = np.sort(said, axis=1)[:, -2:]
    tied = best[:, 1] - best[:, 0] <= 2 * SCORES_APART_MAX * np.maximum(1, np.abs(best[:, 1]))
    found: np.ndarray = labels & tied & (gaps <= SCORES_APART_MAX) & (not labels_only)
    for at in range(NEAR_ROWS):
        steps = draw.integers(-NEAR_STEPS, NEAR_STEPS + 1, rows.shape)
        steps = np.full_like(steps, NEAR_STEPS * (1 - 2 * at)) if at < 2 else steps  # all up, all down, any
        near = (rows + steps * np.spacing(np.abs(rows))).astype(np.float32)
        labels, gaps = _differences(*_like(twin(near), said, labels_only))
        found |= ~labels if labels_only else ~labels & (gaps <= SCORES_APART_MAX)
    return found


def _box(domain: Domain, x: np.ndarray) -> tuple[Scores, np.ndarray]:
    """What puts rows back into the domain, and the unit of noise for each feature."""
    each = len(domain.columns) == x.shape[1] or (domain.kind is DomainKind.SERIES and domain.columns)
    columns = domain.by_feature([c.name for c in domain.columns], x.shape[1]) if each else ()
    whole = np.array([column.integer for column in columns] or [False])
    if columns:
        lows, highs = (np.array([getattr(c, end) for c in columns], np.float32) for end in ("low", "high"))
        span = np.array([column.span for column in columns], np.float32)
    elif domain.kind is DomainKind.TABULAR:
        lows, highs = x.min(axis=0), x.max(axis=0)
        span = np.where(highs > lows, highs - lows, 1)
    else:
        lows, highs = (np.full(x.shape[1], end, np.float32) for end in (domain.low, domain.high))
        span = highs - lows

    def fit(rows: np.ndarray) -> np.ndarray:
        clipped = np.clip(rows, lows, highs)
        fitted: np.ndarray = np.where(whole, np.round(clipped), clipped).astype(np.float32)
        return fitted

    return fit, span


def _boundary(twin: Scores, rows: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Rows where the twin's label turns: between one and another of another label, halved ``STEPS`` times."""
    others = rows[draw.permutation(len(rows))]
    here, there = twin(rows).argmax(axis=1), twin(others).argmax(axis=1)
    near, far, label = rows[here != there], others[here != there], here[here != there]
    for _ in range(STEPS if len(near) else 0):
        middle = ((near + far) / 2).astype(np.float32)
        same = (twin(middle).argmax(axis=1) == label)[:, None]
        near, far = np.where(same, middle, near), np.where(same, far, middle)
    return np.concatenate([near, far])
