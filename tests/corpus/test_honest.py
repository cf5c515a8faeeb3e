"""Honest models, as libraries and MLflow write them, are not refused; what is only data is said to be."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import pytest

from tallystick.evidence.files.source import Memory
from tallystick.evidence.supply import Inspected, Standing
from tallystick.tiles.inspection.examine import Inquiry
from tallystick.tiles.inspection.strict import Strict
from tests.corpus.hostile import hdf5
from tests.corpus.hostile.formats import small_onnx
from tests.fakes.machine.maker import run_maker

PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
import mlflow.sklearn, mlflow.onnx, numpy as np, onnx
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
home, quick = sys.argv[1] + "/", {"pip_requirements": ["mlflow"]}
x, y = load_iris(return_X_y=True)
plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
signed = {"signature": infer_signature(x, y), "input_example": x[:2], **quick}
mlflow.sklearn.save_model(plain, home + "data-sklearn", **signed)
forest = RandomForestClassifier(5).fit(x, y)
mlflow.sklearn.save_model(
    forest, home + "data-forest", skops_trusted_types=["sklearn.tree._tree.Tree"], **signed
)
for form in ("pickle", "cloudpickle"):
    mlflow.sklearn.save_model(forest, home + "code-" + form, serialization_format=form, **signed)
try:
    import xgboost, mlflow.xgboost
    boosted = xgboost.XGBClassifier(n_estimators=3).fit(x, y)
    for form in ("ubj", "json"):
        mlflow.xgboost.save_model(boosted, home + "data-xgboost-" + form, model_format=form, **quick)
    import lightgbm, mlflow.lightgbm
    light = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(x, y)
    mlflow.lightgbm.save_model(light, home + "data-lightgbm-skops", **quick)
    mlflow.lightgbm.save_model(light.booster_, home + "data-lightgbm", **quick)
except ImportError:
    pass
try:
    import torch, mlflow.pytorch
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    mlflow.pytorch.save_model(net, home + "code-torch", serialization_format="pickle", **quick)
    mlflow.pytorch.save_model(
        net, home + "code-torch-export", serialization_format="pt2", input_example=x[:2].astype("f4"), **quick
    )
except ImportError:
    pass
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models as MLflow saves them, each in a folder whose name begins with what its files are."""
    folder = tmp_path_factory.mktemp("honest")
    run_maker("-c", PROGRAM, str(folder))
    return folder


def inspect(folder: Path) -> Inspected:
    return Strict(advisors=False).inspect(folder, lambda share, text: None)


def looked(data: bytes) -> Inspected:
    inquiry = Inquiry()
    inquiry.look("model", Memory(data))
    inquiry.finish()
    return Inspected(tuple(inquiry.looked))


def test_what_mlflow_saves(saved: Path) -> None:
    found = {path.name: inspect(path) for path in saved.iterdir()}
    assert len(found) >= 4
    for name, inspected in found.items():
        assert str(inspected.standing) == name.partition("-")[0], (name, inspected.worst)


def dumped(model: object, form: str) -> bytes:
    made = io.BytesIO()
    if form.startswith("joblib"):
        joblib.dump(model, made, compress=("gzip", 3) if form == "joblib-gzip" else 0)
    elif form == "cloudpickle":
        cloudpickle.dump(model, made)
    else:
        pickle.dump(model, made, protocol=int(form))
    return made.getvalue()


@pytest.fixture(scope="module")
def estimators() -> list[object]:
    """Each of scikit-learn's that can be fitted to flowers as it is."""
    from sklearn.datasets import load_iris
    from sklearn.utils import all_estimators

    x, y = load_iris(return_X_y=True)
    fitted = []
    for _, kind in all_estimators():
        try:
            fitted.append(kind().fit(np.abs(x), y))
        except Exception:  # noqa: BLE001, S112  reason: those that want other data or an estimator within
            continue
    return fitted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of estimators fitted with what they find when nobody tunes them
