"""What answers as a hub would, and a command line that has begun: for tests of which hub is asked."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tallystick.terminal.context import Tally
from tests.fakes.machine.threaded import threaded


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

    with threaded(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def announce(home: Path, url: str, pid: int | None = None) -> None:
    home.mkdir(exist_ok=True)
    (home / "hub.json").write_text(json.dumps({"url": url, "pid": pid or os.getpid(), "version": "0"}))


def told(*words: str) -> Tally:
    """A tally that took what stands before a command."""
    tally = Tally(lambda settings, said: None)
    given = dict(zip(words[::2], words[1::2], strict=True))
    config = given.get("--config")
    tally.begin(given.get("--url"), given.get("--home"), Path(config) if config else None)
    return tally
