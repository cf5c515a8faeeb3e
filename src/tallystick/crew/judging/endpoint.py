"""Any endpoint of the Open Inference Protocol over HTTP, ours or not, asked as patiently as it wants.

An endpoint that limits its rate says 429 (or 503) and with ``Retry-After`` when to come again: then that is
waited for, within bounds. What it answers is believed as little as a model behind its wall is.

Only what the protocol asks is sent, and no credentials, cookies or proxy of the machine's; redirects are not
followed, and addresses that are nobody's endpoint (:mod:`tallystick.evidence.address`) are not asked.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from tallystick.core.errors import BadInput, Failed, TallyError, TookTooLong
from tallystick.crew.measure.remote import (
    ANSWER_BYTES_MAX,
    ANSWER_S_MAX,
    LENGTH,
    WHERE,
    RemotePredictor,
    Tensors,
)
from tallystick.doors.oip.codec import InferRequest, decode_response, encode_request
from tallystick.evidence.address import MODELS, ModelAddress, check_asked

__all__ = ["EndpointPredictor"]

BINARY = "binary_tensor_data"
BUSY = (429, 503)
WAIT_S = 1.0
"""Waited where an endpoint says that it is busy and not for how long; twice as long each time."""

WAIT_S_MAX = 120.0
"""An endpoint that wants to be left alone for longer is not judged now."""

WAITED_S_MAX = 1800.0
"""Of all waits of one judgement."""

TRIES_MAX = 10
WHOLE_S_MAX = 600.0
"""How long one answer may take from its question to its last byte."""


class EndpointPredictor(RemotePredictor):
    """See :class:`tallystick.ports.models.runtime.Predictor`; ``address`` is that of a model, ``http://HOST/v2/models/M``.

    Failed where it cannot be reached, or limits its rate beyond all patience. Whoever made it closes it.
    """

    def __init__(
        self,
        address: str,
        answer_s: float = ANSWER_S_MAX,
        sleep: Callable[[float], None] = time.sleep,
        whole_s: float = WHOLE_S_MAX,
    ) -> None:
        where = ModelAddress.parse(address)
        self.address = str(where)
        self._patient = _Patient(_line_to(where, answer_s), sleep, whole_s)
        self._line = self._patient
        self._model, self._token = where.path, ""
        self._first = {}
        try:
            self._binary = self._takes_binary(where.path.partition(MODELS)[0])
            self.inputs, self.outputs = self._signature()
        except TallyError:
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
            raise Failed(f"its answer is none: {wrong.what}", where=WHERE) from None
        return self._checked(outputs, len(next(iter(inputs.values()))))


def _line_to(where: ModelAddress, answer_s: float) -> HTTPConnection:
    kind = _Secure if where.scheme == "https" else _Plain
    # Without a port, http.client would look for one in the host, and take it from an address of IPv6.
    return kind(where.host, where.port or kind.default_port, timeout=answer_s)


class _Plain(HTTPConnection):
    """A connection to the very address that was looked at: a name cannot stand for another meanwhile."""

    def connect(self) -> None:
        """As http.client wants it; BadInput for an address that is never asked."""
        self.sock = _connected(self)


class _Secure(HTTPSConnection):
    """The same over TLS: the certificate must be the host's, by the machine's own authorities."""

    def connect(self) -> None:
        """As http.client wants it; the handshake is with a socket that whoever waits can hang up."""
        trust, plain = ssl.create_default_context(), _connected(self)
        self.sock = trust.wrap_socket(plain, server_hostname=self.host, do_handshake_on_connect=False)
        self.sock.do_handshake()


def _connected(line: HTTPConnection) -> socket.socket:
    try:
        found = socket.getaddrinfo(line.host, line.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise ConnectionError(f"nobody knows where {line.host} is") from None
    for *_, at in found:
        check_asked(str(at[0]))
    wrong: OSError | None = None
    for family, kind, protocol, _, at in found:
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(line.timeout)
            made.connect(at)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made
        except OSError as failed:
            made.close()
            wrong = failed
    raise wrong or ConnectionError(f"nobody knows where {line.host} is")


@dataclass(slots=True)
class Heard:
    """An answer, all of it (and a byte more where it is too long)."""

    status: int
    headers: Message
    body: bytes

    def __enter__(self) -> Heard:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def read(self, most: int) -> bytes:
        """Its first bytes."""
        return self.body[:most]

    def getheader(self, name: str) -> str | None:
        """A header's value."""
        return self.headers.get(name)


