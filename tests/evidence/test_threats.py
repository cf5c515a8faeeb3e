"""The keys of probes: another key wherever the result could be another."""

from __future__ import annotations

import pytest

from tallystick.core.names import digest_of
from tallystick.evidence.probe import Threat
from tallystick.evidence.threats import Listed, probe_key

BASE, BEFORE = digest_of("base"), [digest_of("pgd")]


@pytest.mark.parametrize("threat", list(Threat))
def test_a_key_hangs_on_the_attacks_before_where_the_result_starts_from_what_they_found(
    threat: Threat,
) -> None:
    """A certificate is not looked for around rows that an attack turned: with other attacks it is another."""
    listed = Listed("tile", "probe", threat, 1)
    other = probe_key(BASE, listed, BEFORE) != probe_key(BASE, listed, [])
    assert other == (threat in (Threat.EVASION, Threat.CERTIFICATE))


def test_a_key_hangs_on_the_training_rows_of_a_probe_that_reads_them() -> None:
    reads = Listed("tile", "probe", Threat.POISONING, 1, train=True)
    assert probe_key(BASE, reads, (), "one") != probe_key(BASE, reads, (), "another")
    blind = Listed("tile", "probe", Threat.EXTRACTION, 1)
    assert probe_key(BASE, blind, (), "one") == probe_key(BASE, blind, (), "another")
