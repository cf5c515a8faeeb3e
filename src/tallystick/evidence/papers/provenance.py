"""Provenance: how a model came about, as SLSA provenance v1 has it.

Source: slsa.dev/spec/v1.1/provenance. What is not on record is absent, and named in ``missing``: a provenance
that says less is worth more than one that guesses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.facts import to_json
from tallystick.evidence.papers.statement import digest_set, from_digest_set, ms_of, rfc3339

__all__ = ["BUILD_TYPE", "Dependency", "Provenance"]

BUILD_TYPE = "tally://build-types/pipeline-run/v1"
DEPENDENCIES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Dependency:
    """Something that went in, or came out beside (in-toto's ResourceDescriptor).

    ``name`` says what it is here: ``pipeline``, ``source``, ``lock``, ``data`` or ``input`` of what went in;
    ``model.sig``, ``bom.json`` or ``log`` of what came out.
    """

    name: str
    digest: str
    uri: str = ""
    annotations: Mapping[str, Any] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """As JSON."""
        wire = {"name": self.name, "digest": digest_set(self.digest)}
        wire |= {"uri": self.uri} if self.uri else {}
        return wire | ({"annotations": to_json(self.annotations)} if self.annotations else {})

    @classmethod
    def parse(cls, wire: Any, where: str) -> Dependency:
        """BadInput names what does not fit."""
        about = _object(wire, where)
        return cls(
            _text(about, "name", where),
            from_digest_set(about.get("digest"), where),
            _text(about, "uri", where, ""),
            _object(about.get("annotations", {}), f"{where}.annotations"),
        )


@dataclass(frozen=True, slots=True)
class Provenance:
    """``external`` is what the one who started the run chose, ``internal`` what the builder did by itself.

    ``builder`` is its address, with ``versions`` of what it is made of; ``invocation`` the run's key. Times
    are in milliseconds since 1970, 0 where they are not known.
    """

    builder: str
    invocation: str
    external: Mapping[str, Any] = field(default_factory=dict)
    internal: Mapping[str, Any] = field(default_factory=dict)
    dependencies: tuple[Dependency, ...] = ()
    byproducts: tuple[Dependency, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    started_ms: int = 0
    finished_ms: int = 0
    build_type: str = BUILD_TYPE

    def to_wire(self) -> dict[str, Any]:
        """The predicate."""
        metadata = {"invocationId": self.invocation}
        metadata |= {"startedOn": rfc3339(self.started_ms)} if self.started_ms else {}
        metadata |= {"finishedOn": rfc3339(self.finished_ms)} if self.finished_ms else {}
        return {
            "buildDefinition": {
                "buildType": self.build_type,
                "externalParameters": to_json(self.external),
                "internalParameters": to_json(self.internal),
                "resolvedDependencies": [d.to_wire() for d in self.dependencies],
            },
            "runDetails": {
                "builder": {"id": self.builder, "version": dict(self.versions)},
                "metadata": metadata,
                "byproducts": [d.to_wire() for d in self.byproducts],
            },
        }

    @classmethod
    def parse(cls, wire: Any, where: str = "provenance") -> Provenance:
        """A predicate read back; BadInput names the first field that does not fit.

        Fields that SLSA has and this has not are dropped: a verifier must not take their sense on trust.
        """
        definition = _object(_object(wire, where).get("buildDefinition"), f"{where}.buildDefinition")
        details = _object(wire.get("runDetails"), f"{where}.runDetails")
        builder = _object(details.get("builder"), f"{where}.builder")
        metadata = _object(details.get("metadata", {}), f"{where}.metadata")
        return cls(
            _text(builder, "id", f"{where}.builder"),
            _text(metadata, "invocationId", f"{where}.metadata", ""),
            _object(definition.get("externalParameters"), f"{where}.externalParameters"),
            _object(definition.get("internalParameters", {}), f"{where}.internalParameters"),
            _list(definition.get("resolvedDependencies", []), f"{where}.resolvedDependencies"),
            _list(details.get("byproducts", []), f"{where}.byproducts"),
            {str(k): str(v) for k, v in _object(builder.get("version", {}), f"{where}.version").items()},
            _time(metadata, "startedOn", where),
            _time(metadata, "finishedOn", where),
            _text(definition, "buildType", f"{where}.buildDefinition"),
        )


def _object(wire: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(wire, Mapping):
        raise BadInput("expected an object", where=where)
    return wire


def _text(wire: Mapping[str, Any], name: str, where: str, default: str | None = None) -> str:
    value = wire.get(name, default)
    if not isinstance(value, str) or (not value and default is None):
        raise BadInput(f"{name!r} is a text", where=where)
    return value


def _list(wire: Any, where: str) -> tuple[Dependency, ...]:
    if not isinstance(wire, list) or len(wire) > DEPENDENCIES_MAX:
        raise BadInput(f"expected a list of at most {DEPENDENCIES_MAX}", where=where)
    return tuple(Dependency.parse(one, f"{where}[{i}]") for i, one in enumerate(wire))


def _time(wire: Mapping[str, Any], name: str, where: str) -> int:
    return ms_of(wire[name], f"{where}.{name}") if name in wire else 0
