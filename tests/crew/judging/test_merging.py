"""What a probe found, believed as far as it holds; distances, allowed changes and noise by domain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tallystick.core.errors import Damaged, Failed
from tallystick.crew.judging.measuring import allowed, distances, noisy, tolerance
from tallystick.crew.judging.merging import merge
from tallystick.crew.judging.parts import _save, load_state
from tallystick.evidence.domain import Budget, Column, Domain, DomainKind
from tallystick.evidence.probe import Probe, Threat
from tallystick.ports.models.attack import Found
from tallystick.proofs.attack import toy_case, toy_rows

PROBE = Probe("p", Threat.EVASION)
TABLE = Domain(
    DomainKind.TABULAR,
    columns=(
        Column("age", 18, 90, integer=True, direction="up"),
        Column("income", 0, 100_000),
        Column("born", 0, 1, immutable=True),
        Column("red", one_hot="colour"),
        Column("blue", one_hot="colour"),
        Column("debt", 0, 10, direction="down", scale=5),
    ),
)
ROW = np.array([[30, 40_000, 1, 1, 0, 4]], np.float32)


@pytest.fixture
def case():
    model, x, y = toy_rows()
    case = toy_case(model, x, y, Budget(eps=(0.1, 0.2), samples_max=10))
    return replace(case, distance=np.full(10, np.inf))


def found(case, **at):
    """Claims by sample: (distance, row)."""
    distance, adversarial = case.distance.copy(), case.adversarial.copy()
    for sample, (far, row) in at.items():
        distance[int(sample[1:])], adversarial[int(sample[1:])] = far, row
    return Found(PROBE, distance, adversarial)


def always(rows, places):
    return np.ones(len(rows), bool)


def test_what_turns_the_model_counts_at_the_distance_that_it_has(case):
    row = case.x[case.attacked[3]] + np.float32(0.05)
    merged = merge(case, found(case, s3=(0.001, np.clip(row, 0, 1))), always, False)
    assert merged.nearer.tolist() == [i == 3 for i in range(10)]
    assert merged.distance[3] == pytest.approx(0.05, abs=1e-5)
    assert merged.notes == []
    assert np.isinf(case.distance[3])


def test_what_does_not_turn_the_model_itself_does_not_count(case):
    row = np.clip(case.x[case.attacked[3]] + np.float32(0.05), 0, 1)
    claims = found(case, s3=(0.05, row), s4=(0.05, row))
    merged = merge(case, claims, lambda rows, places: places == 4, True)
    assert np.isinf(merged.distance[3])
    assert np.isnan(merged.adversarial[3]).all()
    assert np.isfinite(merged.distance[4])
    assert merged.notes[0].startswith(
        "1 of 2 adversarial rows found on the model's twin did not turn the model"
    )


def test_what_the_domain_does_not_allow_does_not_count(case):
    outside = np.array([1.5, 0.5], np.float32)
    merged = merge(case, found(case, s3=(0.1, outside), s4=(0.1, outside * np.nan)), always, False)
    assert not merged.nearer.any()
    assert "2 of 2 rows that it found are not allowed by the domain" in merged.notes[0]


def test_nothing_is_ever_made_worse(case):
    near = np.clip(case.x[case.attacked] + np.float32(0.01), 0, 1)
    case = replace(case, distance=np.full(10, 0.01), adversarial=near)
    merged = merge(case, found(case, s3=(0.5, near[3]), s4=(0.0001, near[4] + 0.3)), always, False)
    np.testing.assert_array_equal(merged.distance, case.distance)
    np.testing.assert_array_equal(merged.adversarial, case.adversarial)


def test_rows_that_are_wrong_as_they_are_stay_at_no_distance(case):
    case.distance[3] = 0.0
    merged = merge(case, found(case, s3=(-1.0, case.x[0])), always, False)
    assert merged.distance[3] == 0.0
    assert not merged.nearer[3]


def test_findings_of_another_case_are_refused(case):
    with pytest.raises(Failed, match="it found rows of shape"):
        merge(case, Found(PROBE, case.distance[:3], case.adversarial[:3]), always, False)
    nothing = merge(case, Found(PROBE), always, False)
    np.testing.assert_array_equal(nothing.distance, case.distance)


# ---------------------------------------------------------------------- by domain


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({}, True),
        ({0: 31}, True),
        ({0: 29}, False),
        ({0: 30.5}, False),
        ({0: 91}, False),
        ({1: 40_210}, True),
        ({1: -1}, False),
        ({2: 0}, False),
        ({3: 0, 4: 1}, True),
        ({3: 0}, False),
        ({3: 0.5, 4: 0.5}, False),
        ({5: 3}, True),
        ({5: 5}, False),
        ({1: np.nan}, False),
    ],
)
def test_what_a_table_allows(change, holds):
    row = ROW.copy()
    for at, value in change.items():
        row[0, at] = value
    assert allowed(TABLE, ROW, row).tolist() == [holds]


def test_distance_in_a_table_is_in_spans():
    row = ROW.copy()
    row[0, 0] += 36
    row[0, 5] -= 1
    assert distances(TABLE, ROW, row).tolist() == [0.5]
    assert tolerance(TABLE, ROW) < 1e-5
    assert tolerance(Domain(low=0, high=1), ROW) == 1e-6
    assert tolerance(Domain(low=1e6, high=1e6 + 1), ROW) == pytest.approx(0.0625)


def test_noise_keeps_to_the_domain():
    rows = np.repeat(ROW, 200, axis=0)
    made = noisy(TABLE, rows, 0.3, 7)
    assert allowed(TABLE, rows, made).all()
    assert distances(TABLE, rows, made).max() <= 0.3 + 1e-2  # whole years are rounded
    assert (made[:, [2, 3, 4]] == rows[:, [2, 3, 4]]).all()
    assert (made[:, 1] != rows[:, 1]).mean() > 0.9
    again = noisy(Domain(low=0, high=100_000), rows, 5.0, 7)
    assert 0 < np.abs(again - rows).max() <= 5.01


def test_what_was_kept_is_what_is_loaded(tmp_path):
    distance = np.array([np.inf, 0.0, 0.25])
    rows = np.array([[np.nan, np.nan], [np.nan, np.nan], [0.1, 0.2]], np.float32)
    _save(tmp_path / "a.npz", distance, rows)
    for one, other in zip(load_state(tmp_path / "a.npz", rows * np.nan), (distance, rows, ""), strict=True):
        np.testing.assert_array_equal(one, other)
    texts = np.array(["", "abc", ""], object)
    _save(tmp_path / "t.npz", distance, texts)
    assert load_state(tmp_path / "t.npz", np.array(["", "", ""], object))[1].tolist() == ["", "abc", ""]
    for wrong in (b"", b"PK\x03\x04 nothing"):
        (tmp_path / "b.npz").write_bytes(wrong)
        with pytest.raises(Damaged):
            load_state(tmp_path / "b.npz", rows)
    with pytest.raises(Damaged):
        load_state(tmp_path / "a.npz", rows[:1])
    np.savez(tmp_path / "p.npz", distance=distance, places=np.arange(1), rows=np.array([{"a": 1}], object))
    with pytest.raises(Damaged):
        load_state(tmp_path / "p.npz", rows)
