"""What stands under ``deploymentSpec.executors``: a function or a command in a container, or an importer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from tallystick.core.pipeline.spec import (
    Binding,
    Command,
    Component,
    Function,
    Importer,
    ParamType,
)
from tallystick.doors.kfp.command import read_function
from tallystick.doors.kfp.definitions import Interface, check_variable, deep, read_schema, typed
from tallystick.doors.kfp.node import Node
from tallystick.doors.kfp.placeholders import (
    CHANNEL,
    Names,
    check_text,
    holds_placeholder,
    read_text,
    read_words,
)
from tallystick.doors.kfp.resources import read_resources

__all__ = ["read_component", "read_importer"]

# An image that is Python and nothing else stands for "some Python": the executor's own takes its place. Any
# other holds programs and packages that would be missing here, so that what runs in it stays a command.
_STOCK_IMAGE = re.compile(
    r"(?:[\w.:-]+/)*(?:python:3(?:\.\d+)*(?:-(?:slim|alpine|bookworm|bullseye|trixie)[\w.-]*)?"
    r"|ubi\d+/python-3\d*(?::[\w.-]+)?)",
    re.ASCII,
)
_VOLUME_IMAGES = {"argostub/createpvc": "CreatePVC", "argostub/deletepvc": "DeletePVC"}
"""What kfp-kubernetes writes for steps that its own driver does in a cluster: there is no such image."""
_CONTAINER = frozenset({"image", "command", "args", "env", "resources"})
_CONTAINER_REFUSED = {"lifecycle": "a lifecycle hook"}
WORKERS = "TALLY_WORKERS"
"""What ``task.set_env_variable`` sets to ask for so many workers, as torchrun would start them."""
_COUNT = re.compile(r"[1-9]\d{0,3}", re.ASCII)
_NUMBER = re.compile(r"-\d{1,5}\Z", re.ASCII)
_ITS_INPUT = "{{$.inputs.parameters['uri']}}"
_IMPORTER = frozenset({"artifactUri", "typeSchema", "reimport", "downloadToWorkspace", "metadata"})
_IMPORTER_REFUSED = {
    "properties": "properties given to an importer",
    "customProperties": "properties given to an importer",
}


def read_component(
    name: str, container: Node, face: Interface, inputs: Mapping[str, Binding], timeout_s: int
) -> Component:
    """A container as the function or the command that it runs. ``name`` is the component's in the file."""
    fields = container.fields(_CONTAINER, _CONTAINER_REFUSED)
    code, env = _code(container, fields, Names(face, inputs.keys())), _env(fields.get("env"))
    return Component(
        # kfp numbers what is used twice: it is the same component all the same.
        name=code.name if isinstance(code, Function) else _NUMBER.sub("", name.removeprefix("comp-")),
        code=code,
        env=env,
        resources=replace(read_resources(fields.get("resources"), inputs), workers=_workers(env, container)),
        timeout_s=timeout_s,
        params=tuple(face.params.values()),
        artifacts=tuple(face.artifacts.values()),
        out_params=tuple(face.out_params.values()),
        out_artifacts=tuple(face.out_artifacts.values()),
    )


def _code(container: Node, fields: Mapping[str, Node], names: Names) -> Function | Command:
    image = container.need("image").text()
    if image.partition(":")[0] in _VOLUME_IMAGES:
        what = _VOLUME_IMAGES[image.partition(":")[0]]
        raise container.need("image").refuse(f"a volume of Kubernetes ({what})")
    command = read_words(fields["command"], names) if "command" in fields else ()
    args = read_words(fields["args"], names) if "args" in fields else ()
    if not holds_placeholder(image):
        function = read_function(command, args) if _STOCK_IMAGE.fullmatch(image) else None
        # Kubeflow fills in what stands in the source, too: such a source is no module as it is.
        if function and not holds_placeholder(function.source):
            return function
    else:
        check_text(image, container.need("image"), {*names.face.params, *names.given})
    return Command(image, command, args)


def _workers(env: Mapping[str, str], container: Node) -> int:
    """How many processes of the step run together: kfp has no word of its own for that."""
    said = env.get(WORKERS, "1")
    if not _COUNT.fullmatch(said):
        raise container.wrong(f"{WORKERS} is a whole number from 1 to 9999, got {said[:80]!r}")
    return int(said)


def _env(node: Node | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in node.items() if node else []:
        fields = entry.fields(frozenset({"name", "value"}))
        name = entry.need("name").text()
        value = fields["value"].string() if "value" in fields else ""
        check_variable(name, value, entry)
        if name in found:
            raise entry.wrong(f"the environment variable {name[:80]!r} stands here twice")
        if CHANNEL in value or holds_placeholder(value):  # Kubeflow would hand it over unread
            raise entry.refuse(f"a placeholder in the environment ({value[:80]!r})")
        found[name] = value
    return found


def read_importer(importer: Node, inputs: Mapping[str, Binding], face: Interface) -> Importer:
    """An importer whose URI is a constant, a template or one of the task's ``inputs``."""
    fields = importer.fields(_IMPORTER, _IMPORTER_REFUSED)
    # Neither changes what a step sees. An artifact goes by its content here, which is looked at anew in every
    # run, and each step is told the path at which it finds the artifact, wherever that was brought to.
    for said in {"reimport", "downloadToWorkspace"} & {*fields}:
        fields[said].flag()
    if [*face.out_artifacts] != ["artifact"] or face.out_params or face.artifacts:
        raise importer.wrong("an importer has one output, the artifact 'artifact', and no other artifact")
    schema = read_schema(fields["typeSchema"]) if "typeSchema" in fields else "system.Artifact"
    metadata = {}
    if "metadata" in fields:
        metadata = {name: deep(value) for name, value in fields["metadata"].mapping().items()}
        check_text(metadata, fields["metadata"], inputs)
    return Importer(_uri(importer.need("artifactUri"), inputs), schema, metadata)


def _uri(node: Node, inputs: Mapping[str, Binding]) -> Binding:
    fields = node.fields(frozenset({"constant", "runtimeParameter"}), {"constantValue": "a value of kfp 1"})
    if len(fields) != 1:
        raise node.wrong("expected either constant or runtimeParameter")
    if "constant" in fields:
        return _constant_uri(fields["constant"], inputs)
    name = fields["runtimeParameter"].text()
    if name not in inputs:
        raise node.wrong(f"the task has no input {name[:80]!r}")
    if "uri" in inputs and inputs[name] != inputs["uri"]:
        raise node.wrong("the importer has one URI, and the task's input 'uri' another")
    return inputs[name]


def _constant_uri(node: Node, inputs: Mapping[str, Binding]) -> Binding:
    text = typed(node, ParamType.STRING)
    if CHANNEL in text or text == _ITS_INPUT:  # the task has it right
        if "uri" not in inputs:
            raise node.wrong("the task has no input 'uri'")
        return inputs["uri"]
    uri = read_text(text, node, inputs)
    if inputs.get("uri", uri) != uri:
        raise node.wrong("the importer has one URI, and the task's input 'uri' another")
    return uri
