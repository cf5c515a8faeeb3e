"""Bad input of each kind: an error in Kubeflow's shape with the right status, and nothing is changed."""

from __future__ import annotations

import contextlib
import gzip
import io
import stat
import tarfile
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import BadInput, TooLarge
from tallystick.doors.kubeflow.packages import SPEC_BYTES_MAX, unpack
from tests.doors.kubeflow.asked import FILE, SPEC, refused

# ---------------------------------------------------------------------------------------------------- uploads


def zipped(*entries: tuple[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in entries:
            package.writestr(name, content)
    return target.getvalue()


def tarred(*entries: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as package:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            entry.size = len(content) if kind == tarfile.REGTYPE else 0
            package.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def link_in_a_zip() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as package:
        entry = zipfile.ZipInfo("pipeline.yaml")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        package.writestr(entry, "/etc/passwd")
    return target.getvalue()


def a_zip_that_lies() -> bytes:
    """Its head says that the file is small."""
    content = bytearray(zipped(("p.yaml", b"a" * (SPEC_BYTES_MAX + 10))))
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = (100).to_bytes(4, "little")
    return bytes(content)


BAD = {
    "two files": (zipped(("a.yaml", FILE), ("b.yaml", FILE)), "2 files"),
    "no file": (zipped(), ""),
    "no yaml": (zipped(("a.py", FILE)), "no YAML"),
    "a folder": (zipped(("pipeline.yaml/", b"")), "no YAML"),
    "outside": (zipped(("../pipeline.yaml", FILE)), "outside"),
    "absolute": (zipped(("/etc/pipeline.yaml", FILE)), "outside"),
    "a drive": (zipped(("c:\\pipeline.yaml", FILE)), "outside"),
    "a link": (link_in_a_zip(), "plain file"),
    "cut off": (zipped(("pipeline.yaml", FILE))[:60], "damaged"),
    "many": (zipped(*((f"{n}.yaml", FILE) for n in range(100))), "too many"),
    "lies": (a_zip_that_lies(), ""),
    "tar: two": (tarred(("a.yaml", FILE), ("b.yaml", FILE)), "2 files"),
    "tar: none": (tarred(), "nothing"),
    "tar: outside": (tarred(("../../pipeline.yaml", FILE)), "outside"),
    "tar: a link": (tarred(("pipeline.yaml", b""), kind=tarfile.SYMTYPE, link="/etc/passwd"), "plain file"),
    "tar: a hard link": (tarred(("p.yaml", b""), kind=tarfile.LNKTYPE, link="/etc/passwd"), "plain file"),
    "tar: a device": (tarred(("p.yaml", b""), kind=tarfile.CHRTYPE), "plain file"),
    "tar: cut off": (tarred(("pipeline.yaml", FILE))[:-12], "cut off"),
    "tar: no tar": (gzip.compress(b"text"), "damaged"),
    "tar: many": (tarred(*((f"{n}.yaml", FILE) for n in range(100))), "too many"),
    "no pipeline": (b"a: 1", "not a pipeline"),
    "nothing": (b"", "not a pipeline"),
    "binary": (bytes(range(256)), "not a pipeline"),
}


@pytest.mark.parametrize("case", BAD)
async def test_packages(api, house, case):
    content, said = BAD[case]
    answer = await api.post("/pipelines/upload?name=x", files={"uploadfile": ("p.zip", content)})
    await refused(house, answer, 400, 3, said)


@pytest.mark.parametrize(
    "content",
    [
        zipped(("pipeline.yaml", b"a" * (SPEC_BYTES_MAX + 1))),
        tarred(("pipeline.yaml", b"a" * (SPEC_BYTES_MAX + 1))),
        gzip.compress(bytes(2 * SPEC_BYTES_MAX + 1)),
        b"a" * (SPEC_BYTES_MAX + 1),
    ],
    ids=["zip", "tar", "gzip", "plain"],
)
async def test_what_is_too_large_or_becomes_so(api, house, content):
    answer = await api.post("/pipelines/upload?name=x", files={"uploadfile": ("p", content)})
    await refused(house, answer, 413, 8, "larger than 10 MiB")


async def test_a_body_without_end(api, house):
    async def body():
        while True:
            yield bytes(1 << 20)

    head = {"content-type": "multipart/form-data; boundary=b"}
    answer = await api.post("/pipelines/upload?name=x", content=body(), headers=head)
    await refused(house, answer, 413, 8)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=" + "b" * 71, b""),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nno head\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"x" * 9000 + b"\r\n\r\n\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n--b--',
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="uploadfile"\r\n\r\nx',
        ),
    ],
)
async def test_what_is_no_upload(api, house, kind, body):
    answer = await api.post("/pipelines/upload?name=x", content=body, headers={"content-type": kind})
    await refused(house, answer, 400, 3)


