"""Real hubs for journeys: `tally up` as its user starts it, and `tally` as its user types it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.mlflow.schema import WithRecord

__all__ = ["RunningHub", "WithRecord", "hub", "processes_of", "start_hub", "tally", "wait_until"]

START_S = 60.0
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For who asks a hub here by httpx: to read all authorities, as each client does otherwise, takes 15 ms."""


@dataclass
class RunningHub:
    """A hub in a process of its own."""

    home: Path
    process: subprocess.Popen[str]
    url: str

    def tally(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Type a command; it must end with ``status``."""
        return tally("--url", self.url, *words, status=status)

    def json(self, *words: str) -> Any:
        """What a command says with ``--json``."""
        return json.loads(self.tally(*words, "--json").stdout)

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60, verify=NO_TLS, **kwargs)

    def end(self) -> tuple[int, str]:
        """SIGTERM, and the status and output it ended with."""
        self.process.terminate()
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=60)


def tally(*words: str, status: int = 0, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run ``tally`` with ``words``; it must end with ``status``."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TALLY_")}
    done = subprocess.run(
        [sys.executable, "-m", "tallystick", *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        check=False,
    )
    assert done.returncode == status, (
        f"tally {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done


def start_hub(home: Path, *words: str) -> RunningHub:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TALLY_")}
    environment["TALLY_REJUDGE"] = ""  # a test that runs at night is a test like any other
    process = subprocess.Popen(
        [sys.executable, "-m", "tallystick", "up", "--home", str(home), "--port", "0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError, KeyError, httpx.HTTPError):
            found = json.loads((home / "hub.json").read_text())
            if (
                found["pid"] == process.pid
                and httpx.get(found["url"] + "/api/tally/status", verify=NO_TLS).status_code == 200
            ):
                return RunningHub(home, process, found["url"])
        if process.poll() is not None:
            break
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"the hub did not start: {process.communicate()[0]}")


def processes_of(home: Path) -> list[str]:
    """Command lines of processes that have to do with a home: by words, environment or open files."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            files = [str(f.readlink()) for f in (*(entry / "fd").iterdir(), entry / "cwd")]
            told = (entry / "environ").read_bytes().decode(errors="replace") + words
            if str(home) in told or any(str(home) in f for f in files):
                found.append(f"{entry.name} {words[:120]}")
    return found


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether ``true`` becomes so in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def hub(tmp_path: Path, with_record: WithRecord) -> Iterator[RunningHub]:
    """A hub that has not been asked anything yet."""
    running = start_hub(with_record(tmp_path / "home"))
    yield running
    if running.process.poll() is None:
        running.end()
