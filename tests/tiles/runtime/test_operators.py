"""Each operator that has a gradient: worked as ONNX Runtime works it, and differentiated as it is."""

from __future__ import annotations

import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from tallystick.core.errors import BadInput, Failed, NotSupported, TooLarge
from tallystick.gradient.rules import RULES, Rule
from tests.tiles.runtime.graphs import agrees, load, node, save

FLAT = node("Flatten", "z", "y")


class Draw:
    """The same numbers for a test, whichever others are done before it."""

    rng = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def _again():
    Draw.rng = np.random.default_rng(5)


def some(*shape, low=-1.5, high=1.5):
    return Draw.rng.uniform(low, high, shape).astype(np.float32)


def numbers(*values):
    return np.array(values, np.int64)


ML = {"domain": "ai.onnx.ml"}
FORMULAS = ["Relu", "LeakyRelu", "Elu", "Sigmoid", "Softplus", "Tanh", "Erf", "Exp", "Abs", "Neg"]
POSITIVE = ["Log", "Sqrt", "Reciprocal"]
REDUCED = [
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceProd",
]


@pytest.mark.parametrize("op", FORMULAS)
def test_formulas(tmp_path, op):
    within = [node(op, "x", "z"), node("MatMul", "z w")]  # as some of them make probabilities at the end
    agrees(load(save(tmp_path, within, [4], constants={"w": some(4, 3)})), some(3, 4))


@pytest.mark.parametrize("op", POSITIVE)
def test_formulas_of_positive_numbers(tmp_path, op):
    agrees(load(save(tmp_path, [node(op)], [4])), some(3, 4, low=0.5, high=2))


@pytest.mark.parametrize("how", ["none", "tanh"])
def test_gelu(tmp_path, how):
    agrees(load(save(tmp_path, [node("Gelu", approximate=how)], [4], opset=20)), some(3, 4))


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("shape", [(4,), (1,), (3, 4), (3, 1)])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean"])
def test_two_are_joined_and_broadcast(tmp_path, op, shape, flipped):
    names = "c x" if flipped else "x c"
    constants = {"c": some(*shape, low=0.5, high=2).round(1)}
    x = some(3, 4, low=0.6, high=1.9).round(1) + np.float32(0.05)  # never as large as another, nor nearly
    agrees(load(save(tmp_path, [node(op, names)], [4], constants=constants)), x)


def test_of_both_sides_a_gradient_comes_back(tmp_path):
    nodes = [
        node("Mul", "x c", "a"),
        node("Div", "x a", "b"),
        node("Pow", "x two", "d"),
        node("Sub", "d b"),
    ]
    agrees(
        load(save(tmp_path, nodes, [4], constants={"c": some(1, low=1, high=2), "two": np.float32(2)})),
        some(3, 4, low=0.5),
    )


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("op", REDUCED)
def test_reductions_by_an_attribute_or_an_input(tmp_path, op, keep):
    as_input = op == "ReduceSum"
    told = {} if as_input else {"axes": [2]}
    nodes = [node(op, "x axes" if as_input else "x", "z", keepdims=keep, **told), FLAT]
    # No two nearly alike: within the step of a difference none becomes the largest in place of another.
    x = (0.3 + Draw.rng.permutation(24).reshape(3, 4, 2) / 20).astype(np.float32)
    agrees(load(save(tmp_path, nodes, [4, 2], opset=17, constants={"axes": numbers(2)})), x)


def test_a_product_with_a_nought_in_it(tmp_path):
    x = some(3, 4, 3)
    x[:, 1, 1] = x[0, 2, :2] = 0
    agrees(load(save(tmp_path, [node("ReduceProd", "x", "y", axes=[2], keepdims=0)], [4, 3], opset=17)), x)


@pytest.mark.parametrize("opset", [12, 18])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_a_softmax_within(tmp_path, op, opset):
    nodes = [node(op, "x", "a", axis=1), node("Flatten", "a", "b"), node("MatMul", "b w")]
    agrees(load(save(tmp_path, nodes, [2, 3], opset=opset, constants={"w": some(6, 3)})), some(4, 2, 3))


@pytest.mark.parametrize("options", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}])
def test_gemm(tmp_path, options):
    w = some(5, 4) if options.get("transB") else some(4, 5)
    agrees(
        load(save(tmp_path, [node("Gemm", "x w b", **options)], [4], constants={"w": w, "b": some(5)})),
        some(3, 4),
    )
    agrees(load(save(tmp_path / "2", [node("Gemm", "x w", **options)], [4], constants={"w": w})), some(3, 4))


