"""The shelf: pipelines that were handed in to be run later, and their versions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.routines.library import NAME_CHARS_MAX, TEXT_CHARS_MAX, Library, check_text, there

__all__ = ["Shelf", "Shelved", "Version"]

VERSIONS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a pipeline; ``spec_digest`` is the artifact that holds its file."""

    key: str
    name: str
    spec_digest: str
    description: str = ""
    created_ms: int = 0


@dataclass(frozen=True, slots=True)
class Shelved:
    """A pipeline by the name that somebody gave it, with its versions, oldest first."""

    key: str
    name: str
    title: str = ""
    description: str = ""
    created_ms: int = 0
    versions: tuple[Version, ...] = ()
    removed: bool = False

    def version(self, key: str) -> Version:
        """The version of that key; NotFound when there is none."""
        found = next((v for v in self.versions if v.key == key), None)
        if found is None:
            raise NotFound(f"pipeline {self.name} has no version {key[:100]!r}", where="pipeline")
        return found


@dataclass(frozen=True)
class Shelf:
    """The verbs: noun ``pipeline``, by its key."""

    library: Library

    async def shelve(self, name: str, spec: bytes, *, title: str = "", description: str = "") -> Shelved:
        """A new pipeline with its first version, of the same name; Conflict for a name that is taken."""
        for text, most in ((name, NAME_CHARS_MAX), (title or name, NAME_CHARS_MAX)):
            check_text(text, "pipeline", most)
        check_text(description or "-", "description", TEXT_CHARS_MAX)
        version = await self._version(name, spec, description)
        async with self.library.house.lock("pipeline", ""):
            if any(p.name == name for p in await self.pipelines()):
                raise Conflict(f"a pipeline is called {name!r} already", where="pipeline")
            key, now = self.library.house.new_key("pipeline"), self.library.house.clock.now_ms()
            shelved = Shelved(key, name, title or name, description, now, (version,))
            await self.library.house.tell("pipeline", key, "shelved", shelved, name)
        return shelved

    async def add_version(self, key: str, name: str, spec: bytes, description: str = "") -> Version:
        """A further version; Conflict for a name that another one has."""
        check_text(name, "version", NAME_CHARS_MAX)
        check_text(description or "-", "description", TEXT_CHARS_MAX)
        version = await self._version(name, spec, description)
        async with self.library.house.lock("pipeline", ""):
            shelved = await self.pipeline(key)
            if any(v.name == name for v in shelved.versions):
                raise Conflict(f"a version of {shelved.name} is called {name!r} already", where="pipeline")
            if len(shelved.versions) >= VERSIONS_MAX:
                raise Conflict(f"{shelved.name} has {VERSIONS_MAX} versions", hint="delete some")
            shelved = replace(shelved, versions=(*shelved.versions, version))
            await self.library.house.tell("pipeline", key, "version", shelved, f"{shelved.name} {name}")
        return version

    async def _version(self, name: str, spec: bytes, description: str) -> Version:
        await asyncio.to_thread(self.library.read, spec)  # refused now, and not when it is to run
        digest = await self.library.keep(spec)
        return Version(
            self.library.house.new_key("version"),
            name,
            digest,
            description,
            self.library.house.clock.now_ms(),
        )

    async def pipelines(self) -> Sequence[Shelved]:
        """All that were not removed, most recently changed first."""
        return [p for p in await self.library.house.all("pipeline", Shelved) if not p.removed]

    async def pipeline(self, key: str) -> Shelved:
        """One of them; NotFound when there is none."""
        return there("pipeline", key, await self.library.house.find("pipeline", key, Shelved))

    async def remove(self, key: str, version: str = "", *, whole: bool = False) -> None:
        """Remove it, or one version; Conflict where versions are left and ``whole`` was not said."""
        async with self.library.house.lock("pipeline", ""):
            shelved = await self.pipeline(key)
            if version:
                gone = shelved.version(version)
                left = tuple(v for v in shelved.versions if v is not gone)
                await self.library.house.tell(
                    "pipeline", key, "version removed", replace(shelved, versions=left)
                )
            elif shelved.versions and not whole:
                raise BadInput(f"pipeline {shelved.name} has versions", hint="delete them first, or cascade")
            else:
                await self.library.house.tell(
                    "pipeline", key, "removed", replace(shelved, versions=(), removed=True)
                )
