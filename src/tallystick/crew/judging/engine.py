"""The engine: one probe after another over one case, each by itself, whatever becomes of the others."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tallystick.core.errors import Failed, NotSupported, TallyError, TookTooLong
from tallystick.crew.judging.asking import Counted, Patience, allowance
from tallystick.crew.judging.measuring import tolerance
from tallystick.crew.judging.merging import Merged, merge, to_show
from tallystick.crew.judging.pace import Pace
from tallystick.crew.judging.parts import Parts, load_state
from tallystick.crew.judging.showing import examples
from tallystick.crew.judging.victims import Victims
from tallystick.crew.measure.target import Seen
from tallystick.evidence.figures import Figure
from tallystick.evidence.measures import MEASURES
from tallystick.evidence.probe import NOTES_MAX, OF_TWIN, Probe, ProbeState, Threat
from tallystick.evidence.threats import Listed, probe_key
from tallystick.ports.models.attack import Attack, Case, Found, Needs, Victim

__all__ = ["Engine", "Plan", "lacking"]

WHY_CHARS_MAX = 500
NOTE_CHARS_MAX = 500

TOLD_OF_TWIN = (
    "it is about the model's ONNX twin, which the model's own process made: that the model answers alike was"
    " seen on the rows that were compared, and not proved for all, so that no rule counts it"
)

TOLD_OF_TRAIN = (
    "no record shows that the step which made the model took in these very rows: that they are what it was"
    " trained on is its run's word, so that what they give away is no more than the least that there is"
)

CERTIFIED = "certified_accuracy"

MASKED_SHARE = 0.02
MASKED_ROWS = 2
"""Fewer rows than both are what any two attacks differ by."""


@dataclass
class Plan:
    """What is to be done: the probes in order, and of those known already the state, by key.

    ``base`` is the key of the engine's own probe. ``known`` has each key that need not be carried out: with
    the file of arrays after it, empty text for an evasion probe whose arrays a later one contains, before any
    is carried out, None for any that changed nothing. ``given_up`` says why probes are not tried again, and
    ``probe_s`` how long one may take.
    """

    probes: Sequence[Listed]
    base: str
    train: str = ""
    known: Mapping[str, str | None] = field(default_factory=dict)
    given_up: Mapping[str, str] = field(default_factory=dict)
    probe_s: float = math.inf


class Engine:
    """Carries a plan out. ``itself`` and ``through`` are the case as the model's and its twin's probes see it
    (the same where there is no twin), ``restarts`` whether a model that answers no more can be started again.

    A twin is believed until an attack comes by rows that it answers otherwise than the model. That attack is
    then carried out again on the model itself, as are all that follow.
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
        self._gone = self._denied = ""
        self._patience = Patience(plan.probe_s)
        seen.itself.patience = self._patience.check
        self._counted: list[Counted] = []

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
        distance, adversarial = self._itself.distance, self._itself.adversarial
        if file:
            distance, adversarial, denied = load_state(Path(file), adversarial)
            if denied:
                self._deny(denied)
        self._keep(listed, key, distance, adversarial)

    def _keep(self, listed: Listed, key: str, distance: np.ndarray, adversarial: np.ndarray) -> None:
        for case in (self._itself, self._through):
            case.distance, case.adversarial = distance, adversarial
        self._before.append(key)
        self._inside = self._inside or listed.gradients

    def _deny(self, why: str) -> None:
        """The twin is believed no more."""
        self._denied, self._seen.twin, self._through = why, None, self._itself

    def _carry_out(self, listed: Listed, key: str, pace: Pace) -> None:
        began, self._counted = time.monotonic(), []
        merged = None
        self._patience.begin()
        try:
            probe, merged = self._found(listed, pace)
        except NotSupported as wrong:
            probe = _without(listed, ProbeState.NOT_APPLICABLE, _why(wrong))
        except TallyError as wrong:
            probe = _without(listed, ProbeState.FAILED, _why(wrong))
        except Exception as wrong:  # noqa: BLE001  reason: a stranger's attack at the process's edge; the rest go on
            traceback.print_exc()
            probe = _without(listed, ProbeState.FAILED, f"{type(wrong).__name__}: {wrong}"[:WHY_CHARS_MAX])
        finally:
            self._patience.end()
        queries, pulls = (sum(getattr(c, what) for c in self._counted) for what in ("queries", "pulls"))
        seconds = round(time.monotonic() - began, 3)
        self._tell(listed, replace(probe, key=key, seconds=seconds, queries=queries, gradients=pulls), merged)

    def _found(self, listed: Listed, pace: Pace) -> tuple[Probe, Merged | None]:
        """What it found; where that shows the twin to be another model, what it found on the model itself."""
        probe, case, merged = self._once(listed, pace, None)
        denied = self._apart(listed, merged) if merged else ""
        if merged and denied:
            self._deny(denied)
            before, note = merged, f"{denied}: from there on the model itself is asked"
            try:
                probe, case, merged = self._once(listed, pace, before)
            except TookTooLong as wrong:
                raise Failed(f"{denied}; {_why(wrong)}") from wrong
            except NotSupported as wrong:  # what was found is confirmed, and all that this attack can do
                note += f", to which this attack does not apply: {wrong.what}"
            if merged:
                merged.nearer |= before.nearer
            probe = replace(probe, notes=(note, *probe.notes))
        if merged is None:
            return probe, None
        after = replace(self._itself, distance=merged.distance, adversarial=merged.adversarial)
        also = to_show(case, merged, self._wrong(case))
        parts = self._parts
        shown = examples(
            probe.name, after, self._seen.itself, merged.nearer, parts.folder, parts.mark(), also
        )
        return replace(probe, notes=_notes([*probe.notes, *merged.notes]), examples=shown), merged

    def _apart(self, listed: Listed, merged: Merged) -> str:
        """That the twin is not the model's equal after all, by what a probe found; empty where it may be."""
        if self._seen.twin is None:
            return ""
        rows = np.concatenate([merged.asked, merged.show[1]])
        apart = int(self._seen.apart(rows).sum()) if len(rows) else 0
        text = f"on {apart} of {len(rows)} rows that {listed.name} found, the model and its ONNX twin"
        return f"{text} answer differently, not by rounding" if apart else ""

    def _once(self, listed: Listed, pace: Pace, before: Merged | None) -> tuple[Probe, Case, Merged | None]:
        """Carry it out, on the twin or the model itself, from what is known or found ``before``."""
        attack, needs = self._attack(listed)
        seen = self._seen.for_(listed.threat, needs)
        plain = self._through if seen is self._seen.twin else self._itself
        state = before or plain
        case = replace(plain, distance=state.distance.copy(), adversarial=state.adversarial.copy())
        if why := self._lacks(needs, seen, case):
            raise NotSupported(why)
        case, places = self._limited(case) if needs.itself else (case, None)
        case.victim = self._count(seen)
        if seen is not self._seen.itself and self._seen.aligned:
            case.itself = self._count(self._seen.aligned)
        found = attack.run(listed.name, case, self._heard(pace))
        probe = self._believed(listed, needs, found, through=seen is not self._seen.itself)
        if listed.threat is not Threat.EVASION or not probe.done:
            return probe, case, None
        merged = merge(case, found, self._wrong(case), seen is not self._seen.itself)
        if places is not None:
            about = {
                "rows": len(places),
                "of_rows": len(plain.attacked),
                "queries_max": case.budget.queries_max,
            }
            figures = _of_some(probe.figures, len(places), len(plain.attacked))
            probe = replace(probe, settings={**probe.settings, **about}, figures=figures)
            merged = merged.among(
                replace(plain, distance=state.distance, adversarial=state.adversarial), places
            )
        return probe, case, merged

    def _wrong(self, case: Case) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Of rows made of samples of the case: whether the model itself is wrong."""
        y = self._itself.y[case.attacked]
        return lambda rows, places: self._seen.wrong(rows, y[places])

    def _count(self, victim: Victim) -> Counted:
        self._counted.append(Counted(victim))
        return self._counted[-1]

    def _heard(self, pace: Pace) -> Callable[[float, str], None]:
        def said(share: float, text: str) -> None:
            self._patience.check()
            pace.said(share, text)

        return said

    def _limited(self, case: Case) -> tuple[Case, np.ndarray]:
        """The case with those samples that withstand most so far, as many as the model's speed allows, and
        their places; with all of them, and the whole budget, where its twin is not believed.
        """
        rows, queries = len(case.attacked), case.budget.queries_max
        if self._seen.twin is not None:
            rows, queries = allowance(self._row_s(case), rows, queries)
        places = np.sort(np.argsort(-case.distance, kind="stable")[:rows])
        few = {name: getattr(case, name)[places] for name in ("attacked", "distance", "adversarial")}
        return replace(case, budget=replace(case.budget, queries_max=queries), **few), places

    def _row_s(self, case: Case) -> float:
        """Seconds that the model takes for a row, of all under attack at once; the quicker of two tries."""
        took = []
        for _ in range(2):
            began = time.monotonic()
            self._seen.itself.scores(case.x[case.attacked])
            took.append(time.monotonic() - began)
        return min(took) / len(case.attacked)

    def _tell(self, listed: Listed, probe: Probe, merged: Merged | None) -> None:
        if merged is None or not probe.done:
            self._parts.tell_probe(probe)
            if probe.state is ProbeState.FAILED:
                self._look_after()
            return
        probe = replace(probe, notes=_notes([*probe.notes, *self._masked(listed, merged)]))
        self._keep(listed, probe.key, merged.distance, merged.adversarial)
        state = (merged.distance, merged.adversarial)
        self._parts.tell_probe(probe, self._robust(merged.distance), state, self._denied)

    def _robust(self, distance: np.ndarray, sign: int = 1) -> tuple[int, ...]:
        """How many samples withstand at each eps; with ``sign`` -1 those on the very edge count as well."""
        slack = sign * tolerance(self._itself.domain, self._itself.x)
        return tuple(int((distance > eps + slack).sum()) for eps in self._itself.budget.eps)

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

    def _attack(self, listed: Listed) -> tuple[Attack, Needs]:
        """The tile that carries it out, and what it needs; Failed, in plain words, where it cannot be."""
        if why := self._plan.given_up.get(listed.name, self._gone):
            raise Failed(why)
        attack = self._attacks.get(listed.tile)
        offer = next((o for o in attack.offers() if o.name == listed.name), None) if attack else None
        if attack is None or offer is None or offer.version != listed.version:
            raise Failed("the tile that offers it has changed meanwhile: judge again")
        return attack, offer.needs

    def _lacks(self, needs: Needs, seen: Seen, case: Case) -> str:
        if needs.itself and self._seen.twin is None and not self._denied:
            return "every attack asked the model itself, as there is no ONNX twin of it"
        if needs.twin and seen.twin is None and self._denied:
            return f"it needs the model as ONNX, and its twin is not believed: {self._denied}"
        return lacking(needs, seen, case)

    def _believed(self, listed: Listed, needs: Needs, found: Found, *, through: bool) -> Probe:
        """What the tile says of itself, under its right name; of a certificate what can be, of its twin what
        is about that, and as a bound what rests on rows of which nobody knows that it was trained on them.
        """
        probe = found.probe
        if not isinstance(probe, Probe):
            raise Failed(f"it answered with {type(probe).__name__}, not with a probe")
        probe = replace(
            probe,
            name=listed.name,
            threat=listed.threat,
            library=probe.library or listed.tile,
            through_twin=through,
        )
        if needs.train and probe.done and not self._itself.trained_on:
            bounds = (replace(f, beyond=f.beyond or _at_most(f)) for f in probe.figures)
            probe = replace(probe, figures=tuple(bounds), notes=_notes([TOLD_OF_TRAIN, *probe.notes]))
        if listed.threat is Threat.CERTIFICATE and probe.done:
            self._check_certified(probe)
        if not through or not probe.done or listed.threat is Threat.EVASION:
            return probe
        of_twin = _grouped(probe.figures, OF_TWIN)
        return replace(probe, figures=of_twin, notes=_notes([TOLD_OF_TWIN, *probe.notes]))

    def _check_certified(self, probe: Probe) -> None:
        """Failed where it says of more rows than withstood that nothing can turn them: attacks did."""
        stood = dict(zip(self._itself.budget.eps, self._robust(self._itself.distance, -1), strict=True))
        total = len(self._itself.attacked)
        for figure in probe.figures:
            if figure.group or figure.measure != CERTIFIED or figure.eps not in stood:
                continue
            certified = round(figure.value * total)
            if figure.samples == total and certified > stood[figure.eps]:
                text = f"it certifies {certified} of {total} rows at eps {figure.eps:g}, and attacks left"
                raise Failed(f"{text} {stood[figure.eps]} of the model itself: it is no certificate of it")

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


def _of_some(figures: Sequence[Figure], some: int, rows: int) -> tuple[Figure, ...]:
    """Figures of ``some`` of the rows: those that withstand most, so that no rule counts them for all."""
    return _grouped(figures, f"the {some} of {rows} rows that withstood most" if some < rows else "")


def _grouped(figures: Sequence[Figure], group: str) -> tuple[Figure, ...]:
    """The same of this group, within their own where they have one."""
    return tuple(replace(f, group=", ".join(filter(None, (f.group, group)))) for f in figures)


def _at_most(figure: Figure) -> bool:
    """Whether a model is the better the less there is of it."""
    return figure.measure in MEASURES and not MEASURES[figure.measure].higher_is_better


def _without(listed: Listed, state: ProbeState, why: str) -> Probe:
    return Probe(listed.name, listed.threat, state, why or "it gave no reason", listed.tile)


def _why(wrong: TallyError) -> str:
    return (f"{wrong.what} ({wrong.hint})" if wrong.hint else wrong.what)[:WHY_CHARS_MAX]


def _notes(notes: Iterable[str]) -> tuple[str, ...]:
    """Each once, cut, and no more than a probe may have."""
    return tuple(dict.fromkeys(note[:NOTE_CHARS_MAX] for note in notes))[:NOTES_MAX]
