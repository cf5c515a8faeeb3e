"""The artifact store on local files, and the one in memory."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Damaged, TooLarge, Unavailable
from tallystick.core.names import digest_of
from tallystick.ports.artifacts import Artifacts
from tallystick.ports.tile import Place
from tallystick.proofs.artifacts import FOLDER, ArtifactsProof, make_folder
from tallystick.tiles.artifacts import blobs, reading
from tallystick.tiles.artifacts.local import LocalArtifacts, open_tile
from tallystick.tiles.artifacts.manifest import MARK, Entry, parse_manifest, write_manifest
from tests.fakes.artifacts import MemoryArtifacts
from tests.fakes.machine.process import killed_after


def blob_path(home: Path, digest: str) -> Path:
    digits = digest.removeprefix("sha256:")
    return home / "artifacts" / "blobs" / digits[:2] / digits


class TestLocalArtifacts(ArtifactsProof):
    async def open(self, home: Path) -> Artifacts:
        return open_tile(Place(home))

    def damage(self, store: Artifacts, home: Path, digest: str) -> None:
        path = blob_path(home, digest)
        path.chmod(0o600)
        raw = bytearray(path.read_bytes())
        raw[0] ^= 1
        path.write_bytes(raw)


class TestMemoryArtifacts(ArtifactsProof):
    @pytest.fixture(autouse=True)
    def _stores(self) -> None:
        self.stores: dict[Path, MemoryArtifacts] = {}

    async def open(self, home: Path) -> Artifacts:
        return self.stores.setdefault(home, MemoryArtifacts(home / "paths"))

    def damage(self, store: Artifacts, home: Path, digest: str) -> None:
        assert isinstance(store, MemoryArtifacts)
        raw = bytearray(store.blobs[digest])
        raw[0] ^= 1
        store.blobs[digest] = bytes(raw)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> LocalArtifacts:
    return open_tile(Place(home, options={"artifact_mib_max": 1}))


async def test_equal_content_is_stored_once_and_cannot_be_written(
    store: LocalArtifacts, home: Path, tmp_path: Path
) -> None:
    source = make_folder(tmp_path / "source", {"a": b"same", "b": b"same", "c/d": b"same"})
    await store.put_folder(source)
    await store.put_file(source / "a")
    blobs = [path for path in (home / "artifacts" / "blobs").rglob("*") if path.is_file()]
    assert len(blobs) == 2
    assert all(path.stat().st_mode & 0o222 == 0 for path in blobs)


async def test_over_the_limit_nothing_is_kept(store: LocalArtifacts, home: Path, tmp_path: Path) -> None:
    large = make_folder(tmp_path / "large", {"x": bytes(2**20 + 1)})
    many = make_folder(tmp_path / "many", {f"{n}": bytes([n]) * 2**18 for n in range(5)})
    with pytest.raises(TooLarge):
        await store.put_file(large / "x")
    with pytest.raises(TooLarge):
        await store.put_folder(large)
    with pytest.raises(TooLarge):
        await store.put_folder(many)
    assert not [
        path for path in (home / "artifacts" / "tmp").rglob("*") if path.stat().st_size and path.is_file()
    ]
    exact = make_folder(tmp_path / "exact", {f"{n}": bytes([n]) * 2**18 for n in range(4)})
    assert (await store.put_folder(exact)).size_bytes == 2**20


async def test_a_folder_with_too_many_entries_or_too_deep_is_refused(
    store: LocalArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "ENTRIES_MAX", 10)
    make_folder(tmp_path / "many", {f"{n // 4}/{n}": b"" for n in range(8)})
    await store.put_folder(tmp_path / "many")
    make_folder(tmp_path / "more", {f"{n // 4}/{n}": b"" for n in range(9)})
    with pytest.raises(TooLarge, match="more than 10"):
        await store.put_folder(tmp_path / "more")
    monkeypatch.setattr(reading, "ENTRIES_MAX", 1000)
    make_folder(tmp_path / "deep", {"d/" * 65 + "x": b""})
    with pytest.raises(TooLarge, match="deeper"):
        await store.put_folder(tmp_path / "deep")


async def test_no_file_has_the_digest_of_a_folder(store: LocalArtifacts, home: Path, tmp_path: Path) -> None:
    folder = await store.put_folder(make_folder(tmp_path / "source", FOLDER))
    (tmp_path / "forged").write_bytes(blob_path(home, folder.digest).read_bytes())
    (tmp_path / "mark").write_bytes(MARK)
    for name in ("forged", "mark"):
        with pytest.raises(BadInput, match="list of files"):
            await store.put_file(tmp_path / name)


@pytest.mark.parametrize(
    "rows",
    [
        '[["../x","D",1]]',
        '[["/etc/x","D",1]]',
        '[["a/./b","D",1]]',
        '[["","D",1]]',
        '[["a\\u0000b","D",1]]',
        '[["a","sha256:../../x",1]]',
        '[["a","D",1],["a","D",1]]',
        '[["a","D",1],["a/b","D",1]]',
        '[["a","D"]]',
        '[[1,"D",1]]',
        '{"a":1}',
        "null",
        "[",
        "\xff",
    ],
)
async def test_a_forged_list_of_files_is_damaged(
    store: LocalArtifacts, home: Path, tmp_path: Path, rows: str
) -> None:
    raw = MARK + rows.replace("D", digest_of(b"")).encode("latin-1")
    digest = digest_of(raw)
    path = blob_path(home, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    with pytest.raises(Damaged):
        await store.unpack(digest, tmp_path / "dest")
    with pytest.raises(Damaged):
        await store.has(digest)
    assert not (tmp_path / "dest").exists()


async def test_a_folder_that_lost_a_file_is_not_whole(
    store: LocalArtifacts, home: Path, tmp_path: Path
) -> None:
    folder = await store.put_folder(make_folder(tmp_path / "source", FOLDER))
    blob_path(home, digest_of(FOLDER["MLmodel"])).unlink()
    assert not await store.has(folder.digest)
    with pytest.raises(Damaged):
        await store.unpack(folder.digest, tmp_path / "dest")


def test_a_manifest_comes_back() -> None:
    entries = (Entry("a/é", digest_of(b"1"), 1), Entry("b", digest_of(b"22"), 2))
    assert parse_manifest(write_manifest(entries[::-1]), "here") == entries


async def test_checked_bytes_are_not_read_again_until_they_change(
    store: LocalArtifacts, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(b"x" * 1000)
    digest = (await store.put_file(tmp_path / "x")).digest
    again = open_tile(Place(home))
    await again.path_of(digest)
    path = blob_path(home, digest)
    status = path.stat()
    path.chmod(0o600)
    path.write_bytes(b"y" * 1000)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the size and the time as they were
    for each in (store, again):
        with pytest.raises(Damaged):
            await each.path_of(digest)


async def test_what_is_stored_is_not_written_again_unless_it_was_touched(
    store: LocalArtifacts, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(blobs, "_sync_folder", synced.append)
    (tmp_path / "x").write_bytes(b"x" * 1000)
    digest = (await store.put_file(tmp_path / "x")).digest
    path = blob_path(home, digest)
    first = path.stat().st_ino
    assert synced == [path.parent, path.parent.parent]
    assert (await store.put_file(tmp_path / "x")).digest == digest
    assert (path.stat().st_ino, len(synced)) == (first, 2)
    for touch in (path.unlink, lambda: shutil.rmtree(path.parent), lambda: os.utime(path)):
        synced.clear()
        touch()
        await store.put_file(tmp_path / "x")
        assert path.read_bytes() == b"x" * 1000
        assert synced[0] == path.parent
        await store.put_file(tmp_path / "x")
        assert len(synced) == (2 if len(synced) > 1 else 1)


async def test_what_another_store_has_put_is_put_again(home: Path, tmp_path: Path) -> None:
    """Its name may not be on disk yet."""
    (tmp_path / "x").write_bytes(b"x")
    stores = [open_tile(Place(home)) for _ in range(2)]
    found = []
    for each in stores:
        digest = (await each.put_file(tmp_path / "x")).digest
        await each.path_of(digest)
        found.append(blob_path(home, digest).stat().st_ino)
    assert found[0] != found[1]


CHILD = """
import asyncio, os, sys
from pathlib import Path
from tallystick.ports.tile import Place
from tallystick.tiles.artifacts.local import open_tile

