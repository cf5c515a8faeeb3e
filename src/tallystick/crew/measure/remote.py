"""A model that answers in a process of its own, asked over its unix socket: for models whose files run code.

It speaks the Open Inference Protocol with binary tensors. Whatever comes back was said by code that is not
ours, so it is believed in nothing but its scores: sizes are bounded, shapes are checked, and an answer that
is none, too large, late or unlike the first one is Failed.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np

from tallystick.core.errors import BadInput, Failed, NotSupported, TookTooLong
from tallystick.core.facts import from_json
from tallystick.core.model import TensorSpec, check_specs
from tallystick.crew.measure import pulling
from tallystick.doors.oip.codec import InferRequest, decode_response, encode_request

__all__ = ["ANSWER_BYTES_MAX", "ANSWER_S_MAX", "RemotePredictor"]

ANSWER_BYTES_MAX = 64 * 1024 * 1024
ANSWER_S_MAX = 120.0
"""How long the model may be silent while it is asked for one answer."""

ASKED_BYTES_MAX = 16 * 1024 * 1024
"""Of one request: far under what a serving process takes, unless a single row is larger."""

LENGTH = "inference-header-content-length"
PULL = "tally-pull"
LACKING = (404, 501)
WHERE = "model"

Tensors = Mapping[str, np.ndarray]


class Answered(Protocol):
    """What came back: as http.client's answers."""

    @property
    def status(self) -> int:
        """Its status."""
        ...

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: Any) -> Any: ...

    def read(self, most: int, /) -> bytes:
        """At most so many bytes of its body."""
        ...

    def getheader(self, name: str, /) -> str | None:
        """A header's value."""
        ...


class Line(Protocol):
    """What is asked over: as http.client's connections."""

    @property
    def timeout(self) -> float | None:
        """How long the other side may be silent, seconds."""
        ...

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str], /) -> None:
        """Send a request."""
        ...

    def getresponse(self) -> Answered:
        """The answer to it."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class _Line(HTTPConnection):
    """One connection to a unix socket, kept for all questions."""

    def __init__(self, path: Path, answer_s: float) -> None:
        super().__init__("model", timeout=answer_s)
        self._path = str(path)

    def connect(self) -> None:
        """As http.client wants it, which also calls this again where the other side hung up."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        pinned = os.open(self._path, os.O_PATH | os.O_CLOEXEC)  # for paths longer than a socket may have
        try:
            self.sock.connect(f"/proc/self/fd/{pinned}")
        finally:
            os.close(pinned)


class RemotePredictor:
    """See :class:`tallystick.ports.models.runtime.Predictor`; ``name`` is what the model answers to.

    Failed where it cannot be reached, or says nothing that is a signature. Whoever made it closes it.
    """

    def __init__(self, path: Path, name: str, answer_s: float = ANSWER_S_MAX) -> None:
        self._line: Line = _Line(path, answer_s)
        self._model = f"/v2/models/{quote(name, safe='')}"
        self._first: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._token = ""
        try:
            self.inputs, self.outputs = self._signature()
        except Failed:
            self.close()
            raise

    def close(self) -> None:
        """Hang up; twice is fine."""
        self._line.close()

    def _signature(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        body, _ = self._ask("GET", self._model)
        try:
            said = json.loads(body)
            kinds = [from_json(tuple[TensorSpec, ...], said[key], key) for key in ("inputs", "outputs")]
            for specs in kinds:
                check_specs(specs, WHERE)
        except (ValueError, TypeError, KeyError, RecursionError, BadInput) as wrong:
            raise Failed(f"what it says is no signature: {_plain(wrong)}", where=WHERE) from None
        if not kinds[0]:
            raise Failed("it says that it has no inputs", where=WHERE)
        return kinds[0], kinds[1]

    def predict(self, inputs: Tensors) -> Tensors:
        """Its answer for these rows, in as many requests as their size asks for."""
        rows = len(next(iter(inputs.values())))
        size = sum(array.nbytes for array in inputs.values())
        each = max(1, rows * ASKED_BYTES_MAX // max(size, 1))
        parts = [
            self._infer({name: array[at : at + each] for name, array in inputs.items()})
            for at in range(0, max(rows, 1), each)
        ]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def pull(self, inputs: Tensors, weigh: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, Tensors]:
        """See :class:`tallystick.ports.models.runtime.Differentiable`; many rows go in parts."""
        return pulling.pull(self._below, inputs, weigh)

    def hidden(self, inputs: Tensors) -> np.ndarray:
        """See :class:`tallystick.ports.models.runtime.Differentiable`."""
        return pulling.hidden(self._below, inputs)

    def _below(self, path: str, body: bytes, json_bytes: int) -> tuple[bytes, int, str]:
        """As :class:`tallystick.crew.measure.pulling.Ask` has it."""
        said, length = self._ask("POST", f"{self._model}/{path}", body, {LENGTH: str(json_bytes)}, LACKING)
        return said, length, self._token

    def _infer(self, inputs: Tensors) -> Tensors:
        body, json_bytes = encode_request(InferRequest(inputs, binary=True))
        answer, length = self._ask("POST", f"{self._model}/infer", body, {LENGTH: str(json_bytes)})
        try:
            outputs = decode_response(answer, length).outputs
        except BadInput as wrong:
            raise Failed(f"its answer is none: {_plain(wrong)}", where=WHERE) from None
        return self._checked(outputs, len(next(iter(inputs.values()))))

    def _checked(self, outputs: Tensors, rows: int) -> Tensors:
        """A row for each row, and the same outputs as the first time."""
        if not outputs or any(array.shape[:1] != (rows,) for array in outputs.values()):
            raise Failed("it does not answer row by row", where=WHERE)
        seen = {name: (array.dtype.str, array.shape[1:]) for name, array in outputs.items()}
        self._first = self._first or seen
        if seen != self._first:
            raise Failed("it answers with other outputs than at first", where=WHERE)
        return outputs

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        lacking: tuple[int, ...] = (),
    ) -> tuple[bytes, int]:
        """The answer's body, and how much of it is JSON; NotSupported for a status in ``lacking``."""
        try:
            self._line.request(method, path, body, dict(headers or {}))
            with self._line.getresponse() as answer:
                said = answer.read(ANSWER_BYTES_MAX + 1)
        except TimeoutError:
            self._line.close()
            text = f"it did not answer within {self._line.timeout:g} s"
            raise TookTooLong(text, where=WHERE) from None
        except (OSError, HTTPException, ValueError) as wrong:
            self._line.close()
            text = f"it cannot be asked: {type(wrong).__name__}: {_plain(wrong)}"
            raise Failed(text, where=WHERE) from None
        if len(said) > ANSWER_BYTES_MAX:
            self._line.close()
            raise Failed(f"its answer is over {ANSWER_BYTES_MAX} bytes", where=WHERE)
        if answer.status in lacking:
            raise NotSupported(f"the model gives no gradients: {_error(said)}", where=WHERE)
        if answer.status != 200:
            raise Failed(f"it answered {answer.status}: {_error(said)}", where=WHERE)
        self._token = answer.getheader(PULL) or ""
        length = answer.getheader(LENGTH) or "0"
        return said, int(length) if length.isascii() and length.isdigit() and len(length) < 12 else 0


def _error(body: bytes) -> str:
    """The text of an error of the protocol, or the beginning of whatever it is."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    return _plain(said.get("error") if isinstance(said, dict) else body[:200].decode("utf-8", "replace"))


def _plain(said: Any) -> str:
    """At most 300 characters, none of which moves a cursor or cannot be stored."""
    text = str(said)[:300]
    return "".join(c if c.isprintable() else " " for c in text)
