"""Classifiers that MLflow saved, for twins: made once a session by a process of its own, as they weigh.

``python -m tests.crew.pull.estimators FOLDER`` makes them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tests.fakes.machine.maker import run_maker
from tests.fakes.machine.once import once

__all__ = ["build"]


def build(factory) -> Path:
    """The folder with all models, one folder each, and ``rows.npz``: see :func:`main`."""
    return once(factory, "estimators", _build)


def _build(folder: Path) -> None:
    run_maker("-m", "tests.crew.pull.estimators", str(folder), seconds=300)


class Keyless:
    """A classifier that nobody knows how to convert: the nearest mean, of a class of its own."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        self.means_ = np.stack([np.asarray(x)[y == c].mean(axis=0) for c in self.classes_])
        return self

    def predict_proba(self, x):
        near = np.exp(-((np.asarray(x)[:, None] - self.means_) ** 2).sum(axis=2))
        return near / near.sum(axis=1, keepdims=True)

    def predict(self, x):
        return self.classes_[self.predict_proba(x).argmax(axis=1)]


def main(folder: Path) -> None:
    import lightgbm
    import mlflow.lightgbm
    import mlflow.sklearn
    import mlflow.xgboost
    import xgboost
    from mlflow.models import infer_signature
    from sklearn.compose import ColumnTransformer
    from sklearn.datasets import load_iris
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        HistGradientBoostingClassifier,
        RandomForestClassifier,
    )
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    frame, y = load_iris(as_frame=True, return_X_y=True)
    x, two = frame.to_numpy().astype(np.float32), (y.to_numpy() == 2).astype(int)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    np.savez(folder / "rows.npz", x=x, y=y, two=two)

    def save(name, model, given, target, flavor=mlflow.sklearn, **more):
        model.fit(given, target)
        if flavor is mlflow.sklearn:
            more["serialization_format"] = "cloudpickle"
        signature = infer_signature(given, model.predict(given))
        flavor.save_model(model, str(folder / name), signature=signature, pip_requirements=["mlflow"], **more)

    save("forest", RandomForestClassifier(10, random_state=0), x, y)
    save("named forest", RandomForestClassifier(10, random_state=0), x, names)
    save("boosted", make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=5)), x, two)
    save("histogram", HistGradientBoostingClassifier(max_iter=5), x, y)
    save("histogram two", HistGradientBoostingClassifier(max_iter=5), x, two)
    save("logistic", make_pipeline(StandardScaler(), LogisticRegression()), x, y)
    save("svc", make_pipeline(StandardScaler(), LinearSVC()), x, two)
    columns = ColumnTransformer([("s", StandardScaler(), list(frame.columns[1:3]))], remainder="passthrough")
    save("columns", make_pipeline(columns, LogisticRegression(max_iter=500)), frame, y)
    save("xgboost", xgboost.XGBClassifier(n_estimators=8, max_depth=4), x, y, mlflow.xgboost)
    save("xgboost two", xgboost.XGBClassifier(n_estimators=8, max_depth=4), x, two, mlflow.xgboost)
    save("xgboost piped", make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=8)), x, y)
    save("lightgbm", lightgbm.LGBMClassifier(n_estimators=8, verbose=-1), x, y, mlflow.lightgbm)
    save(
        "lightgbm piped",
        make_pipeline(StandardScaler(), lightgbm.LGBMClassifier(n_estimators=8, verbose=-1)),
        x,
        two,
    )
    save("own", Keyless(), x, y)
    save("regression", LinearRegression(), x, y)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
