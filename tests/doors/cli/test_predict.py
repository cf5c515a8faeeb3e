"""`tally predict`: each value of a file goes where it belongs, or it is refused by name."""

from __future__ import annotations

import json

import httpx
import pytest

ENDPOINT = {"name": "e", "state": "ready", "wished": {"model": "m@2"}, "served": [{"model": "m@1"}]}
WIDE = [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
COLUMNS = [{"name": n, "type": "double"} for n in ("a", "b", "c", "label")]


def serve(desk, inputs, *, columns=None, version="2", endpoint=None):
    """An endpoint whose model answers with the sum of each row's values."""
    desk.noun("endpoint", "e", endpoint or ENDPOINT)
    about = {"name": "e", "versions": [version], "inputs": inputs}
    desk.answers["GET /v2/models/e"] = about
    desk.noun("model", f"m@{version}", {"origin": {"snapshots": {"t@1": "sha256:1"} if columns else {}}})
    if columns:
        desk.noun("data", "t@1", {"columns": columns})

    def infer(request):
        tensors = json.loads(request.content)["inputs"]
        rows = tensors[0]["shape"][0]
        return {"outputs": [{"name": "y", "data": list(range(rows))}]}

    desk.answers["POST /v2/models/e/infer"] = infer


def sent(desk):
    return [t for body in desk.bodies("POST /v2/models/e/infer") for t in body["inputs"]]


def refused(said, *words, status=2):
    assert said.status == status, said.err
    for word in words:
        assert word in said.err


# ---------------------------------------------------------------------- one wide input


@pytest.mark.parametrize(
    "text",
    ["a,b,c\n1,2,3\n", "c,b,a\n3,2,1\n", "label,c,extra,b,a\n9,3,8,2,1\n", "\ufeffa,b,c\n1,2,3\n"],
)
def test_columns_go_by_name(desk, tmp_path, text):
    serve(desk, WIDE, columns=COLUMNS)
    (tmp_path / "r.csv").write_text(text, "utf-8")
    assert desk.type("predict", "e", "r.csv", "--json").json == [{"y": 0}]
    assert [(t["shape"], t["data"]) for t in sent(desk)] == [([1, 3], [1.0, 2.0, 3.0])]


def test_a_column_that_is_missing_or_renamed_is_named(desk, tmp_path):
    serve(desk, WIDE, columns=COLUMNS)
    (tmp_path / "r.csv").write_text("a,B,c\n1,2,3\n")
    refused(desk.type("predict", "e", "r.csv"), "error: r.csv: column 'b' is missing", "3 columns: a, b, c")
    assert sent(desk) == []


def test_the_label_is_the_hubs_or_the_one_that_is_said(desk, tmp_path):
    columns = [{"name": n, "type": "double"} for n in ("a", "target", "b", "c")]
    serve(desk, WIDE, columns=columns)
    (tmp_path / "r.csv").write_text("target,a,b,c\n9,1,2,3\n")
    assert desk.type("predict", "e", "r.csv", "--label", "target").status == 0
    assert sent(desk)[-1]["data"] == [1.0, 2.0, 3.0]
    refused(desk.type("predict", "e", "r.csv"), "the model takes 3 columns, the file has 4", "--label")


def test_the_names_are_those_of_the_model_that_answers(desk, tmp_path):
    """While a newer model is being started, the one before it still does."""
    serve(desk, WIDE, columns=COLUMNS, version="1")
    (tmp_path / "r.csv").write_text("c,b,a\n3,2,1\n")
    assert desk.type("predict", "e", "r.csv").status == 0
    assert sent(desk)[0]["data"] == [1.0, 2.0, 3.0]


def test_without_an_origin_all_columns_must_fit_and_their_order_is_trusted(desk, tmp_path):
    serve(desk, WIDE)
    (tmp_path / "r.csv").write_text("z,y,x\n1,2,3\n")
    assert desk.type("predict", "e", "r.csv").status == 0
    assert sent(desk)[0]["data"] == [1.0, 2.0, 3.0]
    (tmp_path / "more.csv").write_text("z,y,x,label\n1,2,3,0\n")
    refused(desk.type("predict", "e", "more.csv"), "more.csv: the model takes 3 columns, the file has 4")
    (tmp_path / "turned.jsonl").write_text('{"a": 1, "b": 2, "c": 3}\n{"b": 2, "a": 1, "c": 3}\n')
    refused(desk.type("predict", "e", "turned.jsonl"), "turned.jsonl: row 2: its columns are not those")
    assert "order" in desk.type("predict", "--help").out


def test_a_wide_input_of_whole_numbers_keeps_them(desk, tmp_path):
    serve(desk, [{"name": "x", "datatype": "INT64", "shape": [-1, 2]}])
    (tmp_path / "r.csv").write_text("a,b\n9007199254740993,-1\n")
    assert desk.type("predict", "e", "r.csv").status == 0
    assert sent(desk)[0]["data"] == [9007199254740993, -1]


# ---------------------------------------------------------------------- an input for each column


def test_named_inputs_take_their_columns(desk, tmp_path):
    inputs = [
        {"name": "n", "datatype": "INT64", "shape": [-1, 1]},
        {"name": "s", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "f", "datatype": "FP64", "shape": [-1]},
        {"name": "t", "datatype": "BOOL", "shape": [-1, 1]},
    ]
    serve(desk, inputs)
    (tmp_path / "r.csv").write_text("f,extra,t,s,n\n1.5,0,true,one,7\n2.5,0,0,,8.0\n")
    assert len(desk.type("predict", "e", "r.csv", "--json").json) == 2
    assert [(t["name"], t["shape"], t["data"]) for t in sent(desk)] == [
        ("n", [2, 1], [7, 8]),
        ("s", [2, 1], ["one", ""]),
        ("f", [2], [1.5, 2.5]),
        ("t", [2, 1], [True, False]),
    ]


def test_an_input_that_no_column_can_fill(desk, tmp_path):
    serve(desk, [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 8, 8]}])
    (tmp_path / "r.csv").write_text("image\n1\n")
    refused(desk.type("predict", "e", "r.csv"), "has shape [-1, 3, 8, 8]", "Open Inference Protocol client")


