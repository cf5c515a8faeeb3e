"""What every artifact store must do. Subclass :class:`ArtifactsProof`.

The tests are coroutines: run them with pytest-asyncio in its ``auto`` mode.
"""

from __future__ import annotations

import abc
import asyncio
import os
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Conflict, Damaged, NotFound
from tallystick.core.names import check_digest, digest_of
from tallystick.evidence.papers.tree import tree_digest
from tallystick.ports.artifacts import Artifacts

__all__ = ["ArtifactsProof"]

UNKNOWN = "sha256:" + "0" * 64
FOLDER = {"MLmodel": b"flavors: {}\n", "data/model.bin": b"\x00\x01" * 1000, "data/empty": b""}
FOLDER_DIGEST = "sha256:6fca383a24362902634d954687aaf61afd32466e1211cb9f32408308c08cf26a"
"""What every store must say of ``FOLDER``: a digest means the same on a laptop and on a cluster."""


def make_folder(path: Path, files: dict[str, bytes]) -> Path:
    """A folder with ``files``, for the tests."""
    path.mkdir(parents=True)
    for name, content in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return path


def read_folder(path: Path) -> dict[str, bytes]:
    """The regular files below ``path``, for the tests."""
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def names_in(path: Path) -> list[str]:
    """What lies in ``path``, for the tests."""
    return sorted(p.name for p in path.iterdir())


