"""Values: what passes between the steps of a run, and what they run on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tallystick.core.facts import to_json
from tallystick.core.names import digest_of

__all__ = ["ArtifactRef", "Environment", "Values"]


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """A file or folder that a step made or reads: content ``digest``, schema title and metadata."""

    name: str
    digest: str
    schema: str = "system.Artifact"
    uri: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Values:
    """Parameters by name, and artifacts by name (always a tuple; one element unless it is a list)."""

    params: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[ArtifactRef, ...]] = field(default_factory=dict)

    def holds(self, digest: str) -> bool:
        """Whether an artifact of that content is among them."""
        return any(ref.digest == digest for refs in self.artifacts.values() for ref in refs)


@dataclass(frozen=True, slots=True)
class Environment:
    """What a step's code runs on: Python, platform, and each package at its exact version.

    ``lock`` holds requirement lines with hashes where the packages were resolved for a component alone; it is
    empty for what is installed beside the hub.
    """

    python: str
    platform: str
    packages: Mapping[str, str] = field(default_factory=dict)
    lock: str = ""

    @property
    def digest(self) -> str:
        """The digest of all of it."""
        return _digest(self.python, self.platform, tuple(self.packages.items()), self.lock)


@lru_cache(maxsize=64)
def _digest(python: str, platform: str, packages: tuple[tuple[str, str], ...], lock: str) -> str:
    """Asked for by each step, of a few environments with a hundred packages each."""
    return digest_of(to_json(Environment(python, platform, dict(packages), lock)))
