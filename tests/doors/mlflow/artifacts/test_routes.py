"""MLflow's routes for artifacts, natively, over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.doors.mlflow.house import FILES, MIB

TWINS = [
    FILES,
    FILES.replace("/api", "/ajax-api"),
    "/mlflow" + FILES,
    "/mlflow" + FILES.replace("/api", "/ajax-api"),
]


@pytest.mark.parametrize("base", TWINS)
async def test_what_is_put_is_listed_given_and_removed(http: httpx.AsyncClient, base: str) -> None:
    put = await http.put(f"{base}/1/run/artifacts/a.txt", content=b"hello")
    assert (put.status_code, put.content) == (200, b"")
    assert (await http.put(f"{base}/1/run/artifacts/sub/empty", content=b"")).status_code == 200
    listed = await http.get(base, params={"path": "1/run/artifacts"})
    assert listed.headers["content-type"] == "application/json"
    assert listed.text == (
        '{\n  "files": [\n    {\n      "path": "a.txt",\n      "is_dir": false,\n'
        '      "file_size": 5\n    },\n    {\n      "path": "sub",\n      "is_dir": true\n    }\n  ]\n}'
    )
    got = await http.get(f"{base}/1/run/artifacts/a.txt")
    assert (got.status_code, got.content) == (200, b"hello")
    assert got.headers["etag"] == put.headers["etag"]
    for path in ("1/run/artifacts/sub", "1/run/artifacts/a.txt", "1/run/artifacts/a.txt"):  # twice is fine
        gone = await http.delete(f"{base}/{path}")
        assert (gone.status_code, gone.text, gone.headers["content-type"]) == (200, "{}", "application/json")
    assert (await http.get(base, params={"path": "1/run/artifacts"})).text == "{}"


@pytest.mark.parametrize(
    ("path", "shown"),
    [("", ["1"]), ("1", ["run"]), ("1/run", ["a"]), ("1/run/", ["a"]), ("nope", []), ("1/run/a", [])],
)
async def test_folders_are_listed(http: httpx.AsyncClient, path: str, shown: list[str]) -> None:
    await http.put(f"{FILES}/1/run/a", content=b"x")
    listed = await http.get(FILES, params={"path": path})
    assert [entry["path"] for entry in listed.json().get("files", [])] == shown
    assert (await http.get(FILES)).json()["files"][0]["path"] == "1"
    assert (await http.get(f"{FILES}?path={quote(path)}&path=other")).json() == listed.json()


@pytest.mark.parametrize(
    ("name", "kind", "disposition"),
    [
        ("a.txt", "text/plain", "attachment; filename=a.txt"),
        ("model.PNG", "image/png", "attachment; filename=model.PNG"),
        ("MLmodel", "text/plain", "attachment; filename=MLmodel"),
        ("page.html", "text/html", "attachment; filename=page.html"),
        ("none", "application/octet-stream", "attachment; filename=none"),
        ("a b.csv", "text/plain", 'attachment; filename="a b.csv"'),
        ('q"t;.json', "text/plain", 'attachment; filename="q\\"t;.json"'),
        ("日.txt", "text/plain", "attachment; filename=.txt; filename*=UTF-8''%E6%97%A5.txt"),
        ("日", "application/octet-stream", "attachment; filename=download; filename*=UTF-8''%E6%97%A5"),
        (
            "ż ó.x",
            "application/octet-stream",
            "attachment; filename=\"z o.x\"; filename*=UTF-8''%C5%BC%20%C3%B3.x",
        ),
    ],
)
async def test_headers_are_mlflows_and_it_cannot_act(
    http: httpx.AsyncClient, name: str, kind: str, disposition: str
) -> None:
    path = f"{FILES}/1/{quote(name)}"
    await http.put(path, content=b"hello")
    for got in (await http.get(path), await http.head(path)):
        assert got.status_code == 200
        assert got.headers["content-type"] == kind
        assert got.headers["content-disposition"] == disposition
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        assert got.headers["accept-ranges"] == "bytes"
        assert got.headers["content-length"] == "5"
        assert got.headers["last-modified"].endswith("GMT")


async def test_headers_are_made_as_mlflow_makes_them() -> None:
    from mlflow.server.handlers import _content_disposition_attachment
    from mlflow.utils.mime_type_utils import _guess_mime_type

    from tallystick.doors.mlflow.conditions import file_headers
    from tallystick.ports.files import FileInfo

    names = [
        "a.tar.gz",
        "x.pkl",
        "MLproject",
        "mlproject",
        "a.MLmodel",
        ".json",
        ".hidden",
        "x.",
        "x.Txt",
        "a'b.py",
        "é.onnx",
        "ﬁ",
    ]
    for name in [*names, "model.onnx", "a.parquet", "a.svg", "data.ipynb", "a~b!#$%&+.md", "(1).txt", "a,b"]:
        ours = file_headers(FileInfo(f"1/run/{name}", False, 1, "e", 0))
        assert ours["content-type"] == _guess_mime_type(name)
        assert ours["content-disposition"] == _content_disposition_attachment(name)


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=2-5", 206, 2, 6),
        ("bytes=5-", 206, 5, 10),
        ("bytes=-3", 206, 7, 10),
        ("bytes=-30", 206, 0, 10),
        ("bytes=0-100", 206, 0, 10),
        ("bytes=9-9", 206, 9, 10),
        ("bytes= 2 - 5", 206, 2, 6),
        ("bytes=10-", 416, 0, 0),
        ("bytes=10-11", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=0-1,3-4", 200, 0, 10),
        ("bytes=5-2", 200, 0, 10),
        ("bytes=a-b", 200, 0, 10),
        ("bytes=-", 200, 0, 10),
        ("bytes=--1", 200, 0, 10),
        ("items=0-1", 200, 0, 10),
        ("bytes=0-99999999999999999999999", 200, 0, 10),
    ],
)
async def test_a_part_is_given(
    http: httpx.AsyncClient, asked: str, status: int, start: int, end: int
) -> None:
    await http.put(f"{FILES}/a", content=b"0123456789")
    for method in ("GET", "HEAD"):
        got = await http.request(method, f"{FILES}/a", headers={"range": asked})
        assert got.status_code == status
        said = {206: f"bytes {start}-{end - 1}/10", 416: "bytes */10", 200: None}[status]
        assert got.headers.get("content-range") == said
        if status != 416:
            assert got.headers["content-length"] == str(end - start)
            assert got.content == (b"0123456789"[start:end] if method == "GET" else b"")


async def test_an_empty_file_has_no_part(http: httpx.AsyncClient) -> None:
    await http.put(f"{FILES}/a", content=b"")
    assert (await http.get(f"{FILES}/a", headers={"range": "bytes=0-"})).status_code == 416
    assert (await http.get(f"{FILES}/a")).content == b""


async def test_conditions_are_kept(http: httpx.AsyncClient) -> None:
    etag = (await http.put(f"{FILES}/a", content=b"0123456789")).headers["etag"]
    part = {"range": "bytes=2-3"}
    for headers, status, content in [
        ({"if-none-match": etag}, 304, b""),
        ({"if-none-match": f'"x", W/{etag}'}, 304, b""),
        ({"if-none-match": "*"}, 304, b""),
        ({"if-none-match": '"x"'}, 200, b"0123456789"),
        ({"if-none-match": etag, **part}, 304, b""),
        ({"if-match": etag}, 200, b"0123456789"),
        ({"if-match": "*"}, 200, b"0123456789"),
        ({"if-match": '"x"'}, 412, b""),
        ({"if-match": f"W/{etag}"}, 412, b""),
        ({"if-range": etag, **part}, 206, b"23"),
        ({"if-range": '"x"', **part}, 200, b"0123456789"),
        ({"if-range": "Sat, 21 Nov 2026 03:40:05 GMT", **part}, 200, b"0123456789"),
    ]:
        got = await http.get(f"{FILES}/a", headers=headers)
        assert (got.status_code, got.content) == (status, content), headers
    again = (await http.put(f"{FILES}/a", content=b"0123456789")).headers["etag"]
    assert again != etag
    assert (await http.get(f"{FILES}/a", headers={"if-none-match": etag})).status_code == 200


async def test_what_is_not_there_is_said_in_mlflows_words(http: httpx.AsyncClient) -> None:
    await http.put(f"{FILES}/1/run/a", content=b"x")
    got = await http.get(f"{FILES}/1/run/nope")
    assert got.status_code == 404
    assert got.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert got.json()["message"] == "No such artifact: '1/run/nope'"
    folder = await http.get(f"{FILES}/1/run")
    assert folder.status_code == 400
    assert folder.json()["message"] == "Artifact path refers to a directory, not a file: '1/run'"
    assert (await http.head(f"{FILES}/1/nope")).status_code == 404
    for path in ("1/run", "1/run/a/b"):
        assert (await http.put(f"{FILES}/{path}", content=b"x")).status_code == 409


async def test_who_goes_away_in_the_middle_lets_the_file_go(
    http: httpx.AsyncClient, url: str, root: Path
) -> None:
    await http.put(f"{FILES}/big", content=bytes(32 * MIB))
    for _ in range(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
        writer.write(f"GET {FILES}/big HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await reader.readline()
        writer.transport.abort()
    for _ in range(600):
        if open_below(root) == []:
            break
        await asyncio.sleep(0.1)
    assert open_below(root) == []


def open_below(root: Path) -> list[Path]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(link.readlink())
    return [path for path in found if path.is_relative_to(root)]


async def test_a_reader_gets_one_file_while_it_is_replaced(http: httpx.AsyncClient) -> None:
    contents = [bytes([n]) * (2 * MIB + n) for n in range(3)]
    await http.put(f"{FILES}/a", content=contents[0])

    async def replace() -> None:
        for n in range(30):
            await http.put(f"{FILES}/a", content=contents[n % 3])

    async def read() -> None:
        for _ in range(30):
            got = await http.get(f"{FILES}/a")
            assert got.status_code in (200, 503)
            assert got.status_code == 503 or got.content in contents

    await asyncio.gather(replace(), read(), read())
