"""What comes over the wire and is not what was meant: it is refused as JSON, and nothing is changed."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tallystick.doors.api import wire
from tests.fakes.house import add_model

TAKES_JSON = [
    "/runs",
    "/models",
    "/models/admit",
    "/verdicts",
    "/endpoints",
    "/remedies",
    "/endpoints/front/observe",
]
TABLE = "/ingest?table=digits&filename=d.csv"
JSON = {"content-type": "application/json"}


async def refused(house, answer, status, words):
    assert answer.status_code == status, answer.text
    assert words in answer.json()["what"]
    assert house.ledger.facts == []
    assert list(house.scratch.iterdir()) == []


@pytest.mark.parametrize("path", TAKES_JSON)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json5", ""])
async def test_the_content_type_must_say_json(api, house, path, kind):
    answer = await api.post(path, content=b"{}", headers={"content-type": kind})
    await refused(house, answer, 400, "content type must be application/json")


@pytest.mark.parametrize("path", TAKES_JSON)
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
    ],
)
async def test_the_body_must_be_a_json_object(api, house, path, body, words):
    await refused(house, await api.post(path, content=body, headers=JSON), 400, words)


async def test_a_content_type_may_say_its_charset(api, house):
    headers = {"content-type": "application/json; charset=utf-8"}
    await refused(house, await api.post("/runs", content=b"{}", headers=headers), 400, "'spec' must be text")


@pytest.mark.parametrize("path", TAKES_JSON)
async def test_a_body_over_the_limit(api, house, monkeypatch, path):
    monkeypatch.setattr(wire, "BODY_BYTES_MAX", 1000)
    content = b'{"spec": "' + b"x" * 2000 + b'"}'
    await refused(house, await api.post(path, content=content, headers=JSON), 413, "over 1000 bytes")


FIELDS = [
    ("/runs", {}, "spec"),
    ("/runs", {"spec": "chain", "params": []}, "params"),
    ("/runs", {"spec": "chain", "params_text": {"a": 1}}, "params_text"),
    ("/runs", {"spec": "chain", "params_text": []}, "params_text"),
    ("/models", {"run": "r", "output": "o"}, "name"),
    ("/models", {"name": "n", "run": "", "output": "o"}, "run"),
    ("/models", {"name": "n", "run": "r", "output": ["o"]}, "output"),
    ("/models/admit", {"model": 7}, "model"),
    ("/verdicts", {"model": None}, "model"),
    ("/verdicts", {"model": "m", "label": 1}, "label"),
    ("/endpoints", {"model": "m"}, "name"),
    ("/endpoints", {"name": "e", "model": {}}, "model"),
    ("/endpoints/front/observe", {"label": 1}, "label"),
    ("/remedies", {"signal": False}, "signal"),
]


@pytest.mark.parametrize(("path", "body", "field"), FIELDS)
async def test_a_field_that_is_missing_or_of_another_type(api, house, path, body, field):
    await refused(house, await api.post(path, json=body), 400, repr(field))


async def test_a_flag_is_true_or_false(api, house):
    await add_model(house)
    answer = await api.post("/verdicts", json={"model": "digits@1", "again": "yes"})
    assert (answer.status_code, answer.json()["what"]) == (400, "'again' must be true or false")


async def test_half_a_character_is_not_text(api, house):
    answer = await api.post("/runs", content=b'{"spec": "\\ud800"}', headers=JSON)
    await refused(house, answer, 400, "'spec' must be text")


@pytest.mark.parametrize("value", [b"[NaN]", b"[1e999]", b'["\\ud800"]'])
async def test_what_the_ledger_cannot_keep_is_refused(api, house, value):
    body = b'{"spec": "chain list", "params": {"list": ' + value + b"}}"
    await refused(house, await api.post("/runs", content=body, headers=JSON), 400, "not JSON")


@pytest.mark.parametrize("path", ["/runs", "/endpoints", "/ingest"])
async def test_other_methods_are_not_allowed(api, path):
    assert (await api.get(path)).status_code == 405
    assert (await api.delete(path)).status_code == 405


# ---------------------------------------------------------------------- uploads


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/ingest", b"a\n1\n", "valid table name"),
        ("/ingest?table=../x&filename=d.csv", b"a\n1\n", "valid table name"),
        ("/ingest?table=digits", b"a\n1\n", "no such format"),
        ("/ingest?table=digits&filename=d.exe", b"a\n1\n", "no such format"),
        (TABLE, b"", "empty"),
        (TABLE, b"a\nnan\n", "nan"),
        (TABLE, b"\xff\xfe\n", "not UTF-8"),
    ],
)
async def test_a_file_that_cannot_be_ingested(api, house, path, body, words):
    await refused(house, await api.post(path, content=body), 400, words)


async def test_nan_where_it_is_allowed(api):
    assert (await api.post(f"{TABLE}&allow_nan=true", content=b"a\nnan\n1.5\n")).status_code == 201


async def test_an_upload_over_the_limit(api, house):
    await refused(house, await api.post(TABLE, content=b"a\n" + b"1\n" * 60_000), 413, "the file is over")


async def test_an_upload_that_is_cut_off(app, house):
    """As the server tells it: a part of the body, then that the client has gone."""
    messages = [
        {"type": "http.request", "body": b"a,label\n1,", "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/tally/ingest",
        "raw_path": b"/api/tally/ingest",
        "query_string": b"table=digits&filename=d.csv",
        "headers": [(b"host", b"hub")],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("hub", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert b"cut off; nothing was ingested" in sent[1]["body"]
    assert house.ledger.facts == []
    assert await house.catalogue.tables() == []
    assert list(house.scratch.iterdir()) == []


async def test_a_disk_that_is_full(api, house, monkeypatch):
    opened = Path.open

    def full(self, *args, **more):
        file = opened(self, *args, **more)
        if self.name == "upload":
            monkeypatch.setattr(Path, "open", opened)
            return _Full(file)
        return file

    monkeypatch.setattr(Path, "open", full)
    await refused(house, await api.post(TABLE, content=b"a\n1\n"), 503, "No space left")


class _Full:
    def __init__(self, file):
        self._file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")
