"""Errands in tests: at a desk in this very process, or in one of their own as the hub has them done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tallystick.core.errors import error_from_dict

__all__ = ["FakeDesk", "done", "send"]


class FakeDesk:
    """The desk of ``crew.desk`` without the process's streams."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self.order = json.loads(json.dumps(order))
        self.said: list[tuple[float, str]] = []
        self.begun: list[str] = []
        self.parts: list[str] = []

    def began(self, name: str) -> None:
        self.begun.append(name)

    def part(self, file: str) -> None:
        self.parts.append(file)

    def progress(self, share: float, text: str) -> None:
        assert 0 <= share <= 1
        self.said.append((share, text))


def done(main: Callable[[Any], Mapping[str, Any]], order: Mapping[str, Any]) -> dict[str, Any]:
    """The result as the hub would read it: through JSON, without NaN."""
    return json.loads(json.dumps(main(FakeDesk(order)), allow_nan=False))


def send(errand: str, order: Mapping[str, Any], **env: str) -> dict[str, Any]:
    """The result of an errand in a process of its own; its error is raised."""
    bare = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", **env}
    ended = subprocess.run(
        [sys.executable, "-m", f"tallystick.crew.{errand}"],
        input=json.dumps(order) + "\n", env=bare, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    said = [json.loads(line) for line in ended.stdout.splitlines()]
    assert said, ended.stderr
    assert all({"progress", "began", "part"} & line.keys() for line in said[:-1])
    if "error" in said[-1]:
        raise error_from_dict(said[-1]["error"])
    return said[-1]["result"]
