"""A compiled Kubeflow pipeline (PipelineSpec 2.1, as kfp 2 writes it) as a pipeline in our own words.

What can be honoured is read; everything else is NotSupported, naming the task and the construct,
before anything runs. Three things are for eyes only and not kept: display names of tasks and of
the pipeline, descriptions of inputs and outputs, and the version of the SDK.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import replace
from functools import lru_cache

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.names import NAME_CHARS_MAX, check_name
from tallystick.core.pipeline.check import check_pipeline
from tallystick.core.pipeline.spec import (
    Component,
    Dag,
    FromInput,
    FromTask,
    Importer,
    Param,
    ParamType,
    Pipeline,
    Slot,
    Task,
)
from tallystick.doors.kfp.definitions import Interface, read_interface
from tallystick.doors.kfp.document import read_documents
from tallystick.doors.kfp.graphs import Graphs
from tallystick.doors.kfp.node import Node
from tallystick.doors.kfp.platforms import read_settings

__all__ = ["read_pipeline"]

_SPEC = frozenset(
    {
        "pipelineInfo", "deploymentSpec", "sdkVersion", "schemaVersion", "components", "root",
        "defaultPipelineRoot",
    }
)  # fmt: skip
_VERSION = re.compile(r"2\.1\.\d+", re.ASCII)
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")
_ONE_BY_ONE = "import them one by one, with dsl.importer"
_COMPILE = "compile it with kfp 2: kfp.compiler.Compiler().compile(pipeline, 'pipeline.yaml')"


KNOWN_MAX, KNOWN_BYTES_MAX = 16, 128 * 1024
"""Files that are not read twice, and how large: a pipeline weighs some ten times what its file does."""


def read_pipeline(text: str | bytes) -> Pipeline:
    """The pipeline in a compiled YAML or JSON file; a second document holds settings for platforms.

    TooLarge over 10 MiB, 500,000 values or a depth of 100; BadInput with the line for what is broken
    or contradicts itself; NotSupported for every construct that could not be honoured.
    """
    return _known(text) if len(text) <= KNOWN_BYTES_MAX else _read(text)


def _read(text: str | bytes) -> Pipeline:
    spec, platform = _split(read_documents(text))
    _check_kind(spec)
    fields = spec.fields(_SPEC)
    _check_version(spec)
    info = spec.need("pipelineInfo").fields(frozenset({"name", "displayName", "description"}))
    name = spec.need("pipelineInfo").need("name")
    try:
        check_name("pipeline", name.text())
    except BadInput as wrong:
        raise name.wrong(wrong.what, hint=wrong.hint) from None
    executors = _executors(fields.get("deploymentSpec"))
    settings = read_settings(platform, executors)
    graphs = Graphs(
        fields["components"].mapping() if "components" in fields else {}, executors, settings.executors
    )
    root = spec.need("root")
    root.fields(
        frozenset({"inputDefinitions", "outputDefinitions", "dag"}),
        {"executorLabel": "a root that is no graph", "singlePlatformSpecs": "a setting for one platform"},
    )
    face = read_interface(root)
    handed = _handed_in(root, face)
    dag = graphs.read(root, face, frozenset(face.artifacts.keys() - handed.keys()), "", 0)
    spared = {slot.name for slot in handed.values() if slot.optional}
    spared -= _needed(dag, spared)
    uris = (Param(name, ParamType.STRING, optional=name in spared) for name in handed)
    pipeline = Pipeline(
        name=name.text(),
        root=_with_importers(dag, handed, spared),
        params=(*face.params.values(), *uris),
        description=info["description"].string() if "description" in info else "",
        root_uri=fields["defaultPipelineRoot"].string() if "defaultPipelineRoot" in fields else "",
        workspace_bytes=settings.workspace_bytes,
    )
    return check_pipeline(pipeline)


_known = lru_cache(KNOWN_MAX)(_read)


def _split(documents: list[Node]) -> tuple[Node, Node | None]:
    """The pipeline and, where there is one, the platform document; also in one, as the API sends them."""
    if not documents or documents[0].empty:
        raise BadInput("the file is empty", where="pipeline", hint=_COMPILE)
    if len(documents) > 2:
        raise documents[2].wrong("a pipeline file has at most two documents")
    first = documents[0]
    if len(documents) == 1 and "pipeline_spec" in first.mapping():
        first.fields(frozenset({"pipeline_spec", "platform_spec"}))
        return first.need("pipeline_spec"), first.mapping().get("platform_spec")
    return first, documents[1] if len(documents) == 2 else None


def _check_kind(spec: Node) -> None:
    kinds = spec.mapping()
    if "apiVersion" in kinds or "pipelineSpec" in kinds:
        what = "this is a workflow of kfp 1 or Argo, not a pipeline"
        raise NotSupported(what, where=spec.where, hint=_COMPILE)
    if "implementation" in kinds:
        raise NotSupported("this is one component, not a pipeline", where=spec.where, hint=_COMPILE)
    if "root" not in kinds or "pipelineInfo" not in kinds:
        raise BadInput("this is no compiled pipeline", where=spec.where, hint=_COMPILE)


def _check_version(spec: Node) -> None:
    version = spec.need("schemaVersion")
    if not _VERSION.fullmatch(version.text()):
        raise version.refuse(f"schemaVersion {version.text()[:40]!r}", hint="2.1.0 is; " + _COMPILE)


def _executors(deployment: Node | None) -> Mapping[str, Node]:
    if deployment is None:
        return {}
    executors = deployment.fields(frozenset({"executors"})).get("executors")
    return executors.mapping() if executors else {}


def _handed_in(root: Node, face: Interface) -> dict[str, Slot]:
    """The pipeline's own input artifacts that somebody hands in; optional lists are always absent."""
    for slot in face.artifacts.values():
        if slot.is_list and not slot.optional:
            raise root.refuse(f"a list of artifacts as input of the pipeline ({slot.name})", hint=_ONE_BY_ONE)
    return {slot.name: slot for slot in face.artifacts.values() if not slot.is_list}