class _Patient:
    """A connection that waits where the other side asks for it, and is made again where it was hung up.

    What answers may be no endpoint at all, but somebody's other service: of what it says that is not in the
    protocol's words nothing is told on, and where it sends us to nobody goes.
    """

    def __init__(self, line: HTTPConnection, sleep: Callable[[float], None], whole_s: float) -> None:
        self._line, self._sleep, self._whole_s = line, sleep, whole_s
        self._answer: Heard | None = None
        self.times, self.waited_s = 0, 0.0

    @property
    def timeout(self) -> float:
        """How long it may be silent, seconds."""
        return self._line.timeout or 0.0

    def close(self) -> None:
        """Hang up; twice is fine."""
        self._line.close()

    def request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> None:
        """Ask until it is not busy; Failed where that lasts too long, or it asks for more than a question."""
        for turn in range(TRIES_MAX):
            answer = self._once(method, path, body, headers)
            wait = _wait_s(answer, turn)
            if wait is None:
                self._answer = _in_words(answer)
                return
            self._line.close()
            if wait > WAIT_S_MAX or self.waited_s + wait > WAITED_S_MAX:
                text = f"it limits its rate: after {self.waited_s:.0f} s it asks for {wait:.0f} s more"
                raise Failed(text, where=WHERE)
            self.times += 1
            self.waited_s += wait
            self._sleep(wait)
        raise Failed(f"it limits its rate: busy {TRIES_MAX} times in a row", where=WHERE)

    def _once(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Heard:
        """One question; asked again where a connection that was kept had been closed meanwhile."""
        kept = self._line.sock is not None
        try:
            return self._whole(method, path, body, headers)
        except (ConnectionError, HTTPException):
            self._line.close()
            if not kept:
                raise
        return self._whole(method, path, body, headers)

    def _whole(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Heard:
        """The whole answer; TookTooLong for one that comes in drops."""
        late = threading.Event()
        timer = threading.Timer(self._whole_s, self._hang_up, [late])
        timer.daemon = True
        timer.start()
        try:
            if self._line.sock is None:
                self._line.connect()
            if late.is_set():  # before there was anything to hang up
                raise TimeoutError
            self._line.request(method, path, body, dict(headers))
            with self._line.getresponse() as answer:
                found = Heard(answer.status, answer.headers, answer.read(ANSWER_BYTES_MAX + 1))
            if not late.is_set():
                return found
        except (OSError, HTTPException, ValueError, AttributeError):
            if not late.is_set():
                raise
        finally:
            timer.cancel()
        self._line.close()
        raise TookTooLong(f"its answer was not whole after {self._whole_s:g} s", where=WHERE)

    def _hang_up(self, late: threading.Event) -> None:
        late.set()
        with contextlib.suppress(OSError, AttributeError):  # it was closed already
            self._line.sock.shutdown(socket.SHUT_RDWR)

    def getresponse(self) -> Heard:
        """The answer to the last request."""
        if self._answer is None:
            raise Failed("nothing was asked", where=WHERE)
        return self._answer


def _in_words(answer: Heard) -> Heard:
    """The answer, as far as it is in the protocol's words; Failed for one that asks for what is not done."""
    if 300 <= answer.status < 400:
        text = f"it answered {answer.status}, a redirect, and none is followed: name the endpoint itself"
        raise Failed(text, where=WHERE)
    if answer.status in (401, 403, 407):
        raise Failed(f"it answered {answer.status}: it wants credentials, and none are sent", where=WHERE)
    if answer.status == 200:
        return answer
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        said = None
    if not (isinstance(said, dict) and isinstance(said.get("error"), str)):
        answer.body = b'{"error": "and no error of the protocol"}'
    return answer


def _wait_s(answer: Heard, turn: int) -> float | None:
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
