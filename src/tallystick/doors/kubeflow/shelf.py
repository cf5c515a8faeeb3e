"""Pipelines, their versions, and experiments."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from tallystick.core.errors import BadInput, NotFound, NotSupported
from tallystick.doors.kubeflow.answer import body_of, text
from tallystick.doors.kubeflow.packages import uploaded
from tallystick.doors.kubeflow.pages import Field, page_of
from tallystick.doors.kubeflow.specs import as_objects
from tallystick.doors.kubeflow.stored import Shelf, Shelved, Version
from tallystick.doors.kubeflow.wire import id_of, key_of, when
from tallystick.routines.library import Experiment, Library
from tallystick.routines.schedule import change, schedules

__all__ = ["Experiments", "Pipelines", "listed"]


def _storage(found: Experiment) -> str:
    return "ARCHIVED" if found.archived else "AVAILABLE"


_SHELVED: Mapping[str, Field[Shelved]] = {
    "created_at": lambda p: p.created_ms,
    "display_name": lambda p: p.title,
    "name": lambda p: p.name,
    "description": lambda p: p.description,
    "pipeline_id": lambda p: id_of(p.key),
}
_VERSIONS: Mapping[str, Field[Version]] = {
    "created_at": lambda v: v.created_ms,
    "display_name": lambda v: v.name,
    "name": lambda v: v.name,
    "description": lambda v: v.description,
    "pipeline_version_id": lambda v: id_of(v.key),
}
_EXPERIMENTS: Mapping[str, Field[Experiment]] = {
    "created_at": lambda e: e.created_ms,
    "display_name": lambda e: e.name,
    "description": lambda e: e.description,
    "experiment_id": lambda e: id_of(e.key),
    "storage_state": _storage,
}


def listed(name: str, rows: list[dict[str, Any]], total: int, token: str) -> dict[str, Any]:
    """The answer to a question for a list; as in Kubeflow, what is empty is absent."""
    said = {name: rows, "next_page_token": token}
    return {"total_size": total, **{key: value for key, value in said.items() if value}}


@dataclass(frozen=True)
class Pipelines:
    """``/pipelines``."""

    shelf: Shelf

    async def upload(self, request: Request) -> Any:
        """A new pipeline with its first version."""
        query = request.query_params
        _no_tags(request)
        spec = await uploaded(request)
        name = query.get("name") or query.get("display_name")
        if not name:
            name = (await asyncio.to_thread(self.shelf.library.read, spec)).name
        title = query.get("display_name") or name
        return _pipeline(
            await self.shelf.shelve(name, spec, title=title, description=query.get("description", ""))
        )

    async def upload_version(self, request: Request) -> Any:
        """A further version of a pipeline."""
        query = request.query_params
        _no_tags(request)
        name = query.get("name") or query.get("display_name")
        if not name or not query.get("pipelineid"):
            raise BadInput("say the pipeline's id and the version's name", where="pipelineid")
        key = key_of("pipeline", query["pipelineid"])
        spec = await uploaded(request)
        return _version(key, await self.shelf.add_version(key, name, spec, query.get("description", "")))

    async def refuse(self, _: Request) -> Any:
        """What would have the hub fetch a file from somewhere, or change what was recorded."""
        raise NotSupported(
            "pipelines come as files: nothing is fetched from an address, nothing is changed later",
            where="pipelines",
            hint="upload the package: kfp.Client.upload_pipeline",
        )

    async def all(self, request: Request) -> Any:
        """A page of pipelines."""
        found = await self.shelf.pipelines()
        rows, total, token = page_of(request, found, _SHELVED, lambda p: p.key)
        return listed("pipelines", [_pipeline(p) for p in rows], total, token)

    async def named(self, request: Request) -> Any:
        """The pipeline of a name."""
        name = request.path_params["name"]
        for found in await self.shelf.pipelines():
            if found.name == name:
                return _pipeline(found)
        raise NotFound(f"no pipeline {name[:100]!r}", where="pipeline")

    async def one(self, request: Request) -> Any:
        """A pipeline."""
        return _pipeline(await self.shelf.pipeline(_key(request)))

    async def remove(self, request: Request) -> Any:
        """Remove a pipeline; with ``cascade`` its versions too."""
        cascade = request.query_params.get("cascade", "").lower() == "true"
        await self.shelf.remove(_key(request), whole=cascade)
        return {}

    async def versions(self, request: Request) -> Any:
        """A page of a pipeline's versions; what each says is in its own answer."""
        shelved = await self.shelf.pipeline(_key(request))
        rows, total, token = page_of(request, shelved.versions, _VERSIONS, lambda v: v.key, shelved.key)
        return listed("pipeline_versions", [_version(shelved.key, v) for v in rows], total, token)

    async def version(self, request: Request) -> Any:
        """A version, with the pipeline's spec."""
        shelved = await self.shelf.pipeline(_key(request))
        found = shelved.version(key_of("version", request.path_params["version"]))
        spec = await as_objects(await self.shelf.library.spec(found.spec_digest))
        return {**_version(shelved.key, found), "pipeline_spec": spec}

    async def remove_version(self, request: Request) -> Any:
        """Remove a version."""
        await self.shelf.remove(_key(request), key_of("version", request.path_params["version"]))
        return {}


