"""Black-box probes: truth on linear models, accounts of queries, rules of tables, ART beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallystick.core.errors import NotSupported
from tallystick.crew.judging.measuring import allowed
from tallystick.evidence.domain import Budget, Column, Domain, DomainKind
from tallystick.ports.models.attack import Case, Found
from tallystick.tiles.attack import black, hop
from tallystick.tiles.attack.black import OFFERS, run_black, share_of
from tallystick.tiles.attack.hunt import Hunt
from tallystick.tiles.attack.square import _Patches
from tests.tiles.attack.toys import Linear, Onnx, case_of, to_onnx

NAMES = [o.name for o in OFFERS if o.name != "table_edits"]
SCORES = {o.name for o in OFFERS if o.needs.scores}


def quiet(share: float, text: str) -> None:
    assert 0 <= share <= 1
    assert text


def linear(
    gives: str = "logits", features: int = 8, rows: int = 200
) -> tuple[Linear, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    victim = Linear(draw.normal(size=(3, features)), draw.normal(size=3) / 10, gives)
    x = draw.uniform(0, 1, (rows, features)).astype(np.float32)
    return victim, x, victim.scores(x).argmax(axis=1).astype(np.int64)


def toy(gives: str = "logits", queries: int = 4000, eps: tuple[float, ...] = (0.01, 0.05, 0.1)) -> Case:
    victim, x, y = linear(gives)
    y[::15] = (y[::15] + 1) % 3
    return case_of(victim, x, y, budget=Budget(samples_max=40, queries_max=queries, eps=eps))


def table(gives: str = "logits", gradients: bool = False, rows: int = 150) -> Case:
    """A linear model of a table with every kind of rule."""
    columns = (
        Column("age", 18, 90, integer=True, direction="up"),
        Column("income", 0, 100_000, cost=2, unit="EUR"),
        Column("sex", 0, 1, integer=True, immutable=True),
        Column("colour=red", one_hot="colour", cost=3, scale=5),
        Column("colour=green", one_hot="colour", scale=5),
        Column("colour=blue", one_hot="colour", scale=5),
        Column("debt", 0, 50_000, scale=10_000, direction="down"),
        Column("children", 0, 9, integer=True),
    )
    draw = np.random.default_rng(1)
    size = np.array([c.high for c in columns])
    x = draw.uniform(0, 1, (rows, 8)) * size
    x[:, 0] = draw.integers(18, 91, rows)
    x[:, [2, 7]] = np.rint(x[:, [2, 7]])
    x[:, 3:6] = np.eye(3)[draw.integers(0, 3, rows)]
    x = x.astype(np.float32)
    victim = Linear(draw.normal(size=(3, 8)) / size, draw.normal(size=3) / 10, gives, gradients)
    y = victim.scores(x).argmax(axis=1).astype(np.int64)
    domain = Domain(kind=DomainKind.TABULAR, columns=columns)
    budget = Budget(samples_max=40, queries_max=3000, eps=(0.01, 0.05, 0.2, 1.0))
    return case_of(victim, x, y, domain, budget, [c.name for c in columns])


def holds(case: Case, found: Found) -> None:
    """What every result must be."""
    assert found.distance is not None
    assert found.adversarial is not None
    made = np.flatnonzero(found.distance < case.distance)
    rows, x = found.adversarial[made], case.x[case.attacked[made]]
    if len(made):
        assert (case.victim.scores(rows).argmax(axis=1) != case.y[case.attacked[made]]).all()
    assert allowed(case.domain, x, rows).all()
    assert (found.distance <= case.distance).all()


@pytest.mark.parametrize("gives", ["logits", "probabilities", "labels"])
@pytest.mark.parametrize("name", NAMES)
def test_no_attack_beats_what_is_exact_and_accounts_are_exact(name: str, gives: str) -> None:
    if gives == "labels" and name in SCORES:
        return
    case = toy(gives)
    found = run_black(name, case, quiet)
    victim: Any = case.victim
    assert victim.asked == found.probe.queries
    assert found.probe.settings["queries_most"] <= case.budget.queries_max * share_of(name, case)
    holds(case, found)
    exact = victim.nearest(case.x[case.attacked], case.y[case.attacked])
    assert (found.distance[case.distance > 0] >= exact[case.distance > 0] - 1e-6).all()


@pytest.mark.parametrize(("name", "near"), [("hop_skip_jump", 1.05), ("boundary", 2.0)])
def test_walks_end_near_the_nearest_mistake(name: str, near: float) -> None:
    case = toy("labels", eps=(1e-6,))
    victim: Any = case.victim
    found = run_black(name, case, quiet)
    exact = victim.nearest(case.x[case.attacked], case.y[case.attacked])
    right = case.distance > 0
    assert np.median(found.distance[right] / exact[right]) < near


@pytest.mark.parametrize(("name", "missed"), [("square", 1), ("zoo", 2)])
def test_searches_at_a_radius_turn_nearly_all_that_can_be_turned(name: str, missed: int) -> None:
    case = toy("probabilities")
    victim: Any = case.victim
    found = run_black(name, case, quiet)
    exact = victim.nearest(case.x[case.attacked], case.y[case.attacked])
    for eps in case.budget.eps:
        assert ((found.distance > eps + 1e-6) & (exact <= eps) & (case.distance > 0)).sum() <= missed


def test_a_flat_score_hides_nothing_from_square() -> None:
    """Probabilities that saturate to 1 in float32 still lead somewhere by their logarithms."""
    victim, x, y = linear("probabilities")
    steep = Linear(victim.weights * 40, victim.bias * 40, "probabilities")
    case = case_of(steep, x, y, budget=Budget(samples_max=40, queries_max=4000, eps=(0.05, 0.1)))
    exact = steep.nearest(case.x[case.attacked], case.y[case.attacked])
    found = run_black("square", case, quiet)
    assert ((found.distance > 0.1 + 1e-6) & (exact <= 0.1)).sum() <= 2


@pytest.mark.parametrize("name", NAMES)
def test_what_has_fallen_already_is_not_asked_about(name: str) -> None:
    case = toy()
    case.distance = np.full(len(case.attacked), case.budget.eps[0])
    case.adversarial = case.x[case.attacked].copy()
    found = run_black(name, case, quiet)
    assert found.probe.queries == 0
    assert found.probe.samples == 0
    np.testing.assert_array_equal(found.distance, case.distance)


def test_a_walk_starts_from_what_others_found() -> None:
    """No row of the data is put in another class, so that only the known adversarial can be a start."""
    case = toy("labels")
    known = run_black("boundary", case, quiet)
    case = replace(case, distance=known.distance, adversarial=known.adversarial, x=case.x[case.attacked])
    case = replace(case, y=case.y[case.attacked], scores=case.scores[case.attacked], attacked=np.arange(40))
    again = run_black("hop_skip_jump", case, quiet)
    assert again.probe.settings["without_start"] == 0
    assert again.probe.settings["samples_nearer"] > 20
    assert (again.distance <= known.distance).all()


def test_without_a_start_a_note_says_so() -> None:
    victim = Linear(np.zeros((3, 4)), [1.0, 0.0, 0.0], "labels")
    x = np.random.default_rng(0).uniform(0, 1, (20, 4)).astype(np.float32)
    case = case_of(victim, x, np.zeros(20, np.int64), budget=Budget(samples_max=10, queries_max=500))
    found = run_black("hop_skip_jump", case, quiet)
    assert np.isinf(found.distance).all()
    assert found.probe.notes == (
        "10 samples were left out: no row was found that the model gets wrong, to start from",
    )
    assert found.probe.queries == victim.asked <= 10 * 25


def test_a_budget_that_lets_nothing_begin_is_not_supported() -> None:
    case = toy(queries=20)
    with pytest.raises(NotSupported, match="its share of 20 queries a row is 2, and it needs 10"):
        run_black("boundary", case, quiet)
    assert case.victim.asked == 0


@pytest.mark.parametrize("gives", ["logits", "labels"])
@pytest.mark.parametrize("make", [toy, table])
def test_all_shares_together_are_the_whole(make: Any, gives: str) -> None:
    case = make(gives)
    applied = [
        o.name
        for o in OFFERS
        if case.domain.kind in o.needs.kinds and not (o.needs.scores and gives == "labels")
    ]
    assert sum(share_of(name, case) for name in applied) == pytest.approx(1.0)


@pytest.mark.parametrize("gives", ["logits", "labels"])
@pytest.mark.parametrize("name", [o.name for o in OFFERS])
def test_on_a_table_every_row_that_is_asked_about_keeps_the_rules(name: str, gives: str) -> None:
    """Not only what is handed back: the model is never shown a row that the domain does not allow."""
    if gives == "labels" and name in SCORES:
        return
    case = table(gives)
    victim: Any = case.victim
    victim.seen.clear()
    found = run_black(name, case, quiet)
    assert victim.asked == found.probe.queries > 0
    asked = np.concatenate(victim.seen)
    fine = np.zeros(len(asked), bool)
    for row in case.x[case.attacked]:
        fine |= allowed(case.domain, np.repeat(row[None], len(asked), axis=0), asked)
    assert fine.all()
    holds(case, found)
    assert (found.distance < np.inf).any()


def test_two_blocks_find_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where samples do not fit in memory at once they are worked on in parts, each as it would be alone."""
    whole = [run_black(name, toy(), quiet) for name in ("hop_skip_jump", "boundary", "zoo")]
    monkeypatch.setattr("tallystick.tiles.attack.hunt.NUMBERS_MAX", 8 * 60)
    for one in whole:
        parts = run_black(one.probe.name, toy(), quiet)
        np.testing.assert_allclose(parts.distance, one.distance, rtol=1e-5)


