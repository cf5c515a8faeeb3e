"""Any endpoint of the Open Inference Protocol over HTTP, ours or not, asked as patiently as it wants.

An endpoint that limits its rate says 429 (or 503) and with ``Retry-After`` when to come again: then that is
waited for, within bounds. What it answers is believed as little as a model behind its wall is.
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

from tallystick.core.errors import BadInput, Failed
from tallystick.crew.measure.remote import ANSWER_S_MAX, LENGTH, WHERE, RemotePredictor, Tensors
from tallystick.doors.oip.codec import InferRequest, decode_response, encode_request

__all__ = ["EndpointPredictor"]

MODELS = "/v2/models/"
BINARY = "binary_tensor_data"
BUSY = (429, 503)
WAIT_S = 1.0
"""Waited where an endpoint says that it is busy and not for how long; twice as long each time."""

WAIT_S_MAX = 120.0
"""An endpoint that wants to be left alone for longer is not judged now."""

WAITED_S_MAX = 1800.0
"""Of all waits of one judgement."""

TRIES_MAX = 10
SHOWN_BYTES_MAX = 65_536


class EndpointPredictor(RemotePredictor):
    """See :class:`tallystick.ports.models.runtime.Predictor`; ``address`` is that of a model, ``http://HOST/v2/models/M``.

    Failed where it cannot be reached, or limits its rate beyond all patience. Whoever made it closes it.
    """

    def __init__(
        self,
        address: str,
        answer_s: float = ANSWER_S_MAX,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(address)
        path = parts.path.rstrip("/").removesuffix("/infer")
        if parts.scheme not in ("http", "https") or not parts.hostname or MODELS not in f"{path}/":
            hint = "for example http://127.0.0.1:8000/v2/models/digits"
            raise BadInput(f"{address[:200]!r} is no address of a model", where="endpoint", hint=hint)
        if parts.username or parts.password or parts.query or parts.fragment:
            raise BadInput("an endpoint's address is host, port and path alone", where="endpoint")
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self.address = f"{parts.scheme}://{parts.netloc}{path}"
        self._patient = _Patient(kind(parts.hostname, parts.port, timeout=answer_s), sleep)
        self._line = self._patient
        self._model, self._token = path, ""
        self._first = {}
        try:
            self._binary = self._takes_binary(path.partition(MODELS)[0])
            self.inputs, self.outputs = self._signature()
        except Failed:
            self.close()
            raise

    def waited(self) -> str:
        """That it limited its rate, and what that took; empty where it never did."""
        times, seconds = self._patient.times, self._patient.waited_s
        return f"the endpoint limited its rate {times} times, {seconds:.0f} s in all" if times else ""

    def _takes_binary(self, root: str) -> bool:
        """Whether it says that it takes tensors as bytes; else they are sent as JSON."""
        try:
            said = json.loads(self._ask("GET", f"{root}/v2")[0])
            return BINARY in said.get("extensions", ())
        except (Failed, ValueError, AttributeError, TypeError, RecursionError):
            return False

    def _infer(self, inputs: Tensors) -> Tensors:
        request = InferRequest(inputs, binary=self._binary)
        body, json_bytes = encode_request(request, binary=self._binary)
        headers = {LENGTH: str(json_bytes)} if json_bytes else {"content-type": "application/json"}
        answer, length = self._ask("POST", f"{self._model}/infer", body, headers)
        try:
            outputs = decode_response(answer, length).outputs
        except BadInput as wrong:
            raise Failed(f"its answer is none: {wrong}", where=WHERE) from None
        return self._checked(outputs, len(next(iter(inputs.values()))))


class _Patient:
    """A connection that waits where the other side asks for it, and is made again where it was hung up."""

    def __init__(self, line: HTTPConnection, sleep: Callable[[float], None]) -> None:
        self._line, self._sleep = line, sleep
        self._answer: HTTPResponse | None = None
        self.times, self.waited_s = 0, 0.0

    @property
    def timeout(self) -> float:
        """How long it may be silent, seconds."""
        return self._line.timeout or 0.0

    def close(self) -> None:
        """Hang up; twice is fine."""
        self._line.close()

    def request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> None:
        """Ask until it is not busy; Failed where that lasts too long."""
        for turn in range(TRIES_MAX):
            answer = self._once(method, path, body, headers)
            wait = _wait_s(answer, turn)
            if wait is None:
                self._answer = answer
                return
            answer.read(SHOWN_BYTES_MAX)
            answer.close()
            self._line.close()
            if wait > WAIT_S_MAX or self.waited_s + wait > WAITED_S_MAX:
                text = f"it limits its rate: after {self.waited_s:.0f} s it asks for {wait:.0f} s more"
                raise Failed(text, where=WHERE)
            self.times += 1
            self.waited_s += wait
            self._sleep(wait)
        raise Failed(f"it limits its rate: busy {TRIES_MAX} times in a row", where=WHERE)

    def _once(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> HTTPResponse:
        """One question; asked again where a connection that was kept had been closed meanwhile."""
        kept = self._line.sock is not None
        try:
            self._line.request(method, path, body, dict(headers))
            return self._line.getresponse()
        except (ConnectionError, HTTPException):
            self._line.close()
            if not kept:
                raise
        self._line.request(method, path, body, dict(headers))
        return self._line.getresponse()

    def getresponse(self) -> HTTPResponse:
        """The answer to the last request."""
        if self._answer is None:
            raise Failed("nothing was asked", where=WHERE)
        return self._answer


def _wait_s(answer: HTTPResponse, turn: int) -> float | None:
    """How long it wants to be left alone, seconds; None where it answered."""
    said = answer.getheader("retry-after") or ""
    if answer.status not in BUSY or (answer.status != BUSY[0] and not said):
        return None
    if said.isascii() and said.isdigit() and len(said) < 10:
        return float(said)
    try:
        at = email.utils.parsedate_to_datetime(said).timestamp()
    except (ValueError, OverflowError):  # also of a date that is none, or of no year that there is
        return WAIT_S * 2.0**turn
    return max(0.0, at - time.time())
