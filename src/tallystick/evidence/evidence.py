"""Evidence: all that was found out about one model on one dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tallystick.core.names import check_digest
from tallystick.evidence.domain import Budget, Domain
from tallystick.evidence.figures import Figure, Rate, Shortfall, rate_figure, shortfall
from tallystick.evidence.probe import Point, Probe, Threat

__all__ = ["Evidence"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found: complete enough to be repeated elsewhere and compared.

    ``label`` is the column of the dataset that holds the right answers. ``curve`` is the worst case over all
    evasion probes together: a sample counts as robust at eps when none of them fooled it within eps.
    ``threats`` is the digest of the list of probes (names and versions) that were to be carried out: a
    verdict expires when a newer list asks for more. ``classes`` are the labels' names in order, as shown.
    """

    model: str
    model_digest: str
    dataset: str
    dataset_digest: str
    clean: Rate
    budget: Budget = field(default_factory=Budget)
    domain: Domain = field(default_factory=Domain)
    label: str = "label"
    curve: tuple[Point, ...] = ()
    probes: tuple[Probe, ...] = ()
    classes: tuple[str, ...] = ()
    threats: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        check_digest(self.model_digest)
        check_digest(self.dataset_digest)

    @property
    def attacked(self) -> bool:
        """Whether at least one evasion attack was carried out: what nobody attacked has withstood nothing."""
        return any(p.asked for p in self.of(Threat.EVASION))

    def of(self, threat: Threat) -> tuple[Probe, ...]:
        """The probes about one threat, in the order in which they were carried out."""
        return tuple(p for p in self.probes if p.threat is threat)

    def figures(self) -> Iterator[Figure]:
        """Every figure that a rule may ask for: clean accuracy, the curve's, and those of the probes.

        Clean accuracy is none where the probe ``clean`` failed, as of a model that contradicts itself.
        """
        if all(p.done for p in self.of(Threat.CLEAN) if p.name == "clean"):
            yield rate_figure("clean_accuracy", self.clean)
        if self.attacked:
            for point in self.curve:
                yield rate_figure("robust_accuracy", point.robust, point.eps)
        for probe in self.probes:
            if probe.done:
                yield from probe.figures

    def shortfalls(self) -> Iterator[Shortfall]:
        """Every rate that rests on fewer rows than the budget's precision needs."""
        for figure in self.figures():
            if lacks := shortfall(figure.rate, self.budget.precision, figure):
                yield lacks