def test_both_factors_of_a_product(tmp_path):
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 1]), node("MatMul", "x t", "z"), FLAT]
    agrees(load(save(tmp_path, nodes, [3, 4])), some(2, 3, 4))
    nodes = [node("Gemm", "x x", "a", transB=1), node("Gemm", "x a", "z", transA=1)]
    nodes += [node("MatMul", "x z", "b"), node("Gemm", "b w b")]
    agrees(load(save(tmp_path / "2", nodes, [2], constants={"w": some(2, 2)})), some(2, 2))


MOVED = {
    "reshape": ([node("Reshape", "x s", "y")], {"s": numbers(0, -1)}),
    "flatten": ([node("Flatten")], {}),
    "transpose": ([node("Transpose", "x", "z", perm=[0, 2, 1]), FLAT], {}),
    "unsqueeze": ([node("Unsqueeze", "x s", "a"), node("Squeeze", "a s", "z"), FLAT], {"s": numbers(1)}),
    "concat": ([node("Neg", "x", "a"), node("Concat", "x a x", "z", axis=-1), FLAT], {}),
    "split": ([node("Split", "x s", "a b", axis=2), node("Mul", "a b", "z"), FLAT], {"s": numbers(2, 2)}),
    "half": ([node("Split", "x s", "a b", axis=2), node("Flatten", "b", "y")], {"s": numbers(1, 3)}),
    "slice": (
        [node("Slice", "x a b c d", "z"), FLAT],
        {"a": numbers(-1), "b": numbers(-9), "c": numbers(2), "d": numbers(-2)},
    ),
    "gather": ([node("Gather", "x s", "z", axis=2), FLAT], {"s": numbers(0, -1, 0)}),
    "pad": ([node("Pad", "x s v", "z"), FLAT], {"s": numbers(0, 1, 0, 0, 0, 2), "v": np.float32(3)}),
    "expand": ([node("Expand", "x s", "z"), FLAT], {"s": numbers(1, 3, 4)}),
    "clip": ([node("Clip", "x a b", "z"), FLAT], {"a": np.float32(-0.5), "b": np.float32(0.7)}),
    "where": ([node("Greater", "x s", "c"), node("Where", "c x s", "z"), FLAT], {"s": np.float32(0.2)}),
    "cast": ([node("Cast", "x", "a", to=11), node("Cast", "a", "z", to=1), FLAT], {}),
    "dropout": ([node("Dropout", "x", "z"), FLAT], {}),
    "fill": ([node("Shape", "x", "s"), node("ConstantOfShape", "s", "a"), node("Sub", "x a", "z"), FLAT], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVED)
def test_numbers_that_are_moved(tmp_path, name):
    nodes, constants = MOVED[name]
    x = some(2, 3, 4).round(1) + np.float32(0.03)  # none at a bound, where there is no one slope
    agrees(load(save(tmp_path, nodes, [3, 4], constants=constants)), x)


@pytest.mark.parametrize("shape", [(3,), (3, 5), (3, 2, 4)])
def test_normalizing_layers(tmp_path, shape):
    vectors = {"s": some(3, low=0.5, high=2), "b": some(3), "m": some(3), "v": some(3, low=0.5, high=2)}
    batch = [node("BatchNormalization", "x s b m v", "z", epsilon=0.01), FLAT]
    agrees(load(save(tmp_path / "b", batch, shape, constants=vectors)), some(4, *shape))
    layer = [node("LayerNormalization", "x w c", "z", axis=-1, epsilon=0.01), FLAT]
    weights = {"w": some(shape[-1], low=0.5, high=2), "c": some(shape[-1])}
    agrees(load(save(tmp_path / "l", layer, shape, constants=weights)), some(4, *shape))


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "GlobalMaxPool"])
def test_pools_over_everything(tmp_path, pool):
    x = Draw.rng.permutation(120).reshape(2, 3, 4, 5).astype(np.float32) / 10
    agrees(load(save(tmp_path, [node(pool, "x", "z"), FLAT], [3, 4, 5])), x)


LEARNED = {
    "scaler": [node("Scaler", scale=[2.0, 0.5, 1.0, 3.0], offset=[0.1, 0.2, 0.3, 0.4], **ML)],
    "norm 1": [node("Normalizer", norm="L1", **ML)],
    "norm 2": [node("Normalizer", norm="L2", **ML)],
    "imputer": [node("Imputer", imputed_value_floats=[1.0] * 4, replaced_value_float=float("nan"), **ML)],
    "vectors": [node("Neg", "x", "a"), node("FeatureVectorizer", "x a", inputdimensions=[4, 4], **ML)],
    "columns": [node("ArrayFeatureExtractor", "x s", **ML)],
}


