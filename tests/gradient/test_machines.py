"""Support vector machines: finite differences, an attack by gradients, a linear one's exact distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tallystick.core.errors import NotSupported
from tallystick.evidence.domain import Budget
from tallystick.gradient.graph import LOADED
from tallystick.gradient.rules import RULES, Node
from tallystick.ports.tile import Place
from tallystick.tiles.white.tile import open_tile
from tests.tiles.attack.toys import case_of
from tests.tiles.runtime.graphs import load

# scikit-learn 1.9 foretells that machines' chances will be had otherwise; skl2onnx asks for them as they are.
pytestmark = pytest.mark.filterwarnings("ignore:.*prob.* was deprecated in:FutureWarning")

assert LOADED  # the rules are there

KERNELS = ("linear", "rbf", "poly", "sigmoid")


def fitted(kernel: str, classes: int, chances: bool, **more: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    from sklearn.datasets import load_iris
    from sklearn.svm import SVC

    x, y = load_iris(return_X_y=True)
    x = ((x - x.min(axis=0)) / np.ptp(x, axis=0)).astype(np.float32)
    if classes == 2:
        x, y = x[y > 0], y[y > 0] - 1
    more |= {"probability": True} if chances else {}
    model = SVC(kernel=kernel, gamma=0.7, coef0=0.3, random_state=0, **more)
    return model.fit(x[::2].astype(np.float64), y[::2]), x[1::2], y[1::2].astype(np.int64)


def converted(model: Any, x: np.ndarray, folder: Any) -> Any:
    from skl2onnx import to_onnx

    raw = model.probability is not True
    made = to_onnx(model, x[:1], options={id(model): {"zipmap": False, "raw_scores": raw}})
    onnx.save_model(made, folder / "model.onnx")
    (folder / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
    return load(folder)


def said(model: Any, x: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """In float64, from scikit-learn: how much more ``one`` (n,) is said for than ``other``."""
    at = np.arange(len(x))
    if model.probability is not True:
        scores = model.decision_function(x)
        scores = scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)
        return scores[at, one] - scores[at, other]
    chances = coupled(model, x)
    return np.log(chances[at, one]) - np.log(chances[at, other])


def coupled(model: Any, x: np.ndarray) -> np.ndarray:
    """Chances of the pairs coupled to the end, by the least of the quadratic as another solver finds it."""
    from scipy.optimize import nnls

    pairs = model_pairs(model, x)
    classes, made = len(model.classes_), []
    for row in pairs:
        against, at = np.zeros((classes, classes)), 0
        for i in range(classes):
            for j in range(i + 1, classes):
                share = 1 / (1 + np.exp(model.probA_[at] * row[at] + model.probB_[at]))
                against[i, j], against[j, i], at = share, 1 - share, at + 1
        lines = [
            [against[j, i] if k == i else -against[i, j] if k == j else 0.0 for k in range(classes)]
            for i in range(classes)
            for j in range(i + 1, classes)
        ]
        matrix = np.array([*lines, [1e6] * classes])  # that they sum to one weighs more than all else
        made.append(nnls(matrix, np.array([0.0] * len(lines) + [1e6]))[0])
    return np.array(made)


def model_pairs(model: Any, x: np.ndarray) -> np.ndarray:
    """libsvm's own scores of the pairs of classes."""
    shape, model.decision_function_shape = model.decision_function_shape, "ovo"
    try:
        found = model.decision_function(x)
    finally:
        model.decision_function_shape = shape
    return found if found.ndim == 2 else -found[:, None]


