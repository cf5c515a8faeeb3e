"""The outputs that a graph shows outside, each the output of one of its tasks."""

from __future__ import annotations

from tallystick.core.pipeline import DagOutput
from tallystick.doors.kfp.bindings import Scope
from tallystick.doors.kfp.node import Node

__all__ = ["read_outputs"]

_ONE_OF = "an output that one of several tasks gives (dsl.OneOf)"


def read_outputs(node: Node | None, scope: Scope) -> tuple[DagOutput, ...]:
    """The outputs under ``dag.outputs``: those that the component declares, no more and no fewer."""
    if node is None:
        return ()
    fields = node.fields(frozenset({"parameters", "artifacts"}))
    params = fields["parameters"].mapping() if "parameters" in fields else {}
    artifacts = fields["artifacts"].mapping() if "artifacts" in fields else {}
    declared = {*scope.around.out_params}, {*scope.around.out_artifacts}
    if ({*params}, {*artifacts}) != declared:
        raise node.wrong("the outputs of the dag are not those that the component declares")
    return (
        *(_param_output(name, param, scope) for name, param in params.items()),
        *(_artifact_output(name, artifact, scope) for name, artifact in artifacts.items()),
    )


def _param_output(name: str, node: Node, scope: Scope) -> DagOutput:
    fields = node.fields(
        frozenset({"valueFromParameter"}),
        {"valueFromOneof": _ONE_OF},
    )
    if not fields:
        raise node.wrong("field 'valueFromParameter' is missing")
    return _selected(name, fields["valueFromParameter"], "outputParameterKey", scope)


def _artifact_output(name: str, node: Node, scope: Scope) -> DagOutput:
    selectors = node.fields(frozenset({"artifactSelectors"})).get("artifactSelectors")
    found = selectors.items() if selectors else []
    if not found:
        raise node.wrong("field 'artifactSelectors' is missing")
    if len(found) > 1:
        raise node.refuse(_ONE_OF)
    return _selected(name, found[0], "outputArtifactKey", scope)


def _selected(name: str, node: Node, key: str, scope: Scope) -> DagOutput:
    node.fields(frozenset({"producerSubtask", key}))
    task, output = node.need("producerSubtask").text(), node.need(key).text()
    if task not in scope.siblings:
        raise node.wrong(f"output {name[:80]!r} refers to no task {task[:80]!r}")
    face = scope.siblings[task]
    if output not in (face.out_params if key == "outputParameterKey" else face.out_artifacts):
        raise node.wrong(f"task {task[:80]!r} has no such output {output[:80]!r}")
    return DagOutput(name, task, output)
