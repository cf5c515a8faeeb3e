"""Gradients over the socket: as of a model that is loaded, and believed in nothing but its numbers."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tallystick.core.errors import BadInput, Conflict, Failed, NotSupported, TookTooLong, Unavailable
from tallystick.core.model import TensorSpec
from tallystick.core.wall import Wall
from tallystick.crew.measure import pulling
from tallystick.crew.measure.remote import RemotePredictor
from tallystick.crew.served import pulls
from tallystick.crew.served.pulls import Pulls
from tallystick.doors.oip.codec import InferRequest, InferResponse, encode_response
from tallystick.hub.house.errand import Errand
from tallystick.ports.models.runtime import Differentiable
from tallystick.ports.tile import Place
from tallystick.wiring.tiles import open_tile
from tests.crew.test_remote import http, liar, signed
from tests.fakes.models import build
from tests.fakes.serving import finish, start

ROWS = {"x": np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2)}
LOGITS = np.array([[0, 1], [2, 3], [4, 5]], np.float32)


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Path:
    """Two numbers to three classes: a hidden layer, tanh and a softmax."""
    import onnx

    draw, folder = np.random.default_rng(0), tmp_path_factory.mktemp("net")
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])
    sizes = {"a": (2, 4), "b": (4, 3)}
    told = [numpy_helper.from_array(draw.normal(size=s).astype(np.float32), n) for n, s in sizes.items()]
    steps = [("MatMul", "x a", "h"), ("Tanh", "h", "t"), ("MatMul", "t b", "z"), ("Softmax", "z", "y")]
    nodes = [helper.make_node(op, names.split(), [out]) for op, names, out in steps]
    graph = helper.make_graph(nodes, "net", [x], [y], told)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(model, folder / "model.onnx")
    (folder / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
    return folder


@contextmanager
def served(folder: Path, home: Path, **order: object) -> Iterator[RemotePredictor]:
    process, said = start(folder, home / "m", "m", **order)
    assert "ready" in said
    try:
        with closing(RemotePredictor(home / "m", "m")) as there:
            yield there
    finally:
        finish(process)


def weigh(logits: np.ndarray) -> np.ndarray:
    """Depends on the logits, as an attack's does."""
    return np.tanh(logits) - np.eye(logits.shape[1], dtype=np.float32)[logits.argmax(axis=1)]


def test_it_is_as_of_a_model_that_is_loaded(tmp_path: Path, net: Path) -> None:
    here = open_tile("runtime", "onnx", Place(tmp_path)).load(net)
    with served(net, tmp_path, pull=True) as there:
        assert isinstance(there, Differentiable)
        for rows in (1, 5, 300):
            asked = {"x": np.random.default_rng(rows).normal(size=(rows, 2)).astype(np.float32)}
            one, other = here.pull(asked, weigh), there.pull(asked, weigh)
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1]["x"], other[1]["x"])
            np.testing.assert_array_equal(here.hidden(asked), there.hidden(asked))
            np.testing.assert_array_equal(here.predict(asked)["y"], there.predict(asked)["y"])


