"""What every store of artifacts by path must do. Subclass :class:`FilesProof`.

The tests are coroutines: run them with pytest-asyncio in its ``auto`` mode.
"""

from __future__ import annotations

import abc
import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.ports.files import FileInfo, Files

__all__ = ["BAD_PATHS", "Broken", "FilesProof", "broken", "held", "pieces", "read_all", "some_bytes"]

MIB = 1024 * 1024

BAD_PATHS = [
    "/",
    "/etc/passwd",
    "a//b",
    "a/",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    "a/..",
    "a\\b",
    "..\\a",
    "a\x00b",
    "a\nb",
    "a\x7f",
    "a\x85",
    "a\udcff",
    ".artifact.uploading.x",
    "a/.artifact.uploading.tally/b",
    "x" * 256,
    "ż" * 128,
    "/".join(["deep"] * 1000),
]
ODD_NAMES = [
    "a b%c.txt",
    "%2e%2e",
    "ż🐢",
    "-rf",
    "..c",
    "a+b&c=d;e?f#g",
    "'\"<>|*~[x]{y}^`$!",
    "x" * 255,
    "é",
    "a:b@c,d",
]


class Broken(Exception):
    """How a connection ends that :func:`broken` plays."""


def some_bytes(size: int, seed: int = 0) -> bytes:
    """Bytes that are the same for the same seed."""
    return random.Random(seed).randbytes(size)  # noqa: S311  # any bytes will do


