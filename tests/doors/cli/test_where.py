"""Which hub is asked: the one that is meant, or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Conflict, Unavailable
from tallystick.doors.cli import borrow
from tallystick.doors.cli.borrow import borrowed_hub
from tallystick.doors.cli.client import find_hub, given_url, hub_of
from tallystick.doors.cli.context import Tally
from tallystick.settings import Settings


@contextmanager
def answering(home: Path, pid: int | None = None):
    """A hub that answers ``status`` for ``home``; its URL."""
    status = json.dumps({"home": str(home.resolve()), "pid": pid or os.getpid()}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(status)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def announce(home: Path, url: str, pid: int | None = None) -> None:
    home.mkdir(exist_ok=True)
    (home / "hub.json").write_text(json.dumps({"url": url, "pid": pid or os.getpid(), "version": "0"}))


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def told(*words: str) -> Tally:
    """A tally that took what stands before a command."""
    tally = Tally(lambda settings, said: None)
    given = dict(zip(words[::2], words[1::2], strict=True))
    config = given.get("--config")
    tally.begin(given.get("--url"), given.get("--home"), Path(config) if config else None)
    return tally


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


# ---------------------------------------------------------------------- borrowing one for the demo


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
