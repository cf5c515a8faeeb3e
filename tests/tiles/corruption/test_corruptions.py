"""Corruptions: of the right shape and strength, the same again for the same seed, told as they were found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.core.errors import Failed, NotSupported
from tallystick.evidence.domain import Budget, Column, Domain, DomainKind
from tallystick.evidence.figures import Figure
from tallystick.ports.models.attack import Attack, Case, Weigh
from tallystick.ports.tile import Place
from tallystick.tiles.corruption.images import IMAGES
from tallystick.tiles.corruption.probe import NAME, open_tile
from tallystick.tiles.corruption.rows import SERIES, TABLES, kept_possible
from tallystick.tiles.corruption.texts import TEXTS

ROWS = 40


class Toy:
    """Says class 1 where the mean of a row is over a half (of a text: where it has an ``e``)."""

    classes = 2
    gives = "probabilities"
    gradients = False
    twin: Path | None = None

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def scores(self, rows: np.ndarray) -> np.ndarray:
        self.seen.append(rows)
        texts = rows.dtype == object
        said = np.array(["e" in text for text in rows]) if texts else rows.mean(axis=1) > 0.5
        return np.eye(2, dtype=np.float32)[said.astype(int)]

    def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
        raise NotSupported("no gradients")

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        raise NotSupported("no layers")


def _case(x: np.ndarray, domain: Domain, victim: Toy | None = None, **more: object) -> Case:
    victim = victim or Toy()
    scores = victim.scores(x)
    victim.seen.clear()
    y = scores.argmax(axis=1).astype(np.int64)
    nothing = np.full(len(x), np.inf)
    made = Case(victim, x, y, scores, np.arange(len(x)), nothing, np.full(x.shape, np.nan), domain, Budget())
    return replace(made, **more)  # type: ignore[arg-type]  # reason: a test says which


def _rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).random((ROWS, int(np.prod(shape))), np.float32)


DOMAINS = {
    "gray": (Domain(DomainKind.IMAGE, (8, 8)), (8, 8)),
    "colour": (Domain(DomainKind.IMAGE, (9, 7, 3)), (9, 7, 3)),
    "channels first": (Domain(DomainKind.IMAGE, (3, 9, 7), channels_first=True), (3, 9, 7)),
    "large, -1 to 1": (Domain(DomainKind.IMAGE, (66, 66), low=-1.0), (66, 66)),
    "table": (Domain(DomainKind.TABULAR), (5,)),
    "one column": (Domain(DomainKind.TABULAR), (1,)),
    "series": (Domain(DomainKind.SERIES, (20,)), (20,)),
    "channels": (Domain(DomainKind.SERIES, (20, 3)), (20, 3)),
    "vector": (Domain(), (6,)),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_each_kind_of_data_is_spoilt_in_its_own_ways_and_the_same_again(name: str) -> None:
    domain, shape = DOMAINS[name]
    case = _case(_rows(*shape), domain)
    tile = open_tile(Place(Path()))
    assert isinstance(tile, Attack)
    first, again = (tile.run(NAME, case, lambda *_: None).probe for _ in range(2))
    assert replace(first, seconds=0.0) == replace(again, seconds=0.0)
    kinds = first.settings["corruptions"]
    assert len(first.figures) == 5 * len(kinds) + 2
    assert first.queries == 5 * len(kinds) * ROWS
    victim = case.victim
    assert isinstance(victim, Toy)
    for rows in victim.seen:
        assert rows.shape == case.x.shape
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()
        if domain.kind in (DomainKind.IMAGE, DomainKind.VECTOR):
            assert rows.min() >= domain.low
            assert rows.max() <= domain.high


def test_a_colour_image_is_spoilt_alike_whichever_way_its_channels_lie() -> None:
    rows = _rows(9, 7, 3)
    last = _case(rows, DOMAINS["colour"][0])
    first = _case(
        np.ascontiguousarray(np.moveaxis(rows.reshape(-1, 9, 7, 3), -1, 1).reshape(ROWS, -1)),
        DOMAINS["channels first"][0],
    )
    tile = open_tile(Place(Path()))
    for case in (last, first):
        tile.run(NAME, case, lambda *_: None)
    assert isinstance(last.victim, Toy)
    assert isinstance(first.victim, Toy)
    for one, other in zip(last.victim.seen, first.victim.seen, strict=True):
        back = np.moveaxis(other.reshape(-1, 3, 9, 7), 1, -1).reshape(ROWS, -1)
        assert np.abs(one - back).max() < 1e-6


def test_a_series_is_spoilt_alike_whichever_way_its_channels_lie() -> None:
    rows = _rows(20, 3)
    last = _case(rows, DOMAINS["channels"][0])
    turned = np.ascontiguousarray(rows.reshape(-1, 20, 3).swapaxes(1, 2)).reshape(ROWS, -1)
    first = _case(turned, Domain(DomainKind.SERIES, (3, 20), channels_first=True))
    tile = open_tile(Place(Path()))
    for case in (last, first):
        tile.run(NAME, case, lambda *_: None)
    assert isinstance(last.victim, Toy)
    assert isinstance(first.victim, Toy)
    assert len(last.victim.seen) == 5 * len(SERIES)
    for one, other in zip(last.victim.seen, first.victim.seen, strict=True):
        back = other.reshape(-1, 3, 20).swapaxes(1, 2).reshape(ROWS, -1)
        np.testing.assert_allclose(one, back, atol=1e-6)


@pytest.mark.parametrize("strength", [0.05, 0.3, 1.0])
def test_what_a_gap_a_stuck_sensor_and_uneven_time_leave(strength: float) -> None:
    """A straight line; one channel that stands still for so long; the same readings at other times."""
    chance = np.random.default_rng(2)
    x = chance.normal(0, 1, (50, 40, 3)).astype(np.float32)
    gap = SERIES["gap"][0](x, strength, np.random.default_rng(1))
    for before, after in zip(x, gap, strict=True):
        gone = np.flatnonzero((before != after).any(axis=1))
        assert 1 <= len(gone) <= max(1, int(40 * strength))
        assert (np.diff(gone) == 1).all()
        inside = after[max(0, gone[0] - 1) : gone[-1] + 2]
        if gone[0] > 0 and gone[-1] < 39:
            np.testing.assert_allclose(np.diff(inside, 2, axis=0), 0, atol=1e-5)
    frozen = SERIES["stuck sensor"][0](x, strength, np.random.default_rng(1))
    assert ((x != frozen).any(axis=1).sum(axis=1) == 1).all()  # channels of each row
    ramp = np.repeat(np.linspace(0, 1, 40, dtype=np.float32)[None, :, None], 50, axis=0)
    warped = SERIES["time warp"][0](ramp, min(strength, 0.15), np.random.default_rng(1))
    assert (np.diff(warped, axis=1) >= 0).all()
    np.testing.assert_array_equal(warped[:, [0, -1]], ramp[:, [0, -1]])
    assert np.abs(warped - ramp).max() == pytest.approx(min(strength, 0.15), rel=0.05)


@pytest.mark.parametrize("kind", SERIES)
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (3, 2)])
def test_a_series_of_few_steps_breaks_no_corruption(kind: str, shape: tuple[int, int]) -> None:
    x = np.random.default_rng(5).normal(0, 1, (6, *shape)).astype(np.float32)
    spoil, strengths = SERIES[kind]
    for strength in strengths:
        spoilt = spoil(x, strength, np.random.default_rng(1))
        assert spoilt.shape == x.shape
        assert np.isfinite(spoilt).all()


@pytest.mark.parametrize("kind", IMAGES)
def test_a_stronger_severity_changes_an_image_more(kind: str) -> None:
    images = np.random.default_rng(5).beta(2, 2, (8, 32, 32, 3)).astype(np.float32)
    spoil = IMAGES[kind].spoil
    for strengths in (IMAGES[kind].small, IMAGES[kind].large):
        moved = [np.abs(spoil(images, s, np.random.default_rng(1)) - images).mean() for s in strengths]
        assert moved == sorted(moved)
        assert moved[0] > 0


@pytest.mark.parametrize("kind", [*TABLES, *(f"series {k}" for k in SERIES)])
def test_a_stronger_severity_changes_rows_more(kind: str) -> None:
    name = kind.removeprefix("series ")
    spoil, strengths = SERIES[name] if kind.startswith("series ") else TABLES[name]
    shape = (400, 30, 2) if kind.startswith("series ") else (400, 6)
    rows = np.random.default_rng(5).normal(1, 1, shape).astype(np.float32)
    moved = [np.median(np.abs(spoil(rows, s, np.random.default_rng(1)) - rows) > 0) for s in strengths]
    far = [np.abs(spoil(rows, s, np.random.default_rng(1)) - rows).mean() for s in strengths]
    assert far == sorted(far), moved
    assert far[0] > 0


def test_rates_are_those_of_the_model_and_the_worst_is_the_worst() -> None:
    case = _case(_rows(6), Domain())
    probe = open_tile(Place(Path())).run(NAME, case, lambda *_: None).probe
    victim = case.victim
    assert isinstance(victim, Toy)
    asked = [(victim.scores(rows).argmax(axis=1) == case.y).mean() for rows in tuple(victim.seen)]
    by_group = [f.value for f in probe.figures if f.group]
    assert by_group == pytest.approx(asked)
    whole = {f.measure: f for f in probe.figures if not f.group}
    assert whole["corruption_accuracy"].value == pytest.approx(np.mean(asked))
    means = [np.mean(by_group[at : at + 5]) for at in range(0, len(by_group), 5)]
    assert whole["worst_corruption_accuracy"].value == pytest.approx(min(means))


def test_where_every_row_is_alike_the_interval_is_not_a_point() -> None:
    case = _case(np.full((ROWS, 6), 0.9, np.float32), Domain())
    probe = open_tile(Place(Path())).run(NAME, case, lambda *_: None).probe
    whole: Figure = next(f for f in probe.figures if f.measure == "corruption_accuracy" and not f.group)
    assert whole.value == 1.0
    assert whole.low < 0.95


def test_texts_are_spoilt_letter_by_letter() -> None:
    texts = np.array(["The quick brown fox, it jumps!", "over a lazy dog.", "", "é"], object)
    case = _case(texts, Domain(DomainKind.TEXT))
    probe = open_tile(Place(Path())).run(NAME, case, lambda *_: None).probe
    assert probe.settings["corruptions"] == list(TEXTS)
    victim = case.victim
    assert isinstance(victim, Toy)
    assert all(rows.dtype == object and len(rows) == 4 for rows in victim.seen)
    assert any(rows[0] != texts[0] for rows in victim.seen)
    assert all(rows[2] == "" for rows in victim.seen)


@given(st.text(max_size=80), st.floats(0, 1), st.sampled_from(sorted(TEXTS)))
def test_no_text_breaks_a_corruption_or_loses_its_last_letter(text: str, share: float, kind: str) -> None:
    spoilt = TEXTS[kind][0](text, share, np.random.default_rng(1))
    assert len(spoilt) <= len(text) * 2  # a letter may have a longer capital
    assert bool(spoilt) == bool(text)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(TABLES)), st.integers(0, 4))
def test_whole_numbers_stay_whole_and_one_category_stays_one(seed: int, kind: str, severity: int) -> None:
    chance = np.random.default_rng(seed)
    columns = (Column("age", 0, 99, integer=True), *(Column(f"c{i}", one_hot="colour") for i in range(3)))
    domain, names = Domain(DomainKind.TABULAR, columns=columns), ("age", "c0", "c1", "c2", "free")
    x = np.column_stack(
        [chance.integers(0, 100, 20), np.eye(3)[chance.integers(0, 3, 20)], chance.random(20)]
    ).astype(np.float32)
    spoil, strengths = TABLES[kind]
    rows = kept_possible(spoil(x, strengths[severity], chance), domain, names)
    assert (rows[:, 0] == np.rint(rows[:, 0])).all()
    assert (np.sort(rows[:, 1:4], axis=1) == [0, 0, 1]).all()


def test_a_model_that_answers_too_few_rows_is_a_failure_and_another_name_is_none_of_ours() -> None:
    class Short(Toy):
        def scores(self, rows: np.ndarray) -> np.ndarray:
            return super().scores(rows)[: len(rows) - bool(self.seen[1:])]

    tile = open_tile(Place(Path()))
    with pytest.raises(Failed, match="scores of shape"):
        tile.run(NAME, _case(_rows(6), Domain(), Short()), lambda *_: None)
    with pytest.raises(NotSupported, match="no probe"):
        tile.run("other", _case(_rows(6), Domain()), lambda *_: None)
