"""Pipeline specs: a JSON object in requests and answers, a YAML file for whoever reads and keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

import yaml

from tallystick.core.errors import BadInput, TooLarge
from tallystick.doors.kubeflow.packages import SPEC_BYTES_MAX

__all__ = ["as_file", "as_objects"]

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Plain(_Dumper):  # type: ignore[misc]  # whichever of the two PyYAML was built with
    """Writes no aliases: the reader takes none."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Texts(_Loader):  # type: ignore[misc]  # whichever of the two PyYAML was built with
    """Leaves dates the text that they are."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


async def as_file(given: Any) -> bytes:
    """The file of a spec: a PipelineSpec, or an object of ``pipeline_spec`` and ``platform_spec``."""
    if not isinstance(given, Mapping) or not given:
        raise BadInput("it must be a PipelineSpec", where="pipeline_spec")
    documents = [given]
    if "pipeline_spec" in given:
        if unknown := given.keys() - {"pipeline_spec", "platform_spec"}:
            raise BadInput(f"there is no field {min(unknown)[:60]!r}", where="pipeline_spec")
        documents = [
            given["pipeline_spec"],
            *([given["platform_spec"]] if given.get("platform_spec") else []),
        ]
    return await asyncio.to_thread(_written, documents)


def _written(documents: list[Any]) -> bytes:
    try:
        file: bytes = yaml.dump_all(
            documents, Dumper=_Plain, encoding="utf-8", allow_unicode=True, sort_keys=False, width=2**20
        )
    except (yaml.YAMLError, RecursionError):
        raise BadInput("it cannot be written as YAML", where="pipeline_spec") from None
    if len(file) > SPEC_BYTES_MAX:
        raise TooLarge("the pipeline is larger than 10 MiB", where="pipeline_spec")
    return file


async def as_objects(file: bytes) -> Any:
    """The spec in a file that was admitted, in the form that :func:`as_file` takes."""
    found = await asyncio.to_thread(lambda: list(yaml.load_all(file, Loader=_Texts)))
    documents = [document for document in found if document]
    if len(documents) > 1:
        return {"pipeline_spec": documents[0], "platform_spec": documents[1]}
    return documents[0] if documents else {}
