"""What stands under ``deploymentSpec.executors``: a Python function in a container, or an importer."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tallystick.core.errors import NotSupported
from tallystick.core.pipeline import Binding, Component, Constant, Importer, ParamType
from tallystick.doors.kfp.command import read_command
from tallystick.doors.kfp.definitions import PLACEHOLDER, Interface, read_schema, typed
from tallystick.doors.kfp.node import Node

__all__ = ["read_component", "read_importer"]

# An image that is Python and nothing else stands for "some Python": the executor's own takes its place.
# Any other holds programs and packages that would be missing here.
_STOCK_IMAGE = re.compile(
    r"(?:[\w.:-]+/)*(?:python:3(?:\.\d+)*(?:-(?:slim|alpine|bookworm|bullseye|trixie)[\w.-]*)?"
    r"|ubi\d+/python-3\d*(?::[\w.-]+)?)",
    re.ASCII,
)
_CONTAINER_REFUSED = {
    "env": "an environment variable (set_env_variable)",
    "resources": "a resource request (set_cpu_limit, set_memory_limit, set_accelerator_limit)",
    "lifecycle": "a lifecycle hook",
}
_IMPORTER = frozenset({"artifactUri", "typeSchema", "reimport", "downloadToWorkspace"})
_IMPORTER_REFUSED = {
    "metadata": "metadata given to an importer",
    "properties": "properties given to an importer",
    "customProperties": "properties given to an importer",
}


def read_component(container: Node, face: Interface) -> Component:
    """A container as the Python function that it runs; NotSupported when it runs anything else."""
    fields = container.fields(frozenset({"image", "command", "args"}), _CONTAINER_REFUSED)
    command = [word.text() for word in fields["command"].items()] if "command" in fields else []
    args = [word.text() for word in fields["args"].items()] if "args" in fields else []
    try:
        function = read_command(command, args)
    except NotSupported as other:
        raise NotSupported(other.what, where=container.where, hint=other.hint) from None
    image = container.need("image").text()
    if not _STOCK_IMAGE.fullmatch(image):
        raise container.need("image").refuse(
            f"the image {image[:100]!r}", hint="use a stock Python image and packages_to_install"
        )
    for slot in face.out_artifacts.values():
        if slot.is_list:
            raise container.refuse(f"a step that makes a list of artifacts ({slot.name})")
    return Component(
        name=function.name,
        function=function.name,
        source=function.source,
        packages=function.packages,
        params=tuple(face.params.values()),
        artifacts=tuple(face.artifacts.values()),
        out_params=tuple(face.out_params.values()),
        out_artifacts=tuple(face.out_artifacts.values()),
    )


def read_importer(importer: Node, inputs: Mapping[str, Binding], face: Interface) -> Importer:
    """An importer whose URI is a constant or one of the task's ``inputs``."""
    fields = importer.fields(_IMPORTER, _IMPORTER_REFUSED)
    # `reimport` needs no asking: a URI is looked up anew in every run.
    if "reimport" in fields:
        fields["reimport"].flag()
    if "downloadToWorkspace" in fields and fields["downloadToWorkspace"].flag():
        raise fields["downloadToWorkspace"].refuse("download_to_workspace")
    if [*face.out_artifacts] != ["artifact"] or face.out_params or face.artifacts:
        raise importer.wrong("an importer has one output, the artifact 'artifact', and no other artifact")
    extra = [name for name in inputs if name != "uri"]
    if extra:
        raise importer.refuse(f"the importer's input {extra[0]!r}")
    schema = read_schema(fields["typeSchema"]) if "typeSchema" in fields else "system.Artifact"
    return Importer(_uri(importer.need("artifactUri"), inputs), schema)


def _uri(node: Node, inputs: Mapping[str, Binding]) -> Binding:
    fields = node.fields(frozenset({"constant", "runtimeParameter"}), {"constantValue": "a value of kfp 1"})
    if len(fields) != 1:
        raise node.wrong("expected either constant or runtimeParameter")
    if "constant" in fields:
        uri: str = typed(fields["constant"], ParamType.STRING)
        if PLACEHOLDER in uri:
            raise node.refuse("a placeholder ({{$...}}) in a constant")
        if "uri" in inputs and inputs["uri"] != Constant(uri):
            raise node.wrong("the importer has one URI, and the task's input 'uri' another")
        return Constant(uri)
    name = fields["runtimeParameter"].text()
    if name not in inputs:
        raise node.wrong(f"the task has no input {name[:80]!r}")
    return inputs[name]
