"""White-box probes on a network of the digits: beside ART's, and behind defences that only hide gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tallystick.core.errors import BadInput, Failed, NotSupported
from tallystick.evidence.domain import Budget, Column, Domain, DomainKind
from tallystick.ports.models.attack import Case, Found, Weigh
from tallystick.ports.tile import Place
from tallystick.tiles.attack.library import estimator, evasion, seeded
from tallystick.tiles.white.tile import open_tile
from tests.tiles.attack.toys import case_of
from tests.tiles.white.nets import Misled, Net, Noisy, Rounded, digits

EPS = (0.02, 0.05, 0.1, 0.15, 0.2)
BUDGET = Budget(eps=EPS, samples_max=120, steps_max=40)


def run(name: str, case: Case) -> Found:
    return open_tile(Place(None)).run(name, case, lambda share, text: None)


def case(kind: Callable[..., Net] = Net, budget: Budget = BUDGET, **kw: float) -> Case:
    layers, x, y = digits()
    return case_of(kind(layers, **kw), x, y, budget=budget)


def robust(found: Found) -> list[int]:
    return [int((found.distance > eps).sum()) for eps in EPS]


def art_robust(name: str, given: Case, **settings: object) -> list[int]:
    """The same curve by ART, a run for each eps, all of its rows kept."""
    x, y = given.x[given.attacked], given.y[given.attacked]
    art, stood = estimator(given.victim, x.shape[1:], 0, 1), []
    for eps in EPS:
        with seeded(1):
            attack = getattr(evasion(), name)(art, eps=eps, verbose=False, batch_size=256, **settings)
            made = attack.generate(x, y=np.eye(10, dtype=np.float32)[y])
        stood.append(int(((given.victim.scores(made).argmax(axis=1) == y) & (given.distance > 0)).sum()))
    return stood


def test_pgd_finds_no_less_than_arts_run_for_each_eps_with_a_fraction_of_its_gradients() -> None:
    given = case()
    found = run("pgd", given)
    theirs = art_robust("ProjectedGradientDescentNumpy", given, eps_step=0.01, max_iter=40, num_random_init=1)
    assert all(ours <= other for ours, other in zip(robust(found), theirs, strict=True))
    assert found.probe.gradients < 40 * len(EPS) * len(given.attacked) / 2


def test_the_ensemble_finds_no_less_than_arts_apgd_and_pgd() -> None:
    given = case()
    found = run("auto", given)
    theirs = art_robust("AutoProjectedGradientDescent", given, eps_step=0.02, max_iter=40, nb_random_init=2)
    assert all(ours <= other for ours, other in zip(robust(found), theirs, strict=True))
    assert all(ours <= other for ours, other in zip(robust(found), robust(run("pgd", given)), strict=True))


def test_from_what_is_known_it_goes_on_and_never_back() -> None:
    given = case()
    first = run("pgd", given)
    again = run("auto", replace(given, distance=first.distance, adversarial=first.adversarial))
    assert (again.distance <= first.distance).all()
    assert again.probe.gradients < run("auto", given).probe.gradients
    nothing = replace(given, distance=np.full(len(first.distance), 1e-4), adversarial=given.adversarial)
    assert run("auto", nothing).probe.gradients == 0


def test_more_restarts_find_no_less() -> None:
    once, thrice = (run("pgd", case(budget=replace(BUDGET, restarts=n, steps_max=6))) for n in (1, 3))
    assert all(more <= less for more, less in zip(robust(thrice), robust(once), strict=True))
    assert thrice.probe.settings["restarts"] == 3


@pytest.mark.parametrize("loud", [1e3, 1e6])
def test_saturated_scores_hide_nothing(loud: float) -> None:
    """Logits so far apart that cross-entropy has no gradient in float32: the same rows fall."""
    plain, masked = run("pgd", case()), run("pgd", case(loud=loud))
    np.testing.assert_allclose(robust(masked), robust(plain), atol=5)
    assert not masked.probe.notes


def test_an_honest_model_gets_no_notes() -> None:
    assert not run("pgd", case()).probe.notes


def test_gradients_that_are_zero_are_said_and_stepped_across() -> None:
    found = run("pgd", case(Rounded))
    assert any("gradients are zero at 100%" in note for note in found.probe.notes)
    adaptive = run("adaptive", case(Rounded))
    assert adaptive.probe.settings["zero_gradients"] == 1
    assert robust(adaptive)[-1] < robust(found)[-1] - 10


def test_gradients_that_mislead_are_said_and_not_believed() -> None:
    found = run("pgd", case(Misled))
    notes = " ".join(found.probe.notes)
    assert "goes downhill" in notes
    assert "withstand" in notes  # with no limit at all
    adaptive = run("adaptive", case(Misled))
    assert adaptive.probe.settings["downhill"] > 0.9


def test_what_answers_by_lot_is_attacked_through_its_mean() -> None:
    found = run("adaptive", case(Noisy))
    assert found.probe.settings["answers_by_lot"]
    assert found.probe.settings["votes"] == 5
    layers, _, y = digits()
    model, given = Noisy(layers), case(Noisy)
    hit = (found.distance > 0) & (found.distance <= 0.2)
    assert hit.sum() > 20
    wrong = [model.scores(found.adversarial[hit]).argmax(axis=1) != y[given.attacked[hit]] for _ in range(20)]
    assert np.mean(wrong) > 0.4  # drawn to the very boundary of the mean, where half of the draws are


def test_there_is_nothing_to_adapt_to_where_no_defence_is_seen() -> None:
    with pytest.raises(NotSupported, match="no defence was seen"):
        run("adaptive", case())


def test_what_the_model_denies_is_not_counted() -> None:
    class Denies(Net):
        def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
            z, slopes = super().pull(rows, weigh)
            return np.roll(z, 1, axis=1), slopes  # by its gradients' account it is wrong everywhere

    found = run("pgd", case(Denies))
    honest = found.adversarial[np.isfinite(found.distance) & (found.distance > 0)]
    sure = case(Denies).victim.scores(honest).argmax(axis=1)
    given = case(Denies)
    truth = given.y[given.attacked][np.isfinite(found.distance) & (found.distance > 0)]
    assert (sure != truth).all()
    assert any("the model itself answers rightly" in note for note in found.probe.notes)


def test_numbers_that_are_none_end_the_probe() -> None:
    class Broken(Net):
        def back(self, slopes: np.ndarray) -> np.ndarray:
            return slopes * np.nan

    with pytest.raises(Failed, match="no finite numbers"):
        run("pgd", case(Broken))


def test_least_squares_are_shorter_than_what_the_largest_norm_finds() -> None:
    given = case()
    found, pgd = run("carlini_wagner", given), run("auto", given)
    x = given.x[given.attacked]
    lengths = np.sqrt(((pgd.adversarial - x) ** 2).sum(axis=1))[pgd.distance > 0]
    (figure,) = found.probe.figures
    assert figure.measure == "flip_l2_median"
    assert figure.low <= figure.value <= figure.high
    assert figure.value < np.median(lengths)
    assert figure.samples == (given.distance > 0).sum()
    assert not figure.beyond


def test_a_model_that_nothing_turns_is_said_to_withstand_more_than_the_longest_change() -> None:
    """As three of its pixels are all that may change: a bound, and no figure that is missing."""
    layers, x, y = digits()
    given = case_of(Net(layers), x, y, budget=BUDGET)
    columns = tuple(Column(f"f{at}", immutable=at > 2, low=0, high=1) for at in range(x.shape[1]))
    narrow = replace(given, domain=Domain(DomainKind.TABULAR, columns=columns))
    found = run("carlini_wagner", narrow)
    (figure,) = found.probe.figures
    assert found.probe.settings["turned"] < len(given.attacked) / 2
    assert figure.beyond
    origin = x[given.attacked][:, :3]
    longest = np.sqrt((np.maximum(origin, 1 - origin) ** 2).sum(axis=1))
    assert figure.low <= figure.value <= figure.high <= longest.max() + 1e-6
    assert figure.value >= longest.min() - 1e-6


def test_least_squares_that_turn_a_twin_count_only_where_they_turn_the_model_itself() -> None:
    given = case(budget=replace(BUDGET, samples_max=30))
    free = run("carlini_wagner", given)
    agreed = run("carlini_wagner", replace(given, itself=case().victim))
    assert agreed.probe.figures == free.probe.figures
    assert free.show is not None
    shown = np.isfinite(free.show).all(axis=1)
    assert shown.sum() >= free.probe.settings["turned"] > 20
    rows, truth = given.x[given.attacked], given.y[given.attacked]

    class Stubborn(Net):
        def scores(self, asked: np.ndarray) -> np.ndarray:
            """The right answer of the row that each was made of."""
            near = ((asked[:, None] - rows[None]) ** 2).sum(axis=2).argmin(axis=1)
            return np.eye(10, dtype=np.float32)[truth[near]]

    denied = run("carlini_wagner", replace(given, itself=case(Stubborn).victim))
    assert denied.probe.settings["turned"] <= 2  # of rows that came nearer to another one
    assert denied.probe.figures[0].beyond


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(BadInput, match="known: fgsm"):
        run("deep_thought", case())