@given(st.binary(max_size=300), st.sampled_from([b"", b"PK\x03\x04", b"\x1f\x8b\x08"]))
def test_no_package_does_more_than_be_refused(content, head):
    with contextlib.suppress(BadInput, TooLarge):
        assert unpack("p", head + content) == head + content


@given(st.data())
def test_nor_does_one_that_was_damaged(data):
    package = bytearray(data.draw(st.sampled_from([zipped(("p.yaml", FILE)), tarred(("p.yaml", FILE))])))
    for _ in range(data.draw(st.integers(1, 4))):
        package[data.draw(st.integers(2, len(package) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadInput, TooLarge):
        unpack("p", bytes(package))


@pytest.mark.parametrize("name", ["", " ", "x" * 257, "a\u202eb", "a\x00b"])
async def test_names(api, house, name):
    answer = await api.post("/experiments", json={"display_name": name})
    await refused(house, answer, 400, 3)
    if name:
        files = {"uploadfile": ("p", FILE)}
        answer = await api.post("/pipelines/upload", params={"name": name}, files=files)
        await refused(house, answer, 400, 3)


# ----------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize("path", ["/runs", "/recurringruns", "/experiments"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", b"{}"),
        ("application/json", b""),
        ("application/json", b"[]"),
        ("application/json", b"{"),
        ("application/json", b'{"a": NaN}'),
        ("application/json", b'{"a": "\\ud800"}'),
        ("application/json", b"[" * 100_000),
        ("application/json", b"\xff"),
    ],
)
async def test_what_is_no_json(api, house, path, kind, body):
    answer = await api.post(path, content=body, headers={"content-type": kind})
    await refused(house, answer, 400, 3)


NOWHERE = "0192f3a4-b5c6-71a2-8b3c-000000000000"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, 3),
        ({"pipeline_spec": []}, 400, 3),
        ({"pipeline_spec": "text"}, 400, 3),
        ({"pipeline_spec": {"a": 1}}, 400, 3),
        ({"pipeline_spec": {"pipeline_spec": SPEC, "other": 1}}, 400, 3),
        ({"pipeline_spec": SPEC, "state": "SUCCEEDED"}, 400, 3),
        ({"pipeline_spec": SPEC, "display_name": 5}, 400, 3),
        ({"pipeline_spec": SPEC, "experiment_id": NOWHERE}, 404, 5),
        ({"pipeline_spec": SPEC, "experiment_id": "../../etc"}, 404, 5),
        ({"pipeline_spec": SPEC, "runtime_config": []}, 400, 3),
        ({"pipeline_spec": SPEC, "runtime_config": {"other": 1}}, 400, 3),
        ({"pipeline_spec": SPEC, "runtime_config": {"parameters": []}}, 400, 3),
        ({"pipeline_spec": SPEC, "plugins_input": {"a": {}}}, 501, 12),
        ({"pipeline_spec": SPEC, "pipeline_version_id": NOWHERE}, 501, 12),
        ({"pipeline_spec": SPEC, "pipeline_version_reference": {"pipeline_id": NOWHERE}}, 400, 3),
        ({"pipeline_version_reference": {"pipeline_id": NOWHERE}}, 404, 5),
        ({"pipeline_version_reference": {"other": NOWHERE}}, 400, 3),
    ],
)
async def test_runs_that_cannot_be(api, house, body, status, code):
    for path in ("/runs", "/recurringruns"):
        answer = await api.post(path, json=body)
        await refused(house, answer, status, code)


