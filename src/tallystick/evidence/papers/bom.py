"""Bills of materials: what a model is made of, as CycloneDX 1.6 has it (ML-BOM).

Source: cyclonedx.org/docs/1.6/json. One component of type ``machine-learning-model`` with a model card, its
files, the tables that it was made from, the packages that made it. What is not known is not there, and
``compositions`` says that the list is incomplete.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tallystick.core.errors import BadInput
from tallystick.core.model import ModelVersion, TensorSpec
from tallystick.core.values import Environment
from tallystick.evidence.figures import Figure
from tallystick.evidence.papers.statement import rfc3339
from tallystick.evidence.papers.tree import FILES_MAX, Member, in_order

__all__ = ["TREE_PROPERTY", "Material", "Parts", "bill_of", "read_bill"]

SPEC = "1.6"
TREE_PROPERTY = "tallystick:tree"
"""The digest of all files together: of a list of them, so that it is no file's hash."""

FIGURES_MAX = 500
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_PACKAGE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)")
_NAMESPACE = uuid.UUID("6f0b7c1e-5a53-5c0f-9a43-2a8f0c6f9f7e")
"""Of serial numbers: the same model and time have the same one everywhere."""


@dataclass(frozen=True, slots=True)
class Material:
    """A table at one snapshot: the digest of its rows, how many, and whose consent is on record."""

    table: str
    snapshot: str
    digest: str
    rows: int = -1
    consent: str = ""


@dataclass(frozen=True, slots=True)
class Parts:
    """All that a bill is written from, beside the model and its files.

    ``figures`` are a verdict's, and ``limits`` sentences about what the model cannot do, or nobody tried.
    ``missing`` are parts of its lineage that are not on record.
    """

    data: tuple[Material, ...] = ()
    environment: Environment | None = None
    figures: tuple[Figure, ...] = ()
    limits: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    maker: str = ""
    at_ms: int = 0
    properties: Mapping[str, str] = field(default_factory=dict)


def bill_of(model: ModelVersion, members: Sequence[Member], parts: Parts) -> dict[str, Any]:
    """The BOM as JSON; the same values give the same bytes in canonical form."""
    data, libraries = _data(parts.data), _libraries(parts.environment)
    depends = [c["bom-ref"] for c in (*data, *libraries)]
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{model.key} {model.digest} {parts.at_ms}')}",
        "version": 1,
        "metadata": {
            "timestamp": rfc3339(parts.at_ms),
            "tools": {"components": [_tool(parts.maker)]},
            "component": _model(model, members, parts),
        },
        "components": [*data, *libraries],
        "dependencies": [{"ref": model.key, "dependsOn": depends}, *({"ref": ref} for ref in depends)],
        "compositions": [
            {"aggregate": "complete", "assemblies": [model.key]},
            {"aggregate": "incomplete" if parts.missing else "complete", "dependencies": [model.key]},
        ],
    }


def _tool(maker: str) -> dict[str, Any]:
    name, _, version = maker.partition(" ")
    return {"type": "application", "name": name or "tallystick"} | ({"version": version} if version else {})


def _model(model: ModelVersion, members: Sequence[Member], parts: Parts) -> dict[str, Any]:
    said = {TREE_PROPERTY: model.digest, "tallystick:flavors": " ".join(model.flavors), **parts.properties}
    said |= {f"tallystick:missing:{part}": "not on record" for part in parts.missing}
    return {
        "type": "machine-learning-model",
        "bom-ref": model.key,
        "name": model.name,
        "version": str(model.version),
        "modelCard": _card(model, parts),
        "properties": [{"name": name, "value": value} for name, value in said.items() if value],
        "components": [_file(m) for m in in_order(members)],
    }


def _file(member: Member) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{quote(member.path)}",
        "name": member.path,
        "hashes": [_hash(member.digest)],
        "properties": [{"name": "tallystick:bytes", "value": str(member.size_bytes)}],
    }


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}


