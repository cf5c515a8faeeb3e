"""Which hub is asked: the one that is meant, or none."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tallystick.core.errors import BadInput, Unavailable
from tallystick.settings import Settings
from tallystick.terminal.client import find_hub, given_url, hub_of
from tests.doors.cli.hubs import announce, answering, told


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_url_wins_over_the_home(tmp_path, monkeypatch):
    with answering(tmp_path / "a") as url:
        announce(tmp_path / "a", url)
        assert told("--url", "http://other:1/", "--home", str(tmp_path / "a")).hub.url == "http://other:1"
        monkeypatch.setenv("TALLY_URL", "http://variable:2")
        assert told("--home", str(tmp_path / "a")).hub.url == "http://variable:2"
        assert told("--url", "http://other:1").hub.url == "http://other:1"


def test_the_hub_that_the_home_announces(tmp_path):
    with answering(tmp_path / "a") as url:
        announce(tmp_path / "a", url)
        assert told("--home", str(tmp_path / "a")).hub.url == url


@pytest.mark.parametrize("how", ["flag", "variable", "file", "config"])
def test_a_home_that_was_said_and_has_no_hub(tmp_path, monkeypatch, how):
    words = []
    if how == "flag":
        words = ["--home", "my home"]
    elif how == "variable":
        monkeypatch.setenv("TALLY_HOME", "my home")
    else:
        file = tmp_path / ("tallystick.toml" if how == "file" else "other.toml")
        file.write_text('home = "my home"\n')
        words = ["--config", str(file)] if how == "config" else []
    with pytest.raises(Unavailable, match="no hub runs on my home") as wrong:
        told(*words).hub  # noqa: B018  reason: looking for it is what is tested
    assert wrong.value.hint == "start one: tally --home 'my home' up"


def test_nobody_said_a_home_so_the_usual_address_is_asked(tmp_path):
    assert told().hub.url == "http://127.0.0.1:5000"
    (tmp_path / "tallystick.toml").write_text("port = 5123\n")
    assert told().hub.url == "http://127.0.0.1:5123"
    (tmp_path / "tallystick.toml").write_text("port = 0\n")
    with pytest.raises(Unavailable, match="no hub runs on tally-home"):
        told().hub  # noqa: B018  reason: looking for it is what is tested


def test_a_hub_that_died_is_not_asked(tmp_path):
    home = tmp_path / "a"
    with answering(home) as url:
        announce(home, url, dead_pid())
        assert hub_of(home) is None
        with pytest.raises(Unavailable, match="no hub runs on"):
            find_hub(None, home, True, Settings())


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"url": "x", "pid": -1}', '{"url": "x", "pid": "y"}'])
def test_what_is_no_announcement(tmp_path, text):
    (tmp_path / "hub.json").write_text(text)
    assert hub_of(tmp_path) is None


def test_another_homes_hub_on_an_address_that_was_ours_once(tmp_path):
    """Process numbers and ports are used again: the hub there must say itself that it keeps this home."""
    with answering(tmp_path / "b") as url:
        announce(tmp_path / "a", url)
        assert hub_of(tmp_path / "a") is None
    with answering(tmp_path / "a", pid=1) as url:
        announce(tmp_path / "a", url)
        assert hub_of(tmp_path / "a") is None


@pytest.mark.parametrize(
    "url", ["nonsense", "", "ftp://x", "http://", "http://x:99999", "http://x:y", "localhost:5000"]
)
def test_what_is_no_url(monkeypatch, url):
    with pytest.raises(BadInput, match="is not a URL") as wrong:
        given_url(url)
    assert (wrong.value.where, wrong.value.hint) == ("--url", "for example http://127.0.0.1:5000")
    monkeypatch.setenv("TALLY_URL", url)
    if url:
        with pytest.raises(BadInput, match=r"TALLY_URL: .* is not a URL"):
            given_url(None)
    else:
        assert given_url(None) == ""
