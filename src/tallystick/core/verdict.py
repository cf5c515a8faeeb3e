"""Verdicts: evidence gathered by attack, weighed by a policy that a person can read.

A verdict is a pure function of policy and evidence (:mod:`tallystick.evidence.weigh`). Without evidence there
is no verdict, and without a verdict that passed, for these very files under this very policy against the
present list of threats, the gate stays shut.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tallystick.core.errors import Refused
from tallystick.core.names import DEFAULT_TENANT

__all__ = ["PRODUCTION", "Entry", "Finding", "Severity", "Verdict", "VerdictState", "check_gate", "expired"]

PRODUCTION = "Production"
"""The stage that a deployment asks for, in MLflow's own word."""


class Severity(enum.StrEnum):
    """What a rule that does not hold means."""

    REFUSE = "refuse"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule says of the evidence, as a sentence in ``text``.

    ``figure`` is what was compared with ``limit``, None where it is missing. ``exception`` says by whose word
    a rule that does not hold is let pass, and ``until_ms`` how long that counts.
    """

    rule: str
    holds: bool
    severity: Severity
    text: str
    measure: str = ""
    figure: float | None = None
    limit: float | None = None
    exception: str = ""
    until_ms: int = 0

    @property
    def refuses(self) -> bool:
        """Whether it alone keeps the gate shut."""
        return not self.holds and self.severity is Severity.REFUSE and not self.exception


class VerdictState(enum.StrEnum):
    """Where a verdict stands."""

    JUDGING = "judging"
    PASSED = "passed"
    REFUSED = "refused"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether it was reached, or given up."""
        return self is not VerdictState.JUDGING


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement of one model version under one policy; ``failed`` means none could be reached.

    ``stage`` is what it was judged for; empty where the policy asks the same at every stage. The evidence is
    the artifact ``evidence_digest`` (JSON of :class:`tallystick.evidence.evidence.Evidence`), ``figures`` the
    few of it that listings show. ``threats`` is the digest of the list of probes that were to be carried out,
    and ``envelope`` the artifact with the signed statement (DSSE), where the hub has a key.
    """

    key: str
    model: str
    model_digest: str
    policy: str
    policy_digest: str
    state: VerdictState = VerdictState.JUDGING
    findings: tuple[Finding, ...] = ()
    evidence_digest: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    dataset: str = ""
    dataset_digest: str = ""
    label: str = ""
    stage: str = ""
    threats: str = ""
    envelope: str = ""
    progress: str = ""
    error: str = ""
    at_ms: int = 0
    tenant: str = DEFAULT_TENANT

    @property
    def reached(self) -> bool:
        """Whether it says yes or no."""
        return self.state in (VerdictState.PASSED, VerdictState.REFUSED)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was refused: the text of each rule that did not hold and refuses."""
        return tuple(f.text for f in self.findings if f.refuses)

    @property
    def expires_ms(self) -> int:
        """When the first exception ends that it passed by; 0: not by time alone."""
        let_off = [f.until_ms for f in self.findings if f.until_ms and f.severity is Severity.REFUSE]
        return min(let_off, default=0) if self.state is VerdictState.PASSED else 0


def expired(verdict: Verdict, model_digest: str, policy_digest: str, at_ms: int, threats: str = "") -> str:
    """What changed since the verdict was reached, in words that follow its key; empty where it still counts.

    ``threats`` is the digest of the present list of probes; empty where nobody knows it.
    """
    if verdict.model_digest != model_digest:
        return f"is about other files than model {verdict.model} has now"
    if verdict.policy_digest != policy_digest:
        return "was given under another policy"
    if not verdict.evidence_digest:
        return "was reached by an earlier tallystick, without evidence that can be weighed again"
    if threats and verdict.threats != threats:
        return "was reached before the list of threats changed"
    if verdict.expires_ms and at_ms >= verdict.expires_ms:
        return "rests on an exception that has ended"
    return ""


def _quoted(word: str) -> str:
    """A word of a command as a shell takes it."""
    plain = re.fullmatch(r"[\w@%+=:,./-]+", word, re.ASCII)
    return word if plain else "'" + word.replace("'", "'\"'\"'") + "'"


@dataclass(frozen=True, slots=True)
class Entry:
    """What asks to be let into ``stage``, and what a verdict has to be about to let it in.

    ``data`` is what the command to judge it has to name as rows, where the model's lineage knows none.
    """

    model: str
    model_digest: str
    policy_digest: str
    threats: str = ""
    stage: str = PRODUCTION
    data: str = ""

    @property
    def judge(self) -> str:
        """The command that gets it a verdict."""
        words = f"tally judge {_quoted(self.model)}"
        words += f" --data {_quoted(self.data)}" if self.data else ""
        return words + (f" --stage {_quoted(self.stage)}" if self.stage != PRODUCTION else "")


def check_gate(entry: Entry, verdicts: Sequence[Verdict], at_ms: int) -> Verdict:
    """The verdict that lets a model in; Refused names the verdict, what changed, and what to run.

    ``verdicts`` are those of the model, newest first. Of those that were reached for this stage, or for every
    one, only the newest counts, and only for these very files under this very policy and list of threats.
    """
    reached = [v for v in verdicts if v.reached and v.model == entry.model]
    newest = next((v for v in reached if v.stage in ("", entry.stage)), None)
    if newest is None:
        text = f"model {entry.model} has no verdict" + (f" for stage {entry.stage}" if reached else "")
        raise Refused(text, where="gate", hint=entry.judge)
    if why := expired(newest, entry.model_digest, entry.policy_digest, at_ms, entry.threats):
        raise Refused(f"verdict {newest.key} {why}", where="gate", hint=entry.judge)
    if newest.state is not VerdictState.PASSED:
        text = f"verdict {newest.key} refused model {entry.model}: " + "; ".join(newest.reasons)
        hint = f"take a version that passed, or harden this one: tally verdict {newest.key}"
        raise Refused(text, where="gate", hint=hint)
    return newest
