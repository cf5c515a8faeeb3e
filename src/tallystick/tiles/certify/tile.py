"""Certificates of a model: exact for linear models and trees, by vote under noise for any other.

The first is about the very model, read from its ONNX twin. What was read is first compared with what the
victim answers, so that nothing is proved about another model; then the share of rows is told that no change
within eps can turn, by proof. Rows that could not be decided count as not certified.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version

import numpy as np

from tallystick.core.errors import BadInput, NotSupported
from tallystick.evidence.domain import DomainKind
from tallystick.evidence.figures import Rate, rate_figure
from tallystick.evidence.probe import Curve, Probe, Threat
from tallystick.ports.models.attack import Case, Found, Needs, Offer, Progress
from tallystick.ports.tile import Place
from tallystick.tiles.certify.box import Box
from tallystick.tiles.certify.graph import Affine, Read, read_twin
from tallystick.tiles.certify.linear import least_margin
from tallystick.tiles.certify.smooth import ALPHA, Smoothed
from tallystick.tiles.certify.trees import Forest, Limit, read_forest

__all__ = ["CertifyTile", "open_tile"]

LIBRARY = "tallystick"
_NUMBERS = (DomainKind.IMAGE, DomainKind.TABULAR, DomainKind.SERIES, DomainKind.VECTOR)
NODES_EACH = 2_000
NODES_MAX = 150_000
"""Of one row and radius beyond the leaves that it reaches, and of all together: some tens of seconds at most.
"""

COMPARED_MAX = 500

LENGTHS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
"""In sigmas: the L2 lengths at which a vote's certificate is told; with 2,000 noisy rows it ends before 3."""

OFFERS = (
    Offer(
        "exact_certificate",
        Threat.CERTIFICATE,
        2,
        "what no change within eps can turn, exactly: of linear models and trees (Chen et al. 2019)",
        Needs(twin=True, kinds=_NUMBERS),
        weight=1.5,
    ),
    Offer(
        "smoothing_certificate",
        Threat.CERTIFICATE,
        2,
        "what no change can turn of the model's vote under noise (Cohen et al. 2019)",
        Needs(kinds=_NUMBERS),
        weight=4.0,
        usual=False,
    ),
)


class CertifyTile:
    """See :class:`tallystick.ports.models.attack.Attack`."""

    def offers(self) -> tuple[Offer, ...]:
        """An exact certificate, and randomized smoothing where a policy names it."""
        return OFFERS

    def run(self, name: str, case: Case, progress: Progress) -> Found:
        """See the port."""
        began = time.perf_counter()
        runs: dict[str, Callable[[Case, Progress], Probe]] = {
            "exact_certificate": _exact,
            "smoothing_certificate": _smoothed,
        }
        if name not in runs:
            raise BadInput(f"there is no probe {name!r:.100}", where="certify", hint=", ".join(runs))
        probe = runs[name](case, progress)
        progress(1.0, "certified")
        return Found(replace(probe, seconds=round(time.perf_counter() - began, 3)))

    def versions(self) -> dict[str, str]:
        """Of what the figures depend on."""
        return {name: version(name) for name in ("numpy", "onnx", "scipy")}


def _exact(case: Case, progress: Progress) -> Probe:
    if case.victim.twin is None:
        raise NotSupported("there is no ONNX twin to read", where="certify")
    progress(0.0, "reading the model's structure")
    read, box = read_twin(case.victim.twin, case.x.shape[1]), Box(case.domain, case.x.shape[1])
    if read.linear is not None:
        _compare(case, box, _linear_scores(read.linear))
        certified, open_, about = _linear(case, box, read.linear)
        return _probe(case, box, certified, open_, {"of": "a linear model", **about})
    forest = _forest(read)
    _compare(case, box, forest.scores)
    certified, open_, about = _trees(case, box, forest, progress)
    trees = len(np.unique(forest.tree))
    settings = {"of": f"{trees} trees with {len(forest.tree)} leaves", **about}
    return _probe(case, box, certified, open_, settings)


def _forest(read: Read) -> Forest:
    if read.trees is None or read.columns is None:
        raise NotSupported("it is neither linear nor trees", where="twin")
    return read_forest(read.trees, read.columns)


