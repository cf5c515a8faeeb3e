"""A model behind a socket: asked like one that is loaded, and believed in nothing but its scores."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from tallystick.core.errors import Failed, TookTooLong
from tallystick.core.model import TensorSpec
from tallystick.crew.judging.endpoint import EndpointPredictor
from tallystick.crew.measure import remote
from tallystick.crew.measure.remote import RemotePredictor
from tallystick.doors.oip.codec import InferRequest, InferResponse, encode_response
from tallystick.ports.models.runtime import Predictor
from tallystick.ports.tile import Place
from tallystick.wiring.tiles import open_tile
from tests.fakes.models import build
from tests.fakes.serving import finish, start

FLOATS = {"FP32": np.float32, "FP64": np.float64}
X = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
ROWS = {"x": np.zeros((3, 2), np.float32)}
THREE = np.zeros((3, 2), np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return build(tmp_path_factory)


@contextmanager
def served(folder: Path, home: Path) -> Iterator[RemotePredictor]:
    process, said = start(folder, home / "m", "a b-c")
    assert "ready" in said
    try:
        with closing(RemotePredictor(home / "m", "a b-c")) as there:
            yield there
    finally:
        finish(process)


@pytest.mark.parametrize("name", ["columns", "matrix", "pair"])
def test_it_answers_bit_for_bit_as_one_that_is_loaded(tmp_path: Path, models: Path, name: str) -> None:
    here = open_tile("runtime", "pyfunc", Place(tmp_path)).load(models / name)
    draw = np.random.default_rng(3)
    with served(models / name, tmp_path) as there:
        assert isinstance(there, Predictor)
        assert (there.inputs, there.outputs) == (here.inputs, here.outputs)
        for rows in (1, 5, 300):
            asked = {
                spec.name: draw.uniform(0, 8, (rows, *spec.shape[1:])).astype(FLOATS[spec.datatype])
                for spec in here.inputs
            }
            one, other = here.predict(asked), there.predict(asked)
            assert one.keys() == other.keys()
            for output in one:
                assert one[output].dtype == other[output].dtype
                np.testing.assert_array_equal(one[output], other[output])


def test_what_is_too_large_for_one_request_is_asked_in_parts(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(3).uniform(0, 1, (100, 2)).astype(np.float32)
    process, _ = start(models / "pair", tmp_path / "m", "m", body_bytes_max=400)
    try:
        with closing(RemotePredictor(tmp_path / "m", "m")) as there:
            asked = {there.inputs[0].name: x}
            with pytest.raises(Failed, match="it answered 413"):
                there.predict(asked)
            monkeypatch.setattr(remote, "ASKED_BYTES_MAX", 56)
            [answer] = there.predict(asked).values()
    finally:
        finish(process)
    np.testing.assert_allclose(answer[:, 0], 1 / (1 + np.exp(8 * (x[:, 1] - x[:, 0]))), rtol=1e-5)


def test_an_error_of_the_model_is_failed_and_the_next_answer_comes(tmp_path: Path, models: Path) -> None:
    with served(models / "picky", tmp_path) as there:
        for _ in range(2):
            with pytest.raises(Failed, match="it answered 500"):
                there.predict({"at": np.array([99])})
        assert there.predict({"at": np.array([1])})["row"].shape == (1, 3)
        with pytest.raises(Failed, match="it answered 400"):
            there.predict({"at": np.array([1.5])})


def http(body: bytes, status: int = 200, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} said", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def signed(**other: object) -> bytes:
    return http(json.dumps({"inputs": [X], "outputs": [], **other}).encode())


def answered(**outputs: np.ndarray) -> bytes:
    body, length = encode_response(InferResponse(outputs), InferRequest({}, binary=True))
    return http(body, inference_header_content_length=str(length))


def read_request(line: socket.socket) -> None:
    """All of it: an answer before its end would be read along with the one before."""
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += line.recv(1) or b"\r\n\r\n"
    lengths = [h.split(b":")[1] for h in asked.lower().split(b"\r\n") if h.startswith(b"content-length:")]
    body = int(lengths[0]) if lengths else 0
    while body > 0:
        body -= len(line.recv(body)) or body


def hear(line: socket.socket) -> None:
    """One whole request: its head and its body come in parts of any size."""
    heard = b""
    while b"\r\n\r\n" not in heard and (more := line.recv(65536)):
        heard += more
    head, _, body = heard.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    missing = int(length[1]) - len(body) if length else 0
    while missing > 0 and (more := line.recv(missing)):
        missing -= len(more)


@contextmanager
def liar(home: Path, *answers: bytes) -> Iterator[Path]:
    """A socket that says these one after the other, whatever it is asked; an empty one is a long silence."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(home / "m"))
    listening.listen()
    stop = threading.Event()  # of a silence

    def answer() -> None:
        with listening:  # only once: nobody is asked again
            line, _ = listening.accept()
        with line, suppress(OSError):
            for said in answers:
                read_request(line)
                if not said:
                    stop.wait(60)
                line.sendall(said)
            line.shutdown(socket.SHUT_WR)
            while line.recv(65536):  # what is still being asked
                pass

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield home / "m"
    finally:
        stop.set()
        thread.join(60)


