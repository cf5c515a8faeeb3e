"""The engine: one probe after another over one case, each by itself, whatever becomes of the others."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tallystick.core.errors import Failed, NotSupported, TallyError
from tallystick.crew.judging.asking import Counted
from tallystick.crew.judging.measuring import tolerance
from tallystick.crew.judging.merging import Merged, merge
from tallystick.crew.judging.pace import Pace
from tallystick.crew.judging.parts import Parts, load_state
from tallystick.crew.judging.showing import examples
from tallystick.crew.judging.victims import Victims
from tallystick.crew.measure.target import Seen
from tallystick.evidence.probe import NOTES_MAX, Probe, ProbeState, Threat
from tallystick.evidence.threats import Listed, probe_key
from tallystick.ports.models.attack import Attack, Case, Found, Needs

__all__ = ["Engine", "Plan", "lacking"]

WHY_CHARS_MAX = 500
NOTE_CHARS_MAX = 500

OF_TWIN = (
    "it is about the model's ONNX twin, which the model's own process made: that the model answers alike was"
    " seen on the rows that were compared, and not proved for all"
)

MASKED_SHARE = 0.02
MASKED_ROWS = 2
"""Fewer rows than both are what any two attacks differ by."""


@dataclass
class Plan:
    """What is to be done: the probes in order, and of those known already the state, by key.

    ``base`` is the key of the engine's own probe. ``known`` has each key that need not be carried out: with
    the file of arrays after it, empty text for an evasion probe whose arrays a later one contains, before any
    is carried out, None for any that changed nothing. ``given_up`` says why probes are not tried again.
    """

    probes: Sequence[Listed]
    base: str
    train: str = ""
    known: Mapping[str, str | None] = field(default_factory=dict)
    given_up: Mapping[str, str] = field(default_factory=dict)


class Engine:
    """Carries a plan out. ``itself`` and ``through`` are the case as the model's and its twin's probes see it
    (the same where there is no twin), ``restarts`` whether a model that answers no more can be started again.
    """

    def __init__(
        self,
        plan: Plan,
        attacks: Mapping[str, Attack],
        seen: Victims,
        itself: Case,
        through: Case,
        parts: Parts,
        *,
        restarts: bool = False,
    ) -> None:
        self._plan, self._attacks, self._seen, self._parts = plan, attacks, seen, parts
        self._itself, self._through, self._restarts = itself, through, restarts
        self._before: list[str] = []
        self._inside = False
        self._gone = ""

    def run(self, pace: Pace, began: Callable[[str], None]) -> None:
        """Every probe of the plan in turn; each is told as soon as it has ended, however it did.

        Failed where the model answers no more and could be started again.
        """
        for at, listed in enumerate(self._plan.probes):
            key = probe_key(self._plan.base, listed, self._before, self._plan.train)
            if key in self._plan.known:
                pace.known(at)
                self._take_over(listed, key)
                continue
            began(listed.name)
            pace.begin(at, listed.about or listed.name)
            self._carry_out(listed, key, pace)
            pace.end()

    def _take_over(self, listed: Listed, key: str) -> None:
        """Go on from what a probe found that was carried out before."""
        file = self._plan.known[key]
        if file is None:
            return
        state = (self._itself.distance, self._itself.adversarial)
        self._keep(listed, key, *(load_state(Path(file), np.array(state[1])) if file else state))

    def _keep(self, listed: Listed, key: str, distance: np.ndarray, adversarial: np.ndarray) -> None:
        for case in (self._itself, self._through):
            case.distance, case.adversarial = distance, adversarial
        self._before.append(key)
        self._inside = self._inside or listed.gradients

    def _carry_out(self, listed: Listed, key: str, pace: Pace) -> None:
        began = time.monotonic()
        seen = self._seen.for_(listed.threat)
        asked, merged = Counted(seen), None
        plain = self._through if seen is self._seen.twin else self._itself
        case = replace(
            plain, victim=asked, distance=plain.distance.copy(), adversarial=plain.adversarial.copy()
        )
        try:
            found = self._attack(listed, seen, case).run(listed.name, case, pace.said)
            probe, merged = self._believed(listed, found, case)
        except NotSupported as wrong:
            probe = _without(listed, ProbeState.NOT_APPLICABLE, _why(wrong))
        except TallyError as wrong:
            probe = _without(listed, ProbeState.FAILED, _why(wrong))
        except Exception as wrong:  # noqa: BLE001  reason: a stranger's attack at the process's edge; the rest go on
            traceback.print_exc()
            probe = _without(listed, ProbeState.FAILED, f"{type(wrong).__name__}: {wrong}"[:WHY_CHARS_MAX])
        seconds = round(time.monotonic() - began, 3)
        probe = replace(probe, key=key, seconds=seconds, queries=asked.queries, gradients=asked.pulls)
        self._tell(listed, probe, merged)

    def _tell(self, listed: Listed, probe: Probe, merged: Merged | None) -> None:
        if merged is None or not probe.done:
            self._parts.tell_probe(probe)
            if probe.state is ProbeState.FAILED:
                self._look_after()
            return
        probe = replace(probe, notes=_notes([*probe.notes, *self._masked(listed, merged)]))
        self._keep(listed, probe.key, merged.distance, merged.adversarial)
        far, budget = merged.distance, self._itself.budget
        slack = tolerance(self._itself.domain, self._itself.x)
        robust = tuple(int((far > eps + slack).sum()) for eps in budget.eps)
        self._parts.tell_probe(probe, robust, (merged.distance, merged.adversarial))

    def _look_after(self) -> None:
        """Whether the model still answers, after a probe that failed."""
        if self._gone:
            return
        try:
            self._seen.itself.scores(self._itself.x[:1])
        except TallyError as wrong:
            self._gone = f"the model does not answer any more: {_why(wrong)}"[:WHY_CHARS_MAX]
            if self._restarts:
                raise Failed(self._gone, where="model") from wrong

    def _attack(self, listed: Listed, seen: Seen, case: Case) -> Attack:
        """The tile that carries it out; NotSupported or Failed, in plain words, where it cannot be."""
        if why := self._plan.given_up.get(listed.name, self._gone):
            raise Failed(why)
        attack = self._attacks.get(listed.tile)
        offer = next((o for o in attack.offers() if o.name == listed.name), None) if attack else None
        if attack is None or offer is None or offer.version != listed.version:
            raise Failed("the tile that offers it has changed meanwhile: judge again")
        if why := lacking(offer.needs, seen, case):
            raise NotSupported(why)
        return attack

    def _believed(self, listed: Listed, found: Found, case: Case) -> tuple[Probe, Merged | None]:
        """What the tile says of itself under its right name, and what it found as far as that holds."""
        probe = found.probe
        if not isinstance(probe, Probe):
            raise Failed(f"it answered with {type(probe).__name__}, not with a probe")
        probe = replace(probe, name=listed.name, threat=listed.threat, library=probe.library or listed.tile)
        if listed.threat is Threat.CERTIFICATE and probe.done and self._seen.twin is not None:
            probe = replace(probe, notes=_notes([OF_TWIN, *probe.notes]))
        if listed.threat is not Threat.EVASION or not probe.done:
            return probe, None
        y = self._itself.y[self._itself.attacked]
        through = self._seen.for_(listed.threat) is self._seen.twin
        merged = merge(case, found, lambda rows, places: self._seen.wrong(rows, y[places]), through)
        after = replace(self._itself, distance=merged.distance, adversarial=merged.adversarial)
        shown = examples(
            probe.name, after, self._seen.itself, merged.nearer, self._parts.folder, self._parts.mark()
        )
        notes = _notes([*probe.notes, *merged.notes])
        return replace(probe, notes=notes, examples=shown), merged

    def _masked(self, listed: Listed, merged: Merged) -> list[str]:
        """A note where an attack from outside turns rows that those from inside could not."""
        if listed.gradients or not self._inside:
            return []
        eps = self._itself.budget.eps[-1] + tolerance(self._itself.domain, self._itself.x)
        new = int(((self._itself.distance > eps) & (merged.distance <= eps)).sum())
        if new < max(MASKED_ROWS, MASKED_SHARE * len(merged.distance)):
            return []
        text = f"it turned {new} of {len(merged.distance)} rows that no attack with gradients did"
        return [f"{text}: a sign that gradients are masked (Athalye et al. 2018)"]


def lacking(needs: Needs, seen: Seen, case: Case) -> str:
    """What a probe needs and is not there, in plain words; empty where all is."""
    if needs.kinds and case.domain.kind not in needs.kinds:
        return f"it is for data of kind {', '.join(needs.kinds)}, and these rows are {case.domain.kind}"
    checks = [
        (needs.gradients and not seen.gradients, f"it needs gradients: {seen.no_gradients}"),
        (needs.scores and seen.gives == "labels", "it needs class scores, and the model gives labels only"),
        (needs.twin and seen.twin is None, "it needs the model as ONNX, and there is no such twin of it"),
        (
            needs.train and case.train is None,
            "it needs the rows that the model was trained on, and its lineage does not tell them",
        ),
        (needs.groups and not case.groups, "it needs groups of rows, and the policy's domain names none"),
    ]
    return next((why for lacks, why in checks if lacks), "")


def _without(listed: Listed, state: ProbeState, why: str) -> Probe:
    return Probe(listed.name, listed.threat, state, why or "it gave no reason", listed.tile)


def _why(wrong: TallyError) -> str:
    return (f"{wrong.what} ({wrong.hint})" if wrong.hint else wrong.what)[:WHY_CHARS_MAX]


def _notes(notes: Iterable[str]) -> tuple[str, ...]:
    """Each once, cut, and no more than a probe may have."""
    return tuple(dict.fromkeys(note[:NOTE_CHARS_MAX] for note in notes))[:NOTES_MAX]