def _linear_scores(linear: Affine) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.asarray(x.astype(np.float64) @ linear.weights.T + linear.bias)


def _compare(case: Case, box: Box, scores: Callable[[np.ndarray], np.ndarray]) -> None:
    """NotSupported where the structure that was read answers some row unlike the victim.

    Compared are rows of the case and rows with noise, but for those where two classes are within rounding.
    """
    draw = np.random.default_rng(case.budget.seed)
    some = case.x[draw.permutation(len(case.x))[:COMPARED_MAX]]
    noise = draw.uniform(-1, 1, some.shape) * (case.budget.eps[-1] * box.span)
    rows = np.concatenate([some, np.clip(some + noise, box.low, box.high).astype(np.float32)])
    read = scores(rows)
    sure = np.isfinite(read).all(axis=1)
    if 2 * sure.sum() < len(rows):
        raise NotSupported("rounding decides how most rows are answered", where="twin")
    rows, read = rows[sure], read[sure]
    said = case.victim.scores(rows)
    if read.shape[1] < 2 or read.shape[1] > said.shape[1]:
        text = f"the twin's structure has {read.shape[1]} scores, the model {said.shape[1]}"
        raise NotSupported(text, where="twin")
    top = np.sort(read, axis=1)[:, -2:]
    clear = top[:, 1] - top[:, 0] > 1e-4 * np.maximum(1, np.abs(top).max(axis=1))
    if 2 * clear.sum() < len(rows):
        raise NotSupported("rounding decides how most rows are answered", where="twin")
    other = int((clear & (read.argmax(axis=1) != said.argmax(axis=1))).sum())
    if other:
        text = f"the structure read from its twin answers {other} of {len(rows)} rows unlike the model"
        raise NotSupported(f"{text}, so that nothing can be proved", where="twin")


def _linear(case: Case, box: Box, linear: Affine) -> tuple[np.ndarray, np.ndarray, dict[str, object]]:
    """Certified and undecided, each bool (radii, m)."""
    x, y = case.x[case.attacked], case.y[case.attacked]
    certified, undecided = [], []
    for eps in case.budget.eps:
        low, high = box.around(x, eps)
        choices = [box.choices(*ends) for ends in zip(x, low, high, strict=True)] if box.groups else []
        least, rounding = least_margin(linear, y, low, high, choices)
        certified.append((least > rounding) & (case.distance > 0))
        undecided.append((np.abs(least) <= rounding) & (case.distance > 0))
    return np.array(certified), np.array(undecided), {"method": "the least margin within each box"}


def _trees(
    case: Case, box: Box, forest: Forest, progress: Progress
) -> tuple[np.ndarray, np.ndarray, dict[str, object]]:
    """As :func:`_linear`. Rows known to be turned, by an attack or at a smaller radius, are not searched."""
    radii = case.budget.eps
    certified = np.zeros((len(radii), len(case.attacked)), bool)
    undecided = np.zeros_like(certified)
    limit = Limit(NODES_EACH, NODES_MAX)
    whole = box.is_whole(case.x[case.attacked])
    forests = {key: forest.on_whole(np.array(key)) for key in set(map(tuple, whole))}
    for at, row in enumerate(case.attacked):
        progress(
            0.05 + 0.95 * at / len(case.attacked), f"searching around row {at + 1} of {len(case.attacked)}"
        )
        for step, eps in enumerate(radii):
            if case.distance[at] <= eps + box.slack:
                break
            low, high = box.around(case.x[row : row + 1], eps)
            ends = (low[0], high[0])
            choices = box.choices(case.x[row], *ends)
            found = forests[tuple(whole[at])].holds(*ends, int(case.y[row]), limit, choices)
            certified[step, at] = found.holds
            if not found.holds:
                undecided[step:, at] = (not found.decided) & (
                    case.distance[at] > np.array(radii[step:]) + box.slack
                )
                break
    method = "bounds over reachable leaves, then branch and bound"
    return certified, undecided, {"method": method, "nodes": NODES_MAX - limit.left, "nodes_max": NODES_MAX}


