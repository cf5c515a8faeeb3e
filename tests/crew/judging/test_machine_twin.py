"""A support vector machine of scikit-learn, judged: attacked by the gradients of its ONNX twin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tallystick.core.facts import to_json
from tallystick.crew.judging.offers import list_threats, open_attacks
from tallystick.evidence.domain import Column, Domain, DomainKind
from tests.crew.at_desk import send
from tests.crew.judging.orders import BUDGET, order, told
from tests.fakes.machine.maker import run_maker
from tests.fakes.serving import finish, start

pytestmark = pytest.mark.slow

MAKE = """
import sys, mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
data = load_iris(as_frame=True)
some = data.target >= 3 - int(sys.argv[2])
frame = data.data[some].astype("float32")
model = make_pipeline(StandardScaler(), SVC(kernel=sys.argv[3])).fit(frame, data.target[some])
mlflow.sklearn.save_model(model, sys.argv[1], signature=infer_signature(frame, model.predict(frame)),
                          serialization_format="cloudpickle", pip_requirements=["mlflow"])
"""


def rows(classes: int) -> dict[str, np.ndarray]:
    from sklearn.datasets import load_iris

    data = load_iris(as_frame=True)
    some = (data.target >= 3 - classes).to_numpy()
    columns = {name: data.data[name].to_numpy()[some].astype(np.float32) for name in data.data}
    return {**columns, "label": data.target.to_numpy()[some]}


@pytest.mark.parametrize(("classes", "kernel"), [(2, "rbf"), (3, "poly")])
def test_its_twin_says_what_it_says_and_has_gradients(tmp_path: Path, classes: int, kernel: str) -> None:
    """Of two classes too, whose scores skl2onnx gives the other way round if it is not asked otherwise."""
    model, twin = tmp_path / "model", tmp_path / "twin"
    run_maker("-c", MAKE, str(model), str(classes), kernel)
    twin.mkdir()
    send("twin", {"folder": str(model), "out": str(twin), "features": 4})
    columns = rows(classes)
    domain = Domain(DomainKind.TABULAR, columns=tuple(Column(n, 0, 8) for n in columns if n != "label"))
    probes = [to_json(p) for p in list_threats(*open_attacks(tmp_path)).chosen(()) if p.name == "pgd"]
    process, said = start(model, tmp_path / "m", "machine")
    assert "ready" in said
    served = {"socket": str(tmp_path / "m"), "name": "machine", "twin": str(twin / "twin.onnx")}
    budget = {**BUDGET, "eps": [0.02, 0.3], "samples_max": 40, "steps_max": 20}
    try:
        more = {"domain": to_json(domain), "budget": budget, **served}
        found = told(order(tmp_path, model, columns, probes, **more))
    finally:
        finish(process)
    assert any(note.startswith("attacked through its ONNX twin") for note in found["clean"].notes)
    assert found["pgd"].done
    assert found["pgd"].gradients > 0
    assert found.parts[-1]["robust"][-1] <= 4
