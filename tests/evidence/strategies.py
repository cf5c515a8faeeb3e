"""Policies and evidence, drawn by lot: every measure, every state of a probe, every kind of rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from tallystick.core.names import digest_of
from tallystick.core.verdict import Severity
from tallystick.evidence.domain import Budget
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Figure, Rate
from tallystick.evidence.measures import MEASURES, Measure
from tallystick.evidence.policy import Policy, Rule
from tallystick.evidence.probe import Point, Probe, ProbeState, Threat

__all__ = [
    "EPS",
    "FILES",
    "MODEL",
    "better",
    "evidences",
    "figures_for",
    "made",
    "policies",
    "rates",
    "rules",
]

EPS = (0.05, 0.1)
FILES = digest_of("model files")
MODEL = "m@1"
_DONE_BY_OTHERS = ("clean_accuracy", "robust_accuracy")
"""Of these the figures are the evidence's own, and not a probe's."""

rates = st.integers(1, 5000).flatmap(lambda total: st.builds(Rate, st.integers(0, total), st.just(total)))


@st.composite
def rules(draw: st.DrawFn, names: Sequence[str] = tuple(MEASURES)) -> Rule:
    measure = MEASURES[draw(st.sampled_from(names))]
    limit = draw(st.integers(0, 100)) / (100 if measure.share else 1)
    end = "low" if measure.higher_is_better else "high"
    return Rule(
        name=f"{measure.name} {draw(st.integers(0, 10**9))}",
        measure=measure.name,
        at_least=limit if measure.higher_is_better else None,
        at_most=None if measure.higher_is_better else limit,
        eps=draw(st.sampled_from(EPS)) if measure.has_eps else None,
        bound=draw(st.sampled_from(["", "value", end])),
        severity=draw(st.sampled_from(list(Severity))),
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    found = draw(st.lists(rules(), min_size=1, max_size=6, unique_by=lambda r: r.name))
    return Policy("p", tuple(found), Budget(EPS))


@st.composite
def figures_for(draw: st.DrawFn, measure: Measure) -> Figure:
    scale = 100 if measure.share else 1
    low, value, high = sorted(draw(st.lists(st.integers(0, 100), min_size=3, max_size=3)))
    eps = draw(st.sampled_from(EPS)) if measure.has_eps else None
    beyond = draw(st.booleans())
    return Figure(measure.name, value / scale, low / scale, high / scale, 100, eps, beyond=beyond)


@st.composite
def _probes(draw: st.DrawFn, threat: Threat, number: int) -> Probe:
    state = draw(st.sampled_from([ProbeState.DONE, ProbeState.DONE, *ProbeState]))
    about = [m for m in MEASURES.values() if m.threat is threat and m.name not in _DONE_BY_OTHERS]
    done = state is ProbeState.DONE
    measures = draw(st.lists(st.sampled_from(about), max_size=3, unique=True)) if done and about else []
    return Probe(
        f"{threat} {number}",
        threat,
        state,
        "" if done else "it has its reasons",
        figures=tuple(draw(figures_for(m)) for m in measures),
        queries=draw(st.sampled_from([0, 100])),
    )


def made(clean: Rate, robust: Sequence[Rate], probes: Sequence[Probe]) -> Evidence:
    """Evidence of these figures."""
    return Evidence(
        model=MODEL,
        model_digest=FILES,
        dataset="t@1",
        dataset_digest=digest_of("rows"),
        clean=clean,
        budget=Budget(EPS),
        curve=tuple(Point(eps, rate, rate) for eps, rate in zip(EPS, robust, strict=False)),
        probes=tuple(probes),
        threats=digest_of("threats"),
    )


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    threats = draw(st.lists(st.sampled_from(list(Threat)), max_size=8))
    probes = [draw(_probes(threat, number)) for number, threat in enumerate(threats)]
    return made(draw(rates), [draw(rates), draw(rates)], probes)


@st.composite
def better(draw: st.DrawFn, evidence: Evidence) -> Evidence:
    """The same evidence with no figure worse: rates with more right, figures moved the better way, some of
    what is better the more there is known to be more than that, and of what is worse known to be just that.
    """
    probes = []
    for probe in evidence.probes:
        figures = [_moved(f, draw(st.integers(0, 50)), draw(st.booleans())) for f in probe.figures]
        probes.append(replace(probe, figures=tuple(figures)))
    more = draw(st.lists(st.integers(0, 500), min_size=3, max_size=3))
    clean, *robust = [
        Rate(min(r.total, r.right + by), r.total)
        for r, by in zip((evidence.clean, *(p.robust for p in evidence.curve)), more, strict=True)
    ]
    return made(clean, robust, probes)


def _moved(figure: Figure, steps: int, turned: bool) -> Figure:
    measure = MEASURES[figure.measure]
    beyond = figure.beyond != (turned and figure.beyond != measure.higher_is_better)
    by = steps / (100 if measure.share else 1) * (1 if measure.higher_is_better else -1)
    low, value, high = (max(0.0, v + by) for v in (figure.low, figure.value, figure.high))
    return replace(figure, low=low, value=value, high=high, beyond=beyond)
