"""A scikit-learn model with classes in words: served, attacked through its ONNX twin, confirmed on itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tallystick.core.facts import to_json
from tallystick.evidence.domain import Column, Domain, DomainKind
from tests.crew.at_desk import send
from tests.crew.judging.orders import BUDGET, order, told, trouble
from tests.fakes.machine.maker import run_maker
from tests.fakes.serving import finish, start

WORDS = ("setosa", "versicolor", "virginica")
MAKE = """
import sys, numpy as np, mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
data = load_iris(as_frame=True)
words = np.array(data.target_names)[data.target]
frame = data.data.astype("float32")
model = RandomForestClassifier(12, random_state=0).fit(frame, words)
signature = infer_signature(frame, model.predict(frame))
mlflow.sklearn.save_model(model, sys.argv[1], signature=signature, serialization_format="cloudpickle",
                          pip_requirements=["mlflow"])
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("words") / "model"
    run_maker("-c", MAKE, str(folder))
    return folder


def rows() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_iris

    data = load_iris(as_frame=True)
    columns = {name: data.data[name].to_numpy().astype(np.float32) for name in data.data}
    return {**columns, "label": np.array(WORDS)[data.target]}


def judged(tmp_path: Path, model: Path, probes: list[dict], columns: dict | None = None, **more):
    process, said = start(model, tmp_path / "m", "words")
    assert "ready" in said
    columns = columns or rows()
    names = [name for name in columns if name != "label"]
    domain = Domain(DomainKind.TABULAR, columns=tuple(Column(name, 0, 8) for name in names))
    budget = {**BUDGET, "eps": [0.1, 0.3], "queries_max": 2000, "samples_max": 6}
    served = {"socket": str(tmp_path / "m"), "name": "words", "domain": to_json(domain), "budget": budget}
    try:
        return told(order(tmp_path, model, columns, probes, **served, **more))
    finally:
        finish(process)


def test_through_the_twin_and_confirmed(tmp_path: Path, model: Path, monkeypatch) -> None:
    (tmp_path / "twin").mkdir()
    send("twin", {"folder": str(model), "out": str(tmp_path / "twin"), "features": 4})
    probes = trouble(monkeypatch, "proof")
    found = judged(tmp_path, model, probes, twin=str(tmp_path / "twin" / "twin.onnx"))
    assert found["proof"].notes[0].startswith("it is about the model's ONNX twin")
    assert found.base.clean.value > 0.9
    assert set(found.base.classes) >= set(WORDS)
    [said] = [note for note in found["clean"].notes if "twin" in note]
    assert said.startswith("attacked through its ONNX twin, and what was found confirmed on the model")
    assert found["grid"].done
    assert found["grid"].examples
    assert {example.label_after for example in found["grid"].examples} <= set(WORDS)


def test_a_twin_of_another_model_is_not_used(tmp_path: Path, model: Path, monkeypatch) -> None:
    """One whose trees answer otherwise is found out by asking; then the model itself is attacked."""
    import onnx

    (tmp_path / "twin").mkdir()
    send("twin", {"folder": str(model), "out": str(tmp_path / "twin"), "features": 4})
    file = tmp_path / "twin" / "twin.onnx"
    forged = onnx.load(file)
    weights = next(
        a for node in forged.graph.node for a in node.attribute if a.name in ("class_weights", "leaf_weights")
    )
    weights.floats[:] = list(weights.floats)[::-1]
    onnx.save(forged, file)
    found = judged(tmp_path, model, trouble(monkeypatch), twin=str(file))
    assert any(
        note.startswith("its ONNX twin is not used, as it is another model") for note in found["clean"].notes
    )
    assert found["grid"].done


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_a_twin_that_is_none_is_a_note(tmp_path: Path, model: Path, monkeypatch, content: bytes) -> None:
    (tmp_path / "twin.onnx").write_bytes(content)
    found = judged(tmp_path, model, trouble(monkeypatch), twin=str(tmp_path / "twin.onnx"))
    assert any(note.startswith("its ONNX twin is not used") for note in found["clean"].notes)
    assert found["grid"].done


def test_groups_need_not_be_features(tmp_path: Path, model: Path, monkeypatch) -> None:
    """A column by which accuracy is divided is not shown to the model."""
    from dataclasses import replace

    from tallystick.core.facts import from_json
    from tallystick.crew.judging.rows import given
    from tests.crew.judging.orders import write

    columns = {**rows(), "where": np.array(["a", "b", "c"] * 50)}
    path = write(tmp_path / "rows.parquet", columns)
    names = [name for name in columns if name not in ("label", "where")]
    domain = Domain(DomainKind.TABULAR, columns=tuple(Column(n, 0, 8) for n in names), groups=("where",))
    for wanted, count in ((names, 4), ((), 4), ((), 0)):
        read = given(path, "label", domain, wanted, count)
        assert read.features == tuple(names)
        assert set(read.groups["where"]) == {"a", "b", "c"}
    open_ = replace(domain, columns=())
    read = given(path, "label", open_, (), 4)
    assert [c.name for c in read.domain.columns] == names
    assert read.domain.columns[0].low == pytest.approx(4.3)
    assert "ranges of 4 columns were taken from the rows" in read.notes[0]
    assert from_json(Domain, to_json(read.domain)) == read.domain
