"""Measures: the names of figures that rules may ask for, and what each means.

The table is the one place where a measure is named: policies are checked against it, reports take their words
from it, and `docs/policy.md` is checked against it by a test.
"""

from __future__ import annotations

from dataclasses import dataclass

from tallystick.evidence.probe import Threat

__all__ = ["MEASURES", "Measure"]


@dataclass(frozen=True, slots=True)
class Measure:
    """``higher_is_better`` decides between ``at_least`` and ``at_most``; ``share`` means 0 to 1.

    ``has_eps``: a rule says at which radius. ``said`` completes "its ... is 84 %".
    """

    name: str
    threat: Threat
    higher_is_better: bool
    share: bool
    unit: str
    has_eps: bool
    said: str
    how: str


def _m(
    name: str, threat: Threat, higher: bool, said: str, how: str, *, unit: str = "", eps: bool = False
) -> Measure:
    return Measure(name, threat, higher, not unit, unit, eps, said, how)


_ALL = (
    _m("clean_accuracy", Threat.CLEAN, True, "accuracy on clean data", "share of rows it is right about"),
    _m("worst_group_accuracy", Threat.CLEAN, True, "accuracy on its worst group",
       "least accuracy among the groups (or classes) that have at least 20 rows"),
    _m("latency_ms_p99", Threat.CLEAN, False, "99th percentile of the time for one row",
       "one row at a time, measured where it was judged", unit="ms"),
    _m("size_mib", Threat.CLEAN, False, "size", "of the model's files", unit="MiB"),
    _m("robust_accuracy", Threat.EVASION, True, "accuracy under attack",
       "share of rows that are right as they are and that no attack turned within eps", eps=True),
    _m("flip_cost_median", Threat.EVASION, True, "median cost of the cheapest edit that turns an answer",
       "over rows it was right about; of tables, in the domain's stated cost", unit="cost"),
    _m("flip_l2_median", Threat.EVASION, True, "median L2 length of the least change that turns an answer",
       "over rows it was right about; in units of each feature's span (Carlini and Wagner 2017)", unit="l2"),
    _m("corruption_accuracy", Threat.CORRUPTION, True, "mean accuracy under common corruptions",
       "mean over corruptions and five severities (Hendrycks and Dietterich 2019)"),
    _m("worst_corruption_accuracy", Threat.CORRUPTION, True, "accuracy under its worst corruption",
       "mean over severities of the corruption that hurts most"),
    _m("certified_accuracy", Threat.CERTIFICATE, True, "certified accuracy",
       "share of rows for which no change within eps can turn the answer, by proof", eps=True),
    _m("backdoor_success", Threat.POISONING, False, "success of a planted trigger",
       "share of rows that the strongest trigger found turns to its class"),
    _m("poison_suspicion", Threat.POISONING, False, "share of suspicious training rows",
       "by activation clustering and spectral signatures"),
    _m("copy_agreement", Threat.EXTRACTION, False, "agreement of a stolen copy",
       "share of rows where the best copy that the query budget buys answers alike"),
    _m("membership_advantage", Threat.INFERENCE, False, "advantage of a membership attack",
       "true less false positive rate of the best attack (Yeom et al. 2018); 0 is chance"),
    _m("attribute_advantage", Threat.INFERENCE, False, "advantage of an attribute attack",
       "accuracy on a hidden column, less that of guessing from the other columns alone"),
    _m("files_safe", Threat.SUPPLY, True, "share of files that passed inspection",
       "1: nothing in the model's files can run code, or a trusted key vouches for what can"),
    _m("signature_valid", Threat.SUPPLY, True, "validity of its signature",
       "1 where a trusted key signed these very files"),
    _m("lineage_complete", Threat.SUPPLY, True, "completeness of its lineage",
       "share of source, run, lock and data snapshots that are on record"),
    _m("data_consented", Threat.SUPPLY, True, "share of its tables that it may use",
       "by the consent on record for each table"),
)  # fmt: skip

MEASURES = {m.name: m for m in _ALL}
