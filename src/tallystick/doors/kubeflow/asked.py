"""What is asked for in a run and in a recurring run: what to run, with what, and filed where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tallystick.core.errors import BadInput, NotSupported
from tallystick.doors.kubeflow.answer import text
from tallystick.doors.kubeflow.specs import as_file, as_objects
from tallystick.doors.kubeflow.stored import Shelf
from tallystick.doors.kubeflow.wire import id_of, key_of
from tallystick.routines.library import DEFAULT, Library

__all__ = ["Asked", "read_asked", "shown_source"]

COMMON = {
    "experiment_id", "display_name", "description", "pipeline_version_id", "pipeline_spec",
    "pipeline_version_reference", "runtime_config", "service_account", "plugins_input",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """``experiment`` is its name; ``about`` is only for answers: version, pipeline root, service account."""

    name: str
    description: str
    spec: bytes
    params: Mapping[str, Any]
    experiment: str
    about: Mapping[str, str]


async def read_asked(library: Library, body: Mapping[str, Any], more: set[str]) -> Asked:
    """What a body asks for; BadInput for a field that nobody knows, NotSupported for what has no sense here.

    A service account is a name in a cluster: it is kept for answers alone, as every run here is its owner's.
    """
    for name in body:
        if name not in COMMON | more and body[name] is not None:
            raise BadInput(f"there is no field {name[:60]!r} to give", where="body")
    if body.get("plugins_input"):
        raise NotSupported("there are no plugins here", where="plugins_input")
    config = _object(body, "runtime_config", {"parameters", "pipeline_root"})
    about = {"root": text(config, "pipeline_root"), "account": text(body, "service_account")}
    spec, version = await _source(library, body)
    experiment = DEFAULT
    if given := text(body, "experiment_id"):
        found = await library.experiment(key_of("experiment", given))
        if found.archived:
            raise BadInput(f"{found.name} is archived", where="experiment_id", hint="unarchive it")
        experiment = found.name
    return Asked(
        name=text(body, "display_name"),
        description=text(body, "description"),
        spec=spec,
        params=_object(config, "parameters"),
        experiment=experiment,
        about={name: value for name, value in {**about, **version}.items() if value},
    )


async def _source(library: Library, body: Mapping[str, Any]) -> tuple[bytes, Mapping[str, str]]:
    """The pipeline's file, and from which version it is."""
    reference = _object(body, "pipeline_version_reference", {"pipeline_id", "pipeline_version_id"})
    if body.get("pipeline_spec") and reference:
        raise BadInput("either a pipeline_spec or a pipeline_version_reference", where="body")
    if text(body, "pipeline_version_id"):
        raise NotSupported(
            "it is out of date", where="pipeline_version_id", hint="pipeline_version_reference"
        )
    if not reference:
        return await as_file(body.get("pipeline_spec")), {}
    shelved = await Shelf(library).pipeline(key_of("pipeline", text(reference, "pipeline_id")))
    if not shelved.versions:
        raise BadInput(f"pipeline {shelved.name} has no version", where="pipeline_version_reference")
    wanted = text(reference, "pipeline_version_id")
    version = shelved.version(key_of("version", wanted)) if wanted else shelved.versions[-1]
    return await library.spec(version.spec_digest), {"pipeline": shelved.key, "version": version.key}


async def shown_source(
    library: Library, about: Mapping[str, str], spec_digest: str, params: Mapping[str, Any], *, whole: bool
) -> dict[str, Any]:
    """The fields of an answer that say what is run; the spec itself only where the ``whole`` is asked for."""
    said: dict[str, Any] = {
        "runtime_config": {"parameters": params},
        "service_account": about.get("account", ""),
    }
    if about.get("root"):
        said["runtime_config"]["pipeline_root"] = about["root"]
    if "version" in about:
        pair = {"pipeline_id": id_of(about["pipeline"]), "pipeline_version_id": id_of(about["version"])}
        said["pipeline_version_reference"] = pair
    elif whole:
        said["pipeline_spec"] = await as_objects(await library.spec(spec_digest))
    return said


def _object(body: Mapping[str, Any], name: str, known: set[str] | None = None) -> Mapping[str, Any]:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadInput(f"{name!r} must be an object", where="body")
    unknown = value.keys() - known if known is not None else set()
    if unknown:
        raise BadInput(f"{name!r} has no field {min(unknown)[:60]!r}", where="body")
    return value
