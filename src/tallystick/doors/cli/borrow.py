"""A hub for as long as a command needs one: the one that runs, or one of its own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tallystick.core.errors import Failed, Unavailable
from tallystick.doors.cli.client import Hub, find_url
from tallystick.doors.cli.context import Tally

__all__ = ["borrowed_hub"]

START_S = 30.0


@contextlib.contextmanager
def borrowed_hub(tally: Tally) -> Iterator[tuple[Hub, bool]]:
    """The running hub and False, or a hub started for the occasion, ended afterwards, and True."""
    url = find_url(tally.url, tally.home)
    try:
        hub = Hub(url)
        hub.get("/status")
    except Unavailable:
        if tally.url:
            raise
    else:
        yield hub, False
        return
    with _started(tally) as own:
        tally.url = own.url
        yield own, True


@contextlib.contextmanager
def _started(tally: Tally) -> Iterator[Hub]:
    home = Path(tally.home)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = tally.settings(home=tally.home)
    port = settings.port if _is_free(settings.host, settings.port) else 0
    config = ["--config", str(tally.config)] if tally.config else []
    command = [sys.executable, "-m", "tallystick", *config, "--home", str(home), "up", "--port", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        yield _wait(process, home)
    finally:
        process.terminate()
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def _wait(process: subprocess.Popen[str], home: Path) -> Hub:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            said = process.stdout.read() if process.stdout else ""
            raise Failed("the hub did not start: " + said.strip().removeprefix("error: "), where="tally up")
        with contextlib.suppress(Unavailable, Failed):
            hub = Hub(find_url(None, str(home)))
            if hub.get("/status")["pid"] == process.pid:
                return hub
        time.sleep(0.05)
    raise Unavailable(f"the hub did not answer within {START_S:g} s", where="tally up")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
