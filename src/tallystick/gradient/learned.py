"""Operators of the domain ai.onnx.ml that linear models and their preparation are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from tallystick.gradient.layers import softmax
from tallystick.gradient.pointwise import sigmoid
from tallystick.gradient.rules import Array, Back, Inputs, Node, lacking, rule

__all__: list[str] = []


def _floats(node: Node, key: str, otherwise: float) -> Array:
    return np.array(node.get(key) or [otherwise], np.float32)


@rule("ai.onnx.ml.Scaler")
def _scaler(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    scale = _floats(node, "scale", 1.0)
    return (inputs[0].astype(np.float32) - _floats(node, "offset", 0.0)) * scale, lambda g: (g * scale,)


@rule("ai.onnx.ml.Imputer")
def _imputer(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    x = inputs[0]
    replaced = np.float32(node.get("replaced_value_float", 0.0))
    absent = np.isnan(x) if np.isnan(replaced) else x == replaced
    y = np.where(absent, _floats(node, "imputed_value_floats", 0.0), x)
    return y, lambda g: (np.where(absent, np.float32(0), g),)


@rule("ai.onnx.ml.Normalizer")
def _normalizer(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    """Rows by their norm, L1 or L2; a row of nothing stays as it is."""
    x, kind = inputs[0].astype(np.float32), node.get("norm", b"MAX")
    if kind not in (b"L1", b"L2"):
        raise lacking(node, f"divides by the norm {kind!r:.20}")
    norm = (
        np.abs(x).sum(axis=-1, keepdims=True)
        if kind == b"L1"
        else np.sqrt((x * x).sum(axis=-1, keepdims=True))
    )
    norm = np.where(norm == 0, np.float32(1), norm)
    y = x / norm

    def back(g: Array) -> tuple[Array]:
        along = np.sign(x) if kind == b"L1" else y
        return ((g - along * (g * y).sum(axis=-1, keepdims=True)) / norm,)

    return y, back


@rule("ai.onnx.ml.LinearClassifier")
def _linear(node: Node, inputs: Inputs) -> tuple[Any, Back]:
    """Outputs: the label's place, and the scores (n, classes) after ``post_transform``."""
    coefficients = np.array(node.get("coefficients") or [], np.float32)
    intercepts = np.array(node.get("intercepts") or [0.0], np.float32)
    x = inputs[0].astype(np.float32)
    if intercepts.size < 2 or coefficients.size != intercepts.size * x.shape[-1]:
        raise lacking(node, "has not one row of coefficients for each class")
    weights = coefficients.reshape(intercepts.size, -1)
    raw = x @ weights.T + intercepts
    how = node.get("post_transform", b"NONE")
    if how not in (b"NONE", b"SOFTMAX", b"LOGISTIC"):
        raise lacking(node, f"ends in {how!r:.20}")
    y = {b"SOFTMAX": lambda r: softmax(r, 1), b"LOGISTIC": sigmoid}.get(how, lambda r: r)(raw)

    def back(_: Array, g: Array) -> tuple[Array]:
        if how == b"SOFTMAX":
            g = y * (g - (g * y).sum(axis=1, keepdims=True))
        elif how == b"LOGISTIC":
            g = g * y * (1 - y)
        return (g @ weights,)

    return (raw.argmax(axis=1), y), back
