"""A hub for as long as a command needs one: the one that runs on its home, or one of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tallystick.core.errors import Conflict, Failed, Unavailable
from tallystick.settings import WITH_PARENT
from tallystick.terminal.client import Hub, given_url, hub_of
from tallystick.terminal.context import Tally

__all__ = ["borrowed_hub"]

START_S = 30.0


@contextlib.contextmanager
def borrowed_hub(tally: Tally) -> Iterator[tuple[Hub, bool]]:
    """The running hub and False, or a hub started for the occasion, ended afterwards, and True.

    What runs is borrowed only where it keeps the home that is meant: Conflict when the hub at a URL
    that was given keeps another.
    """
    home, url = Path(tally.home), given_url(tally.url)
    hub = Hub(url) if url else hub_of(home)
    if hub is not None:
        if url and tally.home_said:
            _check_same_home(hub, home)
        tally.found = hub
        yield hub, False
        return
    with _started(tally, home) as own:
        tally.found = own
        yield own, True


def _check_same_home(hub: Hub, home: Path) -> None:
    kept = Path(hub.get("/status")["home"])
    if kept.resolve() != home.resolve():
        raise Conflict(
            f"the hub there keeps {kept}, not {home}", where=hub.url, hint="leave out the URL or the home"
        )


@contextlib.contextmanager
def _started(tally: Tally, home: Path) -> Iterator[Hub]:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = tally.settings(home=tally.home)
    port = settings.port if _is_free(settings.host, settings.port) else 0
    config = ["--config", str(tally.config)] if tally.config else []
    command = [sys.executable, "-m", "tallystick", *config, "--home", str(home), "up", "--port", str(port)]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:  # a pipe would fill up
        env = {**os.environ, WITH_PARENT: "1"}
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True, env=env
        )
        try:
            yield _wait(process, home, said)
        finally:
            process.terminate()
            try:
                process.wait(START_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], home: Path, said: IO[str]) -> Hub:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            said.seek(0)
            why = said.read().strip().removeprefix("error: ")
            raise Failed(f"the hub did not start: {why}", where="tally up")
        hub = hub_of(home)
        if hub and hub.get("/status")["pid"] == process.pid:
            return hub
        time.sleep(0.05)
    raise Unavailable(f"the hub did not answer within {START_S:g} s", where="tally up")


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
