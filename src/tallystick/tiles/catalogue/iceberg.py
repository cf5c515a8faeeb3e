"""The catalogue on Apache Iceberg: tables that every Iceberg tool can open, in the home's own folders.

``catalogue/catalogue.db`` is an SQLite catalogue, ``warehouse/`` holds the tables (see
:mod:`.shelf` for how to open them from elsewhere), ``catalogue/staging/`` what goes in and out.
All work is done by a worker process behind a wall, which sees these folders and nothing else; files
to ingest are copied in, so that whatever a file does to the worker, it cannot reach the original.

Options: ``worker_idle_s`` (600), ``call_s_max`` (1800), ``memory_mib`` (8192) of the worker;
``file_bytes_max`` (1 GiB), ``rows_max`` (50 million) and ``columns_max`` (4096) of one file.
Text is parsed in memory: a CSV or JSON lines file takes about two to four times its size.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from tallystick.core.data import Snapshot, Source, TableRef, check_snapshot
from tallystick.core.errors import BadInput, Damaged, MissingTile, NotFound, TooLarge, Unavailable
from tallystick.core.facts import from_json
from tallystick.core.names import check_name
from tallystick.ports.tile import Place
from tallystick.tiles.catalogue.clerk import Clerk, Terms

__all__ = ["FILENAME_CHARS_MAX", "IcebergCatalogue", "open_tile"]

FILENAME_CHARS_MAX = 1000
_KINDS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_CHUNK_BYTES = 1024 * 1024
_STALE_S = 24 * 3600.0


def open_tile(place: Place) -> IcebergCatalogue:
    """Open the catalogue of ``place.home``; needs ``parts["sandbox"]`` and takes ``parts["clock"]``."""
    for package in ("pyiceberg", "pyarrow"):  # found, not imported: that is the worker's business
        if importlib.util.find_spec(package) is None:
            raise MissingTile(
                f"it needs the Python package {package}",
                where="tile catalogue/iceberg",
                hint="pip install 'tallystick[iceberg]'",
            )
    return IcebergCatalogue(place)


class IcebergCatalogue:
    """See :class:`tallystick.ports.catalogue.Catalogue`."""

    def __init__(self, place: Place) -> None:
        folder, warehouse = place.home.resolve() / "catalogue", place.home.resolve() / "warehouse"
        if any(ch in str(place.home) for ch in "#?%"):
            raise BadInput(
                "its path has '#', '?' or '%' in it, which Iceberg misreads", where=str(place.home)
            )
        self._staging = folder / "staging"
        for path in (self._staging, warehouse):
            path.mkdir(parents=True, exist_ok=True)
        _forget_stale(self._staging)
        self._clock = place.parts.get("clock")
        options = place.options
        self._file_bytes_max = int(options.get("file_bytes_max", 1024**3))
        order = {
            "database": str(folder / "catalogue.db"),
            "warehouse": str(warehouse),
            "rows_max": int(options.get("rows_max", 50_000_000)),
            "columns_max": int(options.get("columns_max", 4096)),
        }
        terms = Terms(
            idle_s=float(options.get("worker_idle_s", 600)),
            call_s_max=float(options.get("call_s_max", 1800)),
            memory_mib=int(options.get("memory_mib", 8192)),
        )
        self._clerk = Clerk(place.parts["sandbox"], order, (folder, warehouse), terms)

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id while there is one."""
        return self._clerk.pid

    async def append(self, table: str, file: Path, filename: str, *, allow_nan: bool = False) -> Snapshot:
        """Append a file's rows as one snapshot; see the port. Conflict when another writer came first."""
        check_name("table", table)
        kind = _kind(filename)
        with self._stage() as folder:
            staged = folder / "in"
            source = await asyncio.to_thread(_copy_in, file, staged, filename, self._file_bytes_max)
            answer = await self._clerk.ask(
                "append",
                table=table,
                file=str(staged),
                kind=kind,
                filename=filename,
                source_digest=source.digest,
                source_bytes=source.size_bytes,
                at_ms=self._clock.now_ms() if self._clock else time.time_ns() // 1_000_000,
                allow_nan=allow_nan,
            )
        return _snapshots(answer)[0]

    async def snapshots(self, table: str) -> Sequence[Snapshot]:
        """All snapshots of a table, oldest first; NotFound."""
        check_name("table", table)
        return _snapshots(await self._clerk.ask("snapshots", table=table))

    async def tables(self) -> Sequence[str]:
        """Names of all tables, sorted."""
        return list((await self._clerk.ask("tables"))["tables"])

    async def export(self, ref: TableRef, dest: Path) -> Snapshot:
        """Write a snapshot's rows as one Parquet file, in place of what is at ``dest``; see the port."""
        check_name("table", ref.table)
        if not dest.parent.is_dir():
            raise NotFound("there is no such folder", where=str(dest.parent))
        with self._stage() as folder:
            out = folder / "out"
            answer = await self._clerk.ask("export", table=ref.table, snapshot=ref.snapshot_id, dest=str(out))
            await asyncio.to_thread(_move_out, out, dest)
        return _snapshots(answer)[0]

    async def close(self) -> None:
        """End the worker; later calls raise Unavailable."""
        await self._clerk.close()

    @contextlib.contextmanager
    def _stage(self) -> Iterator[Path]:
        try:
            folder = Path(tempfile.mkdtemp(dir=self._staging))
        except OSError as wrong:
            raise Unavailable(
                f"nothing can be written: {wrong.strerror}", where=str(self._staging)
            ) from wrong
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _kind(filename: str) -> str:
    if len(filename) > FILENAME_CHARS_MAX:
        raise TooLarge(f"a file name has at most {FILENAME_CHARS_MAX} characters", where="filename")
    kind = _KINDS.get(Path(filename).suffix.lower())
    if kind is None:
        raise BadInput(
            "its ending says no format that a table can be made from",
            where=repr(filename[-80:]),
            hint="use " + ", ".join(_KINDS),
        )
    return kind