def _no_tags(request: Request) -> None:
    if request.query_params.get("tags", "").strip() not in ("", "{}", "null"):
        raise NotSupported("tags of pipelines are not kept", where="tags")


def _key(request: Request) -> str:
    return key_of("pipeline", request.path_params["pipeline"])


def _pipeline(found: Shelved) -> dict[str, Any]:
    return {
        "pipeline_id": id_of(found.key),
        "display_name": found.title,
        "name": found.name,
        "description": found.description,
        "created_at": when(found.created_ms),
    }


def _version(pipeline: str, found: Version) -> dict[str, Any]:
    return {
        "pipeline_id": id_of(pipeline),
        "pipeline_version_id": id_of(found.key),
        "display_name": found.name,
        "name": found.name,
        "description": found.description,
        "created_at": when(found.created_ms),
    }


@dataclass(frozen=True)
class Experiments:
    """``/experiments``."""

    library: Library

    async def create(self, request: Request) -> Any:
        """A new experiment."""
        body = await body_of(request)
        made = await self.library.open_experiment(
            text(body, "display_name"), text(body, "description"), new=True
        )
        return _experiment(made)

    async def all(self, request: Request) -> Any:
        """A page of experiments."""
        found = await self.library.experiments()
        rows, total, token = page_of(request, found, _EXPERIMENTS, lambda e: e.key)
        return listed("experiments", [_experiment(e) for e in rows], total, token)

    async def one(self, request: Request) -> Any:
        """An experiment."""
        return _experiment(await self.library.experiment(self._key(request)))

    async def remove(self, request: Request) -> Any:
        """Remove an experiment; its runs stay."""
        await self.library.mark_experiment(self._key(request), "removed", removed=True)
        return {}

    async def archive(self, request: Request) -> Any:
        """Archive it, and pause its schedules; its runs show as archived for as long as it is."""
        found = await self.library.experiment(self._key(request))
        await self.library.mark_experiment(found.key, "archived", archived=True)
        for schedule in await schedules(self.library.house):
            if schedule.options.experiment == found.name:
                await change(self.library.house, schedule.key, "paused", enabled=False)
        return {}

    async def unarchive(self, request: Request) -> Any:
        """Take it out of the archive; schedules stay paused."""
        await self.library.mark_experiment(self._key(request), "unarchived", archived=False)
        return {}

    @staticmethod
    def _key(request: Request) -> str:
        return key_of("experiment", request.path_params["experiment"])


def _experiment(found: Experiment) -> dict[str, Any]:
    return {
        "experiment_id": id_of(found.key),
        "display_name": found.name,
        "description": found.description,
        "created_at": when(found.created_ms),
        "namespace": "",
        "storage_state": _storage(found),
    }
