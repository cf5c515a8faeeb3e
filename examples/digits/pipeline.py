"""Handwritten digits: four kinds of model, a hardened one, and the choice of the best, in stock kfp.

    .venv-kfp/bin/python examples/digits/pipeline.py      # writes pipeline.yaml beside this file

Whatever the hub is, this file does not know it: data comes in by URI, models go out as MLflow models,
and each training step logs with the stock MLflow client where MLFLOW_TRACKING_URI says so. Elsewhere
the same steps train and save, and log nothing.
"""

import sys
from pathlib import Path
from typing import NamedTuple

from kfp import compiler, dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

IMAGE = "python:3.11"
TABLES = ["pandas", "pyarrow", "scikit-learn"]
MODELS = ["mlflow", "numpy", "onnx", "onnxruntime", "skl2onnx"]


def read_digits(path: str):
    """Pixels float32 (n, 64) in 0..1 and labels int64 (n,) from a Parquet file of p00..p63 and label."""
    import numpy as np
    import pandas as pd

    columns = [f"p{i:02d}" for i in range(64)]
    table = pd.read_parquet(path, columns=[*columns, "label"])
    pixels = table[columns].to_numpy(np.float32)
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError("a pixel is not a number from 0 to 1")
    return pixels, table["label"].to_numpy(np.int64)