@pytest.mark.parametrize(
    ("domain", "features"),
    [
        (Domain(kind=DomainKind.IMAGE, shape=(6, 5)), 30),
        (Domain(kind=DomainKind.IMAGE, shape=(6, 5, 3)), 90),
        (Domain(kind=DomainKind.IMAGE, shape=(3, 6, 5), channels_first=True), 90),
        (Domain(kind=DomainKind.SERIES, shape=(20, 2)), 40),
        (Domain(kind=DomainKind.SERIES, shape=(2, 20), channels_first=True), 40),
    ],
)
def test_a_patch_is_a_square_of_pixels_or_a_stretch_of_steps(domain: Domain, features: int) -> None:
    """In all channels at the same place, each channel with one sign; and never nothing."""
    patches = _Patches(domain, features, np.arange(features))
    draw = np.random.default_rng(3)
    before = patches.stripes(draw, 50)
    after = patches.patched(draw, before, np.full(50, 0.2))
    assert (after != before).any(axis=1).all()
    shape = domain.shape if len(domain.shape) == 3 or domain.kind is DomainKind.SERIES else (*domain.shape, 1)
    changed = (after != before).reshape(50, *shape)
    places = changed.any(axis=1 if domain.channels_first else -1)
    for at in range(50):
        where = np.argwhere(places[at])
        span = where.max(axis=0) - where.min(axis=0) + 1
        assert (span <= (4 if domain.kind is DomainKind.SERIES else 3)).all()


