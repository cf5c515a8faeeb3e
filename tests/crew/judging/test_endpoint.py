"""Endpoints over HTTP: asked as patiently as they want, believed in nothing but their scores."""

from __future__ import annotations

import contextlib
import email.utils
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tallystick.core.errors import BadInput, Failed, TallyError, TookTooLong
from tallystick.core.facts import to_json
from tallystick.crew.judging.endpoint import EndpointPredictor
from tallystick.doors.oip.codec import InferResponse, decode_request, encode_response
from tallystick.evidence.address import ModelAddress
from tallystick.evidence.probe import ProbeState
from tests.crew.judging.orders import order, points, told, trouble
from tests.fakes.machine.plain_oip import plain_endpoint
from tests.fakes.machine.threaded import threaded

SIGNATURE = {
    "name": "pair",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


class Endpoint:
    """A classifier of two features over HTTP; ``moods`` are what it does instead, request by request."""

    def __init__(self, *, binary: bool = True) -> None:
        self.moods: list = []
        self.binary, self.asked, self.bodies = binary, 0, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args) -> None:
                pass

            def do_GET(self) -> None:
                extensions = ["binary_tensor_data"] if outer.binary else []
                said = {"extensions": extensions} if self.path == "/root/v2" else SIGNATURE
                self.say(200, json.dumps(said).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.asked += 1
                if outer.moods and (mood := outer.moods.pop(0)):
                    mood(self)
                    return
                head = int(self.headers.get("inference-header-content-length", "0"))
                outer.bodies.append(head)
                asked = decode_request(body, head)
                odds = np.exp(8 * asked.inputs["x"])
                answer = InferResponse({"y": (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)})
                said, length = encode_response(answer, asked)
                self.say(200, said, **({"inference-header-content-length": str(length)} if length else {}))

            def say(self, status: int, body: bytes, **headers: str) -> None:
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}/root/v2/models/pair"


@pytest.fixture
def endpoint():
    found = Endpoint()
    with threaded(found.server):
        yield found


def busy(status: int, **headers: str):
    return lambda handler: handler.say(status, b'{"error": "slow down"}', **headers)


def hang_up(handler) -> None:
    handler.close_connection = True
    handler.connection.close()


ROWS = {"x": np.array([[0, 1], [1, 0]], np.float32)}


def asked(endpoint, waits=None, **more):
    waits = [] if waits is None else waits
    found = EndpointPredictor(endpoint.address, sleep=waits.append, **more)
    try:
        return found.predict(ROWS)["y"].argmax(axis=1).tolist(), found.waited()
    finally:
        found.close()


@pytest.mark.parametrize("binary", [True, False])
def test_it_is_asked_as_it_can_be(binary):
    endpoint = Endpoint(binary=binary)
    with threaded(endpoint.server):
        assert asked(endpoint) == ([1, 0], "")
    assert [head > 0 for head in endpoint.bodies] == [binary]


def test_a_date_beyond_all_years_is_none(endpoint):
    waits: list[float] = []
    endpoint.moods = [busy(429, retry_after=f"Mon, 01 Jan {'9' * 30} 00:00:00 GMT")]
    assert asked(endpoint, waits)[0] == [1, 0]
    assert waits == [1.0]


def test_it_waits_as_long_as_it_is_asked_to(endpoint):
    waits: list[float] = []
    at = email.utils.formatdate(time.time() + 30, usegmt=True)
    endpoint.moods = [
        busy(429, retry_after="7"),
        busy(503, retry_after="2"),
        busy(429, retry_after=at),
        busy(429),
    ]
    said, waited = asked(endpoint, waits)
    assert said == [1, 0]
    assert waits[:2] == [7.0, 2.0]
    assert 0 < waits[2] <= 30
    assert waits[3] == 8.0
    assert waited.startswith("the endpoint limited its rate 4 times, ")


@pytest.mark.parametrize(
    ("moods", "words"),
    [
        (
            [busy(302, location="http://127.0.0.1:1/v2/models/m")],
            "it answered 302, a redirect, and none is followed",
        ),
        ([busy(401)], "it answered 401: it wants credentials, and none are sent"),
        (
            [lambda h: h.say(500, b"<h1>secret of another service</h1>")],
            "it answered 500: and no error of the pr",
        ),
        (
            [lambda h: h.say(404, b'{"error": {"secret": 1}}')],
            "it answered 404: and no error of the protocol",
        ),
        ([busy(429, retry_after="900")], "asks for 900 s more"),
        ([busy(429, retry_after="1")] * 10, "busy 10 times in a row"),
        ([busy(503)], "it answered 503: slow down"),
        ([busy(500)], "it answered 500: slow down"),
        ([lambda h: h.say(200, b"no json")], "its answer is none"),
        ([lambda h: h.say(200, b'{"outputs": []}')], "does not answer row by row"),
        ([hang_up, hang_up], "it cannot be asked"),
    ],
)
def test_what_is_no_answer_is_a_clear_line(endpoint, moods, words):
    endpoint.moods = list(moods)
    with pytest.raises(Failed) as wrong:
        asked(endpoint)
    assert words in wrong.value.what


