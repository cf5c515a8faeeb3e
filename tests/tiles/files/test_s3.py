"""Artifacts in an S3-compatible store: moto's server, over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tallystick.core.errors import BadInput, Unavailable
from tallystick.ports.files import Files
from tallystick.ports.tile import Place
from tallystick.proofs.files import (
    MIB,
    ODD_NAMES,
    Broken,
    FilesProof,
    broken,
    held,
    pieces,
    read_all,
    some_bytes,
)
from tallystick.tiles.files import s3 as tile
from tallystick.tiles.files.s3 import PART_BYTES, S3Files, open_tile
from tests.fakes.machine.bucket import bucket_at, keys, moto_server, uploads


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """boto3's client on the tile's bucket, which is empty."""
    with bucket_at(endpoint, monkeypatch) as client:
        yield client


def opened(url: str = "s3://bucket/some/prefix") -> S3Files:
    return open_tile(Place(Path("unused"), {"artifact_store": url}))


class TestS3Files(FilesProof):
    large = 2 * PART_BYTES + 17

    @pytest.fixture(autouse=True)
    def _client(self, s3: Any) -> Iterator[None]:
        yield
        assert uploads(s3) == []

    async def open(self, home: Path) -> Files:
        return opened()


async def test_keys_are_those_of_mlflows_own_server(s3: Any) -> None:
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    files = opened()
    for name in ODD_NAMES:
        await files.put(f"1/{name}", pieces(b"x"))
    assert sorted(keys(s3)) == sorted(f"some/prefix/1/{name}" for name in ODD_NAMES)
    await files.put("1/run/artifacts/sub/a.txt", pieces(b"ours"))

    def with_mlflow() -> list[str]:
        theirs = S3ArtifactRepository("s3://bucket/some/prefix/1/run/artifacts")
        with Path(theirs.download_artifacts("sub/a.txt")).open() as content:
            assert content.read() == "ours"
        theirs.log_artifact(__file__, "sub")
        return [info.path for info in theirs.list_artifacts("sub")]

    assert await asyncio.to_thread(with_mlflow) == ["sub/a.txt", f"sub/{Path(__file__).name}"]
    assert (await files.list("1/run/artifacts/sub"))[1].path.endswith(Path(__file__).name)


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/"])
async def test_a_bucket_may_be_all_ours(s3: Any, url: str) -> None:
    files = opened(url)
    await files.put("a/b", pieces(b"x"))
    assert keys(s3) == ["a/b"]
    assert [i.path for i in await files.list()] == ["a"]
    assert [i.path for i in await files.list("a")] == ["a/b"]


async def test_a_folders_marker_is_no_file(s3: Any) -> None:
    s3.put_object(Bucket="bucket", Key="some/prefix/r/", Body=b"")
    s3.put_object(Bucket="bucket", Key="some/prefix/r/.artifact.uploading.x", Body=b"")
    s3.put_object(Bucket="bucket", Key="some/prefix/r/a", Body=b"x")
    assert [i.path for i in await opened().list("r")] == ["r/a"]


async def test_more_than_a_page_is_listed_and_removed(s3: Any) -> None:
    for n in range(1010):
        s3.put_object(Bucket="bucket", Key=f"some/prefix/r/{n:04}", Body=b"x")
    s3.put_object(Bucket="bucket", Key="some/prefix/rest", Body=b"x")
    files = opened()
    assert len(await files.list("r")) == 1010
    await files.delete("r")
    assert keys(s3) == ["some/prefix/rest"]


async def test_what_breaks_late_leaves_no_parts(s3: Any) -> None:
    files = opened()
    with pytest.raises(Broken):
        await files.put("a", broken(some_bytes(3 * PART_BYTES)))
    with pytest.raises(BadInput):
        await files.put("a", pieces(some_bytes(3 * PART_BYTES)), sha256="0" * 64)
    going, _ = await held(files, "a", some_bytes(3 * PART_BYTES))
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert uploads(s3) == keys(s3) == []


async def test_too_many_large_uploads_wait_and_are_told_so(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile, "_UPLOADS_MAX", 1)
    monkeypatch.setattr(tile, "_WAIT_S", 0.05)
    files = opened()
    going, more = await held(files, "slow", some_bytes(MIB))
    with pytest.raises(Unavailable, match="too many"):
        await files.put("large", pieces(some_bytes(MIB)))
    await files.put("small", pieces(b"x"))
    more.set()
    await going
    await files.put("large", pieces(some_bytes(MIB)))
    assert keys(s3) == [f"some/prefix/{name}" for name in ("large", "slow", "small")]


async def test_a_read_goes_on_where_the_store_broke_off(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore
    from obstore.exceptions import GenericError

    files = opened()
    content = some_bytes(4 * MIB)
    await files.put("a", pieces(content))
    get, asked = obstore.get_async, []

    class Breaking:
        """An answer that breaks off after a piece, twice."""

        def __init__(self, answer: Any) -> None:
            self.answer, self.meta, self.range = answer, answer.meta, answer.range

        async def stream(self, min_chunk_size: int) -> AsyncIterator[bytes]:
            async for piece in self.answer.stream(min_chunk_size=min_chunk_size):
                yield bytes(piece)
                if len(asked) < 3:
                    raise GenericError("broken off")

    async def breaking(store: Any, path: str, *, options: Any) -> Any:
        asked.append(options)
        return Breaking(await get(store, path, options=options))

    monkeypatch.setattr(obstore, "get_async", breaking)
    assert await read_all(files, "a", 5, 4 * MIB - 5) == content[5:-5]
    assert len(asked) == 3
    assert asked[1]["if_match"] == asked[2]["if_match"]


async def test_a_store_that_is_not_there_is_unavailable(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(tile, "_RETRIES", 0)
    gone = opened()
    for ask in (
        gone.put("a", pieces(b"x")),
        gone.stat("a"),
        gone.list(),
        gone.delete("a"),
        read_all(gone, "a"),
    ):
        with pytest.raises(Unavailable) as wrong:
            await ask
        assert "AWS_ENDPOINT_URL" in wrong.value.hint
        assert "\n" not in str(wrong.value)


async def test_a_bucket_that_is_not_there_is_said(s3: Any) -> None:
    gone = opened("s3://no-such-bucket/x")
    for ask in (gone.put("a", pieces(b"x")), gone.list()):
        with pytest.raises(Unavailable, match="no such bucket"):
            await ask


async def test_a_store_that_refuses_is_said(s3: Any) -> None:
    files = opened()
    policy = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:*",'
        ' "Resource": "arn:aws:s3:::bucket/some/prefix/secret"}]}'
    )
    s3.put_object(Bucket="bucket", Key="some/prefix/secret", Body=b"x")
    s3.put_bucket_policy(Bucket="bucket", Policy=policy)
    try:
        for ask in (files.stat("secret"), read_all(files, "secret")):
            with pytest.raises(Unavailable, match="refuses") as wrong:
                await ask
            assert "AWS_ACCESS_KEY_ID" in wrong.value.hint
    finally:
        s3.delete_bucket_policy(Bucket="bucket")


@pytest.mark.parametrize(
    "url", ["", "mlartifacts", "s3://", "s3:///x", "s3://BUCKET", "s3://bucket/a/../b", "s3://bucket?x=1"]
)
def test_what_is_no_place_in_a_store_is_refused(url: str) -> None:
    with pytest.raises(BadInput):
        opened(url)


def test_opening_it_imports_nothing_heavy(s3: Any) -> None:
    code = (
        "import sys; from pathlib import Path; from tallystick.ports.tile import Place;"
        "from tallystick.tiles.files.s3 import open_tile;"
        "assert 'obstore' not in sys.modules;"
        "open_tile(Place(Path('x'), {'artifact_store': 's3://bucket/x'}));"
        "assert not {'boto3', 'botocore', 'numpy', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_a_slow_reader_holds_no_more_than_it_reads(s3: Any) -> None:
    files = opened()
    await files.put("a", pieces(some_bytes(4 * PART_BYTES)))
    reading = files.read("a")
    first = await anext(reading)
    assert len(first) < PART_BYTES
    with contextlib.suppress(AttributeError):
        await reading.aclose()  # type: ignore[attr-defined]  # a generator, here