@pytest.mark.parametrize("name", LEARNED)
def test_operators_of_learned_models(tmp_path, name):
    x = some(3, 4)
    if name == "imputer":
        x[1, 2] = np.nan
    agrees(load(save(tmp_path, LEARNED[name], [4], constants={"s": numbers(3, 1)})), x)


@pytest.mark.parametrize("how", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_linear_classifiers_within(tmp_path, how):
    linear = node(
        "LinearClassifier", "x", "l s", coefficients=some(12).tolist(), intercepts=some(3).tolist(),
        classlabels_ints=[0, 1, 2], post_transform=how, multi_class=1, **ML,
    )  # fmt: skip
    agrees(
        load(save(tmp_path, [linear, node("MatMul", "s w")], [4], constants={"w": some(3, 2)})), some(5, 4)
    )


PLACES = st.integers(1, 3)
CONVS = st.fixed_dictionaries(
    {
        "axes": st.integers(1, 3),
        "kernel": PLACES,
        "stride": PLACES,
        "dilation": st.integers(1, 2),
        "pads": st.tuples(st.integers(0, 2), st.integers(0, 2)),
        "groups": st.sampled_from([1, 2]),
        "auto": st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]),
    }
)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["torch", "numpy"])
@settings(max_examples=40, deadline=None)
@given(how=CONVS, seed=st.integers(0, 9))
def test_convolutions(tmp_path_factory, by, how, seed):
    if by == "torch":
        pytest.importorskip("torch")
    draw, axes = np.random.default_rng(seed), how["axes"]
    spread = {"strides": [how["stride"]] * axes, "group": how["groups"]}
    if how["auto"] == "NOTSET":
        spread |= {
            "dilations": [how["dilation"]] * axes,
            "pads": [how["pads"][0]] * axes + [how["pads"][1]] * axes,
        }
    else:
        spread |= {"auto_pad": how["auto"]}
    w = draw.uniform(-1, 1, (4, 4 // how["groups"], *[how["kernel"]] * axes)).astype(np.float32)
    x = draw.uniform(-1, 1, (2, 4, *[7, 6, 5][:axes])).astype(np.float32)
    constants = {"w": w, "b": draw.uniform(-1, 1, 4).astype(np.float32)}
    folder = save(
        tmp_path_factory.mktemp("conv"),
        [node("Conv", "x w b", "z", **spread), FLAT],
        x.shape[1:],
        constants=constants,
    )
    with mock.patch.dict(sys.modules, {} if by == "torch" else {"torch": None}):
        agrees(load(folder), x, seed)


POOLS = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["MaxPool", "AveragePool"]),
        "kernel": st.integers(2, 3),
        "stride": PLACES,
        "pads": st.tuples(st.integers(0, 1), st.integers(0, 1)),
        "ceil": st.booleans(),
        "whole": st.booleans(),
    }
)


@settings(max_examples=40, deadline=None)
@given(how=POOLS, seed=st.integers(0, 9))
def test_pools(tmp_path_factory, how, seed):
    told = {"count_include_pad": int(how["whole"])} if how["op"] == "AveragePool" else {}
    told |= {
        "kernel_shape": [how["kernel"]] * 2,
        "strides": [how["stride"]] * 2,
        "ceil_mode": int(how["ceil"]),
    }
    told |= {"pads": [how["pads"][0]] * 2 + [how["pads"][1]] * 2}
    # Far apart, so that no largest value changes places within the step.
    x = np.random.default_rng(seed).permutation(2 * 2 * 7 * 6).reshape(2, 2, 7, 6).astype(np.float32) / 10
    nodes = [node(how["op"], "x", "z", **told), FLAT]
    agrees(load(save(tmp_path_factory.mktemp("pool"), nodes, x.shape[1:], opset=19)), x, seed)


@pytest.mark.parametrize("op", ["Round", "Floor"])
def test_slopes_go_straight_through_a_rounding(tmp_path, op):
    x, w = some(5, 4), some(4, 3)
    nodes = [node(op, "x", "z"), node("MatMul", "z w")]
    predictor = load(save(tmp_path, nodes, [4], constants={"w": w}))
    scores, slopes = predictor.pull({"x": x}, np.ones_like)
    np.testing.assert_allclose(scores, predictor.predict({"x": x})["y"], rtol=1e-5)
    np.testing.assert_allclose(slopes["x"], np.ones((5, 3)) @ w.T, rtol=1e-5)


