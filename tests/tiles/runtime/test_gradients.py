"""Gradients of whole models: random networks against torch, scikit-learn's against its own probabilities."""

from __future__ import annotations

import sys
import warnings
from unittest import mock

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.core.errors import NotSupported
from tallystick.ports.models.runtime import Differentiable
from tests.fakes.models import build as build_fakes
from tests.tiles.runtime.graphs import load


def vectors(torch):
    """Layers for rows of 6 numbers."""
    nn = torch.nn
    return {
        "linear": lambda: nn.Linear(6, 6),
        "plain": lambda: nn.Linear(6, 6, bias=False),
        "relu": nn.ReLU,
        "leaky": lambda: nn.LeakyReLU(0.2),
        "elu": lambda: nn.ELU(0.7),
        "gelu": nn.GELU,
        "tanh gelu": lambda: nn.GELU(approximate="tanh"),
        "silu": nn.SiLU,
        "softplus": nn.Softplus,
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "softmax": lambda: nn.Softmax(1),
        "batch": lambda: nn.BatchNorm1d(6),
        "layer": lambda: nn.LayerNorm(6),
        "clip": lambda: nn.Hardtanh(-0.8, 0.9),
        "prelu": nn.PReLU,
        "dropout": nn.Dropout,
    }


def images(torch):
    """Layers for images of 2 channels and about 8 by 8; none makes them smaller than 3 by 3 twice over."""
    nn = torch.nn
    return {
        "conv": lambda: nn.Conv2d(2, 2, 3, padding=1),
        "grouped": lambda: nn.Conv2d(2, 2, 3, padding=2, dilation=2, groups=2),
        "wide": lambda: nn.Conv2d(2, 2, (1, 3), padding=(0, 1), bias=False),
        "stride": lambda: nn.Conv2d(2, 2, 2, stride=1, padding=1),
        "max": lambda: nn.MaxPool2d(3, stride=1, padding=1),
        "mean": lambda: nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
        "batch": lambda: nn.BatchNorm2d(2),
        "relu": nn.ReLU,
        "gelu": nn.GELU,
        # Not by 0: ONNX Runtime 1.31 takes that for the padding of a pool behind it, and says other scores.
        "pad": lambda: nn.ConstantPad2d((1, 0, 0, 1), 0.25),
    }


def settled(torch, layers, seed):
    """The network in evaluation mode, its running means away from what they begin with."""
    module = torch.nn.Sequential(*layers)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.is_floating_point():
                tensor.copy_(
                    torch.rand(tensor.shape, generator=draw) * 1.2 + (0.4 if "var" in name else -0.6)
                )
    return module.eval()


def compared(torch, module, x, folder, *, without_torch=False):
    """See that ONNX Runtime, torch and the gradients here agree on the exported module."""
    from tests.tiles.runtime.made import exported

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch about its own exporter
        exported(module, x, folder / "model.onnx")
    (folder / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
    given_ = x.clone().requires_grad_(True)
    wanted = module(given_)
    weights = np.random.default_rng(1).normal(size=tuple(wanted.shape)).astype(np.float32)
    (wanted * torch.from_numpy(weights)).sum().backward()
    with mock.patch.dict(sys.modules, {"torch": None} if without_torch else {}):
        logits, gradients = load(folder).pull({"x": x.numpy()}, lambda found: weights)
    told = wanted.detach().numpy()
    np.testing.assert_allclose(logits, told, rtol=1e-3, atol=1e-4)
    size = max(1.0, float(given_.grad.abs().max()))
    np.testing.assert_allclose(gradients["x"], given_.grad.numpy(), rtol=1e-3, atol=1e-4 * size)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 16), min_size=1, max_size=7), st.integers(0, 99))
