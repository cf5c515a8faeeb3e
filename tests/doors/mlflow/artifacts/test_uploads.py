"""Uploads: digests, going on with one that was cut off, limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tallystick.doors.mlflow import artifacts
from tests.doors.mlflow.artifacts.asking import below, cut_off, digest, kept
from tests.doors.mlflow.house import FILES, MIB


@pytest.mark.parametrize("name", ["content-digest", "Repr-Digest"])
async def test_a_digest_is_checked(http: httpx.AsyncClient, name: str) -> None:
    assert (await http.put(f"{FILES}/a", content=b"old", headers={name: digest(b"old")})).status_code == 200
    for said in (digest(b"other"), "sha-256=:AAAA:", "sha-256=:?:", f"md5=:AAAA:, {digest(b'other')}"):
        wrong = await http.put(f"{FILES}/a", content=b"new", headers={name: said})
        assert wrong.status_code == 400, said
    assert (await http.get(f"{FILES}/a")).content == b"old"
    for said in (digest(b"new"), "md5=:AAAA:", f"md5=:AAAA:, {digest(b'new')}"):
        assert (await http.put(f"{FILES}/a", content=b"new", headers={name: said})).status_code == 200
    assert (await http.get(f"{FILES}/a")).content == b"new"


async def test_a_cut_off_upload_goes_on(http: httpx.AsyncClient, url: str) -> None:
    content = bytes(range(256)) * (12 * MIB // 1024)
    total, path = len(content), f"{FILES}/1/run/artifacts/big"
    await http.put(path, content=b"old")
    assert await kept(http, path, 0) == 0
    await cut_off(url, path, content[: 2 * MIB], total)
    offset = await kept(http, path, 2 * MIB)
    assert offset == 2 * MIB
    assert (await http.get(path)).content == b"old"
    for said, status in [
        (f"bytes 1-{total - 1}/{total}", 409),
        (f"bytes {offset}-{total - 2}/{total}", 400),
        (f"bytes {offset}-{total - 1}/*", 400),
        (f"bytes {total}-{total - 1}/{total - 1}", 400),
        ("bytes 5", 400),
        (f"bytes {offset}-{total}/{total + 1}", 400),
    ]:
        first = 1 if status == 409 else offset
        got = await http.put(path, content=content[first:], headers={"content-range": said})
        assert got.status_code == status, said
    assert await kept(http, path, offset) == offset
    said = f"bytes {offset}-{total - 1}/{total}"
    headers = {"content-range": said, "content-digest": digest(content[offset:])}
    assert (await http.put(path, content=content[offset:], headers=headers)).status_code == 400
    headers = {"content-range": said, "repr-digest": digest(content)}
    whole = await http.put(path, content=content[offset:], headers=headers)
    assert whole.status_code == 200
    got = await http.get(path)
    assert got.content == content
    assert got.headers["etag"] == whole.headers["etag"]
    assert await kept(http, path, 0) == 0


async def test_all_of_it_may_be_there_already(http: httpx.AsyncClient, url: str) -> None:
    await cut_off(url, f"{FILES}/a", bytes(MIB), MIB + 1)
    assert await kept(http, f"{FILES}/a", MIB) == MIB
    got = await http.put(f"{FILES}/a", headers={"content-range": f"bytes */{MIB}"})
    assert got.status_code == 200
    assert (await http.get(f"{FILES}/a")).content == bytes(MIB)


async def test_a_part_that_is_not_as_long_as_said_is_refused(http: httpx.AsyncClient) -> None:
    async def chunked(size: int) -> AsyncIterator[bytes]:
        yield bytes(size)

    for size, status in ((4, 400), (6, 413), (5, 200)):
        headers = {"content-range": "bytes 0-4/5"}
        got = await http.put(f"{FILES}/a", content=chunked(size), headers=headers)
        assert got.status_code == status
    got = await http.put(f"{FILES}/a", content=b"1234", headers={"content-range": "bytes 0-4/5"})
    assert got.status_code == 400


async def test_an_upload_has_a_limit(
    http: httpx.AsyncClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "UPLOAD_BYTES_MAX", MIB)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(64 * 1024)

    assert (await http.put(f"{FILES}/a", content=bytes(MIB))).status_code == 200
    assert (await http.put(f"{FILES}/b", content=bytes(MIB + 1))).status_code == 413
    with contextlib.suppress(httpx.TransportError):  # it may be told before it has sent all
        assert (await http.put(f"{FILES}/b", content=endless())).status_code == 413
    headers = {"content-range": f"bytes {MIB}-{2 * MIB - 1}/{2 * MIB}"}
    assert (await http.put(f"{FILES}/b", content=bytes(MIB), headers=headers)).status_code == 413
    assert below(root) == [".artifact.uploading.tally", "a"]


async def test_a_stalled_upload_is_cut_off_and_stalls_nobody(
    http: httpx.AsyncClient, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "STALLED_S", 0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
    head = f"PUT {FILES}/slow HTTP/1.1\r\nhost: x\r\ncontent-length: {4 * MIB}\r\n\r\n"
    writer.write(head.encode() + bytes(MIB))
    await writer.drain()
    assert (await http.put(f"{FILES}/other", content=b"x")).status_code == 200
    assert (await asyncio.wait_for(reader.readline(), 60)).startswith(b"HTTP/1.1 504")
    writer.close()
    assert await kept(http, f"{FILES}/slow", MIB) == MIB


async def test_many_at_once(http: httpx.AsyncClient) -> None:
    contents = {f"{FILES}/many/{n % 7}/{n}": bytes([n]) * (n * 4001) for n in range(60)}
    puts = await asyncio.gather(*(http.put(path, content=c) for path, c in contents.items()))
    assert {put.status_code for put in puts} == {200}
    gets = await asyncio.gather(*(http.get(path) for path in contents))
    assert [got.content for got in gets] == list(contents.values())
