"""Environments built by uv, below ``environments`` of the home.

Packages are resolved once into a lock (``locks``), and a lock is built once into a folder of its own, named
by what it holds. Only wheels are taken, so nothing that a package brings is run before a step runs it, behind
that step's wall: not even the new environment's Python is started here, as files in it may tell Python what
to run at its start.

    environments/locks/KEY.json   what requirements were resolved into
    environments/DIGEST           an environment; it may be removed while nothing runs, and is, for room
    environments/runtime          links to what a step's process is made of
    environments/cache            uv's cache; it may be removed at any time, and is, for room
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput, Failed, NotSupported, TallyError, Unavailable
from tallystick.core.names import digest_of
from tallystick.core.pipeline.spec import Function
from tallystick.core.values import Environment
from tallystick.ports.runs.environments import Built
from tallystick.ports.tile import Place
from tallystick.tiles.environments.folders import Folders
from tallystick.tiles.environments.kept import kept_in, prune
from tallystick.tiles.environments.lock import LOCK_BYTES_MAX, Locks, environment_of, packages_of
from tallystick.tiles.environments.machine import PLATFORM, PYTHON, minor_of
from tallystick.tiles.environments.room import CACHE, make_room
from tallystick.tiles.environments.runtime import PTH, make_runtime
from tallystick.tiles.environments.tool import Tool, find_uv
from tallystick.tiles.environments.wanted import Indexes, requirements_of

__all__ = ["LocalEnvironments", "open_tile"]

OPTIONS = {
    "package_lock_age_s": 0,
    "package_seconds_max": 1800,
    "package_memory_mib": 4096,
    "environments_bytes_max": 10 * 2**30,
}
"""The options with their defaults, and ``package_indexes``, URLs separated by commas, by default none.

