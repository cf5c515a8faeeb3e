"""Models of texts and of windows as users log them: ``python -m tests.judging.kinds URL`` registers both.

A process of its own, as MLflow and scikit-learn warn and weigh.
"""

from __future__ import annotations

import sys

import numpy as np

from tests.tiles.texts.reviews import reviews

__all__ = ["CHANNELS", "STEPS", "main", "windows"]

TRAINED = 600
STEPS, CHANNELS = 20, 2


def windows(count: int = 80, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """float32 (count, steps, channels), and whether the first channel rises; the second says nothing."""
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 2, count)
    slope = np.where(label, 1, -1) * draw.uniform(0.2, 1.5, count)
    x = np.empty((count, STEPS, CHANNELS), np.float32)
    x[:, :, 0] = 0.01 * (slope[:, None] * np.linspace(-1, 1, STEPS) + draw.normal(0, 0.3, (count, STEPS)))
    x[:, :, 1] = 500 + 100 * draw.normal(0, 1, (count, STEPS))
    return x, label.astype(np.int64)


def _reviews() -> None:
    """Fitted on a column ``text``, by skops, so that nothing in its files can run code."""
    import mlflow
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts, labels = reviews(TRAINED)
    table = pd.DataFrame({"text": texts})
    words = ColumnTransformer([("words", TfidfVectorizer(), "text")])
    model = make_pipeline(words, LogisticRegression(C=10.0)).fit(table, labels)
    mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(table, model.predict_proba(table)),
        pyfunc_predict_fn="predict_proba",
        serialization_format="skops",
        registered_model_name="reviews",
        pip_requirements=["mlflow"],
    )


def _windows() -> None:
    """A logistic regression on flattened windows, as a graph that takes (n, steps, channels)."""
    import mlflow
    from mlflow.models import infer_signature
    from onnx import TensorProto, helper, numpy_helper
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, label = windows(TRAINED, 1)
    flat = x.reshape(len(x), -1)
    scale = StandardScaler().fit(flat)
    fitted = LogisticRegression().fit(scale.transform(flat), label)
    weights = fitted.coef_[0] / scale.scale_
    bias = fitted.intercept_[0] - weights @ scale.mean_
    constants = {"w": np.stack([-weights, weights], 1) / 2, "b": np.array([-bias, bias]) / 2}
    value = helper.make_tensor_value_info
    nodes = [("Flatten", ["window"], "flat"), ("Gemm", ["flat", "w", "b"], "z"), ("Softmax", ["z"], "said")]
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output]) for kind, inputs, output in nodes],
        "windows",
        [value("window", TensorProto.FLOAT, ["n", STEPS, CHANNELS])],
        [value("said", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(found.astype(np.float32), name) for name, found in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    signature = infer_signature(x, np.zeros((len(x), 2), np.float32))
    mlflow.onnx.log_model(
        made, name="model", signature=signature, registered_model_name="wear", pip_requirements=["mlflow"]
    )


def main(url: str) -> None:
    """Register both."""
    import mlflow
    import mlflow.onnx
    import mlflow.sklearn

    mlflow.set_tracking_uri(url)
    _reviews()
    _windows()


if __name__ == "__main__":
    main(sys.argv[1])