def test_many_rows_go_in_parts_and_are_weighed_together(
    tmp_path: Path, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = open_tile("runtime", "onnx", Place(tmp_path)).load(net)
    monkeypatch.setattr(pulling, "PULL_BYTES_MAX", 100)
    asked = {"x": np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)}
    seen = []

    def ranked(logits: np.ndarray) -> np.ndarray:
        seen.append(logits.shape)
        return logits - logits.mean(axis=0)

    with served(net, tmp_path, pull=True, body_bytes_max=600) as there:
        logits, gradients = there.pull(asked, ranked)
        assert there.hidden(asked).shape == (50, 4)
    wanted, slopes = here.pull(asked, ranked)
    assert seen == [(50, 3), (50, 3)]
    np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradients["x"], slopes["x"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("wall_by", ["process", "bubblewrap"])
async def test_a_module_behind_each_wall_is_differentiated(
    tmp_path: Path, tmp_path_factory, wall_by: str
) -> None:
    torch = pytest.importorskip("torch")
    from tests.tiles.runtime.made import Net
    from tests.tiles.runtime.made import build as build_modules

    made = build_modules(tmp_path_factory)
    try:
        sandbox = open_tile("sandbox", wall_by, Place(tmp_path))
    except Unavailable:
        pytest.skip(f"there is no {wall_by} here")
    sockets = tmp_path / "s"
    sockets.mkdir()
    files = str(made / "softmax")
    order = {"folder": files, "socket": str(sockets / "m"), "name": "m", "version": "1", "pull": True}
    env = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}
    wall = Wall(str(sockets), (files,), (str(sockets),), env, cpu_seconds=0, processes=4096)
    errand = await Errand.start(sandbox, "serve", order, wall)
    try:
        assert (await anext(errand.lines()))["ready"]["runtime"] == "torch"
        x = np.load(made / "x.npz")["x"]
        with closing(await asyncio.to_thread(RemotePredictor, sockets / "m", "m")) as there:
            logits, gradients = await asyncio.to_thread(there.pull, {"input": x}, weigh)
    finally:
        await errand.end()
        await sandbox.close()
    torch.manual_seed(1)
    given = torch.from_numpy(x).requires_grad_(True)
    wanted = Net().eval()(given)
    (wanted * torch.from_numpy(weigh(logits))).sum().backward()
    np.testing.assert_allclose(logits, wanted.detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradients["input"], given.grad.numpy(), rtol=1e-3, atol=1e-6)


def test_an_endpoint_offers_no_gradients(tmp_path: Path, net: Path) -> None:
    for order in ({}, {"pull": False}, {"pull": 1}, {"pull": "true"}):
        with served(net, tmp_path, **order) as there:
            for ask in (lambda there=there: there.pull(ROWS, weigh), lambda there=there: there.hidden(ROWS)):
                with pytest.raises(NotSupported, match="no gradients"):
                    ask()
            assert there.predict(ROWS)["y"].shape == (3, 3)


def test_a_model_without_gradients_says_why(tmp_path: Path, tmp_path_factory) -> None:
    models = build(tmp_path_factory)
    digits = {"X": np.zeros((2, 64), np.float32)}
    with served(models / "forest", tmp_path, pull=True) as there:
        with pytest.raises(NotSupported, match="TreeEnsembleClassifier"):
            there.pull(digits, weigh)
        assert there.predict(digits)["label"].shape == (2,)
    with (
        served(models / "pair", tmp_path, pull=True) as there,
        pytest.raises(NotSupported, match="runtime that loads this model"),
    ):
        there.pull({there.inputs[0].name: ROWS["x"]}, weigh)


def test_what_goes_wrong_here_leaves_the_model_as_it_was(tmp_path: Path, net: Path) -> None:
    with served(net, tmp_path, pull=True) as there:
        for wrong in (lambda found: found[:1], lambda found: 1 / 0):
            with pytest.raises((BadInput, ZeroDivisionError)):
                there.pull(ROWS, wrong)
            assert there.pull(ROWS, weigh)[0].shape == (3, 3)
        with pytest.raises(Failed, match="answered 4"):
            there.pull({"z": ROWS["x"]}, weigh)
        with pytest.raises(Failed, match="answered 4"):
            there.pull({"x": np.zeros((3, 5), np.float32)}, weigh)


def test_a_pull_within_a_pull_takes_its_place(tmp_path: Path, net: Path) -> None:
    with served(net, tmp_path, pull=True) as there:

        def asks_again(logits: np.ndarray) -> np.ndarray:
            there.pull(ROWS, weigh)
            return logits

        with pytest.raises(Failed, match=r"answered 409: .*this pull is over"):
            there.pull(ROWS, asks_again)
        assert there.pull(ROWS, weigh)[0].shape == (3, 3)


