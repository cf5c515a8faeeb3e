"""The errand ``inspect``: what a model says of itself, and that it keeps it on its own example."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Failed, NotSupported
from tallystick.core.facts import from_json
from tallystick.core.model import TensorSpec
from tallystick.crew.inspect import main
from tallystick.evidence.supply import Inspected, Standing
from tests.crew.at_desk import done, send
from tests.fakes.machine.maker import run_maker
from tests.fakes.models import build

PROGRAM = """
import sys
import mlflow.pyfunc, mlflow.sklearn, numpy as np, onnx
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import Schema, TensorSpec
from onnx import helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
import mlflow.onnx

quick = {"pip_requirements": ["mlflow"]}
x = helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["n", 3])
y = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["n", 3])
graph = helper.make_graph([helper.make_node("Neg", ["pixels"], ["out"])], "neg", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
signature = ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, 3), "pixels")]))
mlflow.onnx.save_model(
    model, sys.argv[1] + "/named", signature=signature,
    input_example={"pixels": np.ones((2, 3), np.float32)}, **quick,
)
data = load_iris(as_frame=True)
fitted = LogisticRegression(max_iter=1000).fit(data.data, data.target)
signature = infer_signature(data.data, fitted.predict(data.data))
mlflow.sklearn.save_model(
    fitted, sys.argv[1] + "/frame", signature=signature, input_example=data.data[:3], **quick
)
fitted = LogisticRegression(max_iter=1000).fit(data.data.to_numpy(), data.target)
signature = infer_signature(data.data.to_numpy())
mlflow.sklearn.save_model(
    fitted, sys.argv[1] + "/array", signature=signature, input_example=data.data.to_numpy()[:3], **quick
)
mlflow.sklearn.save_model(
    fitted, sys.argv[1] + "/pickled", signature=signature, serialization_format="cloudpickle", **quick
)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return build(tmp_path_factory)


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> Path:
    """Models that MLflow saved with an input example: named (ONNX), frame and array (scikit-learn)."""
    folder = tmp_path_factory.mktemp("examples")
    run_maker("-c", PROGRAM, str(folder))
    return folder


def inspected(folder: Path) -> dict:
    return done(main, {"folder": str(folder)})


def test_a_model_without_an_example(models: Path) -> None:
    found = send("inspect", {"folder": str(models / "forest")})
    assert found["flavors"] == ["onnx", "python_function"]
    assert [from_json(TensorSpec, s) for s in found["inputs"]] == [TensorSpec("X", "FP32", (-1, 64))]
    assert [s["name"] for s in found["outputs"]] == ["label", "probabilities"]
    assert (found["has_input_example"], found["example"], found["runtime"]) == (False, "none", "onnx")
    assert found["runs_code"] is False


@pytest.mark.parametrize(
    ("name", "runtime", "outputs"),
    [
        ("named", "onnx", [TensorSpec("out", "FP32", (-1, 3))]),
        ("frame", "pyfunc", [TensorSpec("output", "INT64", (-1,))]),
        ("array", "pyfunc", [TensorSpec("output", "INT64", (-1,))]),
    ],
)
def test_it_predicts_on_the_example(examples: Path, name: str, runtime: str, outputs: list) -> None:
    found = inspected(examples / name)
    assert (found["has_input_example"], found["example"], found["runtime"]) == (True, "predicted", runtime)
    assert found["runs_code"] is (runtime == "pyfunc")
    assert [from_json(TensorSpec, s) for s in found["outputs"]] == outputs


def changed(examples: Path, home: Path, example: object) -> Path:
    shutil.copytree(examples / "named", home / "changed")
    (home / "changed" / "input_example.json").write_text(json.dumps(example))
    return home / "changed"