class ArtifactsProof(abc.ABC):
    """Storing, reading, what must be refused, and damage."""

    @abc.abstractmethod
    async def open(self, home: Path) -> Artifacts:
        """Open the store of ``home``, an empty folder at first."""

    @abc.abstractmethod
    def damage(self, store: Artifacts, home: Path, digest: str) -> None:
        """Change a stored byte of the file ``digest`` behind the store's back, its length kept."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        """The store's own folder."""
        home = tmp_path / "home"
        home.mkdir()
        return home

    @pytest.fixture
    async def store(self, home: Path) -> Artifacts:
        """A new store."""
        return await self.open(home)

    @pytest.mark.parametrize("content", [b"", b"x", b"two\nlines\n", bytes(range(256)) * 10_000])
    async def test_a_file_is_stored_by_its_content(
        self, store: Artifacts, tmp_path: Path, content: bytes
    ) -> None:
        source = tmp_path / "source"
        source.write_bytes(content)
        blob = await store.put_file(source)
        source.write_bytes(b"something else")
        assert (blob.digest, blob.size_bytes, blob.is_folder) == (digest_of(content), len(content), False)
        assert await store.has(blob.digest)
        assert (await store.path_of(blob.digest)).read_bytes() == content
        await store.unpack(blob.digest, tmp_path / "dest")
        assert (tmp_path / "dest").read_bytes() == content

    async def test_a_folder_is_stored_by_its_content(self, store: Artifacts, tmp_path: Path) -> None:
        blob = await store.put_folder(make_folder(tmp_path / "source", FOLDER))
        assert (blob.digest, blob.is_folder) == (FOLDER_DIGEST, True)
        assert blob.size_bytes == sum(map(len, FOLDER.values()))
        assert await store.has(blob.digest)
        members = await store.members(blob.digest)
        listed = {m.path: (m.digest, m.size_bytes) for m in members}
        assert listed == {name: (digest_of(content), len(content)) for name, content in FOLDER.items()}
        assert tree_digest(members) == FOLDER_DIGEST
        await store.unpack(blob.digest, tmp_path / "a" / "dest")
        assert read_folder(tmp_path / "a" / "dest") == FOLDER

    async def test_times_and_modes_do_not_count_but_names_do(self, store: Artifacts, tmp_path: Path) -> None:
        one = make_folder(tmp_path / "one", FOLDER)
        two = make_folder(tmp_path / "two", dict(reversed(FOLDER.items())))
        os.utime(two / "MLmodel", (1, 1))
        (two / "MLmodel").chmod(0o700)
        make_folder(two / "an-empty-folder", {})
        three = make_folder(tmp_path / "three", {**FOLDER, "MLmodel2": FOLDER["MLmodel"]})
        digests = [(await store.put_folder(path)).digest for path in (one, two, three)]
        assert digests[0] == digests[1] != digests[2]

    async def test_an_empty_folder_and_odd_names_are_kept(self, store: Artifacts, tmp_path: Path) -> None:
        empty = await store.put_folder(make_folder(tmp_path / "empty", {}))
        await store.unpack(empty.digest, tmp_path / "empty again")
        assert names_in(tmp_path / "empty again") == []
        odd = {"żółw 🐢": b"1", "a\nb": b"2", "..c": b"3", "-rf": b"4", "back\\slash": b"5", "x" * 255: b"6"}
        blob = await store.put_folder(make_folder(tmp_path / "odd", odd))
        await store.unpack(blob.digest, tmp_path / "odd again")
        assert read_folder(tmp_path / "odd again") == odd

    async def test_what_is_no_regular_file_is_refused(self, store: Artifacts, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        (tmp_path / "folder").mkdir()
        (tmp_path / "link").symlink_to("file")
        (tmp_path / "dangling").symlink_to("nowhere")
        os.mkfifo(tmp_path / "fifo")
        for name in ("folder", "link", "dangling", "fifo", "missing"):
            with pytest.raises(BadInput):
                await store.put_file(tmp_path / name)

    async def test_what_is_no_plain_folder_is_refused(self, store: Artifacts, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        make_folder(tmp_path / "folder", FOLDER)
        (tmp_path / "link").symlink_to("folder")
        with_link = make_folder(tmp_path / "with a link", FOLDER)
        (with_link / "data" / "inner").symlink_to("../MLmodel")
        with_folder_link = make_folder(tmp_path / "with a folder link", FOLDER)
        (with_folder_link / "inner").symlink_to("data")
        with_fifo = make_folder(tmp_path / "with a fifo", FOLDER)
        os.mkfifo(with_fifo / "data" / "pipe")
        not_utf8 = make_folder(tmp_path / "not utf-8", {**FOLDER, os.fsdecode(b"\xff"): b"x"})
        for path in (tmp_path / "file", tmp_path / "link", tmp_path / "missing"):
            with pytest.raises(BadInput):
                await store.put_folder(path)
        for path in (with_link, with_folder_link, with_fifo, not_utf8):
            with pytest.raises(BadInput):
                await store.put_folder(path)

    async def test_what_was_never_stored_is_not_found(self, store: Artifacts, tmp_path: Path) -> None:
        assert not await store.has(UNKNOWN)
        with pytest.raises(NotFound):
            await store.path_of(UNKNOWN)
        with pytest.raises(NotFound):
            await store.unpack(UNKNOWN, tmp_path / "dest")
        assert not (tmp_path / "dest").exists()

    @pytest.mark.parametrize("text", ["", "sha256:", "sha256:../../etc/passwd", "md5:" + "0" * 64, "A" * 71])
    async def test_what_is_no_digest_is_refused(self, store: Artifacts, tmp_path: Path, text: str) -> None:
        with pytest.raises(BadInput):
            await store.path_of(text)
        with pytest.raises(BadInput):
            await store.unpack(text, tmp_path / "dest")
        with pytest.raises(BadInput):
            await store.has(text)

    async def test_a_folder_has_no_single_path(self, store: Artifacts, tmp_path: Path) -> None:
        blob = await store.put_folder(make_folder(tmp_path / "source", FOLDER))
        with pytest.raises(BadInput):
            await store.path_of(blob.digest)

    async def test_nothing_is_unpacked_over_what_exists(self, store: Artifacts, tmp_path: Path) -> None:
        folder = await store.put_folder(make_folder(tmp_path / "source", FOLDER))
        file = await store.put_file(tmp_path / "source" / "MLmodel")
        (tmp_path / "file").write_bytes(b"mine")
        (tmp_path / "empty").mkdir()
        (tmp_path / "dangling").symlink_to("nowhere")
        before = names_in(tmp_path)
        for digest in (folder.digest, file.digest):
            for name in ("file", "empty", "dangling"):
                with pytest.raises(Conflict):
                    await store.unpack(digest, tmp_path / name)
        assert (tmp_path / "file").read_bytes() == b"mine"
        assert names_in(tmp_path) == before

    async def test_the_same_content_may_be_put_at_the_same_time(
        self, store: Artifacts, home: Path, tmp_path: Path
    ) -> None:
        source = make_folder(tmp_path / "source", FOLDER)
        other = await self.open(home)
        puts = [s.put_folder(source) for s in (store, other) for _ in range(4)]
        puts += [s.put_file(source / "MLmodel") for s in (store, other) for _ in range(4)]
        blobs = await asyncio.gather(*puts)
        assert {b.digest for b in blobs} == {FOLDER_DIGEST, digest_of(FOLDER["MLmodel"])}
        unpacked = [store.unpack(FOLDER_DIGEST, tmp_path / f"dest{n}") for n in range(4)]
        await asyncio.gather(*unpacked)
        assert all(read_folder(tmp_path / f"dest{n}") == FOLDER for n in range(4))

    async def test_only_one_unpacks_to_a_place(self, store: Artifacts, tmp_path: Path) -> None:
        blob = await store.put_folder(make_folder(tmp_path / "source", FOLDER))
        tries = [store.unpack(blob.digest, tmp_path / "dest") for _ in range(4)]
        answers = await asyncio.gather(*tries, return_exceptions=True)
        assert [type(a) for a in answers if a is not None] == [Conflict] * 3
        assert read_folder(tmp_path / "dest") == FOLDER

    async def test_damage_is_noticed_and_mended_by_storing_again(
        self, store: Artifacts, home: Path, tmp_path: Path
    ) -> None:
        source = make_folder(tmp_path / "source", FOLDER)
        folder = await store.put_folder(source)
        model = digest_of(FOLDER["data/model.bin"])
        await store.path_of(model)
        self.damage(store, home, model)
        with pytest.raises(Damaged):
            await store.path_of(model)
        for digest in (model, folder.digest):
            with pytest.raises(Damaged):
                await store.unpack(digest, tmp_path / "dest")
        assert names_in(tmp_path) == ["home", "source"]
        assert (await store.put_folder(source)).digest == folder.digest
        await store.unpack(folder.digest, tmp_path / "dest")
        assert read_folder(tmp_path / "dest") == FOLDER

    async def test_digests_are_well_formed(self, store: Artifacts, tmp_path: Path) -> None:
        blob = await store.put_folder(make_folder(tmp_path / "source", FOLDER))
        assert check_digest(blob.digest) == blob.digest