def _probe(
    case: Case, box: Box, certified: np.ndarray, undecided: np.ndarray, settings: dict[str, object]
) -> Probe:
    radii, total = case.budget.eps, len(case.attacked)
    rates = [Rate(int(row.sum()), total) for row in certified]
    most = [Rate(int(row.sum()), total) for row in certified | undecided]
    notes = [
        f"at eps {eps:g}, {int(row.sum())} of {total} rows were not decided, and count as not certified"
        for eps, row in zip(radii, undecided, strict=True)
        if row.any()
    ]
    if box.groups:
        many = f"{len(box.groups)} one-hot group{'' if len(box.groups) == 1 else 's'}"
        notes.append(f"{many} counted as wholes: it is about rows in which one column of each is 1, no other")
    return Probe(
        name="exact_certificate",
        threat=Threat.CERTIFICATE,
        library=LIBRARY,
        settings=settings,
        figures=tuple(rate_figure("certified_accuracy", r, e) for r, e in zip(rates, radii, strict=True)),
        curves=(
            Curve("certified", "eps", radii, tuple(rates)),
            Curve("certified or not decided", "eps", radii, tuple(most)),
        ),
        notes=tuple(notes),
        samples=total,
    )


def _smoothed(case: Case, progress: Progress) -> Probe:
    smoothed = Smoothed(case)
    radius, voted = smoothed.radii(lambda share: progress(share, "asking for votes under noise"))
    right = voted == case.y[case.attacked]
    radii, total = case.budget.eps, len(radius)
    certified = right & (radius > smoothed.lengths)
    rates = [Rate(int(row.sum()), total) for row in certified]
    lengths = tuple(share * smoothed.sigma for share in LENGTHS)
    within = [Rate(int((right & (radius > length)).sum()), total) for length in lengths]
    settings = {
        "sigma": smoothed.sigma,
        "sigma_is": "its own" if smoothed.within else "the first eps in every feature",
        "noisy_rows": smoothed.many,
        "alpha": ALPHA,
        "norm": "L2; an L-infinity eps counts as the longest change that it leaves the row, in L2",
    }
    if smoothed.within:
        settings["draws_it_answers_with"] = len(smoothed.within.noise)
    return Probe(
        name="smoothing_certificate",
        threat=Threat.CERTIFICATE,
        library=LIBRARY,
        settings=settings,
        figures=tuple(
            rate_figure("certified_accuracy", r, e, "smoothed") for r, e in zip(rates, radii, strict=True)
        ),
        curves=(
            Curve("certified vote", "L2", lengths, tuple(within)),
            Curve("certified vote", "eps", radii, tuple(rates)),
        ),
        notes=tuple(_about_vote(case, smoothed, radius, voted)),
        samples=total,
        queries=smoothed.queries,
    )


def _about_vote(case: Case, smoothed: Smoothed, radius: np.ndarray, voted: np.ndarray) -> list[str]:
    """What the certificate is about, and how far it goes."""
    notes = [
        "this is about the model's vote under noise, not about the model as it answers now: "
        "it holds for whoever serves that vote"
    ]
    sure = radius > 0
    if smoothed.within is not None:
        same = int((case.scores[case.attacked].argmax(axis=1) == voted)[sure].sum())
        notes.append(
            f"the vote is that of the model inside, under fresh noise of its own sigma {smoothed.sigma:g};"
            f" the mean over the {len(smoothed.within.noise)} rows of noise that it answers with says the"
            f" same of {same} of the {int(sure.sum())} rows with a certificate"
        )
        if (wide := smoothed.as_wide) != 1:
            notes.append(
                f"that noise is {wide:.2g} times as wide as the sigma that the model names, in units"
                " of this policy's domain: the model or the domain has changed since it was smoothed"
            )
    if sure.any():
        middle = float(np.median(radius[sure]))
        notes.append(
            f"half of the {int(sure.sum())} rows with a certificate have one beyond L2 length {middle:.3g};"
            f" in every feature at once that is an eps of {middle / smoothed.width:.3g}"
        )
    return notes


def open_tile(place: Place) -> CertifyTile:
    """No options. ImportError where a library is not installed, so that the answer is how to install it."""
    from importlib.util import find_spec

    for name in ("onnx", "scipy"):
        if find_spec(name) is None:
            raise ImportError(f"{name} is not installed", name=name)
    return CertifyTile()
