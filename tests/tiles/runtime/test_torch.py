"""PyTorch models as MLflow saves them: predicted, and differentiated as torch itself does it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tallystick.core.errors import BadInput, Failed, NotSupported  # noqa: E402  reason: skipped without torch
from tallystick.crew.serve import choose_runtime  # noqa: E402
from tallystick.ports.models.runtime import Differentiable  # noqa: E402
from tallystick.ports.tile import Place  # noqa: E402
from tallystick.proofs.runtime import RuntimeProof  # noqa: E402
from tallystick.tiles.torch.runtime import open_tile  # noqa: E402
from tests.fakes.machine.maker import REPOSITORY  # noqa: E402
from tests.tiles.runtime.made import Net, build  # noqa: E402


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return build(tmp_path_factory)


@pytest.fixture
def x(made):
    return np.load(made / "x.npz")["x"]


def loaded(folder, **options):
    return open_tile(Place(folder, options)).load(folder)


class TestTorchRuntime(RuntimeProof):
    @pytest.fixture(autouse=True)
    def _models(self, made):
        self.made = made

    def open(self, home):
        return open_tile(Place(home))

    def model(self, home):
        return self.made / "softmax"

    def raising(self, home):
        return self.made / "functional", {"input": np.full((1, 1, 12, 12), 2000, np.float32)}


def reference(end="plain"):
    """The network of ``made``, which is the same for every end."""
    torch.manual_seed(1)
    return Net().eval()


@pytest.mark.parametrize("name", ["plain", "softmax", "log_softmax"])
def test_gradients_are_those_of_torch_up_to_the_end(made, x, name):
    predictor = loaded(made / name)
    assert isinstance(predictor, Differentiable)
    weights = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    logits, gradients = predictor.pull({"input": x}, lambda found: weights + 0 * found)
    given = torch.from_numpy(x).requires_grad_(True)
    wanted = reference()(given)
    (wanted * torch.from_numpy(weights)).sum().backward()
    np.testing.assert_allclose(logits, wanted.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradients["input"], given.grad.numpy(), rtol=1e-4, atol=1e-7)
    assert (logits.dtype, gradients["input"].dtype) == (np.float32, np.float32)


@pytest.mark.filterwarnings("ignore:.*TorchScript:UserWarning", "ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", ["functional", "mixed", "scripted", "program"])
def test_logits_are_the_logarithms_of_the_probabilities_up_to_a_constant(made, x, name):
    predictor = loaded(made / name)
    logits, gradients = predictor.pull({"input": x}, lambda found: np.eye(5, dtype=np.float32)[[0] * 6])
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    [said] = predictor.predict({"input": x}).values()
    np.testing.assert_allclose(power / power.sum(axis=1, keepdims=True), said, rtol=1e-4, atol=1e-6)
    assert np.isfinite(gradients["input"]).all()
    assert np.abs(gradients["input"]).max() > 0


def test_where_the_softmax_is_seen_a_model_that_is_sure_of_itself_still_has_gradients(made):
    far = np.full((1, 1, 12, 12), 900, np.float32)
    predictor = loaded(made / "softmax")
    assert predictor.predict({"input": far})["output"].shape == (1, 5)
    _, gradients = predictor.pull({"input": far}, np.ones_like)
    assert np.isfinite(gradients["input"]).all()


def test_columns_are_one_table_and_each_has_its_gradient(made):
    predictor = loaded(made / "columns")
    assert [spec.name for spec in predictor.inputs] == ["a", "b", "c"]
    rows = np.random.default_rng(0).uniform(size=(4, 3))
    inputs = {name: rows[:, at] for at, name in enumerate("abc")}
    weights = np.array([[1, -1]] * 4, np.float32)
    logits, gradients = predictor.pull(inputs, lambda found: weights)
    for name in "abc":
        moved = {**inputs, name: inputs[name] + 0.5}
        change = (predictor.predict(moved)["output"] - logits) @ weights[0] / 0.5
        np.testing.assert_allclose(gradients[name], change, rtol=1e-3, atol=1e-5)
    narrow = {name: column[:, None] for name, column in inputs.items()}
    assert predictor.pull(narrow, lambda found: weights)[1]["a"].shape == (4, 1)
    with pytest.raises(BadInput, match="different lengths"):
        predictor.predict({**inputs, "a": rows[:2, 0]})


def test_a_model_of_doubles_is_asked_in_float32(made, x):
    predictor = loaded(made / "double")
    assert predictor.inputs[0].datatype == "FP64"
    _, gradients = predictor.pull({"input": x.astype(np.float64)}, np.ones_like)
    assert gradients["input"].dtype == np.float32


def test_hidden_is_what_goes_into_the_last_layer(made, x):
    for name in ("plain", "functional"):
        predictor = loaded(made / name)
        assert predictor.hidden({"input": x}).shape == (6, 16)
    body = reference().body
    wanted = body[:-1](torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(loaded(made / "softmax").hidden({"input": x}), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("pair", Failed, "tuple"),
        ("nan", Failed, "no finite number"),
        ("steps", NotSupported, "smoothly"),
        ("one", NotSupported, "no scores of classes"),
    ],
)
def test_a_model_without_gradients_says_why(made, name, kind, words):
    with pytest.raises(kind, match=words):
        loaded(made / name).pull({"input": np.ones((2, 3), np.float32)}, np.ones_like)


def test_whole_numbers_have_no_gradient(made):
    predictor = loaded(made / "whole")
    assert predictor.predict({"input": np.array([1, 2])})["output"].shape == (2, 2)
    with pytest.raises(NotSupported, match="INT64"):
        predictor.pull({"input": np.array([1, 2])}, np.ones_like)
    with pytest.raises(NotSupported, match="last layer"):
        predictor.hidden({"input": np.array([1, 2])})


def test_weights_of_another_shape_are_refused_and_it_goes_on(made, x):
    predictor = loaded(made / "plain")
    with pytest.raises(BadInput, match="weights"):
        predictor.pull({"input": x}, lambda found: found[:, :1])
    assert predictor.pull({"input": x}, np.ones_like)[0].shape == (6, 5)


def test_it_is_chosen_before_the_runtime_that_loads_everything(made, tmp_path):
    assert choose_runtime(made / "plain", "", {})[0] == "torch"
    own = shutil.copytree(made / "plain", tmp_path / "own")
    said = (own / "MLmodel").read_text()
    (own / "MLmodel").write_text(said.replace("loader_module: mlflow.pytorch", "loader_module: own"))
    assert choose_runtime(own, "", {})[0] == "pyfunc"


def test_without_a_signature_the_message_says_how_to_give_one(made):
    with pytest.raises(BadInput, match="infer_signature"):
        loaded(made / "unsigned")


@pytest.mark.parametrize("threads", [-1, 65, "2", True])
def test_threads_have_a_range(tmp_path, threads):
    with pytest.raises(BadInput, match="threads"):
        open_tile(Place(tmp_path, {"threads": threads}))


def test_finding_the_tile_does_not_import_torch():
    program = "import sys, tallystick.tiles.torch.runtime; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, timeout=60, check=True)


@pytest.mark.parametrize("op", ["round", "floor", "ceil", "trunc"])
def test_what_rounds_is_on_the_way_back_as_if_it_did_nothing(op):
    """The answer stays what it is, and the gradient is that of the network behind, there."""
    from tallystick.tiles.torch.seeing import seeing

    layer = torch.nn.Linear(4, 3)
    x = torch.rand(5, 4, requires_grad=True)
    with seeing():
        said = layer(getattr(torch, op)(x * 7) / 7)
    [found] = torch.autograd.grad(said.sum(), x)
    torch.testing.assert_close(said, layer(getattr(torch, op)(x.detach() * 7) / 7))
    torch.testing.assert_close(found, layer.weight.sum(dim=0).expand(5, 4))