def _needed(dag: Dag, optional: Set[str]) -> set[str]:
    """Those of the graph's ``optional`` artifacts without which a step that is sure to run could not."""
    found: set[str] = set()
    for task in dag.tasks if optional else ():
        if task.trigger.condition or task.loop:
            continue
        came = {name: s.name for name, s in task.inputs.items() if isinstance(s, FromInput)}
        fed = {name: source for name, source in came.items() if source in optional}
        if isinstance(task.body, Component):
            found |= {
                fed[slot.name] for slot in task.body.artifacts if slot.name in fed and not slot.optional
            }
        elif isinstance(task.body, Dag):
            found |= {fed[name] for name in _needed(task.body, fed.keys())}
    return found


def _with_importers(dag: Dag, handed: Mapping[str, Slot], spared: Set[str]) -> Dag:
    """The graph with an importer for each artifact handed in: its URI is in a parameter of its name."""
    taken = {task.name for task in dag.tasks}
    names: dict[str, str] = {}
    for name in handed:
        names[name] = _NOT_IN_NAMES.sub("-", f"input-{name}")[: NAME_CHARS_MAX - 10].rstrip("-.")
        while names[name] in taken:
            names[name] += "-0"
        taken.add(names[name])
    imported = tuple(
        Task(names[n], Importer(FromInput(n), slot.schema, optional=n in spared))
        for n, slot in handed.items()
    )
    return replace(dag, tasks=(*imported, *(_fed(task, names) for task in dag.tasks)))


def _fed(task: Task, importers: Mapping[str, str]) -> Task:
    """The task with what it took from the graph's artifacts taken from their importers."""
    inputs = {
        name: FromTask(importers[source.name], "artifact")
        if isinstance(source, FromInput) and source.name in importers
        else source
        for name, source in task.inputs.items()
    }
    return replace(task, inputs=inputs)
