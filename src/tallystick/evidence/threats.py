"""The threat list: which probes there are, in which order they are done, and what a result hangs on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.names import digest_of
from tallystick.evidence.probe import Threat

__all__ = ["BASE", "ENGINE", "THROUGH", "Listed", "ThreatList", "base_key", "probe_key"]

ENGINE = 2
"""Rises whenever the engine itself (rows, order, merging, noise) could let the same come out otherwise."""

BASE = "clean"
"""The engine's own probe, before all others: accuracy on rows as they are, and under noise."""

THROUGH = (Threat.EVASION, Threat.CERTIFICATE, Threat.POISONING)
"""What a model's ONNX twin may be asked about: what takes very many questions, or its structure. For anything
else the model itself is asked, and about poison its twin only by those who look inside for its traces: a
trigger that the twin lacks would go unseen."""

ORDER = tuple(Threat)
_AFTER_EVASION = (Threat.EVASION, Threat.CERTIFICATE)
NAMED_MAX = 20


@dataclass(frozen=True, slots=True)
class Listed:
    """A probe that an installed tile offers (:class:`tallystick.ports.models.attack.Offer`).

    ``libraries`` are the versions of what its results depend on; ``train`` whether it reads the rows that
    the model was trained on, if only where they are known; ``gradients`` whether it needs to see the inside,
    and ``itself`` whether it asks the model where others ask its twin.
    """

    tile: str
    name: str
    threat: Threat
    version: int
    about: str = ""
    weight: float = 1.0
    usual: bool = True
    train: bool = False
    gradients: bool = False
    itself: bool = False
    libraries: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ThreatList:
    """All probes of all installed tiles, and the tiles that did not open, each with the reason.

    ``engine`` are the versions of what every result depends on: ONNX Runtime, numpy, the engine's own.
    """

    probes: tuple[Listed, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    engine: Mapping[str, str] = field(default_factory=dict)

    def chosen(self, named: Iterable[str] = ()) -> tuple[Listed, ...]:
        """The usual probes and those ``named``, in the order in which they are carried out.

        By threat, as :class:`Threat` lists them; within one those first that see the inside, as they are
        cheap and strong, then as the tiles offer them, tile by tile by name, and last those that ask the
        model itself, as they go on from what the others found. BadInput for a name that nobody offers, or
        that two tiles do.
        """
        wanted = set(named)
        names = [p.name for p in self.probes]
        if unknown := sorted(wanted - {*names, BASE}):
            known = ", ".join(sorted(names)) or "none"
            absent = "".join(f"; tile {tile} did not open: {why}" for tile, why in self.absent.items())
            hint = f"known: {known}{absent}"[:500]
            raise BadInput(f"no installed tile offers a probe {unknown[0]!r:.100}", where="probes", hint=hint)
        twice = sorted({name for name in names if names.count(name) > 1 or name == BASE})
        if twice:
            hint = "remove one of the packages that bring it"
            raise BadInput(f"two tiles offer a probe {twice[0]!r:.100}", where="probes", hint=hint)
        picked = [p for p in self.probes if p.usual or p.name in wanted]
        return tuple(sorted(picked, key=lambda p: (ORDER.index(p.threat), p.itself, not p.gradients)))

    def digest(self, named: Iterable[str] = ()) -> str:
        """What a verdict's evidence was to hold: the names and versions of the chosen probes.

        A verdict expires when this is another one: a newer list asks for more, or for it done better.
        """
        said = sorted([p.name, p.version] for p in self.chosen(named))
        return digest_of({"engine": ENGINE, "probes": said})


def base_key(subject: Mapping[str, Any], engine: Mapping[str, str]) -> str:
    """The key of the engine's own probe; ``subject`` says what is judged, on what, within what budget."""
    return digest_of({"engine": ENGINE, "probe": BASE, "subject": subject, "libraries": engine})


def probe_key(base: str, probe: Listed, before: Sequence[str], train: str = "") -> str:
    """The digest of all that the result of ``probe`` depends on.

    ``base`` is :func:`base_key`; ``before`` are the keys of the evasion probes that were carried out before
    it, as each starts from what those found, and a certificate leaves out the rows that they turned (of
    other threats: none); ``train`` is the digest of the rows that the model was trained on, where it reads
    them.
    """
    return digest_of(
        {
            "base": base,
            "probe": [probe.tile, probe.name, probe.version],
            "libraries": probe.libraries,
            "before": list(before) if probe.threat in _AFTER_EVASION else [],
            "train": train if probe.train else "",
        }
    )
