"""Seals: the files of a version that stands in production stay as they are.

Who loads ``models:/NAME@champion`` with MLflow's client takes the files from where the registry says that
they are, so what was judged must still lie there. While a version has an alias or a stage that the policy's
gate asks for, nothing is written into its folder or taken from it through the hub. What other programs do to
the folder or the bucket itself, past the hub, no door can see.

The gate and the writers meet here. A writer asks when it begins, so that nobody sends a file in vain, and
again when the file is whole; from then on until it lies in its place it is *landing*. The gate closes a
folder before it looks at the files, waits for what is landing there, and keeps it closed until MLflow has
said that the version holds the alias: so no file slips in between, however slowly it is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tallystick.core.errors import Conflict, Refused
from tallystick.evidence.policy import Gate
from tallystick.record.entries import Held

__all__ = ["FRESH_S", "LANDING_S_MAX", "Seal", "Seals", "counts"]

FRESH_S = 1.0
"""How old what is known of aliases and stages may be. The hub's own changes are known at once; another MLflow
server on the same database may change them too."""
LANDING_S_MAX = 30.0
"""How long the gate waits for files that are being put into a folder that it closes."""
_ARTIFACTS = "/mlflow-artifacts/artifacts/"
_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seal:
    """A folder that stays as it is, and the version (``NAME@N``) and alias or stage that it is closed for.

    ``anywhere``: the folder is one of a run, whose experiment the address does not name.
    """

    folder: _Path
    model: str
    why: str
    hint: str
    anywhere: bool = False

    def covers(self, path: _Path, removes: bool = False) -> bool:
        """Whether the folder is not the same any more once ``path`` is written, or, with it, removed."""
        if self.anywhere:
            return any(self._at(path[i:], removes) for i in range(len(path)))
        return self._at(path, removes)

    def _at(self, path: _Path, removes: bool) -> bool:
        length = min(len(path), len(self.folder)) if removes else len(self.folder)
        return path[:length] == self.folder[:length]


@dataclass(frozen=True, slots=True)
class _Landing:
    paths: tuple[_Path, ...]
    removes: bool
    done: asyncio.Future[None]

    def touches(self, seal: Seal) -> bool:
        return any(seal.covers(path, self.removes) for path in self.paths)


class Seals:
    """Which folders are closed: ``held`` tells what has an alias or a stage, ``gate`` which count."""

    def __init__(self, gate: Callable[[], Gate], held: Callable[[], Awaitable[Sequence[Held]]]) -> None:
        self._gate = gate
        self._held = held
        self._known: list[Seal] = []
        self._known_from_s = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._closing: list[Seal] = []
        self._landing: list[_Landing] = []

    def changed(self) -> None:
        """An alias or stage may be another's now: what is known of them counts no more."""
        self._known_from_s = float("-inf")
        self._reading = None  # what it finds may be from before

    async def check(self, *paths: str) -> None:
        """Refused where one of these files may not be written, naming the version and what it holds."""
        await self._fresh()
        self._check([_parts(path) for path in paths], removes=False)

    @contextlib.asynccontextmanager
    async def landing(self, *paths: str, removes: bool = False) -> AsyncIterator[None]:
        """While a file is put in its place (one of ``paths``), or is removed, with all that is below it.

        Refused as by :meth:`check`; what is refused changes nothing.
        """
        parts = [_parts(path) for path in paths]
        await self._fresh()
        self._check(parts, removes)  # from here to the next line nobody else has a turn
        landing = _Landing(tuple(parts), removes, asyncio.get_running_loop().create_future())
        self._landing.append(landing)
        try:
            yield
        finally:
            self._landing.remove(landing)
            landing.done.set_result(None)

    @contextlib.asynccontextmanager
    async def closed(self, folder: str, model: str) -> AsyncIterator[None]:
        """While the gate looks at the files of ``model`` and has it let in: nobody writes into its folder.

        Conflict where files that are on their way into it take too long to arrive.
        """
        seal = Seal(_parts(folder), model, "it is being let into production", "try again in a moment")
        self._closing.append(seal)
        try:
            under_way = [landing.done for landing in self._landing if landing.touches(seal)]
            if under_way:
                _, late = await asyncio.wait(under_way, timeout=LANDING_S_MAX)
                if late:
                    text = f"files are still on their way into the folder of {model}"
                    raise Conflict(text, where=folder[:200], hint="try again once they have arrived")
            yield
        finally:
            self._closing.remove(seal)

    def _check(self, paths: Iterable[_Path], removes: bool) -> None:
        for path in paths:
            for seal in (*self._closing, *self._known):
                if seal.covers(path, removes):
                    raise Refused(
                        f"the files of {seal.model} are those that were judged, and stay so: {seal.why}",
                        where="/".join(path)[:200],
                        hint=seal.hint,
                    )

    async def _fresh(self) -> None:
        """Returns, with no turn for anybody else, once what is known is young enough."""
        wanted_s = time.monotonic() - FRESH_S
        while self._known_from_s < wanted_s:
            if self._reading is None:
                self._reading = asyncio.ensure_future(self._read())
                self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.shield(self._reading)

    async def _read(self) -> None:
        began_s, me = time.monotonic(), asyncio.current_task()
        try:
            held = await self._held()
            if self._reading is me:
                self._known, self._known_from_s = list(_seals(self._gate(), held)), began_s
        finally:
            if self._reading is me:
                self._reading = None


def counts(gate: Gate, held: Held) -> bool:
    """Whether a version's alias or stage is one that the gate asks for."""
    return bool((held.alias and gate.asks_alias(held.alias)) or (held.stage and gate.asks_stage(held.stage)))


def _seals(gate: Gate, held: Iterable[Held]) -> Iterable[Seal]:
    for one in held:
        model, anew = f"{one.name}@{one.version}", "log the model anew, register that, and judge it; or"
        if one.alias and gate.asks_alias(one.alias):
            why = f"it has alias {one.alias}"
            take = f"client.delete_registered_model_alias({one.name!r}, {one.alias!r})"
        elif one.stage and gate.asks_stage(one.stage):
            why = f"it is in stage {one.stage}"
            take = f"client.transition_model_version_stage({one.name!r}, '{one.version}', 'Archived')"
        else:
            continue
        for uri in {one.storage_location, one.source} - {None, ""}:
            folder, anywhere = _kept_at(str(uri))
            if folder:
                yield Seal(folder, model, why, f"{anew} first {take}", anywhere)


def _kept_at(uri: str) -> tuple[_Path, bool]:
    """Where the files of an address are among the hub's artifacts, and whether that is below any experiment.

    Empty for what is kept elsewhere. An alias from before the gate may stand at an address that the gate
    would not take: then its plain reading counts.
    """
    parts = urlsplit(uri)
    if parts.scheme == "mlflow-artifacts":
        return _parts(unquote(parts.path)), False
    if parts.scheme in ("http", "https") and _ARTIFACTS in parts.path:
        return _parts(unquote(parts.path.partition(_ARTIFACTS)[2])), False
    if parts.scheme == "runs":
        run, *path = _parts(unquote(parts.path)) or ("",)
        return (run, "artifacts", *path) if run else (), True
    return (), False


def _parts(path: str) -> _Path:
    return tuple(part for part in path.split("/") if part not in ("", "."))
