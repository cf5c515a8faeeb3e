"""Values: what passes between the steps of a run, and what a step's outputs depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.facts import to_json
from tallystick.core.names import digest_of
from tallystick.core.pipeline.spec import Component

__all__ = ["ArtifactRef", "Values", "cache_key"]


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


def cache_key(component: Component, inputs: Values, environment: str, own: str = "") -> str:
    """What a step's outputs depend on: component, parameters, input contents and environment.

    ``environment`` is the executor's digest of Python, platform and installed packages. Artifact
    names and URIs do not count, only their content. With ``own``, a key that the pipeline's author chose,
    that alone decides.
    """
    if own:
        return digest_of({"own": own, "name": component.name})
    return digest_of(
        {
            "component": to_json(component),
            "params": to_json(inputs.params),
            "artifacts": {n: [a.digest for a in refs] for n, refs in sorted(inputs.artifacts.items())},
            "environment": environment,
        }
    )