async def pieces(content: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    """The content as it comes from a network."""
    for start in range(0, len(content), size):
        await asyncio.sleep(0)
        yield content[start : start + size]


async def broken(content: bytes, wrong: BaseException | None = None) -> AsyncIterator[bytes]:
    """The content, and then no end but an error."""
    async for piece in pieces(content):
        yield piece
    raise wrong or Broken


async def held(
    files: Files, path: str, content: bytes, end: bytes = b""
) -> tuple[asyncio.Future[FileInfo], asyncio.Event]:
    """An upload of which all of ``content`` has arrived; it goes on to its ``end`` once the event is set."""
    arrived, more = asyncio.Event(), asyncio.Event()

    async def arriving() -> AsyncIterator[bytes]:
        async for piece in pieces(content):
            yield piece
        arrived.set()
        await more.wait()
        yield end

    going = asyncio.ensure_future(files.put(path, arriving()))
    await arrived.wait()
    return going, more


async def read_all(files: Files, path: str, start: int = 0, end: int | None = None) -> bytes:
    """What :meth:`Files.read` gives, joined."""
    return b"".join([chunk async for chunk in files.read(path, start, end)])


def sha256(content: bytes) -> str:
    """In hex."""
    return hashlib.sha256(content).hexdigest()


class FilesProof(abc.ABC):
    """Storing, reading, listing, removing, uploads that are cut off, and what must be refused."""

    large = 3 * MIB + 17
    """Bytes of an upload that is large for the store: one in parts, where it has such."""

    @abc.abstractmethod
    async def open(self, home: Path) -> Files:
        """Open the store of ``home``, an empty folder at first."""

    @pytest.fixture
    async def files(self, tmp_path: Path) -> AsyncIterator[Files]:
        """A new store."""
        files = await self.open(tmp_path / "home")
        yield files
        await files.close()
        await files.close()

    async def test_a_file_is_kept_by_its_path(self, files: Files) -> None:
        for size in (0, 1, 64 * 1024, MIB, self.large):
            content = some_bytes(size)
            info = await files.put(f"1/run/artifacts/{size}.bin", pieces(content), sha256=sha256(content))
            assert (info.path, info.is_folder, info.size) == (f"1/run/artifacts/{size}.bin", False, size)
            assert info.etag
            assert '"' not in info.etag
            assert info.modified_ms > 1_500_000_000_000
            assert await files.stat(info.path) == info
            assert await read_all(files, info.path) == content

    async def test_another_takes_its_place_whole(self, files: Files) -> None:
        first = await files.put("a/b", pieces(b"one"))
        second = await files.put("a/b", pieces(b"two2"))
        assert first.etag != second.etag
        assert await read_all(files, "a/b") == b"two2"
        assert [info.path for info in await files.list("a")] == ["a/b"]

    async def test_a_part_can_be_read(self, files: Files) -> None:
        content = some_bytes(self.large)
        await files.put("a", pieces(content))
        size = len(content)
        for start, end in [
            (0, 10),
            (5, 5),
            (5, 6),
            (size - 1, None),
            (MIB - 1, 2 * MIB + 1),
            (7, size + 100),
            (size, None),
            (size + 5, size + 9),
            (size + 5, None),
            (0, 0),
        ]:
            assert await read_all(files, "a", start, end) == content[start:end]
        for start, end in [(-1, None), (3, 2)]:
            with pytest.raises(BadInput):
                await read_all(files, "a", start, end)

    async def test_an_empty_file_has_no_part(self, files: Files) -> None:
        await files.put("a", pieces(b""))
        assert await read_all(files, "a", 0, 5) == b""
        assert await read_all(files, "a", 3) == b""

    async def test_a_folder_is_what_has_files(self, files: Files) -> None:
        for path in ("r/b.txt", "r/sub/c", "r/sub/deep/d", "r/a", "rest", "r2/x"):
            await files.put(path, pieces(path.encode()))
        listed = await files.list("r")
        assert [(i.path, i.is_folder, i.size) for i in listed] == [
            ("r/a", False, 3),
            ("r/b.txt", False, 7),
            ("r/sub", True, 0),
        ]
        assert [(i.path, i.is_folder) for i in await files.list()] == [
            ("r", True),
            ("r2", True),
            ("rest", False),
        ]
        assert [i.path for i in await files.list("r/sub/deep")] == ["r/sub/deep/d"]
        for nothing in ("nope", "r/nope", "rest", "r/a/x"):
            assert list(await files.list(nothing)) == []

    async def test_names_are_kept_as_they_are(self, files: Files) -> None:
        for name in ODD_NAMES:
            await files.put(f"odd/{name}/{name}", pieces(name.encode()))
        assert sorted(i.path for i in await files.list("odd")) == sorted(f"odd/{n}" for n in ODD_NAMES)
        for name in ODD_NAMES:
            assert await read_all(files, f"odd/{name}/{name}") == name.encode()
            assert (await files.stat(f"odd/{name}/{name}")).path == f"odd/{name}/{name}"

    async def test_what_is_not_there_is_not_found(self, files: Files) -> None:
        await files.put("a/b", pieces(b"x"))
        for path in ("a", "nope", "a/nope", "a/b/c"):
            with pytest.raises(NotFound):
                await files.stat(path)
            for start, end in ((0, None), (2, 5)):
                with pytest.raises(NotFound):
                    await read_all(files, path, start, end)
        for path in ("nope", "a/nope", "a/b/c"):
            with pytest.raises(NotFound):
                await files.delete(path)
        assert await files.partial("a/b") == 0

    async def test_a_file_or_a_folder_can_be_removed(self, files: Files) -> None:
        for path in ("r/a", "r/sub/b", "r/sub/deep/c", "r/suburb"):
            await files.put(path, pieces(b"x"))
        await files.delete("r/a")
        await files.delete("r/sub")
        assert [i.path for i in await files.list("r")] == ["r/suburb"]
        for path in ("r/a", "r/sub/b"):
            with pytest.raises(NotFound):
                await files.stat(path)
        await files.put("r/sub", pieces(b"a file now"))
        assert await read_all(files, "r/sub") == b"a file now"

    @pytest.mark.parametrize("path", BAD_PATHS)
    async def test_a_path_that_could_lead_elsewhere_is_refused(self, files: Files, path: str) -> None:
        for ask in (files.stat(path), files.delete(path), files.partial(path), files.list(path)):
            with pytest.raises(BadInput):
                await ask
        with pytest.raises(BadInput):
            await read_all(files, path)
        with pytest.raises(BadInput):
            await files.put(path, pieces(b"x"))
        assert list(await files.list()) == []

    async def test_the_root_is_a_folder(self, files: Files) -> None:
        for ask in (files.stat(""), files.delete(""), files.partial(""), files.put("", pieces(b"x"))):
            with pytest.raises(BadInput):
                await ask

    async def test_a_folder_is_not_replaced_by_a_file(self, files: Files) -> None:
        await files.put("a/b", pieces(b"x"))
        with pytest.raises(Conflict):
            await files.put("a", pieces(b"y"))
        assert await read_all(files, "a/b") == b"x"

    async def test_another_digest_changes_nothing(self, files: Files) -> None:
        await files.put("a", pieces(b"old"))
        for content in (b"new", some_bytes(self.large)):
            for path in ("a", "b/c"):
                with pytest.raises(BadInput, match="SHA-256"):
                    await files.put(path, pieces(content), sha256=sha256(b"other"))
                assert await files.partial(path) == 0
        assert await read_all(files, "a") == b"old"
        assert [i.path for i in await files.list()] == ["a"]

    @pytest.mark.parametrize("wrong", [Broken(), BadInput("no")])
    async def test_an_upload_that_breaks_changes_nothing(self, files: Files, wrong: Exception) -> None:
        await files.put("a", pieces(b"old"))
        for size in (0, 10, MIB, self.large):
            for path in ("a", "b/c"):
                with pytest.raises(type(wrong)):
                    await files.put(path, broken(some_bytes(size), wrong))
        assert await read_all(files, "a") == b"old"
        assert [i.path for i in await files.list()] == ["a"]
        assert list(await files.list("b")) == []

    async def test_an_upload_that_is_given_up_changes_nothing(self, files: Files) -> None:
        await files.put("a", pieces(b"old"))
        going, _ = await held(files, "a", some_bytes(self.large))
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        assert await read_all(files, "a") == b"old"
        assert [i.path for i in await files.list()] == ["a"]

    async def test_an_upload_goes_on_or_begins_anew(self, files: Files) -> None:
        content = some_bytes(self.large)
        await files.put("a", pieces(b"old"))
        with pytest.raises(Broken):
            await files.put("a", broken(content[: 2 * MIB + 5]))
        kept = await files.partial("a")
        assert 0 <= kept <= 2 * MIB + 5
        assert await read_all(files, "a") == b"old"
        for wrong in {kept + 1, max(1, kept - 1)} - {kept}:
            with pytest.raises(Conflict):
                await files.put("a", pieces(content[wrong:]), offset=wrong)
        assert await files.partial("a") == kept
        info = await files.put("a", pieces(content[kept:]), offset=kept, sha256=sha256(content))
        assert info.size == len(content)
        assert await read_all(files, "a") == content
        assert await files.partial("a") == 0

    async def test_nothing_goes_on_with_what_is_not_kept(self, files: Files) -> None:
        await files.put("a", pieces(b"whole"))
        for path in ("a", "b"):
            with pytest.raises(Conflict):
                await files.put(path, pieces(b"x"), offset=5)

    async def test_many_at_once(self, files: Files) -> None:
        contents = {f"many/{n % 5}/{n}": some_bytes(n * 10_000, n) for n in range(25)}
        await asyncio.gather(*(files.put(path, pieces(c)) for path, c in contents.items()))
        read = await asyncio.gather(*(read_all(files, path) for path in contents))
        assert read == list(contents.values())

    async def test_of_several_at_one_path_one_is_there_whole(self, files: Files) -> None:
        contents = [some_bytes(self.large, n) for n in range(4)]
        await asyncio.gather(*(files.put("a/one", pieces(c)) for c in contents))
        assert await read_all(files, "a/one") in contents
        assert [i.path for i in await files.list("a")] == ["a/one"]

    async def test_who_reads_goes_on_with_what_was_there(self, files: Files) -> None:
        content = some_bytes(self.large)
        await files.put("a", pieces(content))
        reading = files.read("a")
        read = [await anext(reading)]
        await files.put("a", pieces(b"new"))
        read += [chunk async for chunk in reading]
        assert b"".join(read) == content

    async def test_it_opens_again(self, files: Files, tmp_path: Path) -> None:
        await files.put("a/b", pieces(b"x"))
        await files.close()
        again = await self.open(tmp_path / "home")
        assert await read_all(again, "a/b") == b"x"
        await again.close()
