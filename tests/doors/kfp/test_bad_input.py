"""What cannot be honoured is refused before anything runs; what contradicts itself is said with its line."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tallystick.core.errors import BadInput, NotSupported, TooLarge
from tallystick.doors.kfp.reader import read_pipeline
from tests.doors.kfp.corpus import HERE, load

# Each refused file with the task that the message must name and words from the construct.
REFUSED = {
    "accelerator": ("say", "the accelerator 'cloud-tpus.google.com/v3'"),
    "graph-retry": ("inner-graph", "a retry of a whole graph"),
    "input-artifacts": ("", "a list of artifacts as input of the pipeline (data)"),
    "run-deadline": ("", "a time limit of the whole run"),
    "task-config": ("configured", "dsl.TaskConfig"),
}


@pytest.mark.parametrize("path", sorted((HERE / "refused").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_construct_is_refused_by_its_name(path: Any) -> None:
    task, words = REFUSED[path.stem]
    with pytest.raises(NotSupported) as refused:
        read_pipeline(path.read_bytes())
    assert words in refused.value.what
    assert refused.value.where.startswith(f"task {task}, line " if task else "line ")


def at(spec: Any, path: str) -> Any:
    for key in path.split("/"):
        spec = spec[int(key)] if isinstance(spec, list) else spec[key]
    return spec


TASKS = "root/dag/tasks"
FIT = f"{TASKS}/fit"
STATUS = {"taskFinalStatus": {"producerTask": "exit-handler-1"}}
OUT = {"taskOutputParameter": {"producerTask": "say", "outputParameterKey": "Output"}}


def constant(value: Any) -> Any:
    return {"runtimeValue": {"constant": value}}


# Edits by hand of valid pipelines: which one, where, what is put there, the kind of error, and words of its.
EDITS: dict[str, tuple[str, str, dict[str, Any], type[BadInput], str]] = {
    "custom job": (
        "nested", "deploymentSpec/executors/exec-fit", {"customJob": {"a": 1}},
        NotSupported, "custom",
    ),
    "resolver": (
        "nested", "deploymentSpec/executors/exec-fit", {"resolver": {"a": 1}},
        NotSupported, "a resolver",
    ),
    "lifecycle": (
        "nested", "deploymentSpec/executors/exec-fit/container", {"lifecycle": {"preCacheCheck": {}}},
        NotSupported, "a lifecycle hook",
    ),
    "two kinds of executor": (
        "nested", "deploymentSpec/executors/exec-fit", {"importer": {"artifactUri": {"constant": "a"}}},
        BadInput, "either a container or an importer",
    ),
    "passthroughs": (
        "nested", "components/comp-fit", {"taskConfigPassthroughs": [{"field": "ENV"}]},
        NotSupported, "task_config_passthroughs",
    ),
    "two bodies": (
        "nested", "components/comp-fit", {"dag": {}},
        BadInput, "either a dag or an executorLabel",
    ),
    "newer schema": ("nested", "", {"schemaVersion": "3.0.0"}, NotSupported, "'3.0.0'"),
    "schema of kfp 1": ("nested", "", {"schemaVersion": "2.0.0"}, NotSupported, "'2.0.0'"),
    "root of a wrong type": ("nested", "", {"defaultPipelineRoot": 1}, BadInput, "expected text, got 1"),
    "unknown field": ("nested", FIT, {"priority": 1}, BadInput, "unknown field 'priority'"),
    "no such component": ("nested", FIT, {"componentRef": {"name": "x"}}, BadInput, "no component 'x'"),
    "no such executor": (
        "nested", "components/comp-fit", {"executorLabel": "x"},
        BadInput, "no executor 'x'",
    ),
    "no such task": ("nested", FIT, {"dependentTasks": ["x"]}, BadInput, "task 'x', which does not exist"),
    "no such output": (
        "imported", f"{TASKS}/read/inputs/artifacts/data/taskOutputArtifact", {"outputArtifactKey": "x"},
        BadInput, "no such output 'x'",
    ),
    "no such input": (
        "optional", f"{TASKS}/maybe-2/inputs/parameters/note", {"componentInputParameter": "x"},
        BadInput, "no parameter 'x'",
    ),
    "no such artifact": (
        "imported", f"{TASKS}/read/inputs/artifacts", {"x": {}},
        BadInput, "no input artifact 'x'",
    ),
    "a graph's artifact that is none": (
        "imported", f"{TASKS}/read/inputs/artifacts", {"data": {"componentInputArtifact": "x"}},
        BadInput, "no artifact 'x'",
    ),
    "itself before itself": (
        "nested", FIT, {"dependentTasks": ["fit"]},
        BadInput, "wait for each other: fit",
    ),
    "a circle": (
        "nested", f"{TASKS}/inner-graph", {"dependentTasks": ["fit"]},
        BadInput, "wait for each other: fit, inner",
    ),
    "a circle of statuses": (
        "exit-handler", f"{TASKS}/exit-handler-1/inputs/parameters",
        {"x": {"taskFinalStatus": {"producerTask": "report"}}},
        BadInput, "wait for each other: exit-handler-1, report",
    ),
    "no value": ("nested", FIT, {"inputs": {}}, BadInput, "its parameter 'kind' has no value"),
    "no artifact": (
        "imported", f"{TASKS}/read", {"inputs": {}},
        BadInput, "its input artifact 'data' has no source",
    ),
    "half a number": (
        "nested", "root/inputDefinitions/parameters/x", {"defaultValue": 1.5},
        BadInput, "NUMBER_INTEGER was declared, got 1.5",
    ),
    "no number": (
        "nested", "root/inputDefinitions/parameters/x", {"defaultValue": float("nan")},
        BadInput, "not a number",
    ),
    "another type": (
        "nested", "root/inputDefinitions/parameters/x", {"parameterType": "FLOAT"}, BadInput, "'FLOAT'",
    ),
    "a status as a number": ("exit-handler", f"{TASKS}/report/inputs/parameters", {"text": STATUS}, BadInput,
                             "the final status of a task, and a STRING was declared"),
    "a status of nothing": (
        "exit-handler", f"{TASKS}/report/inputs/parameters",
        {"status": {"taskFinalStatus": {"producerTask": "x"}}},
        BadInput, "needs task 'x', which does not exist",
    ),
    "a number as a list": (
        "collected", f"{TASKS}/best/inputs/parameters", {"scores": constant(1)},
        BadInput, "a LIST was declared, got 1",
    ),
    "two sources": (
        "ignore-upstream", f"{TASKS}/say-2/inputs/parameters", {"text": OUT | constant("a")},
        BadInput, "expected one source",
    ),
    "a field of a constant": (
        "ignore-upstream", f"{TASKS}/say-2/inputs/parameters",
        {"text": constant("a") | {"parameterExpressionSelector": 'parseJson(string_value)["a"]'}},
        NotSupported, "picking a field out of a constant",
    ),
    "an expression": (
        "ignore-upstream", f"{TASKS}/say-2/inputs/parameters",
        {"text": OUT | {"parameterExpressionSelector": "size(string_value)"}},
        NotSupported, "the expression 'size(string_value)'",
    ),
    "a name that leads out": ("nested", TASKS, {"../x": {}}, BadInput, "'../x'"),
    "an input that leads out": (
        "nested", f"{FIT}/inputs/parameters", {"../x": constant(1)},
        BadInput, "'../x'",
    ),
    "an output that leads out": (
        "collected", "components/comp-best/outputDefinitions/parameters",
        {"../../x": {"parameterType": "STRING"}},
        BadInput, "'../../x'",
    ),
    "two URIs": (
        "imported", f"{TASKS}/importer-2/inputs/parameters", {"uri": constant("x")}, BadInput, "another",
    ),
    "a graph in itself": (
        "nested", "components/comp-inner-graph/dag/tasks/one", {"componentRef": {"name": "comp-inner-graph"}},
        TooLarge, "nested deeper than 20",
    ),
    "items that are no list": (
        "loops", f"{TASKS}/for-loop-2/parameterIterator", {"items": {"raw": '{"a": 1}'}},
        BadInput, "not a list",
    ),
    "items that are no JSON": (
        "loops", f"{TASKS}/for-loop-2/parameterIterator", {"items": {"raw": "[NaN]"}}, BadInput, "not JSON",
    ),
    "items with an unknown placeholder": (
        "loops", f"{TASKS}/for-loop-2/parameterIterator", {"items": {"raw": '["{{$.x}}"]'}},
        NotSupported, "the placeholder {{$.x}}",
    ),
    "items with an input": (
        "loops", f"{TASKS}/for-loop-2/parameterIterator", {"items": {"raw": '["{{channel:task=;name=a;}}"]'}},
        NotSupported, "an input within a loop's items",
    ),
    "items that are none": (
        "loops", f"{TASKS}/for-loop-4/parameterIterator", {"items": {"inputParameter": "x"}},
        BadInput, "no input 'x' to loop over",
    ),
    "two iterators": (
        "loops", f"{TASKS}/for-loop-2", {"artifactIterator": {"itemInput": "x"}}, BadInput, "one iterator",
    ),
    "artifacts that are none": (
        "artifact-loop", f"{TASKS}/for-loop-1/artifactIterator", {"items": {"inputArtifact": "x"}},
        BadInput, "no input artifact 'x' to loop over",
    ),
    "an item that is none": (
        "artifact-loop", f"{TASKS}/for-loop-1/artifactIterator", {"itemInput": "x"},
        BadInput, "must be an artifact",
    ),
    "a limit below nothing": (
        "loops", f"{TASKS}/for-loop-2", {"iteratorPolicy": {"parallelismLimit": -1}}, BadInput, "0 or more",
    ),
    "a policy without a loop": (
        "nested", FIT, {"iteratorPolicy": {"parallelismLimit": 1}},
        BadInput, "an iterator",
    ),
    "an unknown strategy": (
        "exit-handler", f"{TASKS}/report", {"triggerPolicy": {"strategy": "NEVER"}},
        BadInput, "strategy 'NEVER'",
    ),
    "a condition of a wrong type": (
        "exit-handler", f"{TASKS}/report", {"triggerPolicy": {"condition": True}},
        BadInput, "expected text, got True",
    ),
    "tries below nothing": ("nested", FIT, {"retryPolicy": {"maxRetryCount": -1}}, BadInput, "0 or more"),
    "a backoff in minutes": (
        "nested", FIT, {"retryPolicy": {"backoffDuration": "1m"}}, BadInput, "'1m' is not a duration",
    ),
    "a backoff that shrinks below 0": (
        "nested", FIT, {"retryPolicy": {"backoffFactor": -1}},
        BadInput, "factor",
    ),
    "a cache key of a wrong type": (
        "nested", FIT, {"cachingOptions": {"cacheKey": 1}},
        BadInput, "expected text",
    ),
    "an unknown option of the cache": (
        "nested", FIT, {"cachingOptions": {"ttl": 1}},
        BadInput, "unknown field 'ttl'",
    ),
    "an output from nowhere": (
        "collected", "root/dag/outputs/parameters",
        {"Output": {"valueFromOneof": {"parameterSelectors": []}}},
        BadInput, "output 'Output' has no source",
    ),
    "an output that is no source's": (
        "collected", "root/dag/outputs/parameters/Output/valueFromParameter", {"outputParameterKey": "x"},
        BadInput, "no such output 'x'",
    ),
    "an output that nobody declares": (
        "collected", "root/dag/outputs/parameters", {"more": {}},
        BadInput, "not those that the component declares",
    ),
    "a placeholder of no input": (
        "texts", f"{TASKS}/say/inputs/parameters", {"text": constant("{{$.inputs.parameters['x']}}")},
        BadInput, "an input that the task does not have: 'x'",
    ),
    "a placeholder of a placeholder": (
        "texts", f"{TASKS}/say/inputs/parameters",
        {"text": constant("{{$.inputs.parameters['x']}}"), "x": constant("{{$.pipeline_job_name}}")},
        NotSupported, "a placeholder of an input that holds placeholders itself",
    ),
    "a placeholder of commands": (
        "texts", f"{TASKS}/say/inputs/parameters", {"text": constant("{{$.outputs.output_file}}")},
        NotSupported, "the placeholder {{$.outputs.output_file}}",
    ),
    "the whole input in a text": (
        "texts", f"{TASKS}/say/inputs/parameters", {"text": constant("{{$}}")},
        NotSupported, "the placeholder {{$}}",
    ),
    "a placeholder in the environment": (
        "settings", "deploymentSpec/executors/exec-say-3/container",
        {"env": [{"name": "A", "value": "{{$.pipeline_job_name}}"}]},
        NotSupported, "a placeholder in the environment",
    ),
    "an environment twice": (
        "settings", "deploymentSpec/executors/exec-say-3/container", {"env": [{"name": "A"}, {"name": "A"}]},
        BadInput, "'A' stands here twice",
    ),
    "an environment without a name": (
        "settings", "deploymentSpec/executors/exec-say-3/container", {"env": [{"name": "A=B"}]},
        BadInput, "cannot be set",
    ),
    "half a worker": (
        "settings", "deploymentSpec/executors/exec-say-3/container",
        {"env": [{"name": "TALLY_WORKERS", "value": "1.5"}]},
        BadInput, "TALLY_WORKERS is a whole number",
    ),
    "a volume": (
        "settings", "deploymentSpec/executors/exec-say-3/container", {"image": "argostub/createpvc"},
        NotSupported, "a volume of Kubernetes (CreatePVC)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_by_hand(name: str) -> None:
    pipeline, path, change, kind, words = EDITS[name]
    spec = load(pipeline)
    (at(spec, path) if path else spec).update(change)
    with pytest.raises(kind) as wrong:
        read_pipeline(yaml.safe_dump(spec))
    assert words in wrong.value.what
    assert type(wrong.value) is kind
    assert "line " in wrong.value.where
    if "/tasks/" in path:
        assert wrong.value.where.startswith("task ") or "wait for each other" in words


def test_a_list_is_no_number_and_a_number_no_list() -> None:
    spec = load("loops")
    at(spec, "components/comp-for-loop-2/dag/tasks/one/inputs/parameters/x")["componentInputParameter"] = "y"
    spec["components"]["comp-for-loop-2"]["inputDefinitions"]["parameters"]["y"] = {
        "parameterType": "LIST", "defaultValue": [1],
    }  # fmt: skip
    with pytest.raises(
        BadInput, match=r"task for-loop-2/one, line \d+, .*it is a list, and a number was declared"
    ):
        read_pipeline(yaml.safe_dump(spec))


def test_a_list_of_artifacts_is_not_one() -> None:
    spec = load("artifact-loop")
    del at(spec, f"{TASKS}/for-loop-1")["artifactIterator"]
    inputs = at(spec, f"{TASKS}/for-loop-1/inputs/artifacts")
    at(spec, f"{TASKS}/for-loop-1")["componentRef"]["name"] = "comp-read"
    inputs["data"] = inputs.pop(next(iter(inputs)))
    at(spec, f"{TASKS}/for-loop-1").pop("iteratorPolicy")
    with pytest.raises(BadInput, match=r"task for-loop-1, line \d+, .*'Output' is a list of artifacts"):
        read_pipeline(yaml.safe_dump(spec))
