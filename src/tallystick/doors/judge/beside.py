"""An original and the model that was hardened from it, side by side, as a person and as a script read it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from tallystick.core.facts import from_json, to_json
from tallystick.doors.judge.words import finding_lines
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Figure
from tallystick.evidence.probe import Threat
from tallystick.judging.ways import How

__all__ = ["Beside"]

SHOWN: Mapping[str, str] = {
    "clean_accuracy": "clean",
    "robust_accuracy": "eps",
    "certified_accuracy": "certified",
}
"""Measures that are shown, and what their rows are called."""

SIGNS = ("less robust than the curve says", "gradients are masked")
"""In the notes of probes: what says that a defence hides its gradients."""
ROLES = ("original", "hardened")


class Beside:
    """``models`` and ``verdicts`` (what ``GET /verdicts/KEY`` says) by role: ``original``, ``hardened``."""

    def __init__(self, models: Mapping[str, str], verdicts: Mapping[str, Any], how: How) -> None:
        self._models, self._verdicts, self._how = models, verdicts, how
        self._evidence = {
            role: from_json(Evidence, each["evidence"], "evidence")
            for role, each in verdicts.items()
            if each["evidence"]
        }
        self.refused = verdicts["hardened"]["verdict"]["state"] == "refused"
        self._rows = self._figures()

    def wire(self) -> dict[str, Any]:
        """For scripts: both verdicts, every figure with its interval, signs of masking, what to do next."""
        return {
            "verdicts": {role: each["verdict"] for role, each in self._verdicts.items()},
            "figures": self._rows,
            "signs": self._signs(),
            "next": self._next(),
        }

    def text(self, url: str) -> str:
        """For a person: both side by side, then what does not hold of the hardened one, and what is next."""
        rows = [("", *(self._models[role] for role in ROLES))]
        rows += [(_head(row), *(_share(row.get(role)) for role in ROLES)) for row in self._rows]
        rows.append(("verdict", *(str(self._verdicts[r]["verdict"]["state"]) for r in ROLES)))
        widths = [max(len(row[at]) for row in rows) for at in range(3)]
        cells = [(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
        lines = ["  ".join(row).rstrip() for row in cells]
        verdict = self._verdicts["hardened"]["verdict"]
        wanting = dict(verdict, findings=[f for f in verdict["findings"] if not f["holds"]])
        lines += [*finding_lines(wanting), *(f"  sign     {sign}" for sign in self._signs())]
        lines += [f"next: {command}" for command in self._next()]
        return "\n".join([*lines, f"see: {url}/verdicts/{verdict['key']}"])

    def _figures(self) -> list[dict[str, Any]]:
        """Clean accuracy and that at each eps, of both, with 95 % intervals; certified where proved."""
        found: dict[tuple[str, float, str], dict[str, Any]] = {}
        for role, evidence in self._evidence.items():
            for figure in evidence.figures():
                certified = figure.measure == "certified_accuracy"
                if figure.measure in SHOWN and (certified or not figure.group):
                    key = figure.measure, figure.eps or 0.0, figure.group
                    row = {"measure": figure.measure, "eps": figure.eps}
                    row |= {"group": figure.group} if figure.group else {}
                    found.setdefault(key, row)[role] = to_json(figure)
        order = list(SHOWN)
        return [found[key] for key in sorted(found, key=lambda key: (order.index(key[0]), *key[1:]))]

    def _signs(self) -> list[str]:
        """What attacks noticed that says the hardened model's gradients mislead."""
        if "hardened" not in self._evidence:
            return []
        probes = [p for p in self._evidence["hardened"].probes if p.threat is Threat.EVASION]
        return [f"{p.name}: {n}" for p in probes for n in p.notes if any(sign in n for sign in SIGNS)]

    def _next(self) -> Sequence[str]:
        """Commands that go on from here."""
        model, verdict = shlex.quote(self._models["hardened"]), self._verdicts["hardened"]["verdict"]
        if not self.refused:
            return [f"tally deploy {model} --name {model.partition('@')[0]}"]
        more = [f"tally verdict {verdict['key']}"]
        if self._how is not How.ADVERSARIAL:
            more.append(f"tally harden {shlex.quote(self._models['original'])} --how adversarial")
        return more


def _head(row: Mapping[str, Any]) -> str:
    about = str(row.get("group", "")).replace("smoothed", "as a vote")  # or it is of a model's twin alone
    name = ", ".join(filter(None, (SHOWN[row["measure"]], about)))
    return name if row["eps"] is None else f"{name} {row['eps']:g}"


def _share(wire: Any) -> str:
    if wire is None:
        return "-"
    figure = from_json(Figure, wire, "figure")
    return f"{figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%})"
