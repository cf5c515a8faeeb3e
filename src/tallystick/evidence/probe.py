"""Probes: one attack or check of one model, and what came of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.names import check_digest
from tallystick.evidence.figures import Figure, Rate

__all__ = [
    "OF_TWIN",
    "Change",
    "Curve",
    "Example",
    "Piece",
    "Point",
    "Probe",
    "ProbeState",
    "Threat",
    "Trace",
]

FIGURES_MAX = 2000
EXAMPLES_MAX = 100
NOTES_MAX = 50

OF_TWIN = "of its ONNX twin"
"""The group of figures that are about a model's twin and not about the model: no rule counts them."""


class Threat(enum.StrEnum):
    """What a probe is about, in the order in which a report tells it."""

    CLEAN = "clean"  # no attacker: accuracy, worst group, latency, size
    EVASION = "evasion"  # inputs changed so that the model errs
    CORRUPTION = "corruption"  # inputs spoilt as the world spoils them
    CERTIFICATE = "certificate"  # what no change within a radius can turn
    POISONING = "poisoning"  # training rows, labels or a trigger planted
    EXTRACTION = "extraction"  # the model copied through its answers
    INFERENCE = "inference"  # its training rows learnt from its answers
    SUPPLY = "supply"  # its files: code, signature, where they came from


class ProbeState(enum.StrEnum):
    """Whether there is a result. A rule that needs a probe which is not ``done`` does not hold."""

    DONE = "done"
    NOT_APPLICABLE = "not applicable"  # what it needs is not there; ``why`` says what
    FAILED = "failed"  # it began and broke off; ``why`` says how
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the robustness curve: accuracy under attack, and under random noise of the same size."""

    eps: float
    robust: Rate
    noise: Rate


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a chart: ``x`` rising, with the rate at each. For example accuracy of a copy per query."""

    name: str
    x_name: str
    x: tuple[float, ...]
    y: tuple[Rate, ...]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y) or list(self.x) != sorted(self.x):
            raise BadInput("x rises, and has as many places as y", where=f"curve {self.name!r:.100}")


@dataclass(frozen=True, slots=True)
class Change:
    """One edit of one feature (or word), as a person reads it: ``income 41000 -> 41210``."""

    feature: str
    before: str
    after: str
    by: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text as it was and as it became: the same, where nothing was changed in it."""

    before: str
    after: str

    @property
    def changed(self) -> bool:
        """Whether it is another one."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class Trace:
    """One channel of a series as it was and as it became, at those of its ``steps`` that a drawing needs."""

    channel: str
    steps: tuple[int, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    unit: str = ""

    def __post_init__(self) -> None:
        same = len(self.steps) == len(self.before) == len(self.after)
        if not same or list(self.steps) != sorted(self.steps):
            text = "steps rise, with a value before and after at each"
            raise BadInput(text, where=f"channel {self.channel!r:.100}")


@dataclass(frozen=True, slots=True)
class Example:
    """One sample before and after.

    Labels are as predicted; confidences 0 to 1, None where a model gives none. Images are artifact digests of
    PNG files (``magnified`` is the change alone, scaled so that it can be seen); of a table, text or series
    ``changes`` says it in words. Of a text ``passage`` has both texts, piece by piece, around what was
    changed; of a series ``traces`` are the channels that were changed most.
    """

    probe: str
    row: int
    truth: str
    label_before: str
    label_after: str
    confidence_before: float | None = None
    confidence_after: float | None = None
    eps: float | None = None
    original: str = ""
    noise: str = ""
    label_noise: str = ""
    magnified: str = ""
    adversarial: str = ""
    changes: tuple[Change, ...] = ()
    passage: tuple[Piece, ...] = ()
    traces: tuple[Trace, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """One attack or check: that it was used, with what, and what it found; or why it does not apply.

    ``key`` is the digest of everything that the result depends on (model, rows, budget, domain, the probe's
    own name and version, settings): the same key is never probed twice. ``notes`` are warnings that a reader
    must know, such as signs of gradient masking. ``through_twin`` says that the model's ONNX twin was asked,
    and the model itself no more than about what was found.
    """

    name: str
    threat: Threat
    state: ProbeState = ProbeState.DONE
    why: str = ""
    library: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    curves: tuple[Curve, ...] = ()
    examples: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()
    samples: int = 0
    queries: int = 0
    gradients: int = 0
    seconds: float = 0.0
    key: str = ""
    through_twin: bool = False

    def __post_init__(self) -> None:
        if self.key:
            check_digest(self.key)
        if (self.state is ProbeState.DONE) == bool(self.why):
            raise BadInput(
                "a probe that is done has no why, and any other has one", where=f"probe {self.name}"
            )
        if (
            len(self.figures) > FIGURES_MAX
            or len(self.examples) > EXAMPLES_MAX
            or len(self.notes) > NOTES_MAX
        ):
            raise BadInput("too many figures, examples or notes", where=f"probe {self.name}")

    @property
    def done(self) -> bool:
        """Whether it has a result."""
        return self.state is ProbeState.DONE

    @property
    def asked(self) -> bool:
        """Whether it is an attack that was carried out: it asked the model something."""
        return self.done and self.queries + self.gradients > 0