def _forget_stale(staging: Path) -> None:
    """Remove what hubs that were killed left here; a day old, because another hub may be at work."""
    for path in staging.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - _STALE_S:
                shutil.rmtree(path, ignore_errors=True)


def _copy_in(file: Path, staged: Path, filename: str, bytes_max: int) -> Source:
    try:
        with _open_regular(file) as origin, staged.open("xb") as copy:
            hashing, size = hashlib.sha256(), 0
            while chunk := origin.read(_CHUNK_BYTES):
                size += len(chunk)
                if size > bytes_max:
                    raise TooLarge(
                        f"it has over {bytes_max} bytes", where=filename, hint="ingest it in parts"
                    )
                hashing.update(chunk)
                copy.write(chunk)
    except OSError as wrong:
        raise Unavailable(f"it cannot be copied: {wrong.strerror}", where=filename) from wrong
    return Source(filename, "sha256:" + hashing.hexdigest(), size)


def _open_regular(file: Path) -> BinaryIO:
    """The file, opened; BadInput for what is none, without waiting for the other end of a pipe."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as wrong:
        raise BadInput(f"it cannot be read: {wrong.strerror}", where=str(file)) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BadInput("it is not a regular file", where=str(file))
    return os.fdopen(fd, "rb")


def _move_out(out: Path, dest: Path) -> None:
    if not stat.S_ISREG(out.lstat().st_mode):  # the worker reads hostile files: trust nothing that it leaves
        raise Damaged("the worker left something that is no file", where="catalogue worker")
    beside = dest.with_name(f".{dest.name}.{out.parent.name}")
    try:
        shutil.move(out, beside)
        beside.replace(dest)
    except OSError as wrong:
        beside.unlink(missing_ok=True)
        raise Unavailable(f"it cannot be written: {wrong.strerror}", where=str(dest)) from wrong


def _snapshots(answer: Mapping[str, Any]) -> list[Snapshot]:
    """As the worker said them, checked: each names its columns by their place in ``columns``."""
    columns = answer["columns"]
    said = [{**item, "columns": columns[item["columns"]]} for item in answer["snapshots"]]
    return [check_snapshot(from_json(Snapshot, item)) for item in said]