def test_a_connection_that_was_closed_meanwhile_is_made_again(endpoint):
    endpoint.moods = [hang_up]
    assert asked(endpoint)[0] == [1, 0]


def test_one_that_hangs_is_not_waited_for(endpoint):
    ended = threading.Event()
    endpoint.moods = [lambda handler: ended.wait(60)]
    try:
        with pytest.raises(TookTooLong, match=r"within 0\.2 s"):
            asked(endpoint, answer_s=0.2)
    finally:
        ended.set()


@pytest.mark.parametrize(
    "address",
    ["", "file:///etc/passwd", "http:///v2/models/m", "http://h/m", "http://u:p@h/v2/models/m",
     "http://h/v2/models/m?x=1", "ftp://h/v2/models/m", "http://h:99999/v2/models/m", "http://h:x/v2/models/m",
     "http://h:-1/v2/models/m", "http://h:0/v2/models/m", "http://[::1/v2/models/m", "http://h/v2/models/",
     "http://h/v2/models/m#x", "http://@h/v2/models/m", "http://h/v2/models/m\r\nx: y",
     "http://h/v2/models/ m", "http://é/v2/models/m", "http://h/v2/models/" + "m" * 3000],
)  # fmt: skip
def test_an_address_is_that_of_a_model(address):
    with pytest.raises(BadInput):
        EndpointPredictor(address)


def test_nobody_there_is_said():
    with pytest.raises(Failed, match="cannot be asked"):
        EndpointPredictor("http://127.0.0.1:9/v2/models/m")


# ---------------------------------------------------------------------- judged


def test_an_endpoint_is_judged_like_a_model(tmp_path, monkeypatch, endpoint):
    probes = trouble(monkeypatch)
    found = told(order(tmp_path, None, points(), probes, endpoint=endpoint.address))
    assert (found.base.clean.right, found.base.clean.total) == (54, 60)
    assert found["grid"].done
    assert "asked over HTTP at http://127.0.0.1" in found["clean"].notes[0]
    assert found.base.versions["runtime"] == "an endpoint"


def test_one_that_dies_halfway_ends_what_is_left_and_nothing_else(tmp_path, monkeypatch, endpoint):
    """What was found counts; of what was not, it is said why."""
    probes = trouble(monkeypatch, "late", "figures")
    rows = order(tmp_path, None, points(), probes, endpoint=endpoint.address)
    endpoint.moods = [None] * 30 + [busy(500)] * 1000
    found = told(rows)
    states = {p.name: p.state for p in found.probes}
    assert states["clean"] is ProbeState.DONE
    assert states["grid"] is ProbeState.FAILED
    assert "it answered 500: slow down" in found["grid"].why
    assert states["late"] is ProbeState.FAILED
    assert "the model does not answer any more: it answered 500" in found["late"].why
    assert {p.name for p in found.probes} == {"clean", "grid", "late", "figures"}
    assert to_json(found["grid"])["figures"] == []


def test_a_model_that_can_be_started_again_ends_the_worker(tmp_path, monkeypatch, endpoint):
    """What failed was told before, so that it is not tried again."""
    probes = trouble(monkeypatch, "late")
    wanted = order(tmp_path, None, points(), probes, endpoint=endpoint.address, restarts=True)
    endpoint.moods = [None] * 30 + [busy(500)] * 1000
    with pytest.raises(Failed, match="does not answer any more"):
        told(wanted)
    assert json.loads((tmp_path / "out" / "001.json").read_text())["probe"]["state"] == "failed"


