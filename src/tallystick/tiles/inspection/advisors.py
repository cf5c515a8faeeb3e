"""Scanners that deny by list, asked for advice: what they say is shown, and decides nothing.

They read hostile files, each with a reader of its own, so they work in a process of their own with little
time and memory; where that ends badly, the advice says so.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tallystick.evidence.supply import Advice

__all__ = ["advise", "advisor_versions"]

FILE_BYTES_MAX = 64 * 1024 * 1024
"""Larger files are not handed to advisors, which read them whole into memory."""

FILES_MAX = 200
SECONDS_MAX = 60
MEMORY_BYTES_MAX = 2 * 1024**3
TEXT_CHARS_MAX = 300


def advisor_versions() -> dict[str, str]:
    """Versions of the advisors that are installed."""
    found: dict[str, str] = {}
    for name in _ADVISORS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def advise(folder: Path, paths: Sequence[str]) -> tuple[tuple[Advice, ...], tuple[str, ...]]:
    """What each advisor says about ``paths`` below ``folder``, and who was asked (``name version``)."""
    known = {name: f"{name} {number}" for name, number in advisor_versions().items()}
    if not known or not paths:
        return (), ()
    order = json.dumps({"folder": str(folder), "paths": list(paths)[:FILES_MAX]})
    argv = [sys.executable, "-W", "ignore", "-m", "tallystick.tiles.inspection.advisors"]
    found, failed = list[Advice](), ""
    try:
        ended = subprocess.run(
            argv, input=order, capture_output=True, text=True, timeout=SECONDS_MAX, check=False, env=_bare()
        )
        lines, failed = ended.stdout.splitlines(), "" if ended.returncode == 0 else "it ended badly"
    except subprocess.TimeoutExpired:
        lines, failed = [], "it took too long"
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            name, path, text = json.loads(line)
            found.append(Advice(known[name], str(path), str(text)[:TEXT_CHARS_MAX]))
    if failed:
        found.append(Advice(", ".join(known.values()), "", failed))
    return tuple(found), tuple(known.values())


def _bare() -> dict[str, str]:
    return {key: os.environ[key] for key in ("PATH", "LANG", "PYTHONPATH") if key in os.environ}


def _main() -> None:
    """Read the order, and say a line of JSON for each thing that an advisor has to say."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_MAX, SECONDS_MAX))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    order = json.loads(sys.stdin.read())
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    for name in advisor_versions():
        for shown in order["paths"]:
            path = Path(order["folder"]) / shown
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= FILE_BYTES_MAX:
                for text in _asked(name, path):
                    out.write(json.dumps([name, shown, text]) + "\n")


def _asked(name: str, path: Path) -> list[str]:
    try:
        return list(_ADVISORS[name](path))
    except Exception as wrong:  # noqa: BLE001  reason: scanners raise whatever they like on hostile files
        return [f"it failed: {type(wrong).__name__}: {str(wrong)[:200]}"]


def _picklescan(path: Path) -> Iterator[str]:
    from picklescan.scanner import SafetyLevel, scan_file_path

    result = scan_file_path(str(path))
    for found in result.globals:
        if found.safety is SafetyLevel.Dangerous:
            yield f"dangerous: {found.module}.{found.name}"
        elif found.safety is SafetyLevel.Suspicious:
            yield f"suspicious: {found.module}.{found.name}"
    if result.scan_err:
        yield "it could not read all of the file"


def _fickling(path: Path) -> Iterator[str]:
    from fickling.analysis import Severity, check_safety
    from fickling.fickle import StackedPickle

    with path.open("rb") as file:
        if file.read(1) not in (b"\x80", b"(", b"c", b"]", b"}"):
            return
        file.seek(0)
        for stream in StackedPickle.load(file):
            said = check_safety(stream)
            if said.severity is not Severity.LIKELY_SAFE:
                yield f"{said.severity.name.lower().replace('_', ' ')}: {said.to_string()}"


_ADVISORS: dict[str, Callable[[Path], Iterator[str]]] = {"picklescan": _picklescan, "fickling": _fickling}

if __name__ == "__main__":
    _main()
