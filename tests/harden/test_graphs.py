"""A graph that squeezes or smooths, around a model, and what is not built around."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.harden.steps import inputs_of, known, linear, step, telltale

pytestmark = pytest.mark.filterwarnings("ignore")
SQUEEZE, SMOOTH = step("preprocess"), step("smooth")
X, Y = telltale(200)
NAMES = ["label", "probabilities"]


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_squeezing_is_what_arts_is(bits):
    from art.defences.preprocessor import FeatureSqueezing

    rows, original = known(X, Y), linear(X, Y)
    squeezed = SQUEEZE["squeezed"](original, rows, inputs_of(30), bits)
    theirs = FeatureSqueezing(clip_values=(0.0, 1.0), bit_depth=bits)(X)[0].astype(np.float32)
    ask, before = (SQUEEZE["asked"](graph, inputs_of(30)) for graph in (squeezed, original))
    for name, answer in ask(X).items():
        np.testing.assert_allclose(answer, before(theirs)[name], atol=1e-5)
    assert [n.op_type for n in squeezed.graph.node if n.op_type == "LinearClassifier"] == ["LinearClassifier"]


def test_squeezing_knows_ranges_whole_numbers_and_shapes():
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "same",
        [value("x", TensorProto.DOUBLE, ["n", 2, 2])], [value("y", TensorProto.DOUBLE, ["n", 2, 2])],
    )  # fmt: skip
    same = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    inputs = [{"name": "x", "type": "FP64", "shape": [-1, 2, 2]}]
    low, high = np.array([0, -10, 0, 5.0]), np.array([9, 10, 1, 5.0])
    whole = np.array([True, False, False, False])
    rows = known(np.zeros((2, 4)), np.array([0, 1]), low=low, high=high, whole=whole)
    ask = SQUEEZE["asked"](SQUEEZE["squeezed"](same, rows, inputs, 1), inputs)
    said = ask(np.array([[3.4, 1.0, 0.4, 7.0], [99, -99, 0.6, 5.0]], np.float32))["y"]
    assert said.reshape(2, 4).tolist() == [[3, 10, 0, 5], [9, -10, 1, 5]]


@pytest.mark.parametrize("opset", [15, 18])
def test_smoothing_is_the_mean_over_its_noise(opset):
    rows, original = known(X, Y), linear(X, Y, opset)
    made = SMOOTH["smoothed"](original, rows, inputs_of(30), 0.2, 5, 11, NAMES)
    noise = np.random.default_rng(11).standard_normal((1, 5, 30)) * 0.2
    noisy = np.clip(X[:, None] + noise.astype(np.float32), 0, 1).reshape(-1, 30)
    chances = SMOOTH["asked"](original, inputs_of(30))(noisy)["probabilities"].reshape(-1, 5, 2).mean(axis=1)
    said = SMOOTH["asked"](made, inputs_of(30))(X)
    np.testing.assert_allclose(said["probabilities"], chances, atol=1e-6)
    assert (said["label"] == chances.argmax(axis=1)).all()
    assert {o.name for o in made.graph.output} == set(NAMES)


def test_smoothing_goes_around_a_model_with_an_input_for_each_column():
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["both"], axis=1),
        helper.make_node("Softmax", ["both"], ["probabilities"], axis=1),
    ]
    ins = [value(n, TensorProto.FLOAT, ["n", 1]) for n in "ab"]
    graph = helper.make_graph(nodes, "two", ins, [value("probabilities", TensorProto.FLOAT, ["n", 2])])
    two = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    inputs = [*inputs_of(1, name="a"), *inputs_of(1, name="b")]
    x = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    rows = known(x, x.argmax(axis=1), reach=np.array([1.0, 0.0]))
    label, scores, chances = SMOOTH["answers_of"](two, rows, inputs)
    assert (label, scores) == ("", "probabilities")
    said = SMOOTH["asked"](SMOOTH["smoothed"](two, rows, inputs, 1e-6, 3, 1, ["", scores]), inputs)(x)
    assert list(said) == ["probabilities"]
    np.testing.assert_allclose(said["probabilities"], chances(x), atol=1e-5)


def test_labels_may_be_text():
    text = np.array(["no", "yes"])[Y]
    rows, original = known(X, text), linear(X, text)
    made = SMOOTH["smoothed"](original, rows, inputs_of(30), 1e-9, 2, 1, NAMES)
    said = [SMOOTH["asked"](graph, inputs_of(30))(X)["label"].astype(str) for graph in (original, made)]
    assert (said[0] == said[1]).all()


def test_scores_that_nobody_can_name_are_refused():
    with pytest.raises(ValueError, match="not in the order of the labels"):
        SMOOTH["answers_of"](flipped(linear(X, Y)), known(X, Y), inputs_of(30))
    with pytest.raises(ValueError, match="no one output with a score for each of the 3 classes"):
        SMOOTH["answers_of"](linear(X, Y), known(X, np.arange(200) % 3), inputs_of(30))


def flipped(proto: Any) -> Any:
    """The same model with its scores in another order than its labels."""
    for node in proto.graph.node:
        for output in range(len(node.output)):
            if node.output[output] == "probabilities":
                node.output[output] = "straight"
    from onnx import helper, numpy_helper

    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 0]), "order"))
    proto.graph.node.append(helper.make_node("Gather", ["straight", "order"], ["probabilities"], axis=1))
    return proto


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="takes 30 features, and the rows have 29"):
        SMOOTH["places"](inputs_of(30), 29)
    with pytest.raises(ValueError, match="takes BYTES, which is no number"):
        SMOOTH["element_type"]("BYTES")


def test_what_is_no_onnx_or_too_old_is_refused(tmp_path):
    import mlflow

    (tmp_path / "MLmodel").write_text("flavors:\n  sklearn: {}\n")
    with pytest.raises(ValueError, match="no ONNX: its flavors are sklearn"):
        SMOOTH["load_graph"](str(tmp_path))
    mlflow.onnx.save_model(linear(X, Y, 10), str(tmp_path / "old"))
    with pytest.raises(ValueError, match="opset 10; 11 is the oldest"):
        SMOOTH["load_graph"](str(tmp_path / "old"))
