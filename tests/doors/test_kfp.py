"""Compiled pipelines are read as they were meant, and the core drives them to their end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tallystick.core.pipeline import (
    Component,
    Constant,
    Dag,
    DagOutput,
    FromInput,
    FromTask,
    Importer,
    Loop,
    Param,
    ParamType,
    Pipeline,
    Slot,
    Task,
    check_params,
    components,
)
from tallystick.core.run import Began, EndRun, Run, RunState, StartStep, StepEnded, StepState, decide
from tallystick.core.values import ArtifactRef, Values
from tallystick.doors.kfp.reader import read_pipeline

REPO = Path(__file__).parents[2]
HERE = Path(__file__).with_name("pipelines")
DIGITS = REPO / "examples/digits/pipeline.yaml"
KFP_PYTHON = Path(os.environ.get("TALLY_KFP_PYTHON", REPO / ".venv-kfp/bin/python"))

needs_kfp = pytest.mark.skipif(
    not KFP_PYTHON.exists(), reason=f"no kfp SDK at {KFP_PYTHON}: make .venv-kfp, or set TALLY_KFP_PYTHON"
)


def read(name: str) -> Pipeline:
    return read_pipeline((HERE / "supported" / f"{name}.yaml").read_bytes())


def by_name(dag: Dag) -> dict[str, Task]:
    return {task.name: task for task in dag.tasks}


def inner(task: Task) -> dict[str, Task]:
    assert isinstance(task.body, Dag)
    return by_name(task.body)


def component(task: Task) -> Component:
    assert isinstance(task.body, Component)
    return task.body


def fake(path: str, body: Component) -> Values:
    """Outputs of the declared kinds: a number counts for any, and a file says which step made it."""
    values = {ParamType.LIST: [{"a": 1}, {"a": 2}], ParamType.STRUCT: {"a": 1}, ParamType.STRING: "s"}
    return Values(
        {p.name: values.get(p.type, 1) for p in body.out_params},
        {a.name: (ArtifactRef(a.name, path, a.schema),) for a in body.out_artifacts},
    )


def drive(
    pipeline: Pipeline, params: Mapping[str, Any], outputs: Callable[[str, Component], Values] = fake
) -> tuple[list[set[str]], dict[str, Values], Run]:
    """Run with fake outputs, wave by wave: what started at once, each step's inputs, and the end."""
    run = Run("r", pipeline.name, "sha256:" + "0" * 64, check_params(pipeline, params))
    run, effects = decide(run, pipeline, Began(1), slots=100)
    waves: list[set[str]] = []
    inputs: dict[str, Values] = {}
    while starts := [e.ready for e in effects if isinstance(e, StartStep)]:
        waves.append({ready.path for ready in starts})
        effects = ()
        for ready in starts:
            inputs[ready.path] = ready.inputs
            body = ready.task.body
            made = (
                outputs(ready.path, body)
                if isinstance(body, Component)
                else Values({}, {"artifact": (ArtifactRef("artifact", "imported"),)})
            )
            run, more = decide(run, pipeline, StepEnded(ready.path, StepState.SUCCEEDED, 2, made), slots=100)
            effects += more
    assert effects == (EndRun(RunState.SUCCEEDED),), run.error
    return waves, inputs, run


