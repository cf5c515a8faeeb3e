"""Artifacts by digest, as a tar: files and folders, and nothing left behind in the hub."""

from __future__ import annotations

import io
import tarfile

import httpx
import pytest
from starlette.applications import Starlette

from tallystick.doors.api.artifacts import routes
from tests.fakes.house import make_house


@pytest.fixture
async def asked(tmp_path):
    house = make_house(tmp_path)
    transport = httpx.ASGITransport(Starlette(routes=routes(house)))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub/api/tally") as client:
        yield house, client
    await house.traffic.close()


def unpacked(answer, folder):
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "it"


async def test_a_file_comes_as_it_is(asked, tmp_path):
    house, client = asked
    (tmp_path / "f").write_bytes(b"\x00rows")
    blob = await house.artifacts.put_file(tmp_path / "f")
    answer = await client.get(f"/artifacts/{blob.digest}")
    assert unpacked(answer, tmp_path / "out").read_bytes() == b"\x00rows"
    assert list(house.scratch.iterdir()) == []


async def test_a_folder_comes_whole(asked, tmp_path):
    house, client = asked
    (tmp_path / "d" / "inner").mkdir(parents=True)
    (tmp_path / "d" / "inner" / "f").write_text("x")
    blob = await house.artifacts.put_folder(tmp_path / "d")
    answer = await client.get(f"/artifacts/{blob.digest}")
    assert (unpacked(answer, tmp_path / "out") / "inner" / "f").read_text() == "x"
    assert list(house.scratch.iterdir()) == []


@pytest.mark.parametrize(("digest", "status"), [("nonsense", 400), ("sha256:" + "0" * 64, 404)])
async def test_what_is_not_there_is_said(asked, digest, status):
    house, client = asked
    answer = await client.get(f"/artifacts/{digest}")
    assert (answer.status_code, answer.json()["what"] != "") == (status, True)
    assert list(house.scratch.iterdir()) == []