@pytest.mark.parametrize(
    ("datatype", "cell", "words"),
    [
        ("INT64", "1.7", "holds '1.7', which is no whole number"),
        ("INT64", "9223372036854775808", "out of range"),
        ("INT8", "128", "the model takes -128 to 127"),
        ("UINT8", "-1", "the model takes 0 to 255"),
        ("INT64", "1e999999999", "out of range"),
        ("INT64", "nan", "out of range"),
        ("INT64", "many", "holds 'many', not a number"),
        ("FP32", "many", "holds 'many', not a number"),
        ("FP32", "1_000", "not a number"),
        ("FP32", "nan", "finite"),
        ("FP64", "1e999", "finite"),
        ("FP32", "", "is empty"),
        ("BOOL", "perhaps", "neither true nor false"),
    ],
)
def test_a_cell_that_does_not_fit(desk, tmp_path, datatype, cell, words):
    serve(desk, [{"name": "x", "datatype": datatype, "shape": [-1]}])
    (tmp_path / "r.csv").write_text(f"x,other\n1,2\n{cell},2\n")
    refused(desk.type("predict", "e", "r.csv"), "error: r.csv: row 2: column 'x'", words)
    assert sent(desk) == []


@pytest.mark.parametrize(
    ("datatype", "cell", "value"),
    [
        ("INT64", "9007199254740993", 9007199254740993),
        ("UINT64", "18446744073709551615", 18446744073709551615),
        ("INT64", " 7 ", 7),
        ("INT64", "1e3", 1000),
        ("FP64", "0.1", 0.1),
        ("FP32", "-1e-3", -0.001),
    ],
)
def test_numbers_are_kept_exactly(desk, tmp_path, datatype, cell, value):
    serve(desk, [{"name": "x", "datatype": datatype, "shape": [-1]}])
    (tmp_path / "r.csv").write_text(f"x\n{cell}\n")
    assert desk.type("predict", "e", "r.csv").status == 0
    assert sent(desk)[0]["data"] == [value]


