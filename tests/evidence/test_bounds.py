"""Figures of which it is known that the truth is more: what follows from them, and what does not."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.verdict import VerdictState
from tallystick.evidence.domain import Budget
from tallystick.evidence.figures import Figure, Rate
from tallystick.evidence.measures import MEASURES
from tallystick.evidence.policy import Policy, Rule
from tallystick.evidence.probe import OF_TWIN, Probe, Threat
from tests.evidence.strategies import EPS, figures_for, rules
from tests.evidence.test_weigh import CARRIED_OUT, evidence, judged

REFUSED = VerdictState.REFUSED


@given(st.sampled_from(list(MEASURES)), st.data())
def test_of_a_bound_only_what_it_bounds_is_concluded(name: str, data: st.DataObject) -> None:
    """More than X is at least any limit up to X; that it is at most anything never follows from it."""
    measure = MEASURES[name]
    if name in ("clean_accuracy", "robust_accuracy"):
        return  # the evidence's own, which are no bounds
    figure = replace(data.draw(figures_for(measure)), beyond=True)
    rule = replace(data.draw(rules([name])), eps=figure.eps)
    seen = evidence(
        Rate(9, 10), *[Rate(9, 10)] * 2, probes=(CARRIED_OUT, Probe("p", measure.threat, figures=(figure,)))
    )
    _, (finding, *_) = judged(Policy("p", (rule,), Budget(EPS)), seen)
    counts = getattr(figure, rule.end)
    assert finding.holds == (measure.higher_is_better and counts >= rule.limit)
    assert "more than" in finding.text
    known = replace(
        seen, probes=(CARRIED_OUT, Probe("p", measure.threat, figures=(replace(figure, beyond=False),)))
    )
    _, (plain, *_) = judged(Policy("p", (rule,), Budget(EPS)), known)
    assert plain.holds or not finding.holds  # a bound never lets in what the figure itself would not


def test_a_bound_is_said_to_be_one() -> None:
    lengths = Figure("flip_l2_median", 3.0, 2.5, 3.0, 40, beyond=True)
    leak = Figure("membership_advantage", 0.05, 0.01, 0.09, 200, beyond=True)
    probes = (replace(CARRIED_OUT, figures=(lengths,)), Probe("m", Threat.INFERENCE, figures=(leak,)))
    policy = Policy(
        "p",
        (
            Rule("far", "flip_l2_median", 2.0),
            Rule("private", "membership_advantage", at_most=0.2),
            Rule("strict", "membership_advantage", at_most=0.02),
        ),
        Budget(EPS),
    )
    state, (far, private, strict) = judged(policy, evidence(Rate(9, 10), *[Rate(9, 10)] * 2, probes=probes))
    assert state is REFUSED
    assert far.holds
    assert "is more than 3.0 l2" in far.text
    assert (private.holds, private.figure) == (False, None)
    assert private.text.endswith("is known to be more than 5.0% and not how much more")
    assert (strict.holds, strict.figure) == (False, 0.09)


def test_a_worse_figure_beside_a_bound_is_what_refuses() -> None:
    """And a better one beside it does not make the bound harmless: the worst of all attacks counts."""
    policy = Policy("p", (Rule("private", "membership_advantage", at_most=0.2),), Budget(EPS))
    bound = Figure("membership_advantage", 0.05, 0.05, 0.05, 200, beyond=True)
    for value, figure in ((0.5, 0.5), (0.1, None)):
        other = replace(bound, value=value, low=value, high=value, beyond=False)
        probes = [Probe(str(n), Threat.INFERENCE, figures=(f,)) for n, f in enumerate((bound, other))]
        _, (finding,) = judged(policy, evidence(Rate(9, 10), probes=tuple(probes)))
        assert (finding.holds, finding.figure) == (False, figure)


def test_what_is_proven_of_a_twin_is_no_evidence_of_the_model() -> None:
    proof = Figure("certified_accuracy", 1.0, 1.0, 1.0, 40, EPS[0], OF_TWIN)
    policy = Policy("p", (Rule("proven", "certified_accuracy", 0.1, eps=EPS[0]),), Budget(EPS))
    probe = Probe("exact", Threat.CERTIFICATE, figures=(proof,), through_twin=True)
    state, (finding,) = judged(policy, evidence(Rate(9, 10), probes=(probe,)))
    assert (state, finding.figure) == (REFUSED, None)
    assert finding.text.endswith("what is known is of its ONNX twin, and not of the model itself")
    own = replace(probe, figures=(replace(proof, group=""),), through_twin=False)
    assert judged(policy, evidence(Rate(9, 10), probes=(own,)))[1][0].holds