@pytest.mark.parametrize("form", ["2", "4", "5", "cloudpickle", "joblib", "joblib-gzip"])
def test_every_estimator_of_scikit_learn(estimators: list[object], form: str) -> None:
    for model in estimators:
        inspected = looked(dumped(model, form))
        assert inspected.standing is Standing.CODE, inspected.worst[:1]
    assert len(estimators) > 100


def test_arrays_and_tensors() -> None:
    made = io.BytesIO()
    np.savez_compressed(
        made, a=np.eye(3), b=np.array(["x", "yz"]), c=np.zeros(2, [("n", "i4"), ("m", "f8", (2,))])
    )
    assert looked(made.getvalue()).standing is Standing.DATA
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    assert looked(len(header).to_bytes(8, "little") + header + bytes(16)).standing is Standing.DATA
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = {"w": np.random.default_rng(0).normal(size=(9, 5)), "b": np.zeros(5, np.float16)}
    assert looked(safetensors.save(tensors, {"format": "np"})).standing is Standing.DATA


def test_onnx_with_its_tensors_beside_it(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(small_onnx("weights.bin").SerializeToString())
    (tmp_path / "weights.bin").write_bytes(np.array([1.5, 2.5], np.float32).tobytes())
    found = inspect(tmp_path)
    assert {looked.path: looked.kind for looked in found.files} == {
        "model.onnx": "onnx",
        "weights.bin": "tensor",
    }
    assert found.standing is Standing.DATA
    (tmp_path / "model.onnx").write_bytes(small_onnx().SerializeToString())
    assert inspect(tmp_path).standing is Standing.REFUSED


def test_onnx_of_skl2onnx(tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    x, y = load_iris(return_X_y=True)
    made = to_onnx(RandomForestClassifier(5).fit(x, y), x[:1].astype(np.float32)).SerializeToString()
    assert looked(made).files[0].kind == "onnx"


@pytest.mark.parametrize("old", [False, True])
def test_torch_state_dicts(tmp_path: Path, old: bool) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
    torch.save(net.state_dict(), tmp_path / "state.pt", _use_new_zipfile_serialization=not old)
    torch.save(net, tmp_path / "net.pt", _use_new_zipfile_serialization=not old)
    found = inspect(tmp_path)
    assert found.standing is Standing.CODE, found.worst
    assert {looked.kind for looked in found.worst} == {"torch" if old else "pickle"}


def test_plain_texts(tmp_path: Path) -> None:
    texts = {
        "rows.csv": "class\nsetosa\nversicolor\n", "README": "cat\ndog\n", "empty": "",
        "labels.txt": "I1\n.\n",
        "requirements.txt": "--extra-index-url https://example.org/simple\nnumpy==2.0\n",
        "notes.md": "Größe: 3\n",
        "vocabulary.json": json.dumps({"class_name": 3, "lambda": [1, 2]}),
        "conda.yaml": "name: a\ndependencies: [pip]\n",
    }  # fmt: skip
    for name, said in texts.items():
        (tmp_path / name).write_text(said)
    found = inspect(tmp_path)
    assert found.standing is Standing.DATA, found.worst
    assert len(found.files) == len(texts)


@pytest.mark.parametrize("layer", ["Dense", "Conv2D", "Dropout"])
def test_keras_layers(layer: str) -> None:
    from tests.corpus.hostile.archives import zipped
    from tests.corpus.hostile.formats import keras_layer

    config = keras_layer(layer, "keras.layers", units=3, kernel_initializer={
        "module": "keras.initializers", "class_name": "GlorotUniform", "config": {"seed": None},
        "registered_name": None,
    })  # fmt: skip
    found = looked(zipped(("config.json", config), ("metadata.json", b'{"keras_version": "3.8.0"}')))
    assert found.standing is Standing.DATA, found.worst
    assert found.files[-1].kind == "keras" or found.files[0].kind == "keras"


def test_keras_weights_in_hdf5() -> None:
    found = looked(hdf5.KERAS)
    assert (found.standing, found.files[0].kind) == (Standing.DATA, "keras")