def test_a_process_told_to_end_does_not_wait_for_weights(tmp_path: Path, net: Path) -> None:
    process, said = start(net, tmp_path / "m", "m", pull=True)
    assert "ready" in said
    ended = []

    def ends(logits: np.ndarray) -> np.ndarray:
        ended.append(finish(process))
        return logits

    with closing(RemotePredictor(tmp_path / "m", "m")) as there, pytest.raises(Failed):
        there.pull(ROWS, ends)
    assert ended[0][1] == 0


def answered(ticket: str = "1", **outputs: np.ndarray) -> bytes:
    body, length = encode_response(InferResponse(outputs), InferRequest({}, binary=True))
    headers = {"inference_header_content_length": str(length), **({"tally_pull": ticket} if ticket else {})}
    return http(body, **headers)


def asked(path: Path, answer_s: float = 10.0) -> closing[RemotePredictor]:
    return closing(RemotePredictor(path, "m", answer_s))


BACK = answered(ticket="", x=np.ones((3, 2), np.float32))
NAN = np.full((3, 2), np.nan, np.float32)


@pytest.mark.parametrize(
    ("answers", "kind", "words"),
    [
        ([answered(ticket="", logits=LOGITS)], Failed, "without a token"),
        ([answered(ticket="../../x", logits=LOGITS)], Failed, "without a token"),
        ([answered(ticket="1" * 41, logits=LOGITS)], Failed, "without a token"),
        ([answered(scores=LOGITS)], Failed, "does not answer with logits"),
        ([answered(logits=LOGITS, more=LOGITS)], Failed, "does not answer with logits"),
        ([answered(logits=LOGITS[:2])], Failed, "does not answer with logits"),
        ([answered(logits=LOGITS.astype(np.float64))], Failed, "does not answer with logits"),
        ([answered(logits=LOGITS[:, 0])], Failed, "no table of finite numbers"),
        ([answered(logits=NAN)], Failed, "no table of finite numbers"),
        ([answered(logits=LOGITS[:, :1])], Failed, "gradients of 1 classes"),
        ([answered(logits=np.zeros((3, 100_001), np.float32))], Failed, "gradients of 100001 classes"),
        ([http(b"no json")], Failed, "its answer is none"),
        ([http(b'{"error": "\\u001b[31mred"}', 500)], Failed, "answered 500"),
        ([http(b'{"error": "no such path"}', 404)], NotSupported, "no such path"),
        ([http(b'{"error": "\\u001b[31mred"}', 501)], NotSupported, "gives no gradients: .*red"),
        ([answered(logits=LOGITS), answered(y=LOGITS)], Failed, "do not fit"),
        ([answered(logits=LOGITS), answered(x=LOGITS[:2])], Failed, "do not fit"),
        ([answered(logits=LOGITS), answered(x=LOGITS, y=LOGITS)], Failed, "do not fit"),
        ([answered(logits=LOGITS), answered(x=LOGITS.astype(np.float16))], Failed, "do not fit"),
        ([answered(logits=LOGITS), http(b'{"outputs": []}')], Failed, "do not fit"),
        ([answered(logits=LOGITS), answered(x=NAN)], Failed, "no finite number"),
        ([answered(logits=LOGITS), answered(x=NAN + np.inf)], Failed, "no finite number"),
        ([answered(logits=LOGITS)], Failed, "cannot be asked"),
        ([], Failed, "cannot be asked"),
    ],
)
def test_an_answer_that_is_none_is_failed(
    tmp_path: Path, answers: list[bytes], kind: type, words: str
) -> None:
    with liar(tmp_path, signed(), *answers) as path, asked(path) as there:
        with pytest.raises(kind, match=words) as wrong:
            there.pull(ROWS, weigh)
        assert wrong.value.what.isprintable()
        assert type(wrong.value) is kind