def test_square_looks_at_images_as_they_lie() -> None:
    """A model that looks at one bright square: patches find it, wherever channels lie."""
    weights = np.zeros((2, 3, 8, 8))
    weights[1, :, 2:5, 3:6] = 1.0
    weights[0] = -weights[1]
    for first in (True, False):
        flat = (weights if first else np.moveaxis(weights, 1, 3)).reshape(2, -1)
        victim = Linear(flat, [5.0, -5.0], "logits")
        x = np.random.default_rng(0).uniform(0, 0.2, (20, 192)).astype(np.float32)
        y = victim.scores(x).argmax(axis=1).astype(np.int64)
        shape = (3, 8, 8) if first else (8, 8, 3)
        domain = Domain(kind=DomainKind.IMAGE, shape=shape, channels_first=first)
        case = case_of(victim, x, y, domain, Budget(samples_max=20, queries_max=2000, eps=(0.1, 0.2)))
        exact = victim.nearest(case.x[case.attacked], case.y[case.attacked])
        found = run_black("square", case, quiet)
        assert ((found.distance > 0.2 + 1e-6) & (exact <= 0.2)).sum() <= 1


@pytest.mark.slow
def test_hop_skip_jump_comes_as_near_as_art_with_the_same_queries(tmp_path: Path) -> None:
    """From the same starts, on a forest of the digits: the median over samples is no further."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int64)
    forest = RandomForestClassifier(60, random_state=0).fit(x[:1000], y[:1000])
    victim = Onnx(to_onnx(forest, 64, tmp_path))
    case = case_of(victim, x[1000:], y[1000:], budget=Budget(samples_max=25, queries_max=1500, eps=(1e-9,)))
    ours = Hunt(case, 1500)
    hop.hop_skip_jump(ours, lambda share: None)
    theirs = by_art(case, 1500)
    right = case.distance > 0
    assert ours.used.max() <= 1500
    assert np.median(ours.distance[right]) <= np.median(theirs.distance[right]) + 1e-6


def by_art(case: Case, queries: int) -> Hunt:
    """ART's HopSkipJump, one sample after the other; every wrong answer counts for it too."""
    from tallystick.tiles.attack.library import evasion, seeded

    attacks = evasion()
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    hunt, starts = Hunt(case, queries), Hunt(case, queries).starts(hop.PROBE)

    class Spent(Exception):
        pass

    for sample in hunt.open():

        def ask(rows: np.ndarray, sample: int = sample) -> np.ndarray:
            some = np.clip(rows[: hunt.left[sample]], 0, 1).astype(np.float32)
            scores = hunt.ask(np.full(len(some), sample), some)[0]
            if len(some) < len(rows):
                raise Spent
            return scores

        model = BlackBoxClassifierNeuralNetwork(
            ask, case.x.shape[1:], case.victim.classes, clip_values=(0.0, 1.0)
        )
        attack = attacks.HopSkipJump(model, norm=np.inf, max_iter=1000, batch_size=4096, verbose=False)
        right = np.eye(case.victim.classes, dtype=np.float32)[hunt.y[sample : sample + 1]]
        with seeded(int(sample)), pytest.raises(Spent):
            attack.generate(
                hunt.x[sample : sample + 1].copy(), y=right, x_adv_init=starts[sample : sample + 1].copy()
            )
    return hunt


def test_offers_are_what_is_carried_out() -> None:
    assert {o.name for o in OFFERS} == set(black._RUNS)
    for offer in OFFERS:
        assert DomainKind.TEXT not in offer.needs.kinds
        assert offer.needs.kinds