@pytest.mark.parametrize(
    "example", [{"pixels": [[1, 2]]}, {"pixels": [[1, "x", 3]]}, [1, 2, 3], {"inputs": {"pixels": [[1, 2]]}}]
)
def test_an_example_that_does_not_fit_is_refused(examples: Path, tmp_path: Path, example: object) -> None:
    with pytest.raises(BadInput, match=r"example|FP32") as wrong:
        inspected(changed(examples, tmp_path, example))
    assert "save the model again" in wrong.value.hint


@pytest.mark.parametrize("example", [{"inputs": {"other": [1]}}, {"data": 3}, {}, 3])
def test_an_example_of_another_kind_is_not_read(examples: Path, tmp_path: Path, example: object) -> None:
    found = inspected(changed(examples, tmp_path, example))
    assert (found["has_input_example"], found["example"]) == (True, "not read")


def test_an_example_that_is_gone_or_no_json_is_refused(examples: Path, tmp_path: Path) -> None:
    folder = changed(examples, tmp_path, {})
    (folder / "input_example.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        inspected(folder)
    (folder / "input_example.json").unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        inspected(folder)
    said = (folder / "MLmodel").read_text()
    said = said.replace("artifact_path: input_example.json", "artifact_path: ../../x")
    (folder / "MLmodel").write_text(said)
    with pytest.raises(BadInput, match="not the name of a file"):
        inspected(folder)


def test_a_model_that_raises_on_its_example_is_failed(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "picky", tmp_path / "picky")
    with (tmp_path / "picky" / "MLmodel").open("a") as said:
        said.write("saved_input_example_info:\n  artifact_path: e.json\n  type: ndarray\n")
    (tmp_path / "picky" / "e.json").write_text('{"inputs": {"at": [99]}}')
    with pytest.raises(Failed, match="does not predict on its own input example"):
        inspected(tmp_path / "picky")


def test_what_does_not_load_is_refused(models: Path, tmp_path: Path) -> None:
    for folder, kind in [("zipmap", NotSupported), ("unsigned", BadInput), ("absent", BadInput)]:
        with pytest.raises(kind):
            inspected(models / folder)
    for text in ["", "- 1", "{", "flavors: 3", "flavors: {nobody: {}}"]:
        (tmp_path / "MLmodel").write_text(text)
        with contextlib.suppress(BadInput):
            assert inspected(tmp_path)["loaded"] is False
    with pytest.raises(BadInput, match="the order lacks"):
        done(main, {})


@pytest.mark.parametrize("example", [{"inputs": {"pixels": [[1, 2, 3]]}}, [[1, 2, 3]]])
def test_examples_as_other_versions_wrote_them(examples: Path, tmp_path: Path, example: object) -> None:
    assert inspected(changed(examples, tmp_path, example))["example"] == "predicted"


def test_code_is_loaded_only_where_somebody_vouches_for_it(examples: Path) -> None:
    found = inspected(examples / "pickled")
    assert found["loaded"] is False
    assert "runtime" not in found
    looked = from_json(Inspected, found["inspected"])
    assert (looked.standing, looked.worst[0].path) == (Standing.CODE, "model.pkl")
    assert found["versions"]["strict"]
    again = done(main, {"folder": str(examples / "pickled"), "vouched": True})
    assert (again["loaded"], again["runtime"], again["runs_code"]) == (True, "pyfunc", True)


@pytest.mark.parametrize("vouched", [False, True, "yes"])
def test_what_is_refused_is_never_loaded(models: Path, vouched: object) -> None:
    """A function of its own in a pickle: whoever vouches for it, it could be anything."""
    found = done(main, {"folder": str(models / "forger"), "vouched": vouched})
    assert found["loaded"] is False
    looked = from_json(Inspected, found["inspected"])
    assert looked.standing is Standing.REFUSED
    assert "cloudpickle" in looked.worst[0].why


def test_only_a_plain_yes_vouches(examples: Path) -> None:
    assert done(main, {"folder": str(examples / "pickled"), "vouched": "true"})["loaded"] is False