WITHOUT = {
    "Sign": [node("Sign")],
    "Cast": [node("Cast", "x", "a", to=TensorProto.INT64), node("Cast", "a", "y", to=TensorProto.FLOAT)],
    "smoothly": [node("Shape", "x", "s"), node("Cast", "s", "a", to=1), node("Expand", "a s")],
    "TopK": [node("Softmax", "x", "a"), node("TopK", "a k", "y i")],
    "Normalizer": [node("Normalizer", norm="MAX", **ML)],
    "Binarizer": [node("Binarizer", threshold=0.5, **ML)],
    "reflect": [node("Pad", "x p", "y", mode="reflect")],
    "Clip": [node("ReduceMax", "x", "m", keepdims=0), node("Clip", "x _ m")],
}


@pytest.mark.parametrize("words", WITHOUT)
def test_what_has_no_gradient_is_named(tmp_path, words):
    constants = {"k": numbers(4), "p": numbers(0, 1, 0, 1)}
    predictor = load(save(tmp_path, WITHOUT[words], [4], constants=constants))
    with pytest.raises(NotSupported, match=words):
        predictor.pull({"x": some(4, 4)}, np.ones_like)


def test_a_model_of_whole_numbers_or_without_scores_has_none(tmp_path):
    folder = save(
        tmp_path / "a", [node("Gather", "t x")], [], constants={"t": some(5, 3)}, kind=TensorProto.INT64
    )
    with pytest.raises(NotSupported, match="INT64"):
        load(folder).pull({"x": numbers(1, 2)}, np.ones_like)
    folder = save(tmp_path / "b", [node("Neg")], [3, 4], rank=3)
    with pytest.raises(NotSupported, match="class scores"):
        load(folder).pull({"x": some(2, 3, 4)}, np.ones_like)


def test_a_rule_that_is_wrong_is_found_out_before_it_is_believed(tmp_path):
    folder = save(tmp_path, [node("Tanh")], [4])
    wrong = Rule(lambda node, inputs: (inputs[0] * np.float32(0.9), lambda g: (g,)))
    with mock.patch.dict(RULES, {"Tanh": wrong}), pytest.raises(NotSupported, match="from ONNX Runtime's"):
        load(folder).pull({"x": some(2, 4)}, np.ones_like)


def test_no_numbers_are_failed_and_infinite_slopes_are_nought(tmp_path):
    predictor = load(save(tmp_path / "log", [node("Log")], [2]))
    with pytest.raises(Failed, match="finite"):
        predictor.pull({"x": np.array([[1, -1]], np.float32)}, np.ones_like)
    predictor = load(save(tmp_path / "root", [node("Sqrt")], [2]))
    _, gradients = predictor.pull({"x": np.array([[0, 4]], np.float32)}, np.ones_like)
    assert gradients["x"].tolist() == [[0, 0.25]]


def test_weights_of_another_shape_and_inputs_that_do_not_fit(tmp_path):
    predictor = load(save(tmp_path, [node("Tanh")], [4]))
    with pytest.raises(BadInput, match="weights"):
        predictor.pull({"x": some(2, 4)}, lambda found: found[:1])
    for wrong in ({}, {"z": some(2, 4)}, {"x": some(2, 3)}, {"x": some(2, 4).astype(np.float64)}):
        with pytest.raises(BadInput):
            predictor.pull(wrong, np.ones_like)
        with pytest.raises(BadInput):
            predictor.hidden(wrong)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("ConstantOfShape", "huge", "a"), node("ReduceSum", "a _", "b"), node("Add", "x b")],
        [node("Expand", "one huge", "a"), node("ReduceSum", "a _", "b"), node("Add", "x b")],
        [node("Pad", "one padded", "a"), node("ReduceSum", "a _", "b"), node("Add", "x b")],
    ],
)
def test_a_shape_is_not_taken_for_memory(tmp_path, nodes):
    from tallystick.gradient.graph import read

    huge = {
        "huge": numbers(2**20, 2**20),
        "one": np.ones((1, 1), np.float32),
        "padded": numbers(0, 0, 2**20, 2**20),
    }
    graph = read(save(tmp_path, nodes, [4], constants=huge) / "model.onnx")
    with pytest.raises(TooLarge):
        graph.fold(graph.leading_to("y"))
