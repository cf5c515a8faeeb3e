"""What runs when, and with what: conditions, exit handlers, texts made of inputs, loops over artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tallystick.core.pipeline.spec import (
    Constant,
    FinalStatus,
    FromInput,
    FromTask,
    Loop,
    Source,
    Task,
    Template,
    Trigger,
)
from tallystick.core.run.events import RunState, StepState
from tallystick.core.values import ArtifactRef, Values
from tests.doors.kfp.corpus import by_name, component, drive, finish, inner, load, made, read, read_edited

WORD = "inputs.parameter_values['pipelinechannel--word'] == 'a'"
NUMBER = "int(inputs.parameter_values['pipelinechannel--number']) > 2"


class TestConditions:
    def test_they_are_kept_as_text(self) -> None:
        branches = inner(by_name(read("conditions").root)["condition-branches-1"])
        assert {name: task.trigger for name, task in branches.items()} == {
            "condition-2": Trigger(WORD),
            "condition-3": Trigger(f"!({WORD}) && {NUMBER}"),
            "condition-4": Trigger(f"!({WORD}) && !({NUMBER})"),
        }
        assert branches["condition-2"].inputs["pipelinechannel--word"] == FromInput("pipelinechannel--word")

    def test_an_output_has_a_source_in_each_branch(self) -> None:
        branches = by_name(read("conditions").root)["condition-branches-1"]
        inner(branches)
        sources = {output.name: output.sources for output in branches.body.outputs}  # type: ignore[union-attr]  # inner() has seen that it is a graph
        assert sources["pipelinechannel--condition-branches-1-oneof-1"] == (
            Source("condition-2", "pipelinechannel--say-Output"),
            Source("condition-3", "pipelinechannel--say-2-Output"),
            Source("condition-4", "pipelinechannel--say-3-Output"),
        )
        assert [s.output for s in sources["pipelinechannel--condition-branches-1-oneof-2"]] == [
            "pipelinechannel--make-data", "pipelinechannel--make-2-data", "pipelinechannel--make-3-data",
        ]  # fmt: skip

    @pytest.mark.parametrize(("taken", "number"), [(WORD, 2), (f"!({WORD}) && {NUMBER}", 3)])
    def test_one_branch_runs(self, taken: str, number: int) -> None:
        def condition(text: str, values: Mapping[str, Any]) -> bool:
            assert "pipelinechannel--word" in values
            return text == taken

        driven = drive(read("conditions"), condition=condition)
        assert driven.machine.state is RunState.SUCCEEDED
        assert all(path.startswith(f"condition-branches-1/condition-{number}/") for path in driven.inputs)
        assert driven.machine.outputs.params == {"word": "s"}
        assert [ref.digest for ref in driven.machine.outputs.artifacts["data"]] == [
            path for path in driven.inputs if "/make" in path
        ]


class TestEnds:
    @pytest.mark.parametrize("fails", [False, True])
    def test_an_exit_handler_learns_how_it_ended(self, fails: bool) -> None:
        pipeline = read("exit-handler")
        report = by_name(pipeline.root)["report"]
        assert report.inputs == {"status": FinalStatus("exit-handler-1"), "text": FromInput("word")}
        assert (report.trigger, report.after) == (Trigger(regardless=True), ("exit-handler-1",))

        def outputs(path: str, task: Task) -> Values | None:
            return None if fails and "say" in path else made(path, task)

        driven = drive(pipeline, outputs=outputs)
        assert driven.waves == [{"exit-handler-1/say"}, {"report"}]
        assert driven.inputs["report"].params["status"]["state"] == ("FAILED" if fails else "SUCCEEDED")
        assert driven.machine.state is (RunState.FAILED if fails else RunState.SUCCEEDED)

    def test_a_failure_upstream_is_ignored_where_that_is_said(self) -> None:
        pipeline = read("ignore-upstream")
        second = by_name(pipeline.root)["say-2"]
        assert (second.trigger, second.inputs) == (
            Trigger(regardless=True),
            {"text": FromTask("say", "Output")},
        )
        driven = drive(pipeline, outputs=lambda path, task: None if path == "say" else made(path, task))
        assert driven.waves == [{"say"}, {"say-2"}]
        assert driven.inputs["say-2"].params == {"text": "a"}
        assert driven.machine.steps["say-2"].state is StepState.SUCCEEDED


class TestTexts:
    def test_what_the_component_does_not_declare_serves_the_text(self) -> None:
        task = by_name(read("texts").root)["say"]
        assert task.inputs == {
            "text": Template(
                "{{$.inputs.parameters['pipelinechannel--word']}} and "
                "{{$.inputs.parameters['pipelinechannel--number']}}"
            ),
            "pipelinechannel--word": FromInput("word"),
            "pipelinechannel--number": FromInput("number"),
        }
        assert [param.name for param in component(task).params] == ["text"]

    def test_they_are_filled_in_when_it_runs(self) -> None:
        inputs = finish(read("texts"), {"number": 4}).inputs
        assert inputs["say"].params["text"] == "a and 4"
        assert inputs["say-2"].params["text"] == "job: s"
        assert inputs["say-3"].params["text"] == "key/say-3"
        assert inputs["keep"].params["many"] == [1, "a!", {"at": "1970-01-01T00:00:00Z"}]
        assert inputs["keep"].params["named"] == {"k": "s"}
        assert [inputs[f"for-loop-2[{n}]/say-4"].params["text"] for n in range(2)] == ["<key>", "<b>"]

    def test_what_is_no_placeholder_stays_as_it_is(self) -> None:
        spec = load("texts")
        said = spec["root"]["dag"]["tasks"]["say-3"]["inputs"]["parameters"]["text"]["runtimeValue"]
        for text in ("{{$x}} {{ y }}", "{{$", "{{$.", "{{$.open", "{$.x}"):
            said["constant"] = text
            assert by_name(read_edited(spec).root)["say-3"].inputs["text"] == Constant(text)


class TestLoopsOverArtifacts:
    def test_the_items_are_artifacts(self) -> None:
        pipeline = read("artifact-loop")
        task = by_name(pipeline.root)["for-loop-1"]
        assert task.loop == Loop(
            FromTask("several-graph", "Output"),
            "pipelinechannel--several-graph-Output-loop-item",
            3,
            artifacts=True,
        )
        driven = finish(pipeline)
        assert driven.waves[-1] == {"for-loop-1[0]/read", "for-loop-1[1]/read"}
        assert [ref.digest for ref in driven.inputs["for-loop-1[1]/read"].artifacts["data"]] == [
            "several-graph/for-loop-2[1]/make"
        ]


class TestLoopsAroundASingleComponent:
    """kfp's compiler always writes a graph; PipelineSpec asks for none."""

    def looped(self) -> Any:
        spec = load("ignore-upstream")
        tasks = spec["root"]["dag"]["tasks"]
        tasks["say"] |= {
            "parameterIterator": {"itemInput": "text", "items": {"raw": '["x", "y"]'}},
            "iteratorPolicy": {"parallelismLimit": 1},
            "retryPolicy": {"maxRetryCount": 2},
            "triggerPolicy": {"condition": "true"},
            "inputs": {"parameters": {"other": {"runtimeValue": {"constant": 1}}}},
        }
        tasks["say-2"]["inputs"]["parameters"] = {"text": {"runtimeValue": {"constant": "b"}}}
        return spec

    def test_it_gets_a_graph_of_its_own(self) -> None:
        task = by_name(read_edited(self.looped()).root)["say"]
        one = inner(task)["say"]
        assert task.loop == Loop(Constant(["x", "y"]), "text", 1)
        assert (task.trigger.condition, one.trigger) == ("true", Trigger())
        assert (task.retry.tries, one.retry.tries) == (0, 2)
        assert one.inputs == {"other": FromInput("other"), "text": FromInput("text")}
        assert component(one).params[0].name == "text"

    def test_it_runs_once_for_each_item(self) -> None:
        driven = finish(read_edited(self.looped()))
        assert driven.waves == [{"say[0]/say"}, {"say[1]/say"}, {"say-2"}]
        assert [driven.inputs[f"say[{n}]/say"].params["text"] for n in range(2)] == ["x", "y"]

    def test_its_outputs_are_lists(self) -> None:
        spec = self.looped()
        tasks = spec["root"]["dag"]["tasks"]
        out = {"taskOutputParameter": {"producerTask": "say", "outputParameterKey": "Output"}}
        tasks["say-2"]["inputs"]["parameters"] = {"many": out}
        assert finish(read_edited(spec)).inputs["say-2"].params["many"] == ["s", "s"]

    def test_importers_too(self) -> None:
        spec = load("imported")
        task = spec["root"]["dag"]["tasks"]["importer"]
        task["inputs"] = {}
        task["parameterIterator"] = {"itemInput": "uri", "items": {"raw": '["a:/1", "a:/2"]'}}
        del spec["root"]["dag"]["tasks"]["read"]
        driven = finish(read_edited(spec))
        assert [driven.inputs[f"importer[{n}]/importer"].params for n in range(2)] == [
            {"uri": "a:/1"}, {"uri": "a:/2"},
        ]  # fmt: skip

    def test_over_artifacts(self) -> None:
        spec = load("artifact-loop")
        task = spec["root"]["dag"]["tasks"]["for-loop-1"]
        task["componentRef"]["name"] = "comp-read"
        task["inputs"]["artifacts"] = {"all": next(iter(task["inputs"]["artifacts"].values()))}
        task["artifactIterator"] = {"itemInput": "data", "items": {"inputArtifact": "all"}}
        artifact = {"artifactType": {"schemaTitle": "system.Artifact"}, "isArtifactList": True}
        spec["components"]["comp-read"]["inputDefinitions"]["artifacts"]["all"] = artifact
        spec["components"]["comp-read"]["inputDefinitions"]["artifacts"]["all"]["isOptional"] = True
        driven = finish(read_edited(spec))
        (ref,) = driven.inputs["for-loop-1[1]/for-loop-1"].artifacts["data"]
        assert isinstance(ref, ArtifactRef)
        assert ref.digest.startswith("several-graph/")