def quiet():
    """Leave the log to what matters, and the other steps their cores."""
    import logging
    import os
    import warnings

    from threadpoolctl import threadpool_limits

    warnings.simplefilter("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ["MLFLOW_LOGGING_LEVEL"] = "ERROR"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    threadpool_limits(1)


def log_data(rows, context: str):
    """Name the table that went in, as an MLflow dataset, in the active run."""
    import mlflow
    import pandas as pd
    from mlflow.data.http_dataset_source import HTTPDatasetSource

    table = pd.read_parquet(rows.path)
    # An HTTP source is the one that holds any URI as it stands.
    source = HTTPDatasetSource(rows.metadata.get("table", rows.uri))
    name = f"digits-{rows.metadata.get('part', 'all')}"
    mlflow.log_input(mlflow.data.from_pandas(table, source, targets="label", name=name), context=context)


def keep_model(estimator, kind: str, rows, params: dict, metrics: dict, model):
    """Save a fitted classifier as an MLflow model in ONNX at ``model.path``, and log it where MLflow is.

    Its input is ``pixels`` float32 (n, 64) in 0..1; its outputs are ``label`` int64 (n,) and
    ``probabilities`` float32 (n, 10).
    """
    import os
    from pathlib import Path

    import mlflow
    import numpy as np
    import onnx
    import onnxruntime
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    proto = to_onnx(
        estimator,
        initial_types=[("pixels", FloatTensorType([None, 64]))],
        options={id(estimator): {"zipmap": False}},
    )
    files = {
        "onnx_model": proto,
        "signature": ModelSignature(
            Schema([TensorSpec(np.dtype("float32"), (-1, 64), "pixels")]),
            Schema(
                [
                    TensorSpec(np.dtype("int64"), (-1,), "label"),
                    TensorSpec(np.dtype("float32"), (-1, 10), "probabilities"),
                ]
            ),
        ),
        "input_example": {"pixels": read_digits(rows.path)[0][:2]},
        # Said outright, so that MLflow need not start the model to find out.
        "pip_requirements": [f"{m.__name__}=={m.__version__}" for m in (mlflow, np, onnx, onnxruntime)],
        "metadata": {"kind": kind},
        "onnx_execution_providers": ["CPUExecutionProvider"],
    }
    model.metadata["kind"] = kind
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.onnx.save_model(path=model.path, **files)
        return
    with mlflow.start_run(run_name=kind) as run:
        mlflow.log_params({"kind": kind, **params})
        log_data(rows, "training")
        logged = mlflow.onnx.log_model(name="model", **files)
        mlflow.log_metrics(metrics, model_id=logged.model_id)
    # What goes on from here is what was logged, byte for byte, without the note that a download adds.
    mlflow.artifacts.download_artifacts(artifact_uri=logged.model_uri, dst_path=model.path)
    (Path(model.path) / "registered_model_meta").unlink(missing_ok=True)
    model.metadata |= {"mlflow_run_id": run.info.run_id, "mlflow_model_id": logged.model_id}


def as_art_network(network, features: int, classes: int):
    """A ReLU MLPClassifier for ART, with the loss gradients that ART has none of for scikit-learn."""
    import numpy as np
    from art.estimators.classification import ClassifierMixin
    from art.estimators.estimator import BaseEstimator, LossGradientsMixin

    class Network(LossGradientsMixin, ClassifierMixin, BaseEstimator):
        estimator_params = BaseEstimator.estimator_params + ClassifierMixin.estimator_params

        def __init__(self):
            super().__init__(model=network, clip_values=(0.0, 1.0))
            self.nb_classes = classes
            self._input_shape = (features,)

        @property
        def input_shape(self):
            return self._input_shape

        def _forward(self, x):
            hidden = []
            for weights, bias in zip(self.model.coefs_[:-1], self.model.intercepts_[:-1], strict=True):
                x = np.maximum(x @ weights + bias, 0)
                hidden.append(x)
            scores = x @ self.model.coefs_[-1] + self.model.intercepts_[-1]
            odds = np.exp(scores - scores.max(axis=1, keepdims=True))
            return hidden, odds / odds.sum(axis=1, keepdims=True)

        def predict(self, x, batch_size=128, **kwargs):
            return self._forward(x)[1]

        def loss_gradient(self, x, y, **kwargs):
            hidden, chances = self._forward(x)
            # chances - y without cancellation: a saturated softmax must not hide the gradient.
            gradient = chances * (1 - y)
            gradient -= y * gradient.sum(axis=1, keepdims=True)
            for weights, layer in zip(self.model.coefs_[:0:-1], hidden[::-1], strict=True):
                gradient = (gradient @ weights.T) * (layer > 0)
            return (gradient @ self.model.coefs_[0].T).astype(x.dtype)

        def fit(self, x, y, **kwargs):
            self.model.partial_fit(x, y.argmax(axis=1), classes=np.arange(self.nb_classes))

    return Network()


@dsl.component(base_image=IMAGE, packages_to_install=TABLES)
def split(data: Input[Dataset], seed: int, train: Output[Dataset], test: Output[Dataset]):
    """Four fifths to train on and one to judge by, with every digit in both at the same share."""
    import pandas as pd
    from sklearn.model_selection import train_test_split

    table = pd.read_parquet(data.path)
    parts = train_test_split(table, test_size=0.2, stratify=table["label"], random_state=seed)
    for out, part, name in zip((train, test), parts, ("train", "test"), strict=True):
        part.to_parquet(out.path, index=False)
        table_uri = data.metadata.get("uri", data.uri)
        out.metadata |= {"table": table_uri, "part": name, "rows": len(part)}
        print(f"{name}: {len(part)} rows")


@dsl.component(
    base_image=IMAGE,
    packages_to_install=[*TABLES, *MODELS],
    additional_funcs=[read_digits, quiet, log_data, keep_model],
)
def train(kind: str, rows: Input[Dataset], seed: int, model: Output[Model]):
    """Fit one kind of model; its accuracy on folds of the training rows is logged."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    quiet()
    kinds = {
        "linear": (LogisticRegression, {"C": 1.0, "max_iter": 500}),
        "forest": (RandomForestClassifier, {"n_estimators": 100, "random_state": seed}),
        "svm": (SVC, {"C": 10.0, "gamma": "scale"}),
        "mlp": (MLPClassifier, {"hidden_layer_sizes": (128,), "max_iter": 150, "random_state": seed}),
    }
    if kind not in kinds:
        raise ValueError(f"no kind {kind!r}: choose from {', '.join(kinds)}")
    make, params = kinds[kind]
    x, y = read_digits(rows.path)
    folds = cross_val_score(make(**params), x, y, cv=3)
    estimator = make(**params)
    if kind == "svm":
        # A support vector machine has scores, not probabilities: calibrate them on folds.
        estimator = CalibratedClassifierCV(estimator, ensemble=False, cv=5)
    estimator.fit(x, y)
    metrics = {"fold_accuracy": float(folds.mean()), "train_accuracy": float(estimator.score(x, y))}
    params["random_state"] = seed
    keep_model(estimator, kind, rows, params, metrics, model)
    print(f"{kind}: accuracy {metrics['fold_accuracy']:.3f} on folds of the training rows")


@dsl.component(
    base_image=IMAGE,
    packages_to_install=[*TABLES, *MODELS, "adversarial-robustness-toolbox"],
    additional_funcs=[read_digits, quiet, log_data, keep_model, as_art_network],
)
def harden(rows: Input[Dataset], seed: int, eps: float, model: Output[Model]):
    """Adversarial training (Madry et al. 2018) with ART: a network that learns from attacks on itself.

    Each batch is replaced by its projected-gradient attack within ``eps`` (L-infinity, pixels 0..1).
    """
    import contextlib
    import io

    import numpy as np
    from sklearn.neural_network import MLPClassifier

    quiet()
    from art.attacks.evasion import ProjectedGradientDescentNumpy
    from art.defences.trainer import AdversarialTrainer

    x, y = read_digits(rows.path)
    classes, batch, steps, rate = int(y.max()) + 1, 128, 5, 2e-3
    network = MLPClassifier((256, 128), alpha=1e-4, learning_rate_init=rate, random_state=seed, shuffle=False)
    order = np.random.default_rng(seed)
    for _ in range(5):
        shuffled = order.permutation(len(x))
        for start in range(0, len(x), batch):
            some = shuffled[start : start + batch]
            network.partial_fit(x[some], y[some], classes=np.arange(classes))
    estimator = as_art_network(network, x.shape[1], classes)
    attack = ProjectedGradientDescentNumpy(
        estimator, eps=eps, eps_step=2.5 * eps / steps, max_iter=steps, num_random_init=1,
        batch_size=batch, verbose=False,
    )  # fmt: skip
    trainer = AdversarialTrainer(estimator, attack, ratio=1.0)
    # ART draws from numpy's global state, and progress bars that no argument turns off.
    np.random.seed(seed)
    for share, epochs in ((1.0, 50), (0.3, 25), (0.1, 25)):
        network._optimizer.learning_rate_init = rate * share
        with contextlib.redirect_stderr(io.StringIO()):
            trainer.fit(x, np.eye(classes, dtype=np.float32)[y], batch_size=batch, nb_epochs=epochs)
    metrics = {"train_accuracy": float(network.score(x, y))}
    params = {
        "hidden_layer_sizes": (256, 128),
        "eps": eps,
        "attack_steps": steps,
        "epochs": 100,
        "random_state": seed,
    }
    keep_model(network, "hardened", rows, params, metrics, model)
    print(f"hardened at eps {eps:g}: accuracy {metrics['train_accuracy']:.3f} on its own rows")


@dsl.component(
    base_image=IMAGE,
    packages_to_install=[*TABLES, *MODELS],
    additional_funcs=[read_digits, quiet, log_data],
)
def evaluate(
    models: Input[list[Model]], hardened: Input[Model], rows: Input[Dataset], metrics: Output[Metrics]
) -> NamedTuple("Outputs", scores=dict):
    """Accuracy of every model on rows that none has seen, through ONNX Runtime as in production."""
    import json
    import os
    from collections import namedtuple
    from pathlib import Path

    quiet()
    import mlflow
    import onnxruntime

    x, y = read_digits(rows.path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    scores = {}
    for model in [*models, hardened]:
        file = Path(model.path) / "model.onnx"
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        labels = session.run(["label"], {"pixels": x})[0]
        scores[model.metadata["kind"]] = float((labels == y).mean())
    for kind, accuracy in scores.items():
        metrics.log_metric(f"accuracy_{kind}", accuracy)
        print(f"{kind}: accuracy {accuracy:.3f} on {len(y)} rows held out")
    Path(metrics.path).write_text(json.dumps(scores, sort_keys=True))
    if os.environ.get("MLFLOW_TRACKING_URI"):
        with mlflow.start_run(run_name="evaluate"):
            log_data(rows, "evaluation")
            mlflow.log_metrics({f"accuracy_{kind}": accuracy for kind, accuracy in scores.items()})
    return namedtuple("Outputs", "scores")(scores)


@dsl.component(base_image=IMAGE)
def choose(scores: dict, models: Input[list[Model]], best: Output[Model]) -> NamedTuple(
    "Outputs", summary=str
):
    """The most accurate of the models, as it is; the first of equals."""
    import shutil
    from collections import namedtuple

    winner = max(models, key=lambda model: scores[model.metadata["kind"]])
    kind = winner.metadata["kind"]
    shutil.copytree(winner.path, best.path, dirs_exist_ok=True)
    best.metadata |= {**winner.metadata, "accuracy": scores[kind]}
    summary = f"{kind} is the most accurate of {len(models)}: {scores[kind]:.3f} on rows held out"
    print(summary)
    return namedtuple("Outputs", "summary")(summary)


class Outputs(NamedTuple):
    best: Model
    hardened: Model
    train: Dataset
    test: Dataset
    scores: dict


@dsl.pipeline(
    name="digits", description="Four kinds of model for handwritten digits, a hardened one, and the best."
)
def digits(
    data: str = "tally://tables/digits",
    kinds: list = ["linear", "forest", "svm", "mlp"],  # noqa: B006 (kfp reads defaults, and calls nothing)
    seed: int = 7,
    eps: float = 0.15,
) -> Outputs:
    table = dsl.importer(artifact_uri=data, artifact_class=Dataset)
    parts = split(data=table.output, seed=seed)
    with dsl.ParallelFor(kinds) as kind:
        trained = train(kind=kind, rows=parts.outputs["train"], seed=seed)
    hard = harden(rows=parts.outputs["train"], seed=seed, eps=eps)
    rated = evaluate(
        models=dsl.Collected(trained.outputs["model"]),
        hardened=hard.outputs["model"],
        rows=parts.outputs["test"],
    )
    chosen = choose(scores=rated.outputs["scores"], models=dsl.Collected(trained.outputs["model"]))
    return Outputs(
        best=chosen.outputs["best"],
        hardened=hard.outputs["model"],
        train=parts.outputs["train"],
        test=parts.outputs["test"],
        scores=rated.outputs["scores"],
    )


if __name__ == "__main__":
    target = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("pipeline.yaml")
    compiler.Compiler().compile(digits, str(target))