@pytest.mark.parametrize("chances", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_are_finite_differences_of_scikit_learn(
    kernel: str, classes: int, chances: bool, tmp_path: Any
) -> None:
    model, x, _ = fitted(kernel, classes, chances)
    predictor = converted(model, x, tmp_path)
    x = x[:20]
    one = np.arange(len(x)) % classes
    other = (one + 1) % classes
    weights = (np.eye(classes)[one] - np.eye(classes)[other]).astype(np.float32)
    logits, gradients = predictor.pull({"X": x}, lambda found: weights)
    wide, step = x.astype(np.float64), 1e-5
    at = np.arange(len(x))
    np.testing.assert_allclose(
        logits[at, one] - logits[at, other], said(model, wide, one, other), rtol=2e-3, atol=2e-3
    )
    for column in range(x.shape[1]):
        move = step * np.eye(x.shape[1])[column]
        there, back = (said(model, wide + s * move, one, other) for s in (1, -1))
        wanted = (there - back) / (2 * step)
        size = np.abs(wanted).max()
        np.testing.assert_allclose(gradients["X"][:, column], wanted, rtol=5e-3, atol=5e-3 * size)


def test_of_a_linear_one_the_attack_finds_the_exact_distance(tmp_path: Any) -> None:
    """No change of less than ``margin / ||w||_1`` turns it, and one of that length does."""
    model, x, y = fitted("linear", 2, False, C=5.0)
    victim = Victim(converted(model, x, tmp_path), 2)
    case = case_of(victim, x, y, budget=Budget(eps=(0.05, 0.2, 0.6), samples_max=50, low=-2, high=3))
    found = open_tile(Place(None)).run("auto", case, lambda share, text: None)
    rows = case.x[case.attacked].astype(np.float64)
    exact = np.abs(model.decision_function(rows)) / np.abs(model.coef_).sum()
    right = found.distance > 0
    assert right.sum() > 40
    assert (found.distance[right] >= exact[right] * (1 - 1e-3)).all()
    for eps in case.budget.eps:  # within the least radius that it falls within nothing nearer is looked for
        np.testing.assert_array_equal(found.distance[right] > eps, exact[right] > eps)


class Victim:
    """A predictor as an attack sees it."""

    gives, gradients, twin = "logits", True, None

    def __init__(self, predictor: Any, classes: int) -> None:
        self.predictor, self.classes = predictor, classes

    def scores(self, rows: np.ndarray) -> np.ndarray:
        return self.predictor.predict({"X": rows})["probabilities"]

    def pull(self, rows: np.ndarray, weigh: Any) -> tuple[np.ndarray, np.ndarray]:
        logits, gradients = self.predictor.pull({"X": rows}, weigh)
        return logits, gradients["X"]


def test_one_that_is_as_sure_as_it_may_be_still_has_a_gradient(tmp_path: Any) -> None:
    model, x, _ = fitted("linear", 3, True, C=1e4)
    predictor = converted(model, x, tmp_path)
    far = x[:10] * 20
    chances = predictor.predict({"X": far})["probabilities"]
    assert chances.max() > 1 - 1e-5
    least = np.eye(3, dtype=np.float32)[chances.argmin(axis=1)]
    logits, gradients = predictor.pull({"X": far}, lambda found: least)
    assert np.isfinite(logits).all()
    assert (np.abs(gradients["X"]).max(axis=1) > 0).all()


def machine(folder: Any, op: str, **attributes: Any) -> Any:
    """A model of a single operator."""
    value, kinds = helper.make_tensor_value_info, onnx.TensorProto
    label = [value("label", kinds.INT64, ["n"])] if op == "SVMClassifier" else []
    outputs = [*label, value("y", kinds.FLOAT, ["n", None])]
    node = helper.make_node(op, ["X"], [o.name for o in outputs], domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph([node], "g", [value("X", kinds.FLOAT, ["n", 2])], outputs)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "model.onnx")
    (folder / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
    return load(folder)


FOUR: dict[str, Any] = {
    "classlabels_ints": [0, 1, 2], "vectors_per_class": [2, 1, 1], "kernel_type": "RBF",
    "kernel_params": [0.5, 0.0, 3.0], "support_vectors": [0.1, 0.9, 0.4, 0.2, 0.8, 0.7, 0.5, 0.6],
    "coefficients": [1.0, 0.5, -0.7, -0.8, 0.3, 0.2, 0.4, -0.9], "rho": [0.1, -0.2, 0.05],
    "post_transform": "NONE",
}  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"coefficients": [1.0, 2.0, 3.0]},
        {"support_vectors": [0.1, 0.9, 0.4]},
        {"rho": [0.1]},
        {"vectors_per_class": [2, 1, 10**6]},
        {"kernel_type": "COSINE"},
        {"prob_a": [-1.0], "prob_b": [0.1, 0.2, 0.3]},
    ],
)
def test_hostile_attributes_are_said_and_never_worked(wrong: dict[str, Any], tmp_path: Any) -> None:
    """By their rule alone: ONNX Runtime itself reads beyond the end of some of them."""
    attributes = {k: v.encode() if isinstance(v, str) else v for k, v in {**FOUR, **wrong}.items()}
    node = Node("ai.onnx.ml.SVMClassifier", ("X",), ("label", "y"), attributes)
    with pytest.raises(NotSupported, match="SVMClassifier"):
        RULES[node.op].forward(node, [np.full((3, 2), 0.5, np.float32)])


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_a_regressor_beside_another_is_a_classifier_with_gradients(kernel: str, tmp_path: Any) -> None:
    """Two regressors, their numbers side by side: gradients by finite differences of their answers."""
    value, kinds = helper.make_tensor_value_info, onnx.TensorProto
    draw = np.random.default_rng(3)
    nodes = [
        helper.make_node(
            "SVMRegressor", ["x"], [f"y{at}"], domain="ai.onnx.ml", kernel_type=kernel, n_supports=5,
            kernel_params=[0.5, 0.4, 3.0], support_vectors=draw.uniform(0, 1, 10).tolist(),
            coefficients=draw.normal(size=5).tolist(), rho=[0.1],
        )
        for at in (0, 1)
    ]  # fmt: skip
    nodes.append(helper.make_node("Concat", ["y0", "y1"], ["y"], axis=1))
    graph = helper.make_graph(
        nodes, "g", [value("x", kinds.FLOAT, ["n", 2])], [value("y", kinds.FLOAT, ["n", 2])]
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "model.onnx")
    (tmp_path / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
    from tests.tiles.runtime.graphs import agrees

    agrees(load(tmp_path), draw.uniform(0, 1, (6, 2)).astype(np.float32))


def test_what_is_a_sign_alone_has_no_gradient(tmp_path: Any) -> None:
    predictor = machine(tmp_path, "SVMClassifier", **{**FOUR, "post_transform": "SOFTMAX"})
    with pytest.raises(NotSupported, match="ends in more than scores"):
        predictor.pull({"X": np.full((3, 2), 0.5, np.float32)}, np.ones_like)