def test_json_lines_keep_their_types(desk, tmp_path):
    serve(desk, [{"name": "x", "datatype": "INT64", "shape": [-1]}])
    lines = ['{"x": 9007199254740993}', "", '{"x": 2.0, "u": "\u2028"}', '{"x": true}']
    (tmp_path / "r.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    assert desk.type("predict", "e", "r.jsonl").status == 0
    assert sent(desk)[0]["data"] == [9007199254740993, 2, 1]


def test_parquet(desk, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    serve(desk, WIDE, columns=COLUMNS)
    table = pyarrow.table({"c": [3.0, 6.0], "label": [1, 1], "a": [1.0, 4.0], "b": [2.0, 5.0]})
    parquet.write_table(table, tmp_path / "r.parquet")
    assert desk.type("predict", "e", "r.parquet").status == 0
    assert sent(desk)[0]["data"] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    (tmp_path / "not.parquet").write_text("PAR1 no")
    refused(desk.type("predict", "e", "not.parquet"), "not.parquet: it is not a Parquet file")


def test_parquet_without_pyarrow(desk, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "r.parquet").write_bytes(b"x")
    refused(desk.type("predict", "e", "r.parquet"), "pyarrow", "pip install 'tallystick[iceberg]'", status=4)


# ---------------------------------------------------------------------- files that are none


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("r.csv", b"a,a\n1,2\n", "r.csv: line 1: column 'a' appears twice"),
        ("r.csv", b"a,b\n1\n", "r.csv: line 2: 1 fields, the header has 2"),
        ("r.csv", b'a,b\n1,"2\n', "r.csv: line 2: it is not CSV"),
        ("r.csv", b"a,b\n", "r.csv: the file has no rows"),
        ("r.csv", b"", "r.csv: the file has no rows"),
        ("r.csv", b"a\n\xff\n", "r.csv: is not UTF-8 text"),
        ("r.jsonl", b'{"a": 1}\n{"a": \n', "r.jsonl: line 2: the line is not a JSON object"),
        ("r.jsonl", b"[" * 100_000, "r.jsonl: line 1: the line is not a JSON object"),
        ("r.docx", b"x", "r.docx: cannot read .docx files"),
        ("r", b"x", "r: cannot read a file without an ending"),
    ],
)
def test_files_that_cannot_be_read(desk, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    refused(desk.type("predict", "e", name), f"error: {words}")


def test_no_file(desk, tmp_path):
    refused(desk.type("predict", "e", "none.csv"), "none.csv: no such file")
    (tmp_path / "folder.csv").mkdir()
    refused(desk.type("predict", "e", "folder.csv"), "folder.csv: is a folder")


# ---------------------------------------------------------------------- endpoints that do not answer


def rows(tmp_path):
    (tmp_path / "r.csv").write_text("a\n1\n")
    return "r.csv"


def test_no_endpoint_is_said_once(desk, tmp_path):
    said = desk.type("predict", "e", rows(tmp_path))
    assert (said.status, said.err) == (2, "error: no endpoint 'e'\n  tally deploy MODEL --name e\n")


def test_an_endpoint_that_is_stopped_is_said_once(desk, tmp_path):
    desk.noun("endpoint", "e", ENDPOINT)
    text = "endpoint e: it is stopped (tally deploy MODEL --name e)"
    desk.answers["GET /v2/models/e"] = httpx.Response(503, json={"error": text})
    said = desk.type("predict", "e", rows(tmp_path))
    assert (said.status, said.err) == (4, f"error: {text}\n")


def test_an_endpoint_that_the_hub_has_not_got_to_yet(desk, tmp_path):
    desk.noun("endpoint", "e", ENDPOINT)
    said = desk.type("predict", "e", rows(tmp_path))
    assert (said.status, said.err) == (4, "error: endpoint e: it is starting\n  ask again soon\n")


@pytest.mark.parametrize(("status", "code"), [(400, 2), (413, 2), (500, 1), (503, 4), (504, 1)])
def test_what_a_model_answers_to_a_request(desk, tmp_path, status, code):
    serve(desk, [{"name": "a", "datatype": "FP32", "shape": [-1]}])
    desk.answers["POST /v2/models/e/infer"] = httpx.Response(status, json={"error": "endpoint e: too hot"})
    said = desk.type("predict", "e", rows(tmp_path))
    assert (said.status, said.err) == (code, "error: endpoint e: too hot\n")
