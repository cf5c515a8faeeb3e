"""The probe ``corruptions``: accuracy under each that the kind of data knows, at five severities."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from tallystick import __version__
from tallystick.core.errors import Failed, NotSupported
from tallystick.evidence.domain import Domain, DomainKind
from tallystick.evidence.figures import Z_95, Figure, Rate, rate_figure
from tallystick.evidence.probe import Probe, Threat
from tallystick.ports.models.attack import Case, Found, Offer, Progress
from tallystick.ports.tile import Place
from tallystick.tiles.corruption.images import IMAGES
from tallystick.tiles.corruption.rows import SERIES, TABLES, VECTORS, kept_possible
from tallystick.tiles.corruption.texts import TEXTS

__all__ = ["Corruptions", "open_tile"]

NAME = "corruptions"
OFFER = Offer(
    NAME, Threat.CORRUPTION, 2, "accuracy on inputs spoilt as the world spoils them, five severities each"
)
SEVERITIES = 5

Spoilt = Iterator[tuple[str, int, np.ndarray]]
"""(corruption, severity 1 to 5, rows)."""


class Corruptions:
    """See the module."""

    def offers(self) -> tuple[Offer, ...]:
        """One probe, for every kind of data."""
        return (OFFER,)

    def run(self, name: str, case: Case, progress: Progress) -> Found:
        """See :class:`tallystick.ports.models.attack.Attack`; on the rows that are attacked."""
        if name != NAME:
            raise NotSupported(f"there is no probe {name!r:.100}", where="corruption")
        began = time.perf_counter()
        x, y = case.x[case.attacked], case.y[case.attacked]
        total = len(_kinds(case.domain)) * SEVERITIES
        right: dict[str, list[np.ndarray]] = {}
        for at, (kind, severity, rows) in enumerate(_spoilt(x, case)):
            progress(at / total, f"{kind}, severity {severity} of {SEVERITIES}")
            scores = case.victim.scores(rows)
            if scores.shape != (len(rows), case.victim.classes):
                raise Failed(f"{kind}: scores of shape {list(scores.shape)}", where="model")
            right.setdefault(kind, []).append(scores.argmax(axis=1) == y)
        table = np.stack([np.stack(by) for by in right.values()])  # (corruptions, severities, rows)
        probe = Probe(
            NAME,
            Threat.CORRUPTION,
            library=f"tallystick {__version__}",
            settings={"corruptions": list(right), "severities": SEVERITIES},
            figures=tuple(_figures(list(right), table)),
            samples=len(x),
            queries=int(table.size),
            seconds=round(time.perf_counter() - began, 3),
        )
        return Found(probe)

    def versions(self) -> dict[str, str]:
        """Of numpy, scipy and Pillow."""
        found = {}
        for package in ("numpy", "scipy", "pillow"):
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
        return found


def _kinds(domain: Domain) -> list[str]:
    by_kind = {
        DomainKind.IMAGE: IMAGES, DomainKind.TABULAR: TABLES, DomainKind.SERIES: SERIES,
        DomainKind.TEXT: TEXTS, DomainKind.VECTOR: VECTORS,
    }  # fmt: skip
    return list(by_kind[domain.kind])


def _spoilt(x: np.ndarray, case: Case) -> Spoilt:
    """Each corruption draws from a stream of its own, so that one more leaves the others as they were."""
    makers = {
        DomainKind.IMAGE: _images, DomainKind.SERIES: _series, DomainKind.TEXT: _texts,
        DomainKind.TABULAR: _table, DomainKind.VECTOR: _vectors,
    }  # fmt: skip
    return makers[case.domain.kind](x, case)


def _chance(case: Case, kind: str, severity: int) -> np.random.Generator:
    return np.random.default_rng([case.budget.seed, severity, *kind.encode()])


def _images(x: np.ndarray, case: Case) -> Spoilt:
    domain = case.domain
    span = np.float32(domain.high - domain.low)
    shape = (len(x), *domain.shape)
    unit = ((x - np.float32(domain.low)) / span).reshape(shape)
    images = (
        unit[..., None] if len(shape) == 3 else np.moveaxis(unit, 1, -1) if domain.channels_first else unit
    )
    for kind, (spoil, *_) in IMAGES.items():
        for severity, strength in enumerate(IMAGES[kind].strengths(images.shape[1]), 1):
            spoilt = np.clip(spoil(images, strength, _chance(case, kind, severity)), 0.0, 1.0)
            back = np.moveaxis(spoilt, -1, 1) if domain.channels_first else spoilt
            yield kind, severity, _float32(back.reshape(len(x), -1) * span + np.float32(domain.low))


def _series(x: np.ndarray, case: Case) -> Spoilt:
    steps, channels = case.domain.steps_and_channels
    first = case.domain.channels_first
    rows = x.reshape(len(x), channels, steps).swapaxes(1, 2) if first else x.reshape(len(x), steps, channels)
    for kind, (spoil, strengths) in SERIES.items():
        for severity, strength in enumerate(strengths, 1):
            spoilt = spoil(rows, strength, _chance(case, kind, severity))
            yield kind, severity, _float32((spoilt.swapaxes(1, 2) if first else spoilt).reshape(x.shape))


def _vectors(x: np.ndarray, case: Case) -> Spoilt:
    for kind, (spoil, strengths) in VECTORS.items():
        for severity, strength in enumerate(strengths, 1):
            spoilt = spoil(x, strength, _chance(case, kind, severity))
            yield kind, severity, _float32(np.clip(spoilt, case.domain.low, case.domain.high))


def _table(x: np.ndarray, case: Case) -> Spoilt:
    for kind, (spoil, strengths) in TABLES.items():
        for severity, strength in enumerate(strengths, 1):
            spoilt = spoil(x, strength, _chance(case, kind, severity))
            yield kind, severity, _float32(kept_possible(spoilt, case.domain, case.features))


def _texts(x: np.ndarray, case: Case) -> Spoilt:
    for kind, (spoil, strengths) in TEXTS.items():
        for severity, strength in enumerate(strengths, 1):
            chance = _chance(case, kind, severity)
            yield kind, severity, np.array([spoil(str(text), strength, chance) for text in x], object)


def _float32(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows, np.float32)


def _figures(kinds: list[str], right: np.ndarray) -> Iterator[Figure]:
    """Of ``right`` (corruptions, severities, rows): each rate, the mean of all, and that of the worst."""
    rows = right.shape[-1]
    for kind, by in zip(kinds, right, strict=True):
        for severity, each in enumerate(by, 1):
            group = f"{kind}:{severity}"
            yield rate_figure("corruption_accuracy", Rate(int(each.sum()), rows), group=group)
    yield _mean("corruption_accuracy", right.mean(axis=(0, 1)))
    worst = right.mean(axis=(1, 2)).argmin()
    yield _mean("worst_corruption_accuracy", right[worst].mean(axis=0))


def _mean(measure: str, shares: np.ndarray) -> Figure:
    """The mean over rows, each a share of its own, with the normal 95 % interval of a mean.

    Rows are what was sampled: the corruptions of one row are no samples of their own. Where all rows are
    alike the deviation says nothing, so the interval is at least Wilson's for a rate of so many rows.
    """
    value, rows = float(shares.mean()), len(shares)
    half = Z_95 * float(shares.std(ddof=1)) / rows**0.5 if rows > 1 else 1.0
    low, high = value - half, value + half
    if half == 0.0:
        rate = Rate(round(value * rows), rows)
        low, high = min(rate.low, value), max(rate.high, value)
    return Figure(measure, value, max(0.0, low), min(1.0, high), rows)


def open_tile(place: Place) -> Corruptions:
    """No options."""
    return Corruptions()
