"""Compiled pipelines of functions are read as they were meant, and the core drives them to their end."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tallystick.core.pipeline.order import components
from tallystick.core.pipeline.params import check_params
from tallystick.core.pipeline.spec import (
    Constant,
    DagOutput,
    FromInput,
    FromTask,
    Function,
    Importer,
    Loop,
    Param,
    ParamType,
    Slot,
    Source,
)
from tallystick.doors.kfp.reader import read_pipeline
from tests.doors.kfp.corpus import (
    KFP_PYTHON,
    REPO,
    by_name,
    component,
    finish,
    function,
    inner,
    needs_kfp,
    path_of,
    read,
)

DIGITS = REPO / "examples/digits/pipeline.yaml"


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
        task = by_name(read("constants").root)["packed"]
        body, code = component(task), function(task)
        assert (body.name, code.name) == ("packed", "packed")
        assert code.packages == ("numpy>=2", "pandas[parquet]==2.3.3; python_version>'3'")
        assert "def packed(" in code.source
        compile(code.source, "packed.py", "exec")
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
        driven = finish(read("loops"))
        waves, inputs = driven.waves, driven.inputs
        assert len(waves[0]) == 2 + 2 + 1 + 2 + 1
        numbers = [v.params["x"] for path, v in inputs.items() if path.startswith("for-loop-2[")]
        assert sorted(numbers) == [1, 2, 3]
        assert all(isinstance(v.params["x"], int) for path, v in inputs.items() if "/one" in path)

    def test_collected(self) -> None:
        driven = finish(read("collected"), {"kinds": ["x", "y", "z"]})
        waves, inputs = driven.waves, driven.inputs
        assert [len(wave) for wave in waves] == [3, 1]
        assert inputs["best"].params == {"scores": [1, 1, 1]}
        assert [ref.digest for ref in inputs["best"].artifacts["models"]] == [
            "for-loop-1[0]/fit", "for-loop-1[1]/fit", "for-loop-1[2]/fit",
        ]  # fmt: skip
        assert driven.machine.outputs.params == {"Output": "s"}

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
            DagOutput("number", (Source("inner-graph-2", "Output"),)),
            DagOutput("model", (Source("fit", "model"),)),
        }
        driven = finish(pipeline)
        inputs, outputs = driven.inputs, driven.machine.outputs
        assert driven.waves[-1] == {"fit"}
        assert inputs["inner-graph-2/maybe"].params == {"word": "said", "note": "noted"}
        assert inputs["inner-graph/maybe"].params == {"word": "default"}
        assert [*outputs.params, *outputs.artifacts] == ["number", "model"]

    def test_optional_inputs_and_caching(self) -> None:
        pipeline = read("optional")
        tasks = by_name(pipeline.root)
        assert [tasks[name].cache.enabled for name in ("maybe", "maybe-2", "one")] == [True, False, True]
        assert tasks["maybe"].inputs == {}
        assert component(tasks["maybe"]).artifacts == (Slot("data", "system.Dataset", optional=True),)
        finish(pipeline)

    def test_a_pipeline_as_the_api_sends_it(self) -> None:
        text = path_of("loops").read_text()
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
        assert {o.name: [(s.task, s.output) for s in o.sources] for o in pipeline.root.outputs} == {
            "best": [("choose", "best")],
            "hardened": [("harden", "model")],
            "train": [("split", "train")],
            "test": [("split", "test")],
            "scores": [("evaluate", "scores")],
        }
        assert "adversarial-robustness-toolbox" in function(tasks["harden"]).packages
        assert all(task.cache.enabled for task in tasks.values() if task.loop is None)
        for path, body in components(pipeline.root):
            assert isinstance(body.code, Function)
            compile(body.code.source, f"{path}.py", "exec")

    def test_the_core_drives_it_to_its_end(self) -> None:
        driven = finish(read_pipeline(DIGITS.read_bytes()))
        waves, inputs = driven.waves, driven.inputs
        loop = {f"for-loop-1[{i}]/train" for i in range(4)}
        assert waves == [{"importer"}, {"split"}, {*loop, "harden"}, {"evaluate"}, {"choose"}]
        assert [inputs[f"for-loop-1[{i}]/train"].params["kind"] for i in range(4)] == [
            "linear", "forest", "svm", "mlp",
        ]  # fmt: skip
        assert inputs["importer"].params == {"uri": "tally://tables/digits"}
        assert len(inputs["evaluate"].artifacts["models"]) == 4
        assert {name: refs[0].digest for name, refs in driven.machine.outputs.artifacts.items()} == {
            "best": "choose", "hardened": "harden", "train": "split", "test": "split",
        }  # fmt: skip

    @needs_kfp
    def test_the_yaml_is_what_its_source_compiles_to(self, tmp_path: Path) -> None:
        command = [KFP_PYTHON, "-W", "ignore", DIGITS.with_suffix(".py"), tmp_path / "fresh.yaml"]
        subprocess.run(command, check=True, timeout=120)
        assert (tmp_path / "fresh.yaml").read_text() == DIGITS.read_text()