class TestConstants:
    def test_every_type_keeps_its_own(self) -> None:
        task = by_name(read("constants").root)["packed"]
        values = {name: b.value for name, b in task.inputs.items() if isinstance(b, Constant)}
        assert values == {
            "text": "a", "whole": 7, "real": 3.0, "yes": True, "many": [1, 2.5, [3]],
            "named": {"n": 1, "r": 0.5},
        }  # fmt: skip
        assert [type(values["whole"]), type(values["real"]), type(values["many"][0])] == [int, float, int]

    def test_defaults_of_the_pipeline(self) -> None:
        pipeline = read("constants")
        assert pipeline.description == "A constant of each type."
        assert check_params(pipeline, {}) == {
            "whole": 3, "real": 2.0, "many": [1, 2.5, {"deep": 4}], "named": {"k": [1]},
        }  # fmt: skip
        assert [type(p.default) for p in pipeline.params] == [list, dict, float, int]

    def test_the_function_and_what_it_asks_for(self) -> None:
        body = component(by_name(read("constants").root)["packed"])
        assert (body.name, body.function) == ("packed", "packed")
        assert body.packages == ("numpy>=2", "pandas[parquet]==2.3.3; python_version>'3'")
        assert "def packed(" in body.source
        compile(body.source, "packed.py", "exec")
        assert Param("plain", ParamType.STRING, "as said", True) in body.params
        assert body.out_artifacts == (Slot("model", "system.Model"),)

    def test_a_copy_of_a_component_is_the_same_component(self) -> None:
        tasks = by_name(read("constants").root)
        assert tasks["packed"].body == tasks["packed-2"].body


class TestGraphs:
    def test_importers(self) -> None:
        tasks = by_name(read("imported").root)
        assert tasks["importer"].body == Importer(FromInput("uri"), "system.Dataset")
        assert tasks["importer-2"].body == Importer(Constant("tally://tables/other@s1"), "system.Dataset")
        assert tasks["read"].inputs == {"data": FromTask("importer", "artifact")}

    def test_loops(self) -> None:
        tasks = by_name(read("loops").root)
        loops = [task.loop for task in tasks.values() if task.loop]
        assert Loop(Constant([1, 2, 3]), "pipelinechannel--loop-item-param-1", 2) in loops
        assert Loop(FromInput("kinds"), "pipelinechannel--kinds-loop-item") in loops
        assert Loop(FromTask("listing", "Output"), "pipelinechannel--listing-Output-loop-item") in loops
        rows = next(t for t in tasks.values() if t.loop and t.loop.items == FromInput("rows"))
        assert inner(rows)["one-2"].inputs == {"x": FromInput("pipelinechannel--rows-loop-item", "n")}
        within = next(t.loop for t in inner(rows).values() if t.loop)
        assert within.items == FromInput("pipelinechannel--rows-loop-item", "inner")

    def test_loops_run(self) -> None:
        waves, inputs, _ = drive(read("loops"), {})
        assert len(waves[0]) == 2 + 2 + 1 + 2 + 1
        numbers = [v.params["x"] for path, v in inputs.items() if path.startswith("for-loop-2[")]
        assert sorted(numbers) == [1, 2, 3]
        assert all(isinstance(v.params["x"], int) for path, v in inputs.items() if "/one" in path)

    def test_collected(self) -> None:
        waves, inputs, run = drive(read("collected"), {"kinds": ["x", "y", "z"]})
        assert [len(wave) for wave in waves] == [3, 1]
        assert inputs["best"].params == {"scores": [1, 1, 1]}
        assert [ref.digest for ref in inputs["best"].artifacts["models"]] == [
            "for-loop-1[0]/fit", "for-loop-1[1]/fit", "for-loop-1[2]/fit",
        ]  # fmt: skip
        assert run.outputs.params == {"Output": "s"}

    def test_nested_graphs_and_their_defaults(self) -> None:
        pipeline = read("nested")
        tasks = by_name(pipeline.root)
        assert tasks["inner-graph"].inputs == {"x": FromInput("x"), "word": Constant("default")}
        assert inner(tasks["inner-graph"])["maybe"].inputs == {"word": FromInput("word")}
        assert inner(tasks["inner-graph-2"])["maybe"].inputs == {
            "note": FromInput("note"),
            "word": FromInput("word"),
        }
        assert tasks["fit"].after == ("inner-graph-2",)
        assert set(pipeline.root.outputs) == {
            DagOutput("number", "inner-graph-2", "Output"),
            DagOutput("model", "fit", "model"),
        }
        waves, inputs, run = drive(pipeline, {})
        assert waves[-1] == {"fit"}
        assert inputs["inner-graph-2/maybe"].params == {"word": "said", "note": "noted"}
        assert inputs["inner-graph/maybe"].params == {"word": "default"}
        assert [*run.outputs.params, *run.outputs.artifacts] == ["number", "model"]

    def test_optional_inputs_and_caching(self) -> None:
        pipeline = read("optional")
        tasks = by_name(pipeline.root)
        assert [tasks[name].cache for name in ("maybe", "maybe-2", "one")] == [True, False, True]
        assert tasks["maybe"].inputs == {}
        assert component(tasks["maybe"]).artifacts == (Slot("data", "system.Dataset", optional=True),)
        drive(pipeline, {})

    def test_a_pipeline_as_the_api_sends_it(self) -> None:
        text = (HERE / "supported/loops.yaml").read_text()
        body = "\n".join(f"  {line}" for line in text.splitlines())
        assert read_pipeline(f"pipeline_spec:\n{body}\n") == read("loops")