EVERY = {"periodic_schedule": {"interval_second": "60"}}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "trigger"),
        ({"trigger": {}}, "either"),
        ({"trigger": []}, "object"),
        ({"trigger": {"cron_schedule": {"cron": "0 0 3 * * *"}, **EVERY}}, "either"),
        ({"trigger": {"cron_schedule": {}}}, "0 fields"),
        ({"trigger": {"cron_schedule": {"cron": "@every 1h"}}}, "interval_second"),
        ({"trigger": {"cron_schedule": {"cron": 5}}}, "must be text"),
        ({"trigger": {"periodic_schedule": {"interval_second": "0"}}}, "at least a second"),
        ({"trigger": {"periodic_schedule": {"interval_second": "-5"}}}, "no whole number"),
        ({"trigger": {"periodic_schedule": {"interval_second": 1.5}}}, "no whole number"),
        ({"trigger": {"periodic_schedule": {"interval_second": True}}}, "no whole number"),
        ({"trigger": {"periodic_schedule": {"interval_second": "9" * 50}}}, "no whole number"),
        (
            {"trigger": {"periodic_schedule": {"interval_second": 5, "end_time": "2020-13-01T00:00:00Z"}}},
            "time",
        ),
        ({"trigger": EVERY, "max_concurrency": "0"}, "between 1 and 10"),
        ({"trigger": EVERY, "mode": "SOMETIMES"}, "no mode"),
        ({"trigger": EVERY, "no_catchup": "yes"}, "true or false"),
        ({"trigger": EVERY, "display_name": "\n"}, "no schedule"),
        ({"trigger": EVERY, "runtime_config": {"parameters": {"n": "x"}}}, "NUMBER_INTEGER"),
    ],
)
async def test_schedules_that_cannot_be(api, house, more, said):
    made = (await api.post("/experiments", json={"display_name": "e"})).json()
    house.ledger.facts.clear()
    body = {"display_name": "s", "experiment_id": made["experiment_id"], "pipeline_spec": SPEC, **more}
    answer = await api.post("/recurringruns", json=body)
    await refused(house, answer, 400, 3, said)


@pytest.mark.parametrize("noun", ["pipelines", "experiments", "runs", "recurringruns"])
@pytest.mark.parametrize("given", [NOWHERE, "x", "run-1", "%2e%2e", "a" * 500, "run-0192f3a4b5c6-1a2b3c"])
async def test_ids_of_nothing(api, house, noun, given):
    for method in ("GET", "DELETE"):
        await refused(house, await api.request(method, f"/{noun}/{given}"), 404, 5)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/pipelines"),
        ("POST", "/pipelines/create"),
        ("PATCH", f"/pipelines/{NOWHERE}"),
        ("GET", "/visualizations"),
        ("POST", "/workflows"),
        ("PUT", "/runs"),
    ],
)
async def test_what_is_not_answered(api, house, method, path):
    answer = await api.request(method, path)
    assert answer.status_code in (405, 501)
    if answer.status_code == 501:
        await refused(house, answer, 501, 12)


def test_a_bomb_costs_little():
    bomb = zlib.compress(bytes(1 << 30), 9)
    with pytest.raises((BadInput, TooLarge)):
        unpack("p", b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + bomb[2:-4])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_nor_does_one_that_is_unpacked_in_one_go(method):
    """Of these methods zipfile unpacks all that it has read, whatever it was asked for."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as package:
        package.writestr("p.yaml", bytes(1 << 20))
    with pytest.raises(BadInput, match="neither stored nor deflated"):
        unpack("p", target.getvalue())


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_nor_does_a_tar_with_a_long_head(kind):
    """tarfile looks through it by a pattern that takes the square of its length (CVE-2024-6232)."""
    head = tarfile.TarInfo("head")
    head.type, head.size = kind, 15 << 20
    whole = head.tobuf(tarfile.USTAR_FORMAT) + b"1" * head.size + tarfile.TarInfo("p.yaml").tobuf()
    with pytest.raises(BadInput, match="too long"):
        unpack("p", gzip.compress(whole + bytes(1024), 1))


def test_a_tar_as_python_writes_it_is_read():
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz", format=tarfile.PAX_FORMAT) as package:
        entry = tarfile.TarInfo("ä" * 100 + ".yaml")
        entry.mtime, entry.size = 1.5, len(FILE)
        package.addfile(entry, io.BytesIO(FILE))
    assert unpack("p", target.getvalue()) == FILE
