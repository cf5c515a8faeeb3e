"""The record: writers and readers over one database."""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from tallystick.core.errors import BadInput, TallyError, Unavailable
from tallystick.ports.database import Source
from tallystick.ports.tile import Place
from tallystick.ports.tracking import DEFAULT_WORKSPACE
from tallystick.record.asks import LogColumns, NotPlain, Read, Write
from tallystick.record.model_asks import FinalizeLoggedModel, GetLoggedModel
from tallystick.tiles.tracking import sql
from tallystick.tiles.tracking.changes import Roots
from tallystick.tiles.tracking.readers import Reads
from tallystick.tiles.tracking.writer import Writer

__all__ = ["RECHECK_S", "Record", "open_tile"]

RECHECK_S = 5.0
"""How long what was found to be ready is taken to be so."""

A = TypeVar("A")


def open_tile(place: Place) -> Record:
    """The record in the database of ``place.parts["database"]``, there or not yet."""
    return Record(place.parts["database"], place)


class Record:
    """See :class:`tallystick.ports.tracking.Tracking`, whose methods these are."""

    def __init__(self, source: Source, place: Place) -> None:
        root = place.options.get("artifact_root", "mlflow-artifacts:/")
        if not isinstance(root, str) or not root:
            raise BadInput(f"{root!r} is no place for artifacts", where="artifact_root")
        self._source = source
        self._workspaces = bool(place.options.get("workspaces", False))
        roots = Roots(root, self._workspaces)
        self._writers = [Writer(source, roots) for _ in range(source.writers)]
        self._reads = Reads(source)
        self._looker = ThreadPoolExecutor(1, thread_name_prefix="tally-tracking-look")
        self._looking: asyncio.Future[bool] | None = None
        self._known = False
        self._known_until = 0.0
        self._closed = False

    async def ready(self) -> bool:
        """Whether the database is there and has the schema that this tile knows; looks again now and then."""
        if self._known_until > time.monotonic():
            return True
        if self._closed:
            return False
        if self._looking is None or self._looking.done():  # one look for all who ask meanwhile
            self._looking = asyncio.ensure_future(self._find_out())
        return await asyncio.shield(self._looking)

    async def write(self, ask: Write[A], workspace: str) -> A:
        """Carry out ``ask``, and answer when it is durable."""
        await self._check(workspace)
        answer = await self._writer_of(ask).do(ask, workspace)
        if isinstance(
            ask, FinalizeLoggedModel
        ):  # its answer is all of the model, which is for readers to know
            return cast(A, await self._reads.read(GetLoggedModel(ask.model_id), workspace))
        return cast(A, answer)

    async def read(self, ask: Read[A], workspace: str) -> A:
        """The answer to ``ask``, from what is durable."""
        await self._check(workspace)
        return await self._reads.read(ask, workspace)

    def yield_to(self, others: int) -> None:
        """Leave gaps for MLflow's own server while ``others`` of its writes are under way."""
        for writer in self._writers:
            writer.yield_to(others)

    async def close(self) -> None:
        """Finish what was begun and let go of the database; twice is fine."""
        self._closed, self._known_until = True, 0.0
        for writer in self._writers:
            await asyncio.to_thread(writer.close)
        await asyncio.to_thread(self._reads.close)
        self._looker.shutdown(wait=False)

    def _writer_of(self, ask: Write[Any]) -> Writer:
        """What is about one run goes through one writer, in order; two of them are as safe as two hubs."""
        run_id = ask.runs[0][0] if isinstance(ask, LogColumns) and ask.runs else getattr(ask, "run_id", "")
        return self._writers[hash(run_id) % len(self._writers)] if run_id else self._writers[0]

    async def _check(self, workspace: str) -> None:
        if self._closed:
            raise Unavailable("the record is closed", where=self._source.where)
        if workspace != DEFAULT_WORKSPACE and not self._workspaces:
            raise NotPlain
        if self._known_until < time.monotonic() and not await self.ready():
            raise NotPlain

    async def _find_out(self) -> bool:
        known = await asyncio.get_running_loop().run_in_executor(self._looker, self._look)
        if known and not self._known:
            with contextlib.suppress(TallyError, NotPlain):  # then it is tried again with the first write
                await self._writers[0].do(None, DEFAULT_WORKSPACE)
        self._known = known
        self._known_until = time.monotonic() + RECHECK_S if known and not self._closed else 0.0
        return known

    def _look(self) -> bool:
        """What the database says of itself; while it does not answer, what was last known."""
        try:
            session = self._source.connect(reading=True)
            try:
                return [row[0] for row in session.rows(sql.SCHEMA_NOW)] in [[name] for name in sql.SCHEMAS]
            finally:
                session.close()
        except Exception as wrong:  # noqa: BLE001 - whatever it is, the driver's source knows what it means
            return self._known and self._source.meaning(wrong).kind != "guilty"