class TestDigits:
    def test_what_it_is(self) -> None:
        pipeline = read_pipeline(DIGITS.read_bytes())
        assert check_params(pipeline, {}) == {
            "data": "tally://tables/digits", "eps": 0.15, "seed": 7,
            "kinds": ["linear", "forest", "svm", "mlp"],
        }  # fmt: skip
        tasks = by_name(pipeline.root)
        assert set(tasks) == {"importer", "split", "for-loop-1", "harden", "evaluate", "choose"}
        assert tasks["importer"].body == Importer(FromInput("data"), "system.Dataset")
        assert {o.name: (o.task, o.output) for o in pipeline.root.outputs} == {
            "best": ("choose", "best"),
            "hardened": ("harden", "model"),
            "test": ("split", "test"),
            "scores": ("evaluate", "scores"),
        }
        assert "adversarial-robustness-toolbox" in component(tasks["harden"]).packages
        assert all(task.cache for _, task in tasks.items() if isinstance(task.body, Component))
        for path, body in components(pipeline.root):
            compile(body.source, f"{path}.py", "exec")

    def test_the_core_drives_it_to_its_end(self) -> None:
        waves, inputs, run = drive(read_pipeline(DIGITS.read_bytes()), {})
        loop = {f"for-loop-1[{i}]/train" for i in range(4)}
        assert waves == [{"importer"}, {"split"}, {*loop, "harden"}, {"evaluate"}, {"choose"}]
        assert [inputs[f"for-loop-1[{i}]/train"].params["kind"] for i in range(4)] == [
            "linear", "forest", "svm", "mlp",
        ]  # fmt: skip
        assert inputs["importer"].params == {"uri": "tally://tables/digits"}
        assert len(inputs["evaluate"].artifacts["models"]) == 4
        assert {name: refs[0].digest for name, refs in run.outputs.artifacts.items()} == {
            "best": "choose", "hardened": "harden", "test": "split",
        }  # fmt: skip

    @needs_kfp
    def test_the_yaml_is_what_its_source_compiles_to(self, tmp_path: Path) -> None:
        command = [KFP_PYTHON, "-W", "ignore", DIGITS.with_suffix(".py"), tmp_path / "fresh.yaml"]
        subprocess.run(command, check=True, timeout=120)
        assert (tmp_path / "fresh.yaml").read_text() == DIGITS.read_text()


@needs_kfp
def test_the_yaml_of_these_tests_is_what_its_source_compiles_to(tmp_path: Path) -> None:
    subprocess.run([KFP_PYTHON, HERE / "compile.py", tmp_path], check=True, timeout=120)
    assert meaning(tmp_path) == meaning(HERE)


def meaning(folder: Path) -> dict[Path, list[str]]:
    """The lines of each file, but for the comment at its top, where kfp writes a dict in any order."""
    return {
        file.relative_to(folder): [line for line in file.read_text().splitlines() if line[:1] != "#"]
        for file in folder.rglob("*.yaml")
    }
