"""What a single step is and asks for: commands, images, limits, retries, importers with metadata."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.pipeline.amounts import settled
from tallystick.core.pipeline.order import components
from tallystick.core.pipeline.spec import (
    Cache,
    Constant,
    FromInput,
    FromTask,
    Function,
    Importer,
    Resources,
    Retry,
    Template,
)
from tallystick.doors.kfp.node import Node
from tallystick.doors.kfp.resources import read_quantity
from tests.doors.kfp.corpus import (
    by_name,
    command,
    component,
    finish,
    function,
    importer,
    load,
    read,
    read_edited,
)


class TestCommands:
    def test_a_command_keeps_its_placeholders(self) -> None:
        task = by_name(read("commands").root)["train"]
        code = command(task)
        assert (component(task).name, code.image) == ("train", "registry.invalid/trainer:2")
        assert code.command == (
            "train",
            "{{$.inputs.artifacts['data'].path}}",
            {
                "Concat": [
                    "--eps=", "{{$.inputs.parameters['eps']}}", ";", "{{$.inputs.artifacts['data'].uri}}",
                ]
            },
        )  # fmt: skip
        assert code.args == (
            "{{$.outputs.artifacts['model'].path}}/{{$.pipeline_task_name}}",
            "{{$.outputs.artifacts['model'].uri}}",
            "{{$.outputs.artifacts['scores'].metadata}}",
            "{{$.inputs.artifacts['data'].metadata['rows']}}",
            "{{$.outputs.parameters['length'].output_file}}",
            {
                "IfPresent": {
                    "InputName": "note",
                    "Then": ["--note", "{{$.inputs.parameters['note']}}"],
                    "Else": ["--silent"],
                }
            },
            {
                "IfPresent": {
                    "InputName": "note",
                    "Then": {"Concat": ["--said=", "{{$.inputs.parameters['note']}}"]},
                }
            },
            "{{$}}",
            "{{$.outputs.output_file}}",
            "{{$.pipeline_root}}",
        )

    def test_a_copy_of_a_command_is_the_same_component(self) -> None:
        tasks = by_name(read("commands").root)
        assert tasks["train"].body == tasks["train-2"].body
        finish(read("commands"))

    def test_a_function_in_an_image_of_its_own_stays_a_command(self) -> None:
        tasks = by_name(read("commands").root)
        code = command(tasks["elsewhere"])
        assert (code.image, code.args[3], len(code.command)) == (
            "tensorflow/tensorflow:2.19.0",
            "elsewhere",
            7,
        )
        assert command(tasks["built"]).command == ("python3", "-m", "kfp.dsl.executor_main")

    def test_a_source_with_a_placeholder_stays_a_command(self) -> None:
        spec = load("ignore-upstream")
        words = spec["deploymentSpec"]["executors"]["exec-say"]["container"]["command"]
        words[-1] += "NAME = '{{$.pipeline_job_name}}'\n"
        assert command(by_name(read_edited(spec).root)["say"]).command[-1] == words[-1]

    def test_an_image_may_be_an_input(self) -> None:
        spec = load("commands")
        container = spec["deploymentSpec"]["executors"]["exec-train"]["container"]
        container["image"] = "{{$.inputs.parameters['note']}}"
        assert command(by_name(read_edited(spec).root)["train"]).image == container["image"]
        container["image"] = "{{$.inputs.parameters['nothing']}}"
        with pytest.raises(BadInput, match="an input that the task does not have: 'nothing'"):
            read_edited(spec)

    @pytest.mark.parametrize(
        ("word", "kind", "words"),
        [
            ("{{$.inputs.parameters['nothing']}}", BadInput, "names nothing that the component has"),
            ("{{$.outputs.parameters['eps'].output_file}}", BadInput, "names nothing"),
            ("{{$.inputs.artifacts['data'].size}}", NotSupported, "the placeholder"),
            ("{{$.outputs.parameters['length']}}", NotSupported, "the placeholder"),
            ("{{$.inputs.parameters['eps'].json_escape[1]}}", NotSupported, "the placeholder"),
            ("{{$.unheard_of}}", NotSupported, "{{$.unheard_of}}"),
            ('{"Concat": [', BadInput, "is not JSON"),
            ('{"Concat": "ab"}', BadInput, "text, Concat or IfPresent"),
            ('{"Concat": [["a"]]}', BadInput, "text, Concat or IfPresent"),
            ('{"Concat": ["a"], "x": 1}', BadInput, "text, Concat or IfPresent"),
            ('{"Concat": [1]}', BadInput, "text, Concat or IfPresent"),
            ('{"IfPresent": {"InputName": "note"}}', BadInput, "InputName, Then and Else"),
            ('{"IfPresent": {"InputName": "note", "Then": "a", "Otherwise": "b"}}', BadInput, "nothing else"),
            ('{"IfPresent": {"InputName": "nothing", "Then": "a"}}', BadInput, "no input of the component"),
            ('{"IfPresent": {"InputName": "note", "Then": "{{$.x}}"}}', NotSupported, "{{$.x}}"),
            ('{"Concat": [' * 30 + '"a"' + "]}" * 30, BadInput, "deeper than 20"),
            ('{"Concat": [' * 100_000, BadInput, "is not JSON"),
            (7, BadInput, "expected text, got 7"),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_a_word_that_cannot_be(self, word: Any, kind: type[BadInput], words: str) -> None:
        spec = load("commands")
        spec["deploymentSpec"]["executors"]["exec-train"]["container"]["args"] = ["fine", word]
        with pytest.raises(kind) as wrong:
            read_edited(spec)
        assert words in wrong.value.what
        assert type(wrong.value) is kind
        assert "executors.exec-train.container.args.1" in wrong.value.where
        assert wrong.value.where.startswith("task train, line ")


class TestSettings:
    def tasks(self) -> Any:
        return by_name(read("settings").root)

    def test_retries(self) -> None:
        tasks = self.tasks()
        assert tasks["say"].retry == Retry(2, 0.0, 2.0, 3600.0)
        assert tasks["say-2"].retry == Retry(3, 3.0, 1.5, 60.0)
        assert tasks["say-3"].retry == Retry()

    @pytest.mark.parametrize(
        ("said", "retry"),
        [
            ({}, Retry()),
            ({"maxRetryCount": 1}, Retry(1)),
            ({"maxRetryCount": 1.0, "backoffFactor": 0}, Retry(1)),
            ({"maxRetryCount": 2, "backoffDuration": "3.5s"}, Retry(2, 3.5)),
            ({"maxRetryCount": 2, "backoffDuration": "0.000000001s", "backoffMaxDuration": "9s"},
             Retry(2, 1e-9, 2.0, 9.0)),
        ],
    )  # fmt: skip
    def test_a_retry_that_leaves_things_open(self, said: Any, retry: Retry) -> None:
        spec = load("settings")
        spec["root"]["dag"]["tasks"]["say"]["retryPolicy"] = said
        assert by_name(read_edited(spec).root)["say"].retry == retry

    def test_the_environment(self) -> None:
        assert component(self.tasks()["say-3"]).env == {"NAME": "value", "EMPTY": ""}

    def test_workers(self) -> None:
        spec = load("settings")
        wanted = [{"name": "TALLY_WORKERS", "value": "3"}]
        spec["deploymentSpec"]["executors"]["exec-say-3"]["container"]["env"] = wanted
        assert component(by_name(read_edited(spec).root)["say-3"]).resources == Resources(workers=3)

    def test_resources(self) -> None:
        tasks = self.tasks()
        assert component(tasks["say-4"]).resources == Resources(
            1.5, 4 * 2**30, cpus_least=0.5, memory_bytes_least=100_000_000
        )
        assert component(tasks["say-5"]).resources == Resources(gpus=2)
        assert component(tasks["say"]).resources == Resources()

    def test_the_cache(self) -> None:
        tasks = self.tasks()
        assert tasks["say"].cache == Cache()
        assert tasks["say-6"].cache == Cache(True, "mine")
        assert tasks["say-7"].cache == Cache(False)

    def test_an_index_of_packages(self) -> None:
        code = function(self.tasks()["indexed"])
        assert code.packages == ("numpy",)
        assert code.index_urls == ("https://one.invalid/simple", "https://two.invalid/simple")
        assert code.trusted_hosts == ("one.invalid",)

    def test_allowed_values(self) -> None:
        spec = load("settings")
        params = spec["components"]["comp-say"]["inputDefinitions"]["parameters"]
        params["text"] |= {"literals": ["a", "b"]}
        (param,) = next(body for path, body in components(read_edited(spec).root) if path == "say").params
        assert (param.literals, param.default) == (("a", "b"), "a")
        params["text"]["defaultValue"] = "c"
        with pytest.raises(BadInput, match=r"parameters\.text\.defaultValue: parameter 'text' is 'c'"):
            read_edited(spec)
        params["text"]["literals"] = [1]
        with pytest.raises(BadInput, match=r"literals\.0: a STRING was declared, got 1"):
            read_edited(spec)


class TestResources:
    def resources(self, said: Any) -> Resources:
        spec = load("settings")
        spec["deploymentSpec"]["executors"]["exec-say-4"]["container"]["resources"] = said
        return component(by_name(read_edited(spec).root)["say-4"]).resources

    @pytest.mark.parametrize(
        ("said", "resources"),
        [
            ({}, Resources()),
            ({"cpuLimit": 2, "memoryLimit": 0.5}, Resources(2.0, 500_000_000)),
            ({"cpuLimit": 9, "resourceCpuLimit": "250m"}, Resources(0.25)),
            ({"cpuLimit": 2, "resourceCpuLimit": ""}, Resources(2.0)),
            ({"cpuRequest": 0.1, "memoryRequest": 1}, Resources(cpus_least=0.1, memory_bytes_least=10**9)),
            ({"resourceMemoryLimit": "1e3"}, Resources(memory_bytes=1000)),
            ({"resourceMemoryLimit": "0.5"}, Resources(memory_bytes=1)),
            ({"accelerator": {"type": "NVIDIA_TESLA_K80", "count": "4"}}, Resources(gpus=4)),
            ({"accelerator": {"resourceType": "amd.com/gpu", "resourceCount": "1"}}, Resources(gpus=1)),
            ({"accelerator": {"type": "nvidia.com/gpu"}}, Resources()),
        ],
        ids=str,
    )
    def test_both_forms(self, said: Any, resources: Resources) -> None:
        assert self.resources(said) == resources

    @pytest.mark.parametrize(
        ("said", "kind", "words"),
        [
            ({"cpuLimit": "2"}, BadInput, "expected a number"),
            ({"cpuLimit": -1}, BadInput, "not an amount"),
            ({"cpuLimit": 1e300}, BadInput, "not an amount"),
            ({"resourceCpuLimit": "two"}, BadInput, "'two' is not a quantity"),
            ({"resourceMemoryLimit": "-4Gi"}, BadInput, "not a quantity"),
            ({"resourceMemoryLimit": "99E"}, BadInput, "more than there can be"),
            ({"resourceMemoryLimit": 4}, BadInput, "expected text, got 4"),
            ({"cpuLimit": 1, "cpuRequest": 2}, BadInput, "more at least than at most"),
            ({"cpus": 1}, BadInput, "unknown field 'cpus'"),
            ({"accelerator": {"resourceType": "nvidia.com/gpu", "resourceCount": "0.5"}}, BadInput,
             "no number of GPUs"),
            ({"accelerator": {"type": "cloud-tpus.google.com/v3", "count": 1}}, NotSupported, "accelerator"),
            ({"accelerator": {"type": "habana.ai/gaudi", "count": 1}}, NotSupported, "'habana.ai/gaudi'"),
            ({"accelerator": {"type": "nvidia.com/gpu", "count": -1}}, BadInput, "whole number"),
            ({"resourceCpuLimit": "{{$.inputs.parameters['cpus']}}"}, NotSupported,
             "only when the step starts"),
        ],
        ids=str,
    )  # fmt: skip
    def test_what_cannot_be_asked_for(self, said: Any, kind: type[BadInput], words: str) -> None:
        with pytest.raises(kind) as wrong:
            self.resources(said)
        assert words in wrong.value.what
        assert type(wrong.value) is kind
        assert wrong.value.where.startswith("task say-4, line ")

    def test_amounts_that_inputs_tell_are_known_later(self) -> None:
        asked = component(by_name(read("dynamic-limit").root)["say-2"]).resources
        assert asked == Resources(
            later=(
                ("cpus", "pipelinechannel--cpus"),
                ("memory_bytes", "pipelinechannel--say-Output"),
                ("accelerator", "pipelinechannel--gpu"),
                ("gpus", "pipelinechannel--gpus"),
            )
        )
        told = {
            "pipelinechannel--cpus": "500m", "pipelinechannel--say-Output": "1Gi",
            "pipelinechannel--gpu": "nvidia.com/gpu", "pipelinechannel--gpus": 2,
        }  # fmt: skip
        assert settled(asked, told) == Resources(0.5, 2**30, 2)
        for name, value, words in [
            ("cpus", "two", "not a quantity"), ("cpus", None, "is None"), ("cpus", True, "is True"),
            ("gpus", "0.5", "'0.5' is no number of GPUs"), ("gpu", "tpu", "the accelerator 'tpu'"),
        ]:  # fmt: skip
            with pytest.raises(BadInput, match=words):
                settled(asked, {**told, f"pipelinechannel--{name}": value})

    def test_an_input_that_is_a_constant_is_known(self) -> None:
        spec = load("settings")
        container = spec["deploymentSpec"]["executors"]["exec-say-4"]["container"]
        container["resources"] = {"resourceCpuLimit": "{{$.inputs.parameters['cpus']}}"}
        inputs = {"parameters": {"cpus": {"runtimeValue": {"constant": "2"}}}}
        spec["root"]["dag"]["tasks"]["say-4"]["inputs"] = inputs
        assert component(by_name(read_edited(spec).root)["say-4"]).resources == Resources(2.0)

    @given(st.integers(0, 10**6), st.sampled_from(["", "k", "M", "Ki", "Mi", "m"]))
    def test_quantities_are_exact(self, number: int, suffix: str) -> None:
        units = {"": 1, "k": 1000, "M": 10**6, "Ki": 1024, "Mi": 1024**2}
        said = read_quantity(Node("", 1), f"{number}{suffix}")
        assert said * 1000 == number if suffix == "m" else said == number * units[suffix]


class TestImporters:
    def test_artifacts_that_a_pipeline_is_given_are_imported(self) -> None:
        pipeline = read("handed-in")
        tasks = by_name(pipeline.root)
        assert [param.name for param in pipeline.params] == ["data", "other_data"]
        assert tasks["input-data"].body == Importer(FromInput("data"), "system.Dataset")
        assert tasks["input-other_data"].body == Importer(FromInput("other_data"), "system.Dataset")
        assert tasks["read"].inputs == {"data": FromTask("input-data", "artifact")}
        driven = finish(pipeline, {"data": "tally://tables/t", "other_data": "tally://runs/r/o"})
        assert driven.waves == [{"input-data", "input-other_data"}, {"read", "read-2"}]
        assert driven.inputs["input-other_data"].params == {"uri": "tally://runs/r/o"}
        with pytest.raises(BadInput, match="parameter 'data' has no value"):
            finish(pipeline)

    def test_those_that_it_may_be_given_are_parameters_that_may_be_absent(self) -> None:
        pipeline = read("perhaps-handed-in")
        tasks, optional = by_name(pipeline.root), {p.name: p.optional for p in pipeline.params[1:]}
        # A step that is sure to run cannot do without it, whatever the pipeline's author says.
        assert optional == {"loose": True, "nested": True, "branch": True, "needed": False}
        assert importer(tasks["input-loose"]).optional > importer(tasks["input-needed"]).optional
        assert tasks["within"].inputs == {"data": FromTask("input-nested", "artifact")}
        with pytest.raises(BadInput, match="parameter 'needed' has no value"):
            finish(pipeline)
        assert finish(pipeline, {"needed": "u"}).inputs["input-loose"].params == {"uri": None}

    def test_such_an_importer_has_a_name_of_its_own(self) -> None:
        spec = load("handed-in")
        tasks = spec["root"]["dag"]["tasks"]
        tasks["input-data"] = tasks.pop("read-2")
        names = by_name(read_edited(spec).root).keys()
        assert names == {"read", "input-data", "input-data-0", "input-other_data"}

    def test_metadata_with_inputs_in_it(self) -> None:
        tasks = by_name(read("metadata").root)
        assert tasks["importer"].body == Importer(
            FromInput("uri"),
            "system.Dataset",
            {
                "by": "{{$.inputs.parameters['metadata']}}",
                "{{$.inputs.parameters['metadata']}}-rows": [
                    1, 2.5, "about {{$.inputs.parameters['metadata-2']}}",
                ],
                "fixed": {"a": True},
            },
        )  # fmt: skip
        assert tasks["importer"].inputs == {
            "uri": FromInput("uri"),
            "metadata": FromInput("who"),
            "metadata-2": FromInput("uri"),
        }

    def test_a_text_as_uri(self) -> None:
        task = by_name(read("metadata").root)["importer-2"]
        assert importer(task).uri == Template("{{$.inputs.parameters['pipelinechannel--uri']}}@s1")
        inputs = finish(read("metadata")).inputs
        assert inputs["importer-2"].params["uri"] == "tally://tables/digits@s1"
        assert inputs["importer"].params == {
            "uri": "tally://tables/digits", "metadata": "me", "metadata-2": "tally://tables/digits",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("uri", "found"),
        [
            ("s3://b/{{$.pipeline_job_name}}", Template("s3://b/{{$.pipeline_job_name}}")),
            ("s3://b/k", Constant("s3://b/k")),
            ("{{$.inputs.parameters['uri']}}", FromInput("uri")),
        ],
    )
    def test_a_constant_uri(self, uri: str, found: Any) -> None:
        spec = load("metadata")
        spec["deploymentSpec"]["executors"]["exec-importer"]["importer"]["artifactUri"] = {"constant": uri}
        task = spec["root"]["dag"]["tasks"]["importer"]
        if not isinstance(found, FromInput):
            del task["inputs"]["parameters"]["uri"]
        assert importer(by_name(read_edited(spec).root)["importer"]).uri == found

    def test_metadata_that_names_nothing(self) -> None:
        spec = load("metadata")
        said = spec["deploymentSpec"]["executors"]["exec-importer"]["importer"]["metadata"]
        said["x"] = "{{$.inputs.parameters['nothing']}}"
        with pytest.raises(BadInput, match=r"importer\.metadata: a placeholder names an input .* 'nothing'"):
            read_edited(spec)
        said["x"] = "{{$.outputs.output_file}}"
        with pytest.raises(NotSupported, match=r"the placeholder \{\{\$\.outputs\.output_file\}\}"):
            read_edited(spec)


def test_a_workspace_and_a_root() -> None:
    pipeline = read("workspace")
    assert (pipeline.root_uri, pipeline.workspace_bytes) == ("s3://bucket/root", 2 * 2**30)
    tasks = by_name(pipeline.root)
    assert tasks["say"].inputs == {"text": Template("{{$.workspace_path}}/file")}
    assert importer(tasks["importer"]).uri == Constant("tally://tables/t")


def test_every_function_is_read_as_one() -> None:
    for name in ("settings", "metadata", "workspace", "texts", "conditions"):
        assert all(isinstance(body.code, Function) for _, body in components(read(name).root))
