"""The protocol from end to end: the stock client, every error, and what is recorded."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tallystick.doors.oip.codec import InferRequest, encode_request
from tests.fakes.models import REPOSITORY
from tests.fakes.serving import BODY_BYTES_MAX, asked, digits, request

PIXELS = 64


class TestStockClient:
    def test_the_server_and_its_models_say_what_they_are(self, stock):
        assert stock.is_server_live()
        assert stock.is_server_ready()
        assert stock.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        assert stock.is_model_ready("digits")
        assert stock.is_model_ready("digits", "3")
        assert not stock.is_model_ready("digits", "4")
        assert not stock.is_model_ready("nobody")
        card = stock.get_model_metadata("digits", "3")
        assert (card["name"], card["versions"]) == ("digits", ["3"])
        assert card["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, PIXELS]}]
        assert [output["name"] for output in card["outputs"]] == ["label", "probabilities"]

    @pytest.mark.parametrize("sent", [True, False])
    @pytest.mark.parametrize("received", [True, False])
    def test_predictions(self, stock, told, sent, received):
        wished = [triton.InferRequestedOutput(n, binary_data=received) for n in ("probabilities", "label")]
        answer = stock.infer("digits", [asked("X", told["x"], binary=sent)], outputs=wished, request_id="77")
        np.testing.assert_array_equal(answer.as_numpy("label"), told["label"])
        np.testing.assert_allclose(answer.as_numpy("probabilities"), told["proba"], atol=1e-6)
        said = answer.get_response()
        assert (said["id"], said["model_name"], said["model_version"]) == ("77", "digits", "3")

    def test_all_outputs_or_one(self, stock, told):
        everything = stock.infer("digits", [asked("X", told["x"][:2])], model_version="3")
        assert everything.as_numpy("probabilities").shape == (2, 10)
        wished = [triton.InferRequestedOutput("label")]
        one = stock.infer("digits", [asked("X", told["x"][:2])], outputs=wished)
        assert one.as_numpy("probabilities") is None

    @pytest.mark.parametrize("binary", [True, False])
    def test_columns_of_text_and_numbers(self, stock, binary):
        words = np.array(["élan".encode(), b"b"], object)
        times = np.array([b"2026-11-21", b"2001-01-01"], object)
        columns = {"word": words, "count": np.array([2, 3]), "price": np.array([1.5, 1]), "when": times}
        answer = stock.infer("mixed", [asked(name, array, binary=binary) for name, array in columns.items()])
        assert answer.as_numpy("text").tolist() == ["élan 2026".encode(), b"b 2001"]
        assert answer.as_numpy("total").tolist() == [3, 3]

    def test_errors_are_told_in_words(self, stock, told):
        with pytest.raises(
            InferenceServerException, match=r"there is no output 'nothing'.*label, probabilities"
        ):
            stock.infer("digits", [asked("X", told["x"])], outputs=[triton.InferRequestedOutput("nothing")])
        with pytest.raises(InferenceServerException, match="known: digits, mixed, picky"):
            stock.infer("nobody", [asked("X", told["x"])])
        with pytest.raises(InferenceServerException, match="compressed"):
            stock.infer("digits", [asked("X", told["x"])], request_compression_algorithm="gzip")


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/v2/models/nobody", 404),
            ("GET", "/v2/models/nobody/ready", 404),
            ("GET", "/v2/models/digits/versions/4/ready", 404),
            ("GET", "/v2/models/digits/config", 404),
            ("GET", "/v2/models/digits/versions/3/config", 404),
            ("GET", "/v2/repository", 404),
            ("POST", "/v2/repository/index", 404),
            ("DELETE", "/v2/models/digits", 404),
            ("GET", "/v2/models/digits/infer", 405),
            ("POST", "/v2/models/nobody/infer", 404),
            ("POST", "/v2/models/digits/versions/4/infer", 404),
            ("POST", "/v2/models/%2e%2e%2fdigits/infer", 404),
            ("POST", "/v2/models/digits%0d%0aX:1/infer", 404),
        ],
    )
    def test_every_error_is_an_error_object(self, client, method, path, status):
        answer = client.request(method, path)
        assert answer.status_code == status
        assert list(answer.json()) == ["error"]

    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            (b"", {}),
            (b"{}", {}),
            (b"{", {}),
            (b'{"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": [NaN]}]}', {}),
            (b'{"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": [1]}]}', {}),
            (b"{}", {"inference-header-content-length": "3"}),
            (b"{}", {"inference-header-content-length": "-1"}),
            (b"{}", {"inference-header-content-length": "two"}),
            (b"{}", {"content-encoding": "gzip"}),
        ],
    )
    def test_bad_requests(self, client, record, body, headers):
        answer = client.post("/v2/models/digits/infer", content=body, headers=headers)
        assert answer.status_code == 400
        assert answer.json()["error"]
        assert [exchange.status for _, exchange in record] == [400]

    @pytest.mark.parametrize(
        "array",
        [np.zeros((1, 63), np.float32), np.zeros((1, 64)), np.zeros(64, np.float32), np.zeros((1, 1, 64))],
    )
    def test_tensors_that_the_model_does_not_take(self, client, array):
        assert client.post("/v2/models/digits/infer", **request(array, "X")).status_code == 400

    def test_a_model_that_raises_answers_again(self, client):
        for at, status in ((99, 500), (1, 200), (-99, 500), (2, 200)):
            answer = client.post("/v2/models/picky/infer", **request(np.array([at]), "at"))
            assert answer.status_code == status
            assert ("error" in answer.json()) == (status == 500)

    def test_code_that_raises_answers_again(self, client):
        for count, status in ((-1, 500), (1, 200)):
            columns = {"word": np.array([b"a"], object), "when": np.array([b"2026-01-01"], object)}
            columns |= {"count": np.array([count]), "price": np.array([1.0])}
            body, _ = encode_request(InferRequest(columns), binary=False)
            answer = client.post("/v2/models/mixed/infer", content=body)
            assert answer.status_code == status
            assert ("a count is negative" in answer.text) == (status == 500)

    @pytest.mark.parametrize("chunked", [True, False])
    def test_too_large(self, client, record, chunked):
        body = b" " * (BODY_BYTES_MAX + 1)
        answer = client.post("/v2/models/digits/infer", content=iter([body]) if chunked else body)
        assert answer.status_code == 413
        assert str(BODY_BYTES_MAX) in answer.json()["error"]
        assert [(e.status, e.body) for _, e in record] == [(413, b"")]

    def test_an_endpoint_that_does_not_answer_says_why(self, client, house):
        house.routes.trouble("sick", "failed: it needs the Python package xgboost")
        try:
            for path in ("/v2/models/sick", "/v2/models/sick/ready"):
                answer = client.get(path)
                assert answer.status_code == 503
                assert "xgboost" in answer.json()["error"]
            assert client.post("/v2/models/sick/infer", content=b"{}").status_code == 503
        finally:
            house.routes.drop("sick")


class TestRecord:
    @pytest.mark.parametrize("binary", [True, False])
    def test_what_was_sent_is_recorded_as_it_came(self, client, record, told, binary):
        sent = request(told["x"][:2], "X", binary)
        client.post("/v2/models/digits/infer", **sent).raise_for_status()
        ((endpoint, exchange),) = record
        assert (endpoint, exchange.status, exchange.generation) == ("digits", 200, 1)
        assert exchange.body == sent["content"]
        assert exchange.json_bytes == int(sent["headers"].get("inference-header-content-length", 0))
        assert 0 < exchange.latency_ms < 10_000
        assert abs(exchange.at_ms - time.time() * 1000) < 60_000

    def test_a_header_sent_twice_is_passed_on_once_as_recorded(self, client, record, told):
        sent = request(told["x"][:1], "X", True)
        length = sent["headers"]["inference-header-content-length"]
        headers = [("inference-header-content-length", length), ("inference-header-content-length", "5")]
        answer = client.post("/v2/models/digits/infer", content=sent["content"], headers=headers)
        assert answer.status_code in (200, 400)
        assert all(exchange.json_bytes == int(length) for _, exchange in record if exchange.status == 200)

    def test_questions_about_models_are_not_traffic(self, client, record):
        client.get("/v2/models/digits").raise_for_status()
        client.post("/v2/models/nobody/infer", content=b"{}")
        assert record == []

    def test_a_client_that_goes_away_mid_request(self, house, record, client, told):
        async def leave():
            _, writer = await asyncio.open_connection("127.0.0.1", house.port)
            writer.write(b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: h\r\ncontent-length: 999\r\n\r\n{")
            await writer.drain()
            writer.transport.abort()

        asyncio.run(leave())
        assert record.wait_for(499).json_bytes == 0
        assert client.post("/v2/models/digits/infer", **digits(told)).status_code == 200


def test_the_hub_stays_light():
    code = (
        "import sys, tallystick.doors.oip.app, tallystick.hub.house.route\n"
        "heavy = {'numpy', 'mlflow', 'pandas', 'onnxruntime', 'httpx'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)
