"""The clean tile: accuracy of groups, and latency."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tallystick.core.errors import NotSupported
from tallystick.ports.tile import Place
from tallystick.proofs.attack import AttackProof
from tallystick.tiles.clean import open_tile
from tests.fakes.attack import FakeAttack


class TestClean(AttackProof):
    def open(self, home):
        return open_tile(Place(home))

    def test_the_worst_group_is_the_worst_of_those_that_are_large_enough(self, attack):
        case = self.case(rows=100)
        right = case.scores.argmax(axis=1) == case.y
        group = np.array(["a"] * 60 + ["b"] * 30 + ["tiny"] * 10, object)
        right[60:90] = False
        y = np.where(right, case.scores.argmax(axis=1), (case.scores.argmax(axis=1) + 1) % 3)
        case = replace(case, y=y, groups={"part": group})
        probe = attack.run("worst group", case, lambda share, text: None).probe
        said = {f.group: f.value for f in probe.figures}
        assert said == {"": 0.0, "part=a": right[:60].mean(), "part=b": 0.0}
        assert probe.notes == ("1 groups of under 20 rows were left out",)
        assert probe.settings["worst"] == "part=b"

    def test_without_groups_they_are_the_classes(self, attack):
        case = replace(self.case(rows=300), groups={})
        probe = attack.run("worst group", case, lambda share, text: None).probe
        right = case.scores.argmax(axis=1) == case.y
        for figure in probe.figures[1:]:
            inside = case.y == int(figure.group.removeprefix("class="))
            assert figure.value == right[inside].mean()

    def test_few_rows_say_nothing_about_groups(self, attack):
        with pytest.raises(NotSupported, match="no group or class has 20 rows"):
            attack.run("worst group", replace(self.case(rows=19), groups={}), lambda share, text: None)

    def test_latency_is_a_time_with_an_interval(self, attack):
        [figure] = attack.run("latency", self.case(), lambda share, text: None).probe.figures
        assert 0 < figure.low <= figure.value <= figure.high
        assert figure.samples == 300


class TestFake(AttackProof):
    def open(self, home):
        return FakeAttack()