def test_silence_on_the_way_back_is_failed_after_a_while(tmp_path: Path) -> None:
    with (
        liar(tmp_path, signed(), answered(logits=LOGITS), b"") as path,
        asked(path, 0.2) as there,
        pytest.raises(TookTooLong, match=r"within 0\.2 s"),
    ):
        there.pull(ROWS, weigh)


def test_parts_that_do_not_go_together_are_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "PULL_BYTES_MAX", 16)
    one, wide = answered(logits=LOGITS[:2]), answered(logits=np.zeros((1, 3), np.float32))
    with (
        liar(tmp_path, signed(), one, wide) as path,
        asked(path) as there,
        pytest.raises(Failed, match="other shapes"),
    ):
        there.pull(ROWS, weigh)
    changed = answered(logits=np.zeros((2, 3), np.float32))
    more = answered(logits=LOGITS[2:])
    (tmp_path / "m").unlink()
    with (
        liar(tmp_path, signed(), one, more, changed) as path,
        asked(path) as there,
        pytest.raises(Failed, match="other classes"),
    ):
        there.pull(ROWS, weigh)


def test_the_honest_answer_is_taken(tmp_path: Path) -> None:
    with liar(tmp_path, signed(), answered(logits=LOGITS), BACK) as path, asked(path) as there:
        logits, gradients = there.pull(ROWS, weigh)
    np.testing.assert_array_equal(logits, LOGITS)
    assert gradients["x"].tolist() == [[1, 1]] * 3


class Slow:
    """A model in this process, whose pull can be made to fail in its several ways."""

    inputs = (TensorSpec("x", "FP32", (-1, 2)),)
    outputs = (TensorSpec("y", "FP32", (-1, 2)),)

    def __init__(self, how: str = "") -> None:
        self.how, self.over = how, threading.Event()

    def predict(self, inputs):
        return {"y": inputs["x"]}

    def hidden(self, inputs):
        raise ValueError("no layers")

    def pull(self, inputs, weigh):
        if self.how == "raises":
            raise ValueError("at once")
        if self.how == "never weighs":
            return inputs["x"], {"x": inputs["x"]}
        try:
            weights = weigh(inputs["x"])
        finally:
            self.over.set()
        if self.how == "raises late":
            raise RuntimeError("on the way back")
        return inputs["x"], {"x": weights}


async def test_one_pull_is_kept_and_only_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Slow()
    kept = Pulls(model)
    first, _ = await kept.begin(ROWS)
    second, logits = await kept.begin(ROWS)
    with pytest.raises(Conflict, match="over"):
        await kept.finish(first, logits)
    for wrong in (logits[:1], logits.astype(np.float64)):
        with pytest.raises(BadInput, match="weights are"):
            await kept.finish(second, wrong)
    assert (await kept.finish(second, logits))["x"] is not None
    with pytest.raises(Conflict, match="over"):
        await kept.finish(second, logits)
    monkeypatch.setattr(pulls, "KEPT_S", 0.01)
    model.over.clear()
    third, _ = await kept.begin(ROWS)
    assert await asyncio.to_thread(model.over.wait, 60)
    with pytest.raises(Conflict, match="over"):
        await kept.finish(third, logits)
    kept.close()


@pytest.mark.parametrize(("how", "words"), [("raises", "at once"), ("never weighs", "of nothing")])
async def test_a_model_that_fails_on_the_way_there(how: str, words: str) -> None:
    kept = Pulls(Slow(how))
    with pytest.raises(Failed, match=words):
        await kept.begin(ROWS)
    with pytest.raises(Failed, match="no layers"):
        await kept.hidden(ROWS)
    kept.close()


async def test_a_model_that_fails_on_the_way_back() -> None:
    kept = Pulls(Slow("raises late"))
    for _ in range(2):
        token, logits = await kept.begin(ROWS)
        with pytest.raises(Failed, match="on the way back"):
            await kept.finish(token, logits)
    kept.close()
