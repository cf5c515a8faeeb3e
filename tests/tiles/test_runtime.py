"""The runtimes, with models as MLflow saves them, and with models that somebody tampered with."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tallystick.core.errors import BadInput, MissingTile, NotSupported, Refused, TallyError
from tallystick.ports.tile import Place
from tallystick.proofs.runtime import RuntimeProof
from tallystick.tiles.runtime import onnx as onnx_tile
from tallystick.tiles.runtime import pyfunc as pyfunc_tile
from tests.fakes.models import build
from tests.fakes.runtime import FakeRuntime, save_fake


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return build(tmp_path_factory)


def runtime(home, **options):
    return onnx_tile.open_tile(Place(home, options))


def texts(*items):
    array = np.empty(len(items), object)
    array[:] = [item.encode() for item in items]
    return array


class TestFakeRuntime(RuntimeProof):
    def open(self, home):
        return FakeRuntime()

    def model(self, home):
        return save_fake(home / "fake", [1.0, -2.0])

    def raising(self, home):
        folder = save_fake(home / "raising", [1.0, -2.0], raises_over=5.0)
        return folder, {"x": np.full((1, 2), 9, np.float32)}


class TestOnnxRuntime(RuntimeProof):
    @pytest.fixture(autouse=True)
    def _models(self, made):
        self.made = made

    def open(self, home):
        return runtime(home)

    def model(self, home):
        return self.made / "forest"

    def raising(self, home):
        return self.made / "picky", {"at": np.array([99])}

    def test_scores_and_label_are_those_of_scikit_learn(self, tmp_path):
        told = np.load(self.made / "forest.npz")
        answers = self.open(tmp_path).load(self.made / "forest").predict({"X": told["x"]})
        assert list(answers) == ["label", "probabilities"]
        np.testing.assert_array_equal(answers["label"], told["label"])
        np.testing.assert_allclose(answers["probabilities"], told["proba"], atol=1e-6)
        assert answers["probabilities"].dtype == np.float32

    def test_the_shape_is_told(self, tmp_path):
        spec = self.open(tmp_path).load(self.made / "forest").inputs[0]
        assert (spec.datatype, spec.shape) == ("FP32", (-1, 64))

    def test_data_beside_the_model_is_read(self, tmp_path):
        answers = self.open(tmp_path).load(self.made / "outside").predict({"at": np.array([2])})
        assert answers["row"].tolist() == [[6, 7, 8]]

    def test_a_sequence_of_maps_says_how_to_convert_again(self, tmp_path):
        with pytest.raises(NotSupported, match="zipmap"):
            self.open(tmp_path).load(self.made / "zipmap")

    def test_a_model_of_another_flavor_is_not_accepted(self, tmp_path):
        assert not self.open(tmp_path).accepts(self.made / "columns")

    def test_two_threads_answer_as_one(self, tmp_path):
        told = np.load(self.made / "forest.npz")
        one, two = (runtime(tmp_path, threads=n).load(self.made / "forest") for n in (1, 2))
        for name, array in one.predict({"X": told["x"]}).items():
            np.testing.assert_allclose(two.predict({"X": told["x"]})[name], array, atol=1e-6)

    @pytest.mark.parametrize("threads", [0, 65, "2", True, 1.0])
    def test_threads_have_a_range(self, tmp_path, threads):
        with pytest.raises(BadInput, match="threads"):
            runtime(tmp_path, threads=threads)


class TestPyfuncRuntime(RuntimeProof):
    @pytest.fixture(autouse=True)
    def _models(self, made):
        self.made = made

    def open(self, home):
        return pyfunc_tile.open_tile(Place(home))

    def model(self, home):
        return self.made / "columns"

    def raising(self, home):
        return self.made / "mixed", self.mixed(-1)

    def mixed(self, count):
        return {
            "word": texts("élan"),
            "count": np.array([count]),
            "price": np.array([2.5]),
            "when": texts("2026-11-21T10:00:00"),
        }

    def test_columns_may_come_as_one_matrix_or_each_with_an_axis_more(self, tmp_path):
        told = np.load(self.made / "columns.npz")
        predictor = self.open(tmp_path).load(self.made / "columns")
        narrow = {spec.name: told["x"][:, [at]] for at, spec in enumerate(predictor.inputs)}
        for inputs in ({"all": told["x"]}, {"all": told["x"].astype(np.float32)}, narrow):
            assert (predictor.predict(inputs)["output"] == told["label"]).mean() > 0.99

    def test_a_tensor_signature(self, tmp_path):
        told = np.load(self.made / "columns.npz")
        predictor = self.open(tmp_path).load(self.made / "matrix")
        assert [(s.name, s.datatype, s.shape) for s in predictor.inputs] == [("input", "FP64", (-1, 4))]
        np.testing.assert_array_equal(predictor.predict({"input": told["x"]})["output"], told["label"])

    def test_every_type_of_column_and_a_frame_for_an_answer(self, tmp_path):
        predictor = self.open(tmp_path).load(self.made / "mixed")
        assert [spec.datatype for spec in predictor.inputs] == ["BYTES", "INT64", "FP64", "BYTES"]
        answers = predictor.predict(self.mixed(4))
        assert answers["text"].tolist() == ["élan 2026".encode()]
        assert answers["total"].tolist() == [10.0]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"when": texts("soon")},
            {"word": np.array([b"\xff"], object)},
            {"count": np.array([1, 2])},
            {"count": np.array([1.0])},
        ],
    )
    def test_columns_that_do_not_fit(self, tmp_path, wrong):
        predictor = self.open(tmp_path).load(self.made / "mixed")
        with pytest.raises(BadInput):
            predictor.predict({**self.mixed(1), **wrong})

    def test_text_does_not_come_as_a_matrix(self, tmp_path):
        with pytest.raises(BadInput, match="not a number"):
            self.open(tmp_path).load(self.made / "mixed").predict({"all": np.zeros((1, 4))})

    def test_without_a_signature_the_message_says_how_to_give_one(self, tmp_path):
        with pytest.raises(BadInput, match="infer_signature"):
            self.open(tmp_path).load(self.made / "unsigned")

    def test_a_path_that_leaves_the_folder(self, tmp_path):
        folder = tampered(
            self.made / "columns", tmp_path, "model_path: model.skops", "model_path: ../model.skops"
        )
        with pytest.raises(Refused, match="outside"):
            self.open(tmp_path).load(folder)


def tampered(model: Path, home: Path, before: str, after: str) -> Path:
    folder = home / "tampered"
    shutil.copytree(model, folder)
    text = (folder / "MLmodel").read_text()
    assert before in text
    (folder / "MLmodel").write_text(text.replace(before, after))
    return folder


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        ("data: ../secret.onnx", Refused),
        ("data: {home}/secret.onnx", Refused),
        ("data: a/../../secret.onnx", Refused),
        ("data: link.onnx", Refused),
        ("data: ~/secret.onnx", Refused),
        ("data: file:///secret.onnx", Refused),
        ('data: "..\\\\secret.onnx"', Refused),
        ('data: "model.onnx\\0"', Refused),
        ("data: [model.onnx]", BadInput),
        ("data: .", BadInput),
        ("data: ''", BadInput),
        ("data: none.onnx", BadInput),
        ("data: model.onnx\n    code: ../..", Refused),
        ("data: model.onnx\n    onnx_session_options: {{custom_ops_library: own.so}}", Refused),
        ("data: model.onnx\n    custom_ops: own.so", Refused),
    ],
)
def test_an_mlmodel_that_reaches_out(made, tmp_path, after, kind):
    shutil.copy(made / "picky" / "model.onnx", tmp_path / "secret.onnx")
    folder = tampered(made / "picky", tmp_path, "data: model.onnx", after.format(home=tmp_path))
    text = (folder / "MLmodel").read_text().replace("    code: null\n    data", "    data")
    (folder / "MLmodel").write_text(text.replace("    onnx_session_options: null\n", ""))
    (folder / "link.onnx").symlink_to(tmp_path / "secret.onnx")
    with pytest.raises(kind):
        runtime(tmp_path).load(folder)


def test_an_mlmodel_without_end_is_read_in_no_time(tmp_path):
    nested = "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    (tmp_path / "MLmodel").write_text(f"flavors:\n  a0: &a0 [x]\n{nested}  onnx: {{data: *a29}}\n")
    with pytest.raises(BadInput):
        runtime(tmp_path).load(tmp_path)
    (tmp_path / "MLmodel").write_text("flavors: {onnx: {}}\n#" + "x" * 1024 * 1024)
    assert not runtime(tmp_path).accepts(tmp_path)


def weighted(location: str, *, deep: bool = False):
    """A graph whose weight is said to be in a file of its own; ``deep``: inside a branch of an If."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    nodes, weights = [helper.make_node("Mul", ["x", "w"], ["y"])], [weight]
    if deep:
        inner = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
        branch = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["z"])], "b", [], [inner], [weight])
        nodes = [
            helper.make_node(
                "Constant", [], ["yes"], value=helper.make_tensor("t", TensorProto.BOOL, [], [True])
            ),
            helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
        ]
        weights = []
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    "location", ["../w.bin", "{home}/w.bin", "sub/../../w.bin", "link.bin", "*/_ORT_MEM_ADDR_/*"]
)
def test_data_outside_the_folder_is_never_read(tmp_path, location, deep):
    (tmp_path / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
    (folder / "model.onnx").write_bytes(
        weighted(location.format(home=tmp_path), deep=deep).SerializeToString()
    )
    with pytest.raises(TallyError, match=r"outside the model|no file"):
        runtime(tmp_path).load(folder)


def test_data_in_the_folder_is_read_wherever_it_is_said(tmp_path):
    (tmp_path / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (tmp_path / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
    (tmp_path / "model.onnx").write_bytes(weighted("w.bin").SerializeToString())
    predictor = runtime(tmp_path).load(tmp_path)
    assert predictor.predict({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[0, 1, 2, 3]]


def test_an_operator_that_is_not_onnx_is_not_loaded(tmp_path):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Own", ["x"], ["y"], domain="evil")], "g", [x], [y])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("evil", 1)]
    (tmp_path / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "model.onnx")
    with pytest.raises(BadInput, match="cannot load"):
        runtime(tmp_path).load(tmp_path)


def test_text_goes_in_and_comes_out(tmp_path):
    x, y = (helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    (tmp_path / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(model, tmp_path / "model.onnx")
    predictor = runtime(tmp_path).load(tmp_path)
    assert predictor.predict({"x": texts("é", "")})["y"].tolist() == ["é".encode(), b""]
    with pytest.raises(BadInput, match="UTF-8"):
        predictor.predict({"x": np.array([b"\xff"], object)})


def test_an_unreadable_mlmodel_is_not_accepted(made, tmp_path):
    (tmp_path / "MLmodel").mkdir()
    assert not runtime(tmp_path).accepts(tmp_path)
    if os.geteuid():
        (tmp_path / "MLmodel").rmdir()
        (tmp_path / "MLmodel").write_text("flavors: {onnx: {}}")
        (tmp_path / "MLmodel").chmod(0)
        assert not runtime(tmp_path).accepts(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (ImportError("no", name="sklearn.tree"), "pip install sklearn"),
        (ImportError("no", name="mlflow.pyfunc"), "pip install 'tallystick[mlflow]'"),
        (ImportError("no", name="x --index-url http://evil.invalid/"), ""),
        (ImportError("no", name="--pre"), ""),
        (ImportError("no", name="x; touch y"), ""),
        (ImportError("no", name="x\n"), ""),
        (ImportError("no", name="x" * 1000), ""),
        (ImportError("no", name=["x"]), ""),
        (ImportError("x --index-url http://evil.invalid/"), ""),
    ],
)
def test_a_models_own_words_never_become_a_command(made, tmp_path, monkeypatch, wrong, hint):
    def load(*_, **__):
        raise wrong

    monkeypatch.setattr(importlib.import_module("mlflow.pyfunc"), "load_model", load)
    with pytest.raises(MissingTile) as caught:
        pyfunc_tile.open_tile(Place(tmp_path)).load(made / "columns")
    assert caught.value.hint == hint
