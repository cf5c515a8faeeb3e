"""Artifacts by digest, as a tar: files and folders, and nothing left behind in the hub."""

from __future__ import annotations

import io
import tarfile

import httpx
import pytest
from starlette.applications import Starlette

from tallystick.doors.api import arriving
from tallystick.doors.api.artifacts import routes
from tests.fakes.house import add_table, make_house

BYTES_MAX = 200_000
FILE, FOLDER = {"content-type": "application/octet-stream"}, {"content-type": "application/x-tar"}


@pytest.fixture
async def asked(tmp_path):
    house = make_house(tmp_path)
    transport = httpx.ASGITransport(Starlette(routes=routes(house, BYTES_MAX)))
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


# ---------------------------------------------------------------------- what is kept


def tar(*entries, form=tarfile.USTAR_FORMAT):
    """Entries are names with a content, or with a change of what is said of them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for name, said in entries:
            info, content = tarfile.TarInfo(name), said if isinstance(said, bytes) else b""
            if isinstance(said, dict):
                for field, value in said.items():
                    setattr(info, field, value)
            else:
                info.size = len(content)
            made.addfile(info, io.BytesIO(content) if content else None)
    return out.getvalue()


DIR = {"type": tarfile.DIRTYPE}


async def test_a_file_is_kept_as_it_is(asked, tmp_path):
    house, client = asked
    kept = await client.post("/artifacts", content=b"\x00rows", headers=FILE)
    said = kept.json()
    assert (kept.status_code, said["size_bytes"], said["is_folder"]) == (201, 5, False)
    assert said["uri"] == f"tally://artifacts/{said['digest']}"
    got = await client.get(f"/artifacts/{said['digest']}")
    assert unpacked(got, tmp_path / "out").read_bytes() == b"\x00rows"
    packed = await client.post("/artifacts", content=tar(("it", b"x")), headers=FILE)
    got = await client.get(f"/artifacts/{packed.json()['digest']}")
    assert unpacked(got, tmp_path / "tar").read_bytes() == tar(("it", b"x")), "a tar may be a file as well"
    assert list(house.scratch.iterdir()) == []


async def test_a_folder_is_kept_whole(asked, tmp_path):
    house, client = asked
    content = tar(("it", DIR), ("it/a", b"1" * 1000), ("it/b/c/d", b""), ("it/é", b"3"), ("it/b/e", DIR))
    kept = (await client.post("/artifacts", content=content, headers=FOLDER)).json()
    out = unpacked(await client.get(f"/artifacts/{kept['digest']}"), tmp_path / "out")
    files = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert (kept["is_folder"], files) == (True, {"a": b"1" * 1000, "b/c/d": b"", "é": b"3"})
    again = tar(("it/é", b"3"), ("it/b/c/d", b""), ("it/a", b"1" * 1000))
    same = await client.post("/artifacts", content=again, headers=FOLDER)
    assert same.json()["digest"] == kept["digest"]
    assert list(house.scratch.iterdir()) == []


WHOLE = tar(("it/a", b"x" * 2000))
HOSTILE = {
    "nothing": b"",
    "no tar": b"x" * 2000,
    "empty": bytes(1024),
    "cut off": WHOLE[:1000],
    "cut off in its head": WHOLE[:300],
    "above": tar(("it/../../a", b"x")),
    "absolute": tar(("/it/a", b"x")),
    "elsewhere": tar(("that/a", b"x")),
    "a file alone": tar(("it", b"x")),
    "here": tar(("it/./a", b"x")),
    "no name": tar(("it//a", b"x")),
    "deep": tar(("it" + "/d" * 60, b"x")),
    "link": tar(("it/a", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})),
    "hard link": tar(("it/a", {"type": tarfile.LNKTYPE, "linkname": "it/b"})),
    "device": tar(("it/a", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5})),
    "pipe": tar(("it/a", {"type": tarfile.FIFOTYPE})),
    "sparse": tar(("it/a", {"type": tarfile.GNUTYPE_SPARSE})),
    "long name": tar(("it/" + "n" * 300, b"x"), form=tarfile.GNU_FORMAT),
    "more said of it": tar(("it/" + "é" * 300, b"x"), form=tarfile.PAX_FORMAT),
    "twice": tar(("it/a", b"1"), ("it/a", b"2")),
    "a file, and below it": tar(("it/a", b"1"), ("it/a/b", b"2")),
    "a folder, and a file": tar(("it/a/b", b"1"), ("it/a", b"2")),
    "a folder with bytes": tar(("it/a", {"type": tarfile.DIRTYPE, "size": 512})),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_what_is_no_plain_folder_is_refused_and_leaves_nothing(asked, tmp_path, case):
    house, client = asked
    answer = await client.post("/artifacts", content=HOSTILE[case], headers=FOLDER)
    assert (answer.status_code, answer.json()["error"]) == (400, "BadInput"), answer.text
    assert list(house.scratch.iterdir()) == []
    assert not (tmp_path / "a").exists()


async def test_a_size_that_no_file_has_is_refused(asked):
    """Numbers in base 256, as GNU writes them: below nothing, and above all that there is."""
    house, client = asked
    for size in (-512, 2**62):
        info = tarfile.TarInfo("it/a")
        info.size = size
        head = info.tobuf(format=tarfile.GNU_FORMAT)
        answer = await client.post("/artifacts", content=head + bytes(1024), headers=FOLDER)
        assert answer.status_code == 400, answer.text
    assert list(house.scratch.iterdir()) == []


async def test_too_much_is_refused(asked, monkeypatch):
    house, client = asked
    for headers in (FILE, FOLDER):
        answer = await client.post("/artifacts", content=bytes(BYTES_MAX + 1), headers=headers)
        assert answer.status_code == 413
    monkeypatch.setattr(arriving, "FILES_MAX", 3)
    for names in ([f"it/{n}" for n in range(4)], ["it/a/b/c/d"]):  # folders that nobody names are some too
        content = tar(*((name, b"") for name in names))
        assert (await client.post("/artifacts", content=content, headers=FOLDER)).status_code == 413
    few = tar(("it/a", DIR), ("it/a/b/c", b""))
    assert (await client.post("/artifacts", content=few, headers=FOLDER)).status_code == 201
    assert (
        await client.post("/artifacts", content=b"x", headers={"content-type": "text/plain"})
    ).status_code == 400
    assert list(house.scratch.iterdir()) == []


# ---------------------------------------------------------------------- what a name means


async def test_a_uri_is_looked_up(asked, tmp_path):
    house, client = asked
    digest = (await client.post("/artifacts", content=b"x", headers=FILE)).json()["digest"]
    found = await client.get("/artifacts", params={"at": f"tally://artifacts/{digest}"})
    assert found.json()["digest"] == digest
    await add_table(house)
    rows = (await client.get("/artifacts", params={"at": "tally://tables/digits"})).json()
    assert (await client.get(f"/artifacts/{rows['digest']}")).status_code == 200
    for uri, status in (
        ("tally://tables/no", 404),
        ("tally://runs/r/o", 404),
        ("/etc/passwd", 501),
        ("", 501),
    ):
        assert (await client.get("/artifacts", params={"at": uri})).status_code == status, uri
    assert list(house.scratch.iterdir()) == []