``package_lock_age_s`` is the age after which packages are resolved anew; 0 is never. One resolution or
building may take ``package_seconds_max`` seconds and ``package_memory_mib`` MiB. Environments and cache take
``environments_bytes_max`` bytes at most, but for what is in use.
"""
_log = logging.getLogger(__name__)
_ONLY_WHEELS = ("--only-binary", ":all:")
_WHEELS_HINT = "only wheels are taken: a package that has none for this Python cannot be had"


class LocalEnvironments:
    """See the module; the methods are those of :class:`tallystick.ports.runs.environments.Environments`."""

    def __init__(self, home: Path, indexes: Indexes, locks: Locks, tool: Tool, bytes_max: int) -> None:
        self._home = home
        self._indexes = indexes
        self._locks = locks
        self._tool = tool
        self._bytes_max = bytes_max
        self._opened: Folders | None = None
        self._resolving: dict[str, asyncio.Lock] = {}

    def check(self, code: Function) -> None:
        """See the port."""
        requirements_of(code)
        self._indexes.options(code)
        find_uv()

    async def resolve(self, code: Function) -> Environment:
        """See the port. The same requirements asked for at the same time are resolved once."""
        wanted, options = requirements_of(code), self._indexes.options(code)
        key = self._locks.key(wanted, options)
        one = self._resolving.setdefault(key, asyncio.Lock())
        async with one:
            found = await asyncio.to_thread(self._locks.find, key)
            if found is None:
                found = environment_of(await self._resolve(code, wanted, options))
                with _disk():
                    await asyncio.to_thread(self._locks.keep, key, wanted, found.lock)
                await self._make_room()
            return found

    def _folders(self) -> Folders:
        with _disk():
            self._opened = self._opened or Folders(self._home)
            return self._opened

    async def _resolve(self, code: Function, wanted: tuple[str, ...], options: list[str]) -> str:
        in_use = await self._cache()
        with in_use, tempfile.TemporaryDirectory(dir=self._home, prefix="resolving-") as name:
            folder = Path(name)
            (folder / "wanted.txt").write_text("".join(f"{line}\n" for line in wanted), encoding="utf-8")
            argv = [
                *(find_uv(), "pip", "compile", "wanted.txt", "--output-file", "lock.txt", "--quiet"),
                *("--generate-hashes", "--no-header", "--no-annotate", *_ONLY_WHEELS),
                *("--python", sys.executable, *options, *self._cached(code)),
            ]
            try:
                await self._tool.run(argv, folder, f"its packages ({_few(wanted)}) cannot be resolved")
            except TallyError as wrong:
                raise type(wrong)(wrong.what, where=code.name, hint=wrong.hint or _WHEELS_HINT) from wrong
            lock = folder / "lock.txt"
            if lock.stat().st_size > LOCK_BYTES_MAX:
                raise NotSupported(f"its lock is over {LOCK_BYTES_MAX} bytes", where=code.name)
            return _plain(lock.read_text("utf-8"))

    async def build(self, environment: Environment, code: Function, on_log: Callable[[str], None]) -> Built:
        """See the port. What two ask for at the same time is built once, in one process or in two."""
        if minor_of(environment.python) != minor_of(PYTHON) or environment.platform != PLATFORM:
            raise NotSupported(
                f"its environment is for {environment.python} on {environment.platform}, "
                f"and this is {PYTHON} on {PLATFORM}",
                where=code.name,
            )
        name = digest_of([minor_of(environment.python), environment.platform, environment.lock])
        name = name.removeprefix("sha256:")[:40]
        folders = self._folders()
        runtime = self._home / "runtime"
        links = make_runtime(runtime)
        hold = await folders.held(name)
        while hold is None:  # made here, or elsewhere at the same time; it may even be gone again
            count = len(packages_of(environment.lock))
            on_log(f"building its environment: {count} package{'s' * (count != 1)}")
            async with folders.making(name) as aside:
                if aside is not None:
                    with await self._cache():
                        await self._fill(aside, environment, code)
            hold = await folders.held(name)
            on_log("its environment is built")
            await self._make_room()
        folder = self._home / name
        return Built(folder / "bin" / "python", runtime, (folder, runtime, *links), hold)

    async def kept(self) -> dict[str, Any]:
        """What is kept: see :func:`tallystick.tiles.environments.kept.kept_in`; and how much of it may be."""
        found = await asyncio.to_thread(kept_in, self._folders())
        size = sum(one["size_bytes"] for one in found)
        return {"environments": found, "size_bytes": size, "bytes_max": self._bytes_max}

    async def prune(
        self, bytes_max: int | None = None, unused_s: float | None = None, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Remove what is not in use: see :func:`tallystick.tiles.environments.kept.prune`.

        With neither limit, down to what may be kept. What is kept afterwards is said as by :meth:`kept`, with
        what went, or would go, in ``removed``.
        """
        if bytes_max is None and unused_s is None:
            bytes_max = self._bytes_max
        before = {one["name"]: one for one in (await self.kept())["environments"]}
        with _disk():
            gone = await asyncio.to_thread(prune, self._folders(), bytes_max, unused_s, dry_run=dry_run)
        return {**await self.kept(), "removed": [before[name] for name in gone if name in before]}

    async def _make_room(self) -> None:
        try:
            await asyncio.to_thread(make_room, self._folders(), self._bytes_max)
        except (OSError, RecursionError) as wrong:  # what was built is there all the same
            _log.warning("no room can be made among the environments: %s", wrong)

    async def _fill(self, folder: Path, environment: Environment, code: Function) -> None:
        uv, python = find_uv(), str(folder / "bin" / "python")
        what = f"the environment of {code.name} cannot be built"
        try:
            # Relocatable, as it gets its name only when it is whole.
            venv = (uv, "venv", "--quiet", "--no-project", "--relocatable", "--allow-existing")
            await self._tool.run([*venv, "--python", sys.executable, str(folder)], self._home, what)
            (folder / "lock.txt").write_text(_plain(environment.lock), encoding="utf-8")
            if environment.lock.strip():
                argv = [uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--require-hashes"]
                argv += [*_ONLY_WHEELS, *self._indexes.options(code), *self._cached(code)]
                await self._tool.run([*argv, "-r", str(folder / "lock.txt")], self._home, what)
            packages = _packages_folder(folder)
            (packages / PTH).unlink(missing_ok=True)  # a package's own would be a link into the cache
            (packages / PTH).write_text("../../../../runtime\n", encoding="utf-8")
        except OSError as wrong:
            raise Unavailable(f"{what}: {wrong.strerror}", where=str(folder)) from wrong
        with contextlib.suppress(Failed, NotSupported):  # a file that is no Python of this version is no harm
            # -S: no file among the packages tells this Python what to run.
            compiling = [sys.executable, "-I", "-S", "-m", "compileall", "-q", "-o", "0", str(packages)]
            await self._tool.run(compiling, self._home, what)

    def _cached(self, code: Function) -> list[str]:
        """A cache of their own for those who ask no certificate of a host: what they got may be anybody's."""
        return [f"--cache-dir={self._tool.cache / 'unsure'}"] if code.trusted_hosts else []

    async def _cache(self) -> contextlib.AbstractContextManager[object]:
        """The cache is there, and stays until the end of the block."""
        hold = await self._folders().use(CACHE)
        with _disk():
            self._tool.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        return contextlib.nullcontext(hold)


def _packages_folder(folder: Path) -> Path:
    return next((folder / "lib").glob("python*/site-packages"))


def _plain(lock: str) -> str:
    """Each package on one line, without what uv says beside it."""
    lines = (" ".join(line.split()) for line in lock.replace("\\\n", " ").splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("#"))


def _few(wanted: tuple[str, ...]) -> str:
    return ", ".join(wanted[:5]) + (f" and {len(wanted) - 5} more" if len(wanted) > 5 else "")


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as wrong:
        raise Unavailable(f"it cannot be written: {wrong.strerror}", where="environments") from wrong


def open_tile(place: Place) -> LocalEnvironments:
    """The tile on ``place.parts["process_sandbox"]``; ``OPTIONS`` says which options there are."""
    sandbox = place.parts.get("process_sandbox")
    if sandbox is None:
        raise Unavailable("it stands on a sandbox of its own, and got none", where="environments/uv")
    options = {name: place.options.get(name, default) for name, default in OPTIONS.items()}
    for name, value in options.items():
        least = 0 if name == "package_lock_age_s" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BadInput(f"{value!r} is not a whole number of at least {least}", where=f"option {name}")
    home = (place.home / "environments").absolute()
    indexes = Indexes.of(str(place.options.get("package_indexes", "")).split(","))
    tool = Tool(sandbox, home / CACHE, float(options["package_seconds_max"]), options["package_memory_mib"])
    locks = Locks(home / "locks", options["package_lock_age_s"])
    return LocalEnvironments(home, indexes, locks, tool, options["environments_bytes_max"])
