"""Reports as judgements leave them behind, with everything in them that a report can show."""

from __future__ import annotations

from dataclasses import replace

from tallystick.core.verdict import Finding, Severity, Verdict, VerdictState
from tallystick.drawing.report.content import Report
from tallystick.evidence.domain import Budget, Domain, DomainKind
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Figure, Rate, rate_figure
from tallystick.evidence.probe import Change, Curve, Example, Point, Probe, ProbeState, Threat

__all__ = ["BEFORE", "EVIDENCE", "HOSTILE", "VERDICT", "report"]

HOSTILE = "<script>alert('x')</script>|**`"
_D = "sha256:" + "ab" * 32


def _digest(n: int) -> str:
    return f"sha256:{n:064x}"


_IMAGE = Example(
    "pgd", 17, "3", "3", "8", 0.98, 0.77, 0.1, _digest(1), _digest(2), "3", _digest(3), _digest(4)
)
_ROW = Example(
    "table_edits", 4, "refuse", "refuse", "grant", 0.9, 0.6, 0.05,
    changes=(Change("income", "41000", "41210", 210.0, "EUR"), Change("purpose", "car", HOSTILE)),
)  # fmt: skip
_CORRUPTIONS = tuple(
    rate_figure("corruption_accuracy", Rate(97 - 9 * severity - 4 * at, 100), group=f"{name}:{severity}")
    for at, name in enumerate(("noise", "blur", "brightness", "JPEG"))
    for severity in range(1, 6)
)
_PROBES = (
    Probe("pgd", Threat.EVASION, library="tallystick 0.1", settings={"steps": 40, "restarts": 1},
          gradients=40_000, samples=120, seconds=3.2, examples=(_IMAGE, replace(_IMAGE, row=18, truth="4")),
          notes=("a black-box attack beats it: the gradients may be masked",)),
    Probe("square", Threat.EVASION, library="tallystick 0.1", queries=120_000, samples=120, seconds=9.0),
    Probe("hop_skip_jump", Threat.EVASION, ProbeState.FAILED, "the model hung: no answer within 120 s"),
    Probe("table_edits", Threat.EVASION, library="tallystick 0.1", queries=900, examples=(_ROW,)),
    Probe("common", Threat.CORRUPTION, library="tallystick 0.1", queries=2000, figures=_CORRUPTIONS),
    Probe("membership", Threat.INFERENCE, figures=(Figure("membership_advantage", 0.34, 0.29, 0.39, 500),)),
    Probe("knockoff", Threat.EXTRACTION, figures=(Figure("copy_agreement", 0.8, 0.75, 0.85, 300),),
          curves=(Curve("accuracy of the copy", "queries", (100.0, 1e3), (Rate(40, 100), Rate(80, 100))),)),
    Probe("attribute", Threat.INFERENCE, ProbeState.NOT_APPLICABLE, "no rows it was trained on are known"),
    Probe("files", Threat.SUPPLY, figures=(Figure("files_safe", 1.0, 1.0, 1.0),)),
)  # fmt: skip
EVIDENCE = Evidence(
    "digits@2", _D, "digits_test@7", _D, Rate(97, 100), Budget(), Domain(DomainKind.IMAGE, (8, 8)), "label",
    (Point(0.05, Rate(80, 120), Rate(117, 120)), Point(0.1, Rate(52, 120), Rate(113, 120))), _PROBES,
    ("0", "1", "2"), _D, {"numpy": "2.4.6", "tallystick": "0.1.0"}, 42.5,
)  # fmt: skip
BEFORE = replace(EVIDENCE, model="digits@1", curve=(Point(0.1, Rate(30, 120), Rate(110, 120)),))
_RULES = (
    Finding("accurate", True, Severity.REFUSE, "accurate: it is 97.0%", "clean_accuracy", 0.915, 0.9),
    Finding("robust", False, Severity.REFUSE, f"robust: {HOSTILE}", "robust_accuracy", 0.35, 0.55),
    Finding("quick", False, Severity.WARN, "quick: its time is 9 ms", "latency_ms_p99", 9.0, 5.0),
)  # fmt: skip
VERDICT = Verdict(
    "verdict-1", "digits@2", _D, "default", _D, VerdictState.REFUSED, _RULES, _D, {"clean_accuracy": 0.97},
    "digits_test@7", _D, "label", "Production", _D,
)  # fmt: skip


def report(**changed: object) -> Report:
    """The report of a refused model, with the version before."""
    return replace(Report(VERDICT, EVIDENCE, BEFORE), **changed)  # type: ignore[arg-type]  # reason: tests say what
