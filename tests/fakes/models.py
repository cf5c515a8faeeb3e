"""Real models for tests, made once a session by a process of its own: MLflow and scikit-learn warn and weigh.

``python -m tests.fakes.models FOLDER`` makes them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tests.fakes.machine.maker import REPOSITORY, run_maker
from tests.fakes.machine.once import once

__all__ = ["REPOSITORY", "build"]

QUICK = {"pip_requirements": ["mlflow"]}  # else MLflow starts a process for each model to find them out


def build(factory) -> Path:
    """The folder with all models, one folder each: see :func:`main`. ``factory`` is tmp_path_factory."""
    return once(factory, "models", _build)


def _build(folder: Path) -> None:
    run_maker("-m", "tests.fakes.models", str(folder))


def forest(folder: Path) -> None:
    """forest: digits to label and probabilities, by ONNX; zipmap: the same as skl2onnx makes it unasked."""
    import mlflow.onnx
    from skl2onnx import to_onnx
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    model = RandomForestClassifier(10, random_state=0).fit(x, y)
    plain = to_onnx(model, x[:1], options={id(model): {"zipmap": False}})
    mlflow.onnx.save_model(plain, str(folder / "forest"), **QUICK)
    mlflow.onnx.save_model(to_onnx(model, x[:1]), str(folder / "zipmap"), **QUICK)
    np.savez(folder / "forest.npz", x=x[:64], proba=model.predict_proba(x[:64]), label=model.predict(x[:64]))


def columns(folder: Path) -> None:
    """columns: scikit-learn on a DataFrame; matrix: the same on an array."""
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    data = load_iris(as_frame=True)
    model = LogisticRegression(max_iter=1000).fit(data.data, data.target)
    answer = model.predict(data.data)
    mlflow.sklearn.save_model(
        model, str(folder / "columns"), signature=infer_signature(data.data, answer), **QUICK
    )
    x = data.data.to_numpy()
    model = LogisticRegression(max_iter=1000).fit(x, data.target)
    mlflow.sklearn.save_model(model, str(folder / "matrix"), signature=infer_signature(x, answer), **QUICK)
    mlflow.sklearn.save_model(model, str(folder / "unsigned"), **QUICK)
    np.savez(folder / "columns.npz", x=x, label=answer)


def mixed(folder: Path) -> None:
    """mixed: code of its own, on columns of every type, to a DataFrame; it raises for a negative count."""
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    class Mixed(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            if (model_input["count"] < 0).any():
                raise ValueError("a count is negative")
            text = model_input["word"] + model_input["when"].dt.strftime(" %Y")
            return pd.DataFrame({"text": text, "total": model_input["count"] * model_input["price"]})

    kinds = {"word": "string", "count": "long", "price": "double", "when": "datetime"}
    inputs = Schema([ColSpec(kind, name) for name, kind in kinds.items()])
    outputs = Schema([ColSpec("string", "text"), ColSpec("double", "total")])
    signature = ModelSignature(inputs=inputs, outputs=outputs)
    mlflow.pyfunc.save_model(str(folder / "mixed"), python_model=Mixed(), signature=signature, **QUICK)


def graphs(folder: Path) -> None:
    """picky: an ONNX graph that looks rows up and fails past its end; outside: its table in another file."""
    import mlflow.onnx
    import onnx
    from onnx import helper, numpy_helper

    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    at = helper.make_tensor_value_info("at", onnx.TensorProto.INT64, ["n"])
    row = helper.make_tensor_value_info("row", onnx.TensorProto.FLOAT, ["n", 3])
    node = helper.make_node("Gather", ["table", "at"], ["row"])
    graph = helper.make_graph([node], "picky", [at], [row], [numpy_helper.from_array(table, "table")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    mlflow.onnx.save_model(model, str(folder / "picky"), **QUICK)
    mlflow.onnx.save_model(model, str(folder / "outside"), size_threshold=0, **QUICK)


def hostile(folder: Path) -> None:
    """forger: it looks for the desk of the process that it is loaded in and puts a result of its own there.

    Beside that it is a plain classifier of two features, and so is ``pair``, which does nothing else.
    """
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    class Pair(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            import numpy as np

            odds = np.exp(8 * np.stack([model_input[:, 0], model_input[:, 1]], axis=1))
            return (odds / odds.sum(axis=1, keepdims=True)).astype("float32")

    class Forger(Pair):
        def predict(self, context, model_input, params=None):
            import gc

            rate = {"right": 1000, "total": 1000}
            forged = {"clean": rate, "curve": [{"eps": e, "robust": rate, "noise": rate} for e in (0.1, 0.2)],
                      "attacks": [{"name": "forged", "library": "none", "queries": 10**6}],
                      "flavors": ["onnx"], "inputs": [], "outputs": [], "has_input_example": True,
                      "example": "predicted", "runtime": "onnx", "runs_code": False}  # fmt: skip
            for thing in () if getattr(self, "forged", False) else gc.get_objects():
                if type(thing).__name__ == "Desk":
                    thing.result(forged)
            self.forged = True  # once, as looking takes its time
            return super().predict(context, model_input, params)

    two = Schema([TensorSpec(np.dtype("float32"), (-1, 2))])
    signature = ModelSignature(inputs=two, outputs=two)
    for name, model in (("pair", Pair()), ("forger", Forger())):
        mlflow.pyfunc.save_model(str(folder / name), python_model=model, signature=signature, **QUICK)


def main(folder: Path) -> None:
    for part in (forest, columns, mixed, graphs, hostile):
        part(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
