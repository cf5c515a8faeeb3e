"""The proof on CEL itself; and that nothing of it is loaded before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tallystick.core.errors import MissingTile
from tallystick.ports.runs.conditions import Conditions
from tallystick.ports.tile import Place
from tallystick.proofs.runs.conditions import ConditionsProof, FullConditionsProof
from tallystick.tiles.conditions.cel import CelConditions, open_tile
from tests.fakes.runs.conditions import PlainConditions


class TestPlainConditions(ConditionsProof):
    """The fake of the hub's tests."""

    def open(self):
        return PlainConditions()


class TestCel(FullConditionsProof):
    def open(self):
        return CelConditions()


def test_it_is_one(tmp_path):
    assert isinstance(open_tile(Place(tmp_path)), Conditions)


def test_nothing_is_loaded_before_the_first_condition(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tallystick.ports.tile import Place\n"
        "from tallystick.tiles.conditions.cel import open_tile\n"
        "tile = open_tile(Place(Path('.'))); assert 'cel_expr_python' not in sys.modules\n"
        "tile.check('true'); assert 'cel_expr_python' in sys.modules\n"
        "heavy = {'rich', 'click', 'numpy'} & sys.modules.keys(); assert not heavy, heavy\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, env={"PYTHONPATH": ":".join(sys.path)}
    )


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    with pytest.raises(MissingTile, match="cel-expr-python"):
        CelConditions().holds("true", {})


def test_the_same_expression_is_compiled_once():
    tile = CelConditions()
    for n in range(5):
        assert tile.holds("inputs.parameter_values['n'] == 3", {"n": n}) is (n == 3)
    assert tile._compiled.cache_info().misses == 1
