"""Artifacts in an S3-compatible store (AWS, Ceph, MinIO), under the keys that MLflow's own server gives them.

Option ``artifact_store``: ``s3://bucket/prefix``. Where the store is and with what right comes from the
variables that everybody's tools read: ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL`` (or MLflow's own
``MLFLOW_S3_ENDPOINT_URL``), ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN`` and
``AWS_REGION``.

What is larger than one part is sent in parts while it arrives, and made one object when all have arrived and
the digest is right; otherwise the parts are given up. An upload cannot be gone on with:
:meth:`S3Files.partial` is 0. After a crash of the hub the store keeps the parts, unseen, until a lifecycle
rule of the bucket removes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import BadInput, Conflict, NotFound, Unavailable
from tallystick.ports.files import CHUNK_BYTES, FileInfo
from tallystick.ports.tile import Place
from tallystick.tiles.files.chunks import chained, gathered
from tallystick.tiles.files.feed import sent
from tallystick.tiles.files.paths import is_plain, segments_of

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

__all__ = ["PART_BYTES", "S3Files", "open_tile"]

PART_BYTES = 8 * 1024 * 1024
"""Of the 10,000 parts that S3 allows, 80 GiB can be made."""
_AT_ONCE = 2
"""Parts of one upload under way at a time."""
_UPLOADS_MAX = 16
"""Uploads that may hold parts in memory (about five each) at a time; others wait, then are told so."""
_WAIT_S = 30.0
_RETRIES = 4
_SMALL_BYTES = 256 * 1024
"""What any number of uploads may hold without waiting."""
_KEY_BYTES_MAX = 1024
_DELETED_AT_ONCE = 1000
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_URL = re.compile(r"s3://([a-z0-9][a-z0-9.\-]{1,61}[a-z0-9])(?:/(.*))?")


def open_tile(place: Place) -> S3Files:
    """Open the store; nothing is asked of it yet. BadInput when the option is no ``s3://`` URL."""
    url = str(place.options.get("artifact_store", ""))
    found = _URL.fullmatch(url)
    if not found:
        raise BadInput(f"{url[:200]!r} is not s3://bucket/prefix", where="artifact_store")
    prefix = (found[2] or "").strip("/")
    segments_of(prefix, _KEY_BYTES_MAX)
    return S3Files(_store(found[1], prefix), url, _KEY_BYTES_MAX - len(prefix.encode()) - 1)


def _store(bucket: str, prefix: str) -> S3Store:
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
    endpoint = next((os.environ[name] for name in names if os.environ.get(name)), None)
    more: Any = {"endpoint": endpoint} if endpoint else {}
    try:
        return S3Store(
            bucket,
            prefix=prefix or None,
            client_options={"allow_http": True, "connect_timeout": "10s", "timeout": "120s"},
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=60)},
            **more,
        )
    except (BaseError, ValueError) as wrong:
        raise BadInput(
            _first_line(wrong), where="artifact_store", hint="look at the variables AWS_*"
        ) from wrong


