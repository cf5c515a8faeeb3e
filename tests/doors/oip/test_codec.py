"""Tensors there and back, and everything that must not pass for one."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from tallystick.core.errors import BadInput, Failed
from tallystick.doors.oip import codec
from tallystick.doors.oip.codec import InferRequest, InferResponse


def objects(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


ARRAYS = [
    np.array([[True], [False]]),
    *(np.array([[0, 1, np.iinfo(kind).max], [np.iinfo(kind).min, 2, 3]], kind) for kind in (
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"
    )),
    *(np.array([[-1.5, 0.1], [0.0, np.finfo(kind).max]], kind) for kind in ("float16", "float32", "float64")),
    objects(b"", "é\n".encode(), b"x" * 300).reshape(1, 3),
    np.zeros((0, 5), np.float32),
    np.array(3.5),
]  # fmt: skip


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: a.dtype.name)
def test_there_and_back(array, binary):
    inputs = {"a": array, "b": np.arange(3)}
    request = InferRequest(inputs, id="7", outputs={"b": binary, "a": not binary})
    again = codec.decode_request(*codec.encode_request(request, binary=binary))
    assert (again.id, again.outputs) == ("7", request.outputs)
    body, length = codec.encode_response(InferResponse(again.inputs, "m", "2"), again)
    answer = codec.decode_response(body, length)
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "2", "7")
    assert list(answer.outputs) == ["b", "a"]
    for name, before in inputs.items():
        after = answer.outputs[name]
        assert (after.dtype, after.shape, after.tolist()) == (before.dtype, before.shape, before.tolist())
        assert again.inputs[name].flags.aligned
        assert again.inputs[name].flags.writeable


def body(**changed):
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [3, 4]]}
    return json.dumps({"inputs": [tensor | changed]}).encode()


def test_data_may_be_nested_or_flat():
    nested, flat = codec.decode_request(body()), codec.decode_request(body(data=[1, 2, 3, 4]))
    assert nested.inputs["x"].tolist() == flat.inputs["x"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"inputs": []}',
        b'{"inputs": {}}',
        b'{"inputs": [3]}',
        b'{"inputs": [{}]}',
        b'{"id": 3, "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}',
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [NaN]}]}',
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [Infinity]}]}',
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1e999]}]}',
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [' + b"9" * 5000 + b"]}]}",
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["\\ud800"]}]}',
        body(name=""),
        body(name=3),
        body(datatype="FP33"),
        body(datatype="BF16"),
        body(datatype=None),
        body(datatype=["FP32"]),
        body(shape=None),
        body(shape=[4]),
        body(shape=[2, 3]),
        body(shape=[-2, -2]),
        body(shape=[2.0, 2]),
        body(shape=[True, 4], data=[1, 2, 3, 4]),
        body(shape=[1] * 17, data=[1]),
        body(shape=[0, 10**30], data=[]),
        body(shape=[2**40, 2**40], data=[]),
        body(data=None),
        body(data="1234"),
        body(data={}),
        body(data=[1, 2, 3]),
        body(data=[[1, 2], [3]]),
        body(data=[[1, 2], 3]),
        body(data=[1, [2], 3, 4]),
        body(data=[[[1, 2]], [[3, 4]]]),
        body(data=[1, 2, 3, "4"]),
        body(data=[1, 2, 3, True]),
        body(data=[1, 2, 3, None]),
        body(data=[1, 2, 3, 1e39]),
        body(data=[1, 2, 3, 10**400]),
        body(datatype="INT32", data=[1, 2, 3, 4.0]),
        body(datatype="INT8", data=[1, 2, 3, 128]),
        body(datatype="UINT8", data=[1, 2, 3, -1]),
        body(datatype="BOOL", data=[0, 1, 0, 1]),
        body(datatype="BYTES", data=[1, 2, 3, 4]),
        body(parameters=[]),
        body(parameters={"binary_data_size": 16}),
        body(parameters={"shared_memory_region": "r"}),
        json.dumps({"inputs": json.loads(body())["inputs"] * 2}).encode(),
        json.dumps({"inputs": json.loads(body())["inputs"] * 5000}).encode(),
        json.dumps(json.loads(body()) | {"parameters": {"binary_data_output": 1}}).encode(),
        json.dumps(json.loads(body()) | {"outputs": [{"name": "y"}, {"name": "y"}]}).encode(),
        json.dumps(
            json.loads(body()) | {"outputs": [{"name": "y", "parameters": {"classification": 3}}]}
        ).encode(),
    ],
)
def test_json_that_is_no_request(raw):
    with pytest.raises(BadInput):
        codec.decode_request(raw)


def binary(tail, head_more=b"", length=None, **changed):
    tensor = {"name": "x", "shape": [2], "datatype": "INT16", "parameters": {"binary_data_size": 4}} | changed
    head = json.dumps({"inputs": [tensor]}).encode() + head_more
    return head + tail, len(head) if length is None else length


def test_binary_data():
    assert codec.decode_request(*binary(b"\1\0\xff\xff")).inputs["x"].tolist() == [1, -1]


@pytest.mark.parametrize(
    ("raw", "length"),
    [
        binary(b"\1\0\2"),
        binary(b"\1\0\2\0\0"),
        binary(b"\1\0\2\0", length=10_000),
        binary(b"\1\0\2\0", length=-1),
        binary(b"\1\0\2\0", length=10),
        binary(b"\1\0\2\0", head_more=b"\0"),
        binary(b"\1\0\2\0", parameters={"binary_data_size": -4}),
        binary(b"\1\0\2\0", parameters={"binary_data_size": True}),
        binary(b"\1\0\2\0", parameters={"binary_data_size": "4"}),
        binary(b"\1\0\2\0", parameters={"binary_data_size": 2}),
        binary(b"\1\0\2\0", data=[1, 2]),
        binary(b"\1\0\2\0", shape=[3]),
        binary(b"\1\0\2\0", datatype="FP128"),
        binary(b"\1\2", datatype="BOOL", parameters={"binary_data_size": 2}),
        binary(struct.pack("<I", 2**32 - 1), datatype="BYTES", shape=[1]),
        binary(struct.pack("<I", 0), datatype="BYTES", shape=[2]),
        binary(struct.pack("<I", 0), datatype="BYTES", shape=[0]),
        binary(b"", parameters={}),
    ],
)
def test_binary_data_that_does_not_fit(raw, length):
    with pytest.raises(BadInput):
        codec.decode_request(raw, length)


def test_nan_travels_as_binary_data_and_never_as_json():
    response = InferResponse({"y": np.array([np.nan, np.inf])}, "m", "1")
    x = {"x": np.zeros(1)}
    again = codec.decode_response(*codec.encode_response(response, InferRequest(x, binary=True)))
    np.testing.assert_array_equal(again.outputs["y"], [np.nan, np.inf])
    with pytest.raises(Failed, match="ask for binary"):
        codec.encode_response(response, InferRequest(x))


def test_an_output_that_is_not_there():
    with pytest.raises(BadInput, match="the model has y"):
        codec.encode_response(InferResponse({"y": np.zeros(1)}), InferRequest({}, outputs={"z": False}))


def test_what_numpy_has_and_the_protocol_has_not():
    with pytest.raises(Failed, match="complex128"):
        codec.encode_response(InferResponse({"y": np.zeros(1, complex)}), InferRequest({}))
