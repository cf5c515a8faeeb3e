"""``docs/policy.md`` says of every measure and key what the code says, and of no other."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from tallystick.evidence.domain import Budget, Column, Domain, Preprocessing
from tallystick.evidence.measures import MEASURES
from tallystick.evidence.policy import Exemption, Gate, Policy, Rule

DOC = (Path(__file__).parents[2] / "docs" / "policy.md").read_text("utf-8")


def section(name: str) -> str:
    """The text under a heading, up to the next."""
    return DOC.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    return [c for c in cells if c[0].startswith("`")]


def named(text: str) -> set[str]:
    return {name for row in rows(text) for name in re.findall(r"`(\w+)`", row[0])}


def test_every_measure_is_described_as_it_is() -> None:
    described = {row[0].strip("`"): row for row in rows(section("Measures"))}
    assert list(described) == list(MEASURES)
    for name, measure in MEASURES.items():
        _, limit, unit, about, said = described[name]
        assert limit == ("`at_least`" if measure.higher_is_better else "`at_most`"), name
        assert unit == ("share" if measure.share else measure.unit) + (
            ", `eps`" if measure.has_eps else ""
        ), name
        assert about == measure.threat, name
        assert said == f"{measure.said}: {measure.how}", name


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("Rules", Rule),
        ("Budget", Budget),
        ("Domains", (Domain, Column, Preprocessing)),
        ("Exceptions", Exemption),
    ],
)
def test_every_key_is_described(heading: str, kind: type | tuple[type, ...]) -> None:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    assert named(section(heading)) == {f.name for k in kinds for f in dataclasses.fields(k)}


def test_the_rest_of_a_policy_is_told() -> None:
    for field in dataclasses.fields(Gate):
        assert f"{field.name} = " in section("Where the gate is")
    assert {f.name for f in dataclasses.fields(Policy)} == {
        "name", "rules", "budget", "domains", "probes", "exceptions", "gate",
    }  # fmt: skip
