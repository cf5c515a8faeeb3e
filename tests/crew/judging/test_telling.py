"""Edits in words, pictures of every shape, and how long it still takes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tallystick.crew.judging.edits import changes, fewer
from tallystick.crew.judging.pace import Pace, left_in_words
from tallystick.crew.judging.showing import choose
from tallystick.crew.measure.pictures import magnified, picture_shape, write_picture
from tallystick.evidence.domain import Column, Domain, DomainKind
from tallystick.evidence.probe import Change

TABLE = Domain(
    DomainKind.TABULAR,
    columns=(
        Column("income", 0, 100_000, unit="EUR"),
        Column("age", 18, 90, integer=True),
        Column("colour=red", one_hot="colour"),
        Column("colour=blue", one_hot="colour"),
        *(Column(f"c{i}", 0, 1) for i in range(40)),
    ),
)
NAMES = tuple(column.name for column in TABLE.columns)
BEFORE = np.array([41_000, 30, 1, 0, *[0.5] * 40], np.float32)


def test_only_the_edits_that_it_takes_are_left():
    """It turns where income rose by 210 or more and the colour is blue: two edits of 43."""
    asked = []

    def turns(rows):
        asked.append(len(rows))
        return (rows[:, 0] >= 41_210) & (rows[:, 3] == 1)

    after = np.array([41_210, 31, 0, 1, *[0.6] * 40], np.float32)
    kept = fewer(TABLE, BEFORE, after, turns)
    assert changes(TABLE, NAMES, BEFORE, kept) == (
        Change("colour", "red", "blue"),
        Change("income", "41000", "41210", 210.0, "EUR"),
    )
    assert sum(asked) < 43


def test_where_every_edit_is_needed_all_are_kept_and_shown_by_size():
    after = BEFORE + np.array([1, 1, 0, 0, *[0.1] * 40], np.float32)
    kept = fewer(TABLE, BEFORE, after, lambda rows: (rows == after).all(axis=1))
    np.testing.assert_array_equal(kept, after)
    said = changes(TABLE, NAMES, BEFORE, kept)
    assert len(said) == 20
    assert said[0].feature == "c39"
    assert said[0].by == pytest.approx(0.1)


def test_a_row_is_never_put_back_whole():
    kept = fewer(TABLE, BEFORE, BEFORE + np.eye(44, dtype=np.float32)[0], lambda rows: np.ones(1, bool))
    assert changes(TABLE, NAMES, BEFORE, kept) == (Change("income", "41000", "41001", 1.0, "EUR"),)


def test_words_that_differ():
    said = changes(Domain(DomainKind.TEXT), (), "a fine old film", "a f1ne film indeed")
    assert said == (Change("word 2", "fine old", "f1ne"), Change("word 5", "", "indeed"))


def test_which_samples_are_shown():
    y = np.array([1, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 5])
    distance = np.array([0.1, 0.19, 0.2, 0.05, 0.0, 0.2, 0.1, np.inf, 0.3, 0.25, 0.9, 0.21])
    assert choose(y, distance, 0.2) == [2, 5, 3, 1, 6, 0, 11, 9]
    assert choose(y, np.zeros(12), 0.2) == []
    assert choose(y, np.full(12, np.inf), 0.2) == []


@pytest.mark.parametrize(
    ("domain", "features", "shape"),
    [
        (Domain(), 64, (8, 8, 1)),
        (Domain(), 63, None),
        (Domain(), 9, None),
        (Domain(DomainKind.IMAGE, (2, 3)), 6, (2, 3, 1)),
        (Domain(DomainKind.IMAGE, (2, 3, 3)), 18, (2, 3, 3)),
        (Domain(DomainKind.IMAGE, (3, 4, 5), channels_first=True), 60, (4, 5, 3)),
        (Domain(DomainKind.IMAGE, (2, 2, 2)), 8, None),
        (Domain(DomainKind.SERIES, (64,)), 64, None),
    ],
)
def test_rows_that_are_pictures(domain, features, shape):
    assert picture_shape(domain, features) == shape


def test_colours_lie_where_the_domain_says(tmp_path):
    """The same picture, channels first or last."""
    pixels = np.random.default_rng(1).integers(0, 256, (4, 5, 3))
    last = Domain(DomainKind.IMAGE, (4, 5, 3), low=-1, high=1)
    first = Domain(DomainKind.IMAGE, (3, 4, 5), channels_first=True, low=-1, high=1)
    for domain, row in ((last, pixels), (first, pixels.transpose(2, 0, 1))):
        write_picture(domain, (row.ravel() / 127.5 - 1).astype(np.float32), (4, 5, 3), tmp_path / "p.png")
        with Image.open(tmp_path / "p.png") as image:
            np.testing.assert_array_equal(np.asarray(image), pixels)
    same = magnified(last, np.zeros(4), np.zeros(4))
    assert same.tolist() == [0.0] * 4


def test_pace_is_by_weight_and_says_what_is_left():
    now, said = [0.0], []
    pace = Pace([1.0, 8.0, 1.0], lambda share, text: said.append((round(share, 3), text)), lambda: now[0])
    pace.begin(0, "first")
    now[0] = 10.0
    pace.said(1.0, "first")
    pace.end()
    pace.begin(1, "second")
    now[0] = 50.0
    pace.said(0.5, "second")
    pace.said(0.9, "too soon for a word")
    pace.end()
    pace.begin(2, "third")
    assert said == [
        (0.0, "first"), (0.1, "first; about 2 min left"), (0.1, "second; about 2 min left"),
        (0.5, "second; about 50 s left"), (0.9, "third; about 6 s left"),
    ]  # fmt: skip


def test_what_is_known_takes_no_time():
    said = []
    pace = Pace([1.0, 9.0], lambda share, text: said.append((share, text)), lambda: 0.0)
    pace.known(1)
    pace.begin(0, "only")
    pace.said(7.0, "nonsense")
    pace.end()
    assert said == [(0.0, "only")]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, ""), (1.6, "about 2 s left"), (100, "about 2 min left"), (9000, "about 2.5 h left")],
)
def test_seconds_in_words(seconds, words):
    assert left_in_words(seconds) == words