async def put(store, source, n):
    while True:
        path = source / f"{n}"
        path.write_bytes(os.urandom(int(sys.argv[3])))
        blob = await store.put_file(path)
        os.write(1, f"{blob.digest}\\n".encode())

async def main():
    store, source = open_tile(Place(Path(sys.argv[1]))), Path(sys.argv[2])
    await asyncio.gather(*(put(store, source, n) for n in range(4)))

asyncio.run(main())
"""


@pytest.mark.parametrize("size", [200_000, 1])  # of one byte, most are stored already
async def test_killed_while_it_stores_it_keeps_what_it_acknowledged(
    home: Path, tmp_path: Path, size: int
) -> None:
    living = open_tile(Place(home))
    source = tmp_path / "source"
    source.mkdir()
    argv = [sys.executable, "-c", CHILD, str(home), str(source), str(size)]
    said = killed_after(40, argv)
    assert (
        len(list((home / "artifacts" / "tmp").iterdir())) == 3
    )  # the lock, the living one's, the dead one's
    store = open_tile(Place(home))
    temps = [path for path in (home / "artifacts" / "tmp").iterdir() if path.is_dir()]
    assert len(temps) == 2  # the dead one's was swept
    assert all(not list(path.iterdir()) for path in temps)
    for digest in {line.decode().strip() for line in said if line.endswith(b"\n")}:
        await store.path_of(digest)
    for path in (home / "artifacts" / "blobs").glob("*/*"):
        assert digest_of(path.read_bytes()) == f"sha256:{path.name}"
    (tmp_path / "x").write_bytes(b"x")
    await living.put_file(tmp_path / "x")


def test_a_home_that_cannot_be_one_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(Unavailable) as refused:
        open_tile(Place(tmp_path / "file"))
    assert refused.value.hint


@pytest.mark.parametrize("mib_max", [0, "1", True, 2**31])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, mib_max: object) -> None:
    with pytest.raises(BadInput):
        open_tile(Place(tmp_path, options={"artifact_mib_max": mib_max}))