def asking(path: Path, answer_s: float = 10.0) -> closing[RemotePredictor]:
    return closing(RemotePredictor(path, "m", answer_s))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\0\1\2\r\n\r\n", "cannot be asked"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}", "no signature"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "cannot be asked"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n", "cannot be asked"),
        (http(b"{}", 404), "it answered 404"),
        (http(b'{"error": "\\u001b[31mred"}', 500), "it answered 500:"),
        (http(b"{"), "no signature"),
        (http(b"[]"), "no signature"),
        (http(b"[" * 100_000), "no signature"),
        (http(b'{"inputs": 3, "outputs": []}'), "no signature"),
        (signed(inputs=[]), "no inputs"),
        (signed(inputs=[X, X]), "no signature"),
        (signed(inputs=[{**X, "datatype": "FP8"}]), "no signature"),
        (signed(outputs=[{**X, "shape": [-5]}]), "no signature"),
    ],
)
def test_a_signature_that_is_none_is_failed(tmp_path: Path, answer: bytes, words: str) -> None:
    with liar(tmp_path, answer) as path, pytest.raises(Failed, match=words) as wrong:
        RemotePredictor(path, "m")
    assert wrong.value.where == "model"
    assert wrong.value.what.isprintable()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([http(b"no json")], "its answer is none"),
        ([http(b'{"outputs": []}')], "row by row"),
        ([answered(y=THREE[:2])], "row by row"),
        ([answered(y=np.array(1, np.float32))], "row by row"),
        ([answered(y=THREE), answered(z=THREE)], "other outputs than at first"),
        ([answered(y=THREE), answered(y=THREE, z=THREE)], "other outputs than at first"),
        ([answered(y=THREE), answered(y=THREE.astype(np.float64))], "other outputs than at first"),
        ([answered(y=THREE), answered(y=THREE[:, :1])], "other outputs than at first"),
        ([http(b"{}", inference_header_content_length="-1")], "row by row"),
        ([http(b"{}", inference_header_content_length="99")], "its answer is none"),
        ([], "cannot be asked"),
    ],
)
def test_an_answer_that_is_none_is_failed(tmp_path: Path, answers: list[bytes], words: str) -> None:
    with liar(tmp_path, signed(), *answers) as path, asking(path) as there:
        assert there.inputs == (TensorSpec("x", "FP32", (-1, 2)),)
        for _ in answers[1:]:
            there.predict(ROWS)
        with pytest.raises(Failed, match=words):
            there.predict(ROWS)


def test_an_answer_that_is_too_large_is_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ANSWER_BYTES_MAX", 1000)
    with (
        liar(tmp_path, signed(), http(b" " * 2000)) as path,
        asking(path) as there,
        pytest.raises(Failed, match="over 1000"),
    ):
        there.predict(ROWS)


def test_silence_is_failed_after_a_while(tmp_path: Path) -> None:
    with (
        liar(tmp_path, signed(), b"") as path,
        asking(path, 0.1) as there,
        pytest.raises(TookTooLong, match=r"within 0\.1 s"),
    ):
        there.predict(ROWS)


def test_a_socket_that_is_not_there_is_failed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("absent", "file"):
        with pytest.raises(Failed, match="cannot be asked"):
            RemotePredictor(tmp_path / name, "m")


# ---------------------------------------------- of an endpoint, over a line of its own

RECORD = b"\x16\x03\x03\x40\x00"
"""Of TLS: a record of 16 KiB begins."""


@contextmanager
def dropping(first: bytes) -> Iterator[int]:
    """A port where whoever comes hears ``first``, and then a byte now and then, for ever."""
    ended, listener = threading.Event(), socket.create_server(("127.0.0.1", 0))

    def drops() -> None:
        heard = listener.accept()[0]
        with suppress(OSError), heard:
            heard.sendall(first)
            while not ended.wait(0.02):
                heard.sendall(b"x")

    other = threading.Thread(target=drops)
    other.start()
    try:
        yield listener.getsockname()[1]
    finally:
        ended.set()
        other.join(60)
        listener.close()


def test_a_handshake_in_drops_is_not_waited_for():
    with dropping(RECORD) as port, pytest.raises(TookTooLong, match=r"not whole after 0\.3 s"):
        EndpointPredictor(f"https://127.0.0.1:{port}/v2/models/m", whole_s=0.3)


def test_one_that_is_found_late_is_not_listened_to(monkeypatch):
    """The time is up before there is a connection that could be hung up."""
    real, never = socket.getaddrinfo, threading.Event()

    def slowly(*asked, **named):
        never.wait(0.5)
        return real(*asked, **named)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"
    with dropping(head) as port, pytest.raises(TookTooLong, match=r"not whole after 0\.1 s"):
        EndpointPredictor(f"http://127.0.0.1:{port}/v2/models/m", whole_s=0.1)


def test_an_address_of_ipv6_without_a_port_is_asked_at_the_usual_one(monkeypatch):
    asked = []

    def looked_up(*where, **_):
        asked.append(where)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    for scheme in ("http", "https"):
        with pytest.raises(Failed, match="cannot be asked"):
            EndpointPredictor(f"{scheme}://[2001:db8::1]/v2/models/m")
    assert set(asked) == {("2001:db8::1", 80), ("2001:db8::1", 443)}
