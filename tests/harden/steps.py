"""The steps of ``examples/harden`` as they are shipped: the functions in the compiled pipeline, run here."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tallystick.evidence.domain import Column

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "harden"
ANY: Mapping[str, Any] = {
    "low": 0.0, "high": 1.0, "tabular": False, "columns": {}, "apart": [],
    "shape": [], "channels_first": False,
}  # fmt: skip


@functools.cache
def shipped() -> Mapping[str, Any]:
    """The compiled pipeline: read once, as every worker of the tests does so before its first test."""
    found: Mapping[str, Any] = next(yaml.safe_load_all((EXAMPLE / "pipeline.yaml").read_text("utf-8")))
    return found


def step(name: str) -> dict[str, Any]:
    """All functions of a step's source by name; its artifacts are annotated with what stands in for kfp's."""
    spec = shipped()
    source = spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]["command"][-1]
    lines = [line for line in source.splitlines() if not line.startswith(("import kfp", "from kfp"))]
    names: dict[str, Any] = {"Input": list, "Output": list, "Dataset": object, "Model": object}
    exec(compile("\n".join(lines), f"{name}.py", "exec"), names)  # noqa: S102  reason: it is what a step does
    if "quiet" in names:
        names["quiet"] = lambda: None  # it would silence this whole process
    return names


def artifact(path: Path) -> SimpleNamespace:
    return SimpleNamespace(path=str(path), uri=str(path), metadata={})


def inputs_of(features: int, datatype: str = "FP32", name: str = "x") -> list[dict[str, Any]]:
    return [{"name": name, "type": datatype, "shape": [-1, features]}]


def about(features: int, **more: Any) -> dict[str, Any]:
    """What a run is told, as it comes out of JSON."""
    names = ["label", "probabilities"]
    plain = {"of": "m@1", "label": "label", "domain": ANY, "inputs": inputs_of(features), "names": names}
    said: dict[str, Any] = json.loads(json.dumps({**plain, **more}))
    return said


def known(x: np.ndarray, y: np.ndarray, **more: Any) -> SimpleNamespace:
    """Rows as ``read_rows`` gives them, in 0..1."""
    d = x.shape[1]
    classes, places = np.unique(y, return_inverse=True)
    plain = {"low": np.zeros(d), "high": np.ones(d), "reach": np.ones(d), "groups": []}
    plain |= {rule: np.zeros(d, bool) for rule in ("whole", "up", "down")}
    return SimpleNamespace(**{"x": x.astype(np.float32), "y": places, "classes": classes} | plain | more)


def rules_of(columns: Sequence[Column]) -> dict[str, Any]:
    """What ``read_rows`` says of such columns."""
    groups = sorted({c.one_hot for c in columns} - {""})
    return {
        "low": np.array([c.low for c in columns], float), "high": np.array([c.high for c in columns], float),
        "reach": np.array([0.0 if c.immutable else c.span for c in columns]),
        "whole": np.array([c.integer or bool(c.one_hot) for c in columns]),
        "up": np.array([c.direction == "up" for c in columns]),
        "down": np.array([c.direction == "down" for c in columns]),
        "groups": [np.array([i for i, c in enumerate(columns) if c.one_hot == g]) for g in groups],
    }  # fmt: skip


def telltale(rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, 30) of two classes: one feature tells them apart by far, the others a little each (Tsipras et
    al. 2019). What learns from them all is better, and falls to a change of 0.1 in each.
    """
    draw = np.random.default_rng(3)
    y = draw.integers(0, 2, rows)
    side = 2.0 * y[:, None] - 1
    weak = 0.5 + 0.05 * side + draw.normal(0, 0.05, (rows, 29))
    strong = 0.5 + 0.3 * side + draw.normal(0, 0.08, (rows, 1))
    return np.clip(np.concatenate([strong, weak], axis=1), 0, 1).astype(np.float32), y


def table(x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({f"f{i}": x[:, i] for i in range(x.shape[1])} | {"label": y})


def linear(x: np.ndarray, y: np.ndarray, opset: int = 15, zipmap: bool = False) -> Any:
    """A logistic regression as ONNX, with input ``x``."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(max_iter=500).fit(x, y)
    return to_onnx(
        fitted, initial_types=[("x", FloatTensorType([None, x.shape[1]]))], target_opset=opset,
        options={id(fitted): {"zipmap": zipmap}},
    )  # fmt: skip
