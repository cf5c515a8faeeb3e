"""A classifier of handwritten digits in ONNX, trained plainly or on attacks on itself, with the rows it saw.

.venv-kfp/bin/python tests/journeys/pipelines/gate.py      # writes gate.yaml beside this file
"""

from pathlib import Path
from typing import NamedTuple

from kfp import compiler, dsl
from kfp.dsl import Dataset, Input, Model, Output

PACKAGES = ["mlflow", "numpy", "onnx", "onnxruntime", "pandas", "pyarrow", "scikit-learn", "skl2onnx"]


@dsl.component(base_image="python:3.11", packages_to_install=PACKAGES)
def split(rows: Input[Dataset], train: Output[Dataset], test: Output[Dataset]):
    """Three quarters to train on: a step of its own, so that the record shows what it was made from."""
    import numpy as np
    import pandas as pd

    table = pd.read_parquet(rows.path)
    order = np.random.default_rng(1).permutation(len(table))
    table.iloc[order[: len(table) * 3 // 4]].to_parquet(train.path, index=False)
    table.iloc[order[len(table) * 3 // 4 :]].to_parquet(test.path, index=False)


@dsl.component(base_image="python:3.11", packages_to_install=PACKAGES)
def fit(rows: Input[Dataset], hardened: bool, model: Output[Model]):
    """A network of one hidden layer; ``hardened`` takes each batch as its own gradient would spoil it."""
    import logging
    import warnings

    import mlflow
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    kept = pd.read_parquet(rows.path)
    x, y = kept.drop(columns="label").to_numpy(np.float32), kept["label"].to_numpy(np.int64)
    network = MLPClassifier((128,), alpha=1e-4, learning_rate_init=2e-3, random_state=1, shuffle=False)
    draw, classes = np.random.default_rng(2), np.arange(10)
    for epoch in range(60):
        shuffled = draw.permutation(len(x))
        for at in range(0, len(x), 64):
            some = shuffled[at : at + 64]
            batch = x[some]
            if hardened and epoch > 3:
                batch = np.clip(batch + draw.uniform(-0.12, 0.12, batch.shape), 0, 1)
                for _ in range(3):
                    hidden = np.maximum(batch @ network.coefs_[0] + network.intercepts_[0], 0)
                    scores = hidden @ network.coefs_[1] + network.intercepts_[1]
                    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
                    off = odds / odds.sum(axis=1, keepdims=True) - np.eye(10)[y[some]]
                    uphill = ((off @ network.coefs_[1].T) * (hidden > 0)) @ network.coefs_[0].T
                    batch = np.clip(batch + 0.06 * np.sign(uphill), x[some] - 0.12, x[some] + 0.12).clip(0, 1)
            network.partial_fit(batch.astype(np.float32), y[some], classes=classes)
    proto = to_onnx(
        network,
        initial_types=[("pixels", FloatTensorType([None, x.shape[1]]))],
        options={id(network): {"zipmap": False}},
    )
    said = {"label": y[:2], "probabilities": network.predict_proba(x[:2]).astype(np.float32)}
    mlflow.onnx.save_model(
        proto,
        model.path,
        signature=infer_signature({"pixels": x[:2]}, said),
        pip_requirements=["onnxruntime"],
        onnx_execution_providers=["CPUExecutionProvider"],
    )
    print(f"right about {network.score(x, y):.3f} of {len(x)} rows that it was trained on")


class Outputs(NamedTuple):
    model: Model
    train: Dataset
    test: Dataset


@dsl.pipeline(name="gate")
def gate(table: str, hardened: bool = False) -> Outputs:
    rows = dsl.importer(artifact_uri=table, artifact_class=Dataset)
    parts = split(rows=rows.output)
    fitted = fit(rows=parts.outputs["train"], hardened=hardened)
    return Outputs(fitted.outputs["model"], parts.outputs["train"], parts.outputs["test"])


if __name__ == "__main__":
    compiler.Compiler().compile(gate, str(Path(__file__).with_suffix(".yaml")))