# --------------------------------------------------------------- where it is


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "[fe80::1]", "100.100.100.200", "168.63.129.16", "[fd00:ec2::254]", "0.0.0.1", "[::]",
     "224.0.0.1", "255.255.255.255", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]",
     "[2002:a9fe:a9fe::1]", "[ff02::1]"],
)  # fmt: skip
def test_where_credentials_are_handed_out_nobody_asks(host):
    for scheme in ("http", "https"):
        with pytest.raises(BadInput, match="is never asked"):
            ModelAddress.parse(f"{scheme}://{host}:80/latest/v2/models/m")


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "169.254.43518", "metadata.example"])
def test_a_name_is_looked_up_once_and_looked_at(host, monkeypatch):
    """However an address is written, and whatever a name stands for, it is that what is asked or not."""
    real, names = socket.getaddrinfo, []

    def looked_up(name, port, *more, **named):
        names.append(name)
        return real("169.254.169.254" if name == "metadata.example" else name, port, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    with pytest.raises(BadInput, match=r"169\.254\.169\.254 is never asked"):
        EndpointPredictor(f"http://{host}/v2/models/m")
    assert names == [host]


def test_a_name_with_one_address_too_many_is_not_asked(endpoint, monkeypatch):
    port = int(endpoint.address.split(":")[2].split("/")[0])
    both = [("127.0.0.1", port), ("169.254.169.254", port)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", at) for at in both]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(BadInput, match="is never asked"):
        EndpointPredictor(endpoint.address)
    assert endpoint.asked == 0


def test_nothing_of_ours_is_sent_along(monkeypatch, tmp_path):
    """No proxy of the environment, no credentials of a .netrc, and only the protocol's own paths."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret")
    for name, value in {
        "HOME": str(tmp_path),
        "http_proxy": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    with plain_endpoint() as other:
        found = EndpointPredictor(other.address)
        assert found.predict(ROWS)["y"].argmax(axis=1).tolist() == [1, 0]
        found.close()
        assert {name for head in other.heads for name in head} <= {
            "host", "accept-encoding", "content-length", "content-type"
        }  # fmt: skip
        assert other.paths == ["/v2", "/v2/models/larger", "/v2/models/larger/infer"]


def test_an_answer_in_drops_is_not_waited_for(endpoint):
    ended = threading.Event()

    def drops(handler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000000")
        handler.end_headers()
        with contextlib.suppress(OSError):
            while not ended.wait(0.02):
                handler.wfile.write(b" ")

    endpoint.moods = [drops]
    try:
        with pytest.raises(TookTooLong, match=r"not whole after 0\.3 s"):
            asked(endpoint, whole_s=0.3)
        assert asked(endpoint)[0] == [1, 0]
    finally:
        ended.set()


# --------------------------------------------------- of another make, judged

ODD = {
    "a score that is none": lambda h: h.say(
        b'{"outputs": [{"name": "y", "datatype": "FP64", "shape": [1, 2], "data": [NaN, 1]}]}'
    ),
    "fewer rows": lambda h: h.scores([[0.5, 0.5]]),
    "more classes": lambda h: h.scores([[0.2, 0.3, 0.5]] * 60),
    "another output": lambda h: h.scores([[0.2, 0.8]] * 60, name="z"),
    "text": lambda h: h.say(
        {"outputs": [{"name": "y", "datatype": "BYTES", "shape": [1, 2], "data": ["a", "b"]}]}
    ),
    "no shape": lambda h: h.say({"outputs": [{"name": "y", "datatype": "FP64", "data": [1]}]}),
    "a page": lambda h: h.say(b"<html>", 200),
    "the end": lambda h: (setattr(h, "close_connection", True), h.connection.shutdown(socket.SHUT_RDWR)),
}


@pytest.mark.parametrize("what", ODD)
def test_whatever_an_endpoint_of_another_make_does_halfway_is_a_line_and_no_pass(tmp_path, monkeypatch, what):
    probes = trouble(monkeypatch, "late", "figures")
    with plain_endpoint() as other:
        other.moods = [None] * 20 + [ODD[what]]
        found = told(order(tmp_path, None, points(), probes, endpoint=other.address))
    states = {p.name: p.state for p in found.probes}
    assert (states["clean"], states["grid"]) == (ProbeState.DONE, ProbeState.FAILED)
    assert len(found["grid"].why) > 20
    assert to_json(found["grid"])["figures"] == []
    assert {p.name for p in found.probes} == {"clean", "grid", "late", "figures"}


@pytest.mark.parametrize("what", ["a score that is none", "fewer rows", "text", "a page", "the end"])
def test_one_that_is_odd_from_the_start_is_not_judged(tmp_path, monkeypatch, what):
    probes = trouble(monkeypatch)
    with plain_endpoint() as other:
        other.moods = [ODD[what]]
        with pytest.raises(Failed) as wrong:
            told(order(tmp_path, None, points(), probes, endpoint=other.address))
    assert len(str(wrong.value)) > 20


def test_classes_that_the_rows_do_not_have_are_said(tmp_path, monkeypatch):
    """Rows of classes that the endpoint has no score for: it is not guessed which is which."""
    probes, rows = trouble(monkeypatch), points()
    rows["label"] = np.array([f"class {n}" for n in np.arange(len(rows["label"])) % 3])
    with plain_endpoint() as other, pytest.raises(TallyError) as wrong:
        told(order(tmp_path, None, rows, probes, endpoint=other.address))
    assert "class" in str(wrong.value)