class S3Files:
    """See the module; the methods are those of :class:`tallystick.ports.files.Files`."""

    def __init__(self, store: S3Store, url: str, path_bytes_max: int) -> None:
        self._store = store
        self._url = url
        self._path_bytes_max = path_bytes_max
        self._room = asyncio.Semaphore(_UPLOADS_MAX)

    async def put(
        self, path: str, content: AsyncIterator[bytes], *, sha256: str = "", offset: int = 0
    ) -> FileInfo:
        """Store a file whole; see the port."""
        self._check(path)
        if offset:
            raise Conflict("no upload is kept to go on with", where=path, hint="begin anew")
        await self._check_free(path)
        checked = _checked(content, path, sha256.lower())
        async with contextlib.aclosing(checked), contextlib.aclosing(gathered(checked, _SMALL_BYTES)) as some:
            first = await anext(some, b"")
            if len(first) < _SMALL_BYTES:  # it is all
                await self._put(path, first)
            else:
                async with self._slot(path):
                    await self._put_parts(path, gathered(chained(first, some), PART_BYTES))
        return await self.stat(path)

    async def _put_parts(self, path: str, parts: AsyncGenerator[bytes]) -> None:
        async with contextlib.aclosing(parts):
            first = await anext(parts)
            if len(first) < PART_BYTES:
                await self._put(path, first)
            else:
                await sent(chained(first, parts), lambda content: self._put(path, content))

    async def _put(self, path: str, content: bytes | AsyncIterator[bytes]) -> None:
        import obstore

        parts = not isinstance(content, bytes)
        with _store_errors(path, self._url):
            await obstore.put_async(
                self._store,
                path,
                content,
                use_multipart=parts,
                chunk_size=PART_BYTES,
                max_concurrency=_AT_ONCE,
            )

    @contextlib.asynccontextmanager
    async def _slot(self, path: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._room.acquire()
        except TimeoutError:
            raise Unavailable("too many uploads at once", where=path, hint="try again shortly") from None
        try:
            yield
        finally:
            self._room.release()

    async def partial(self, path: str) -> int:
        """Always 0."""
        self._check(path)
        return 0

    async def stat(self, path: str) -> FileInfo:
        """About an object."""
        import obstore

        self._check(path)
        with _store_errors(path, self._url, reading=True):
            return _info(await obstore.head_async(self._store, path))

    async def read(self, path: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """An object's bytes, of the object that was there at first. A broken connection is taken up again."""
        import obstore
        from obstore.exceptions import BaseError

        self._check(path)
        options = await self._range(path, start, end)
        while options is not None:
            position = start
            with _store_errors(path, self._url, reading=True):
                answer = await obstore.get_async(self._store, path, options=options)
                try:
                    async for piece in answer.stream(min_chunk_size=CHUNK_BYTES):
                        start += len(piece)
                        yield bytes(piece)
                except BaseError:
                    if start == position:
                        raise
            if start >= answer.range[1]:
                return
            options = {"range": (start, answer.range[1]), "if_match": answer.meta["e_tag"]}

    async def _range(self, path: str, start: int, end: int | None) -> GetOptions | None:
        """What to ask for; None for nothing, which a store would refuse to give."""
        if start < 0 or (end is not None and end < start):
            raise BadInput(f"{start} to {end} is no range of bytes", where=path)
        if not start and end is None:
            return {}
        size = (await self.stat(path)).size
        stop = size if end is None else min(end, size)
        return {"range": (start, stop)} if start < stop else None

    async def list(self, path: str = "") -> Sequence[FileInfo]:
        """What is right below a prefix."""
        import obstore

        segments_of(path, self._path_bytes_max)
        with _store_errors(path, self._url):
            found = await obstore.list_with_delimiter_async(self._store, path or None)
        folders = [FileInfo(prefix.rstrip("/"), True, 0) for prefix in found["common_prefixes"]]
        files = [_info(meta, listed=True) for meta in found["objects"]]
        plain = (i for i in (*folders, *files) if i.path != path and is_plain(i.path.rpartition("/")[2]))
        return sorted(plain, key=lambda info: info.path)

    async def delete(self, path: str) -> None:
        """Remove an object, or all below a prefix; when that fails half of them may be gone."""
        import obstore

        self._check(path)
        found = 0
        with contextlib.suppress(NotFound):
            await self.stat(path)
            found += 1
        with _store_errors(path, self._url):
            if found:
                await obstore.delete_async(self._store, path)
            async for some in obstore.list(self._store, f"{path}/", chunk_size=_DELETED_AT_ONCE):
                await obstore.delete_async(self._store, [meta["path"] for meta in some])
                found += len(some)
        if not found:
            raise NotFound("no such artifact", where=path)

    async def close(self) -> None:
        """Nothing is held: connections end with the process."""

    def _check(self, path: str) -> None:
        if not segments_of(path, self._path_bytes_max):
            raise BadInput("the root of all artifacts is no file", where="artifacts")

    async def _check_free(self, path: str) -> None:
        """A store would keep a file and a folder under one name; MLflow could show only one of them."""
        import obstore

        with _store_errors(path, self._url):
            async for some in obstore.list(self._store, f"{path}/", chunk_size=1):
                if some:
                    raise Conflict("a folder is in the way", where=path, hint="remove it or use another path")
                return


async def _checked(content: AsyncIterator[bytes], path: str, sha256: str) -> AsyncGenerator[bytes]:
    """The same, with BadInput instead of its end when its digest is another."""
    digest = hashlib.sha256()
    async for chunk in content:
        if sha256:
            digest.update(chunk)
        yield chunk
    if sha256 and digest.hexdigest() != sha256:
        raise BadInput(f"its SHA-256 is {digest.hexdigest()}, not {sha256}", where=path, hint="send it again")


def _info(meta: ObjectMeta, listed: bool = False) -> FileInfo:
    etag = "" if listed else (meta["e_tag"] or "").strip('"')
    return FileInfo(meta["path"], False, meta["size"], etag, int(meta["last_modified"].timestamp() * 1000))


@contextlib.contextmanager
def _store_errors(path: str, url: str, reading: bool = False) -> Iterator[None]:
    """Say what the store says in our words."""
    from obstore.exceptions import BaseError, PreconditionError

    try:
        yield
    except FileNotFoundError as wrong:
        raise (NotFound("no such artifact", where=path) if reading else _no_bucket(url)) from wrong
    except PreconditionError as wrong:
        raise Unavailable("it was replaced while it was read", where=path, hint="read it again") from wrong
    except BaseError as wrong:
        raise _said(wrong, url) from wrong


def _said(wrong: BaseError, url: str) -> Unavailable:
    # obstore has errors of their own for these, but not for every request
    status = _STATUS.search(str(wrong))
    if status and status[1] == "404":
        return _no_bucket(url)
    if status and status[1] in ("401", "403"):
        hint = "look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what their owner may do"
        return Unavailable(f"the store refuses: {_first_line(wrong)}", where=url, hint=hint)
    hint = "see that it runs, and look at AWS_ENDPOINT_URL and AWS_REGION"
    return Unavailable(f"the store: {_first_line(wrong)}", where=url, hint=hint)


def _no_bucket(url: str) -> Unavailable:
    return Unavailable("there is no such bucket", where=url, hint="make it, or name another")


def _first_line(wrong: Exception) -> str:
    """Without the store's own XML, of which only the code is told, and without what is for debugging."""
    text, code = str(wrong), _CODE.search(str(wrong))
    said = text.partition("\n")[0].partition(": <")[0][:300]
    return f"{said}: {code[1]}" if code else said
