"""Processes: a server started and awaited, what it and all its children use, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

TELLS_NOBODY = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def family(leader: int) -> list[int]:
    """The processes of the session that ``leader`` leads, and of sessions that its children lead."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found = [leader]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def pss_mib(pid: int) -> float:
    """Proportional set size of a process, in MiB; 0 when it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    """User and system CPU seconds of a process so far; 0 when it is gone."""
    return _ticks_s(pid, slice(11, 13))


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process and of its children that it has waited for; 0 when it is gone."""
    return _ticks_s(pid, slice(11, 15))


def _ticks_s(pid: int, which: slice) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[which]) / os.sysconf("SC_CLK_TCK")
    return 0.0


@contextlib.contextmanager
def answering(
    command: Sequence[str],
    url: str,
    log: Path,
    environment: Mapping[str, str],
    *,
    limit_s: float,
    look_s: float,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server once ``url`` answers 200, looked for every ``look_s``; in the end all its processes are ended.

    It runs in the folder of ``log``. RuntimeError with the end of ``log`` where it ends or ``limit_s`` pass.
    """
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, cwd=log.parent, start_new_session=True
        )
    try:
        began = time.monotonic()
        while not _answers(url):
            if process.poll() is not None or time.monotonic() - began > limit_s:
                told = log.read_text("utf-8", "replace")[-1500:]
                raise RuntimeError(f"{url} did not answer: {' '.join(command)}\n{told}")
            time.sleep(look_s)
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    members = family(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(30)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in members:  # those in sessions of their own included
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  reason: an http address of ours
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
