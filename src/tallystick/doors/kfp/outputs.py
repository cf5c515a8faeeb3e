"""The outputs that a graph shows outside, each the output of one of its tasks, or of the first that ran."""

from __future__ import annotations

from tallystick.core.pipeline.spec import DagOutput, Source
from tallystick.doors.kfp.bindings import Scope
from tallystick.doors.kfp.node import Node

__all__ = ["read_outputs"]


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
    fields = node.fields(frozenset({"valueFromParameter", "valueFromOneof"}))
    if len(fields) != 1:
        raise node.wrong("expected either valueFromParameter or valueFromOneof")
    if "valueFromParameter" in fields:
        selectors = [fields["valueFromParameter"]]
    else:
        one_of = fields["valueFromOneof"]
        one_of.fields(frozenset({"parameterSelectors"}))
        selectors = one_of.need("parameterSelectors").items()
    return _selected(name, node, selectors, "outputParameterKey", scope)


def _artifact_output(name: str, node: Node, scope: Scope) -> DagOutput:
    """Several selectors are kfp's OneOf: the compiler writes them for nothing else."""
    selectors = node.fields(frozenset({"artifactSelectors"})).get("artifactSelectors")
    return _selected(name, node, selectors.items() if selectors else [], "outputArtifactKey", scope)


def _selected(name: str, node: Node, selectors: list[Node], key: str, scope: Scope) -> DagOutput:
    if not selectors:
        raise node.wrong(f"output {name[:80]!r} has no source")
    return DagOutput(name, tuple(_source(name, selector, key, scope) for selector in selectors))


def _source(name: str, node: Node, key: str, scope: Scope) -> Source:
    node.fields(frozenset({"producerSubtask", key}))
    task, output = node.need("producerSubtask").text(), node.need(key).text()
    if task not in scope.siblings:
        raise node.wrong(f"output {name[:80]!r} refers to no task {task[:80]!r}")
    face = scope.siblings[task]
    if output not in (face.out_params if key == "outputParameterKey" else face.out_artifacts):
        raise node.wrong(f"task {task[:80]!r} has no such output {output[:80]!r}")
    return Source(task, output)