def _card(model: ModelVersion, parts: Parts) -> dict[str, Any]:
    parameters: dict[str, Any] = {"datasets": [{"ref": _data_ref(m)} for m in parts.data]}
    for name, specs in (("inputs", model.inputs), ("outputs", model.outputs)):
        parameters |= {name: [{"format": _tensor(spec)} for spec in specs]} if specs else {}
    card: dict[str, Any] = {"modelParameters": parameters}
    if parts.figures:
        metrics = [_metric(f) for f in parts.figures[:FIGURES_MAX]]
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    if parts.limits:
        card["considerations"] = {"technicalLimitations": list(parts.limits)}
    return card


def _tensor(spec: TensorSpec) -> str:
    lengths = ", ".join("any" if n < 0 else str(n) for n in spec.shape)
    return f"{spec.name}: {spec.datatype} [{lengths}]"


def _metric(figure: Figure) -> dict[str, Any]:
    metric: dict[str, Any] = {"type": figure.measure, "value": repr(figure.value)}
    slices = [f"eps {figure.eps:g}"] if figure.eps is not None else []
    if slices or figure.group:
        metric["slice"] = ", ".join([*slices, *([figure.group] if figure.group else [])])
    if figure.low != figure.high:
        metric["confidenceInterval"] = {"lowerBound": repr(figure.low), "upperBound": repr(figure.high)}
    return metric


def _data_ref(material: Material) -> str:
    return f"data:{material.table}@{material.snapshot}"


def _data(materials: Iterable[Material]) -> list[dict[str, Any]]:
    return [_table(material) for material in materials]


def _table(material: Material) -> dict[str, Any]:
    consent = material.consent or "none on record"
    said = {"tallystick:content": material.digest, "tallystick:consent": consent}
    said |= {"tallystick:rows": str(material.rows)} if material.rows >= 0 else {}
    return {
        "type": "data",
        "bom-ref": _data_ref(material),
        "name": material.table,
        "version": material.snapshot,
        "data": [{"type": "dataset", "name": material.table}],
        "properties": [{"name": name, "value": value} for name, value in said.items() if value],
    }


def _libraries(environment: Environment | None) -> list[dict[str, Any]]:
    """Each package at its exact version; ``hashes`` are of the files that the lock allows."""
    if environment is None:
        return []
    hashes, named = _locked(environment.lock), {_plain(n): v for n, v in environment.packages.items()}
    return [_library(name, version, hashes.get(name, [])) for name, version in sorted(named.items())]


def _library(name: str, version: str, hashes: Sequence[str]) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{quote(version, safe='.!-_~')}"
    about: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version}
    about["purl"] = purl
    return about | ({"hashes": [{"alg": "SHA-256", "content": h} for h in hashes]} if hashes else {})


def _plain(name: str) -> str:
    """PEP 503's form of a package's name, which is also purl's."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _locked(lock: str) -> dict[str, list[str]]:
    """Hashes by package, from the lines of a lock."""
    found: dict[str, list[str]] = {}
    for line in lock.replace("\\\n", " ").splitlines():
        if match := _PACKAGE.match(line.strip()):
            found[_plain(match[1])] = _HASH.findall(line)
    return found


def read_bill(wire: Any, where: str = "bom.json") -> tuple[str, dict[str, str]]:
    """The model's tree digest and its files (digest by path), as a BOM has them; BadInput for any other."""
    try:
        component = wire["metadata"]["component"]
        if (wire["bomFormat"], wire["specVersion"]) != ("CycloneDX", SPEC):
            raise BadInput(f"it is no CycloneDX {SPEC}", where=where)
        if component["type"] != "machine-learning-model":
            raise BadInput("it is not about a model", where=where)
        tree = next((str(p["value"]) for p in component["properties"] if p["name"] == TREE_PROPERTY), "")
        listed = [(str(f["name"]), f["hashes"]) for f in component["components"] if f["type"] == "file"]
        files = {path: next(h["content"] for h in some if h["alg"] == "SHA-256") for path, some in listed}
    except (TypeError, KeyError, IndexError, AttributeError, StopIteration) as wrong:
        raise BadInput("it lacks a model with its files", where=where) from wrong
    if len(files) < len(listed) or len(listed) > FILES_MAX:
        raise BadInput("it lists a file twice, or too many", where=where)
    return tree, {path: f"sha256:{content}" for path, content in files.items()}
