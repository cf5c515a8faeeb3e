"""Borrowing a hub for the demo: the one that keeps the home that is meant, or one of its own."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest

from tallystick.core.errors import Conflict
from tallystick.tour import borrow
from tallystick.tour.borrow import borrowed_hub
from tests.doors.cli.conftest import nobody_elses_settings
from tests.doors.cli.hubs import announce, answering, told

__all__ = ["nobody_elses_settings"]


def test_what_runs_on_the_home_is_borrowed(tmp_path):
    with answering(tmp_path / "a") as url:
        announce(tmp_path / "a", url)
        tally = told("--home", str(tmp_path / "a"))
        with borrowed_hub(tally) as (hub, own):
            assert (hub.url, own, tally.hub) == (url, False, hub)


def test_another_homes_hub_is_never_borrowed(tmp_path, monkeypatch):
    """Neither by the announcement of a hub that died, nor at the usual address."""
    started = []

    @contextmanager
    def start(tally, home):
        started.append(home)
        yield "own hub"

    monkeypatch.setattr(borrow, "_started", start)
    with answering(tmp_path / "b") as url:
        announce(tmp_path / "a", url)
        port = url.rpartition(":")[2]
        (tmp_path / "tallystick.toml").write_text(f"port = {port}\n")
        for words in ([], ["--home", str(tmp_path / "a")]):
            with borrowed_hub(told(*words)) as (hub, own):
                assert (hub, own) == ("own hub", True)
    assert started == [Path("tally-home"), tmp_path / "a"]


def test_a_url_and_a_home_that_do_not_belong_together(tmp_path):
    with answering(tmp_path / "b") as url:
        tally = told("--url", url, "--home", str(tmp_path / "fresh"))
        with pytest.raises(Conflict, match=r"the hub there keeps .*b, not .*fresh"), borrowed_hub(tally):
            pass
        with borrowed_hub(told("--url", url)) as (hub, own):
            assert (hub.url, own) == (url, False)
    assert not (tmp_path / "fresh").exists()
