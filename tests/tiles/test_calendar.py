"""The proof on croniter; and that it is loaded only when it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tallystick.core.errors import MissingTile
from tallystick.ports.runs.calendar import Calendar
from tallystick.ports.tile import Place
from tallystick.proofs.runs.calendar import CalendarProof
from tallystick.tiles.calendar.cron import CronCalendar, open_tile


class TestCron(CalendarProof):
    def open(self):
        return CronCalendar()


def test_it_is_one(tmp_path):
    assert isinstance(open_tile(Place(tmp_path)), Calendar)


def test_nothing_is_loaded_before_the_first_expression():
    code = (
        "import sys; from pathlib import Path; from tallystick.ports.tile import Place\n"
        "from tallystick.tiles.calendar.cron import open_tile\n"
        "tile = open_tile(Place(Path('.'))); assert 'croniter' not in sys.modules\n"
        "tile.check('@daily'); assert 'croniter' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "croniter", None)
    with pytest.raises(MissingTile, match="pip install croniter"):
        CronCalendar().check("@daily")


def test_times_at_the_ends_of_time():
    assert CronCalendar().latest("0 0 1 1 *", 0) == 0
    assert CronCalendar().following("0 0 1 1 *", 253_402_300_799_000) is None
