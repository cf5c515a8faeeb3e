from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.data import Snapshot
from tallystick.core.endpoint import Endpoint, Wish
from tallystick.core.errors import BadInput, Conflict
from tallystick.core.model import ModelVersion, Origin
from tallystick.core.names import digest_of
from tallystick.core.remedy import Remedy, RemedyAction, RemedyState, move, propose
from tallystick.core.signal import ColumnDrift, Drift, DriftLimits, Signal, drift_words, weigh_drift

columns = st.lists(
    st.builds(ColumnDrift, st.text("abc", max_size=3), st.just(0.1), st.floats(0, 1), st.floats(0, 1)),
    max_size=12,
).map(tuple)


def drift(*found: ColumnDrift, rows_live: int = 1000) -> Drift:
    return Drift("t@1", digest_of("rows"), 1000, rows_live, found)


@given(columns, st.floats(0.001, 0.5), st.floats(0, 0.9))
def test_the_share_is_of_columns_below_bonferroni_s_threshold(
    found: tuple[ColumnDrift, ...], alpha: float, share_max: float
) -> None:
    raised, share, worst = weigh_drift(drift(*found), DriftLimits(alpha, share_max))
    below = [c for c in found if c.p_value < alpha / len(found) and c.ks >= 0.1]
    assert sorted(worst, key=str) == sorted(below, key=str)
    assert [c.ks for c in worst] == sorted((c.ks for c in worst), reverse=True)
    assert share == (len(below) / len(found) if found else 0)
    assert raised == (share > share_max or any(c.ks >= 0.5 for c in below))


@given(columns, st.floats(0, 1))
def test_more_drift_never_takes_a_signal_back(found: tuple[ColumnDrift, ...], p_value: float) -> None:
    before, _, _ = weigh_drift(drift(*found), DriftLimits())
    worse = tuple(replace(c, p_value=min(c.p_value, p_value)) for c in found)
    after, _, _ = weigh_drift(drift(*worse), DriftLimits())
    assert after or not before


def test_one_column_that_is_wholly_broken_is_enough() -> None:
    steady = [ColumnDrift(f"c{n}", 0.01, 0.02, 0.9) for n in range(19)]
    assert weigh_drift(drift(*steady, ColumnDrift("b", 9.0, 0.9, 0.0)), DriftLimits())[0]
    assert not weigh_drift(drift(*steady, ColumnDrift("b", 0.5, 0.3, 0.0)), DriftLimits())[0]


def test_what_is_certain_but_slight_is_no_drift() -> None:
    slight = [ColumnDrift(f"c{n}", 0.01, 0.05, 1e-30) for n in range(20)]
    assert weigh_drift(drift(*slight, rows_live=1_000_000), DriftLimits()) == (False, 0.0, ())


def test_words_for_too_few_some_and_enough() -> None:
    far = ColumnDrift("a", 9.0, 0.4, 0.0)
    steady = tuple(ColumnDrift(f"c{n}", 0.01, 0.02, 0.9) for n in range(19))
    assert "too few rows to say anything: 40," in drift_words(drift(far, rows_live=40), DriftLimits())
    assert "none of 19 columns has drifted" in drift_words(drift(*steady), DriftLimits())
    some = drift_words(drift(*steady, far), DriftLimits())
    assert some.startswith("1 of 20 columns has drifted (5%)")
    assert "a (KS 0.40, PSI 9.00); a signal is raised above 10%" in some
    assert "a signal is raised" not in drift_words(drift(far), DriftLimits())


def test_few_rows_say_nothing() -> None:
    far = ColumnDrift("a", 9.0, 1.0, 0.0)
    assert weigh_drift(drift(far, rows_live=99), DriftLimits(rows_min=100)) == (False, 0.0, ())
    assert weigh_drift(drift(far, rows_live=100), DriftLimits(rows_min=100)) == (True, 1.0, (far,))
    assert weigh_drift(drift(), DriftLimits()) == (False, 0.0, ())


@pytest.mark.parametrize(
    "limits",
    [
        {"alpha": 0},
        {"alpha": 1},
        {"share_max": -0.1},
        {"share_max": 1},
        {"rows_min": 0},
        {"rows_max": 99},
        {"ks_min": 0.6},
        {"ks_alone": 1.1},
        {"alpha": float("nan")},
    ],
)
def test_limits_that_are_none(limits: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        DriftLimits(**limits)  # type: ignore[arg-type] # one of them at a time


SIGNAL = Signal("s1", "e", "m@1", 0.5, ("a",), "it drifted", drift())
NEWER = Snapshot("t", "2", digest_of("more rows"), 10, (), 5)
MODEL = ModelVersion("m", 1, digest_of("files"), origin=Origin(run="r", snapshots={"t@1": digest_of("rows")}))
SERVED = Endpoint("e", Wish(2, "m@1"), served=(Wish(1, "m@0"), Wish(2, "m@1")))
ALONE = replace(SERVED, served=(Wish(2, "m@1"),))


@pytest.mark.parametrize(
    ("model", "newest", "endpoint", "action", "target"),
    [
        (MODEL, NEWER, SERVED, RemedyAction.RERUN, "t@2"),
        (MODEL, NEWER, ALONE, RemedyAction.RERUN, "t@2"),
        (MODEL, replace(NEWER, snapshot_id="1"), SERVED, RemedyAction.FALL_BACK, "m@0"),
        (MODEL, None, SERVED, RemedyAction.FALL_BACK, "m@0"),
        (replace(MODEL, origin=Origin()), NEWER, SERVED, RemedyAction.FALL_BACK, "m@0"),
        (replace(MODEL, origin=Origin(run="r")), NEWER, SERVED, RemedyAction.FALL_BACK, "m@0"),
        (None, NEWER, SERVED, RemedyAction.FALL_BACK, "m@0"),
        (MODEL, None, ALONE, RemedyAction.LABEL, ""),
        (None, None, ALONE, RemedyAction.LABEL, ""),
    ],
)
def test_the_first_rule_that_fits_proposes(
    model: ModelVersion | None, newest: Snapshot | None, endpoint: Endpoint, action: RemedyAction, target: str
) -> None:
    remedy = propose("x", SIGNAL, endpoint, model, newest, 7)
    assert (remedy.action, remedy.target, remedy.state) == (action, target, RemedyState.PROPOSED)
    assert (remedy.signal, remedy.endpoint, remedy.at_ms) == ("s1", "e", 7)
    assert remedy.why


REMEDY = Remedy("x", "s1", "e", RemedyAction.LABEL, "", "why")
ALLOWED = {
    (RemedyState.PROPOSED, RemedyState.CARRYING),
    (RemedyState.CARRYING, RemedyState.DONE),
    (RemedyState.CARRYING, RemedyState.FAILED),
    (RemedyState.FAILED, RemedyState.CARRYING),
}


@pytest.mark.parametrize("old", RemedyState)
@pytest.mark.parametrize("new", RemedyState)
def test_a_remedy_moves_only_as_it_may(old: RemedyState, new: RemedyState) -> None:
    remedy = replace(REMEDY, state=old, run="r1", outcome="so far")
    if (old, new) in ALLOWED:
        moved = move(remedy, new, 9, model="m@2")
        assert (moved.state, moved.at_ms, moved.model) == (new, 9, "m@2")
        assert (moved.run, moved.outcome) == ("r1", "so far")
    else:
        with pytest.raises(Conflict):
            move(remedy, new, 9)
