"""Gradients of a served model: the half of the exchange that runs where it is measured.

The other half (:mod:`tallystick.crew.served.pulls`) runs beside code that is not ours: what it says is
believed in nothing but its numbers, and only where they are finite, of the right shape and as many as before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from tallystick.core.errors import BadInput, Failed
from tallystick.doors.oip.codec import InferRequest, decode_response, encode_request

__all__ = ["PULL_BYTES_MAX", "Ask", "hidden", "pull"]

PULL_BYTES_MAX = 16 * 1024 * 1024
"""Rows of one exchange; more are asked about in parts."""

CLASSES_MAX = 100_000
TOKEN_CHARS_MAX = 40
WHERE = "model"

Tensors = Mapping[str, np.ndarray]
Weigh = Callable[[np.ndarray], np.ndarray]


class Ask(Protocol):
    """Posts a body to a path below the model's own, and says what came back.

    NotSupported where the model's process has no such path or says so itself, Failed for all else.
    """

    def __call__(self, path: str, body: bytes, json_bytes: int) -> tuple[bytes, int, str]:
        """The answer's body, how much of it is JSON, and its token (empty: none)."""
        ...


def pull(ask: Ask, inputs: Tensors, weigh: Weigh) -> tuple[np.ndarray, Tensors]:
    """See :class:`tallystick.ports.models.runtime.Differentiable`.

    ``weigh`` is called once, with the logits of all rows. What is too large for one exchange goes
    there twice: once for the logits, and again for the gradients, as the other side keeps one part at a time.
    """
    parts = _parts(inputs)
    if len(parts) == 1:
        token, logits = _begin(ask, inputs)
        return logits, _finish(ask, token, _weights(weigh, logits), inputs)
    logits = _joined([_begin(ask, part)[1] for part in parts])
    weights, at = _weights(weigh, logits), 0
    found: list[Tensors] = []
    for part in parts:
        token, again = _begin(ask, part)
        if again.shape != (len(again), logits.shape[1]):
            raise Failed("it answers with other classes than at first", where=WHERE)
        found.append(_finish(ask, token, weights[at : at + len(again)], part))
        at += len(again)
    return logits, {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def hidden(ask: Ask, inputs: Tensors) -> np.ndarray:
    """See :class:`tallystick.ports.models.runtime.Differentiable`."""
    return _joined([_matrix(ask, "hidden", "hidden", part)[1] for part in _parts(inputs)])


def _parts(inputs: Tensors) -> list[Tensors]:
    rows = len(next(iter(inputs.values())))
    size = sum(array.nbytes for array in inputs.values())
    length = max(1, rows * PULL_BYTES_MAX // max(size, 1))
    return [
        {name: array[at : at + length] for name, array in inputs.items()}
        for at in range(0, max(rows, 1), length)
    ]


def _begin(ask: Ask, inputs: Tensors) -> tuple[str, np.ndarray]:
    token, logits = _matrix(ask, "pull", "logits", inputs)
    if not (0 < len(token) <= TOKEN_CHARS_MAX and token.isascii() and token.isalnum()):
        raise Failed("it answers without a token for the way back", where=WHERE)
    if not 2 <= logits.shape[1] <= CLASSES_MAX:
        raise Failed(f"it has gradients of {logits.shape[1]} classes", where=WHERE)
    return token, logits


def _matrix(ask: Ask, path: str, output: str, inputs: Tensors) -> tuple[str, np.ndarray]:
    """The one output that is expected: float32 (rows, anything), all finite."""
    outputs, token = _exchange(ask, path, inputs)
    rows = len(next(iter(inputs.values())))
    found = outputs.get(output)
    if found is None or len(outputs) > 1 or found.dtype != np.float32 or found.shape[:1] != (rows,):
        raise Failed(f"it does not answer with {output} row by row", where=WHERE)
    if found.ndim != 2 or not np.isfinite(found).all():
        raise Failed(f"its {output} are no table of finite numbers", where=WHERE)
    return token, found


def _finish(ask: Ask, token: str, weights: np.ndarray, inputs: Tensors) -> Tensors:
    outputs, _ = _exchange(ask, f"pull/{token}", {"weights": weights})
    for name, array in outputs.items():
        wanted = inputs.get(name)
        if wanted is None or array.shape != wanted.shape or array.dtype != np.float32:
            raise Failed("its gradients do not fit the inputs", where=WHERE)
        if not np.isfinite(array).all():
            raise Failed("it has a gradient that is no finite number", where=WHERE)
    if outputs.keys() != inputs.keys():
        raise Failed("its gradients do not fit the inputs", where=WHERE)
    return outputs


def _exchange(ask: Ask, path: str, inputs: Tensors) -> tuple[Tensors, str]:
    body, json_bytes = encode_request(InferRequest(inputs, binary=True))
    answer, length, token = ask(path, body, json_bytes)
    try:
        return decode_response(answer, length).outputs, token
    except BadInput as wrong:
        text = "".join(c if c.isprintable() else " " for c in wrong.what[:300])
        raise Failed(f"its answer is none: {text}", where=WHERE) from None


def _weights(weigh: Weigh, logits: np.ndarray) -> np.ndarray:
    weights = np.ascontiguousarray(weigh(logits), np.float32)
    if weights.shape != logits.shape:
        text = f"the weights are of shape {list(weights.shape)}, the logits of {list(logits.shape)}"
        raise BadInput(text, where="weigh")
    return weights


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    if len({part.shape[1] for part in parts}) > 1:
        raise Failed("it answers with other shapes than at first", where=WHERE)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