def test_random_networks_of_vectors_are_differentiated_as_torch_does(tmp_path_factory, chosen, seed):
    torch = pytest.importorskip("torch")
    kinds = list(vectors(torch).values())
    layers = [kinds[at]() for at in chosen]
    module = settled(torch, [*layers, torch.nn.Linear(6, 3)], seed)
    x = torch.rand(4, 6, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    compared(torch, module, x, tmp_path_factory.mktemp("net"))


@pytest.mark.slow
@pytest.mark.parametrize("without_torch", [False, True])
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_random_networks_of_images_are_differentiated_as_torch_does(
    tmp_path_factory, without_torch, chosen, seed
):
    torch = pytest.importorskip("torch")
    nn, kinds = torch.nn, list(images(torch).values())
    layers = [kinds[at]() for at in chosen]
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)]
    module = settled(torch, [*layers, *end], seed)
    x = torch.rand(3, 2, 8, 7, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    compared(torch, module, x, tmp_path_factory.mktemp("net"), without_torch=without_torch)


@pytest.mark.parametrize("end", ["softmax", "log_softmax"])
def test_the_end_of_a_network_is_taken_off(tmp_path_factory, end):
    pytest.importorskip("torch")
    from tests.tiles.runtime.made import build

    made = build(tmp_path_factory)
    x = {"x": np.load(made / "x.npz")["x"]}
    plain, ended = load(made / "onnx-plain"), load(made / f"onnx-{end}")
    weights = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    for one, other in zip(plain.pull(x, lambda _: weights), ended.pull(x, lambda _: weights), strict=True):
        np.testing.assert_array_equal(*(v if isinstance(v, np.ndarray) else v["x"] for v in (one, other)))
    np.testing.assert_array_equal(plain.hidden(x), ended.hidden(x))
    assert plain.hidden(x).shape == (6, 16)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A function that fits and converts an estimator of scikit-learn: the estimator, and its ONNX loaded."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_breast_cancer, load_iris

    def made(name, estimator):
        x, y = (load_iris if name.startswith("three") else load_breast_cancer)(return_X_y=True)
        x = x.astype(np.float32)
        folder = tmp_path_factory.mktemp("learned")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged
            estimator.fit(x.astype(np.float64), y)
            last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
            linear = type(last).__name__ == "LinearSVC"
            options = {id(last): {"raw_scores": True} if linear else {"zipmap": False}}
            model = to_onnx(estimator, x[:1], options=options)
        if linear:
            model.graph.output[1].type.tensor_type.shape.dim[1].Clear()
        onnx.save_model(model, folder / "model.onnx")
        (folder / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
        return estimator, load(folder), x

    return made


def estimators():
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, Normalizer, PolynomialFeatures, StandardScaler
    from sklearn.svm import LinearSVC

    def scaled(last, *before):
        return make_pipeline(*(before or [StandardScaler()]), last)

    def net(activation):
        return MLPClassifier((12, 8), activation=activation, max_iter=80, random_state=0)

    def logistic():
        return LogisticRegression(max_iter=200)

    return {
        "two logistic": scaled(logistic()),
        "three logistic": scaled(logistic()),
        "two svc": scaled(LinearSVC(random_state=0)),
        "three svc": scaled(LinearSVC(random_state=0)),
        "two mlp": scaled(net("tanh")),
        "three mlp": scaled(net("relu")),
        "three sigmoid mlp": scaled(net("logistic")),
        "two bayes": scaled(GaussianNB()),
        "three bayes": scaled(GaussianNB()),
        "two projected": scaled(logistic(), MinMaxScaler(), PCA(3), Normalizer()),
        "three squared": scaled(logistic(), StandardScaler(), PolynomialFeatures(2)),
        "two calibrated": scaled(CalibratedClassifierCV(LinearSVC(random_state=0), cv=2)),
        "three calibrated": scaled(CalibratedClassifierCV(LinearSVC(random_state=0), cv=2)),
    }


def margins(estimator, x, one, other):
    """By scikit-learn in float64: how much more the class ``one`` (n,) says for than ``other``."""
    at = np.arange(len(x))
    if hasattr(estimator, "predict_proba"):
        with np.errstate(divide="ignore"):
            scores = np.log(estimator.predict_proba(x))
    else:
        scores = estimator.decision_function(x)
        scores = scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)
    return scores[at, one] - scores[at, other]


@pytest.mark.parametrize("name", estimators())
def test_estimators_of_scikit_learn(learned, name):
    estimator, predictor, x = learned(name, estimators()[name])
    assert isinstance(predictor, Differentiable)
    draw = np.random.default_rng(0)
    x = x[draw.permutation(len(x))[:40]]
    answers = predictor.predict({"X": x})
    classes = answers["probabilities"].shape[1]
    one = answers["probabilities"].argmax(axis=1)
    other = (one + 1) % classes
    weights = np.eye(classes, dtype=np.float32)[one] - np.eye(classes, dtype=np.float32)[other]
    logits, gradients = predictor.pull({"X": x}, lambda found: weights)
    assert (logits.argmax(axis=1) == one).all()
    wide = x.astype(np.float64)
    step = 1e-6 * np.abs(wide).max(axis=0) + 1e-9
    for column in range(x.shape[1]):
        move = np.zeros(x.shape[1])
        move[column] = step[column]
        there, back = (margins(estimator, wide + s * move, one, other) for s in (1, -1))
        wanted = (there - back) / (2 * step[column])
        told = np.isfinite(wanted)  # where scikit-learn itself says a probability of 0, it cannot be told
        size = np.abs(wanted[told]).max(initial=1e-3)
        np.testing.assert_allclose(gradients["X"][told, column], wanted[told], rtol=0.02, atol=0.005 * size)


def test_a_model_that_is_sure_of_itself_still_has_gradients(learned):
    for name in ("two logistic", "three logistic"):
        _, predictor, x = learned(name, estimators()[name])
        far = (x[:5] * 30).astype(np.float32)
        scores = predictor.predict({"X": far})["probabilities"]
        assert np.isin(scores, (0, 1)).any()
        logits, gradients = predictor.pull(
            {"X": far}, lambda found: found == found.min(axis=1, keepdims=True)
        )
        assert np.isfinite(logits).all()
        assert (np.abs(gradients["X"]).max(axis=1) > 0).all()


def test_trees_have_no_gradient_and_say_so(tmp_path_factory):
    forest = load(build_fakes(tmp_path_factory) / "forest")
    rows = {"X": np.load(build_fakes(tmp_path_factory) / "forest.npz")["x"]}
    for ask in (lambda: forest.pull(rows, np.ones_like), lambda: forest.hidden(rows)):
        with pytest.raises(NotSupported, match="TreeEnsembleClassifier"):
            ask()


def test_of_a_linear_model_the_last_layer_sees_the_scaled_features(learned):
    estimator, predictor, x = learned("two logistic", estimators()["two logistic"])
    np.testing.assert_allclose(predictor.hidden({"X": x}), estimator[:-1].transform(x), rtol=1e-3, atol=1e-4)


def test_a_pull_is_the_same_each_time_and_leaves_its_rows_alone(learned):
    _, predictor, x = learned("three mlp", estimators()["three mlp"])
    before = x.copy()
    pulls = [predictor.pull({"X": x}, np.tanh) for _ in range(3)]
    for logits, gradients in pulls[1:]:
        np.testing.assert_array_equal(logits, pulls[0][0])
        np.testing.assert_array_equal(gradients["X"], pulls[0][1]["X"])
    np.testing.assert_array_equal(x, before)
    agrees_with_rows_alone(predictor, x)


def agrees_with_rows_alone(predictor, x):
    """A row's gradient has nothing to do with its neighbours."""
    _, together = predictor.pull({"X": x[:5]}, np.tanh)
    for at in range(5):
        _, alone = predictor.pull({"X": x[at : at + 1]}, np.tanh)
        np.testing.assert_allclose(alone["X"][0], together["X"][at], rtol=1e-4, atol=1e-6)
