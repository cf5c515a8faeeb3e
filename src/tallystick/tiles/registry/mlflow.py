"""The registry over MLflow's own server: whatever is registered here, MLflow's clients and pages show too."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput, Conflict, NotFound, NotSupported
from tallystick.ports.registry import Registered, RunData
from tallystick.ports.tile import Place
from tallystick.ports.tracking import Tracking
from tallystick.tiles.registry.child import IDLE_S, MlflowChild, Store
from tallystick.tiles.registry.native import begin_natively, end_natively
from tallystick.tiles.registry.rest import Rest, Server
from tallystick.tiles.registry.steps import MlflowSteps
from tallystick.tiles.registry.transfer import MODEL_BYTES_MAX, files_of, pull, push

__all__ = ["MlflowRegistry", "open_tile"]

_STATUSES = ("FINISHED", "FAILED", "KILLED")
_PAGE = 1000
_DEFAULT_EXPERIMENT = "0"
_BY_ID = "models:/m-"


class MlflowRegistry:
    """Runs and model versions in MLflow, through ``child``, which whoever else needs it may share."""

    def __init__(self, child: Server, model_bytes_max: int = MODEL_BYTES_MAX) -> None:
        self.child = child
        self._rest = Rest(child)
        self._model_bytes_max = model_bytes_max
        self._tracking: Tracking | None = None

    async def begin_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> tuple[str, str]:
        """Start a run, in an experiment made when new; ``(experiment_id, run_id)``.

        Conflict when the experiment was deleted in MLflow.
        """
        if self._tracking:
            begun = await begin_natively(self._tracking, experiment, name, tags, _now_ms())
            if begun:
                return begun
        experiment_id = await self._experiment(experiment)
        made = await self._rest.post(
            "runs/create", experiment_id=experiment_id, run_name=name, start_time=_now_ms(), tags=_pairs(tags)
        )
        return experiment_id, str(made["run"]["info"]["run_id"])

    async def end_run(self, run_id: str, status: str) -> None:
        """End a run with ``FINISHED``, ``FAILED`` or ``KILLED``."""
        if status not in _STATUSES:
            raise BadInput(f"{status!r} is no way for a run to end", hint=" or ".join(_STATUSES))
        now_ms = _now_ms()
        if not (self._tracking and await end_natively(self._tracking, run_id, status, now_ms)):
            await self._rest.post("runs/update", run_id=run_id, status=status, end_time=now_ms)

    async def register(
        self, name: str, folder: Path, tags: Mapping[str, str], *, run_id: str = ""
    ) -> Registered:
        """Add a version of model ``name``, made when new.

        The files of ``folder`` are uploaded as a logged model of run ``run_id``, or of MLflow's default
        experiment.
        """
        files = await asyncio.to_thread(files_of, folder)
        await self._make_model(name)
        model_id = await self._log_model(files, run_id)
        body = {"name": name, "source": f"models:/{model_id}", "model_id": model_id, "tags": _pairs(tags)}
        if run_id:
            body["run_id"] = run_id
        made = await self._rest.post("model-versions/create", **body)
        return _registered(made["model_version"], {})

    async def versions(self, name: str = "") -> Sequence[Registered]:
        """Versions of one model, or of all, newest first; NotFound for an unknown name."""
        if name:
            models = [(await self._rest.get("registered-models/get", name=name))["registered_model"]]
        else:
            models = list(
                await self._rest.pages("registered-models/search", "registered_models", max_results=_PAGE)
            )
        aliases = {str(m["name"]): m.get("aliases", ()) for m in models}
        wanted = {"filter": f"name = {_quoted(name)}"} if name else {}
        found = await self._rest.pages("model-versions/search", "model_versions", max_results=_PAGE, **wanted)
        newest_first = sorted(
            found, key=lambda v: (int(v.get("creation_timestamp", 0)), int(v["version"])), reverse=True
        )
        return [_registered(v, _aliases_by_version(aliases.get(str(v["name"]), ()))) for v in newest_first]

    async def fetch(self, name: str, version: int, dest: Path) -> Registered:
        """Download a version's files into ``dest``, which must not exist; NotFound when there is none.

        Refused for a path in the listing that would leave ``dest``, TooLarge over the limits,
        NotSupported for files that are not among the hub's artifacts.
        """
        asked = {"name": name, "version": str(version)}
        found = (await self._rest.get("model-versions/get", **asked))["model_version"]
        uri = str((await self._rest.get("model-versions/get-download-uri", **asked))["artifact_uri"])
        await pull(self._rest, await self._resolved(uri), dest, self._model_bytes_max)
        return _registered(found, {int(found["version"]): tuple(found.get("aliases", ()))})

    async def point(self, name: str, alias: str, version: int) -> None:
        """Let ``alias`` mean ``version``; NotFound when there is no such version."""
        await self._rest.post("registered-models/alias", name=name, alias=alias, version=str(version))

    async def run_data(self, run_id: str) -> RunData:
        """What was logged to a run; NotFound when there is no such run."""
        data = (await self._rest.get("runs/get", run_id=run_id))["run"].get("data", {})
        metrics = {str(m["key"]): float(m.get("value", 0.0)) for m in data.get("metrics", ())}
        params = {str(p["key"]): str(p.get("value", "")) for p in data.get("params", ())}
        tags = {str(t["key"]): str(t.get("value", "")) for t in data.get("tags", ())}
        return RunData({k: v for k, v in metrics.items() if math.isfinite(v)}, params, tags)

    def steps(self, tracking: Tracking) -> MlflowSteps:
        """The record of steps, natively in ``tracking`` as far as that is plain; runs begin and end so."""
        self._tracking = tracking
        return MlflowSteps(tracking, self._rest)

    async def close(self) -> None:
        """End MLflow's server."""
        await self.child.close()

    async def _experiment(self, name: str) -> str:
        try:
            found = (await self._rest.get("experiments/get-by-name", experiment_name=name))["experiment"]
        except NotFound:
            try:
                return str((await self._rest.post("experiments/create", name=name))["experiment_id"])
            except Conflict:  # another made it meanwhile
                found = (await self._rest.get("experiments/get-by-name", experiment_name=name))["experiment"]
        if found.get("lifecycle_stage") == "deleted":
            raise Conflict(
                f"experiment {name!r} was deleted",
                where="MLflow",
                hint=f"restore it: mlflow experiments restore -x {found['experiment_id']}",
            )
        return str(found["experiment_id"])

    async def _make_model(self, name: str) -> None:
        try:
            await self._rest.post("registered-models/create", name=name)
        except Conflict:
            return  # it exists

    async def _log_model(self, files: Sequence[tuple[Path, str]], run_id: str) -> str:
        body: dict[str, Any] = {"name": "model", "experiment_id": _DEFAULT_EXPERIMENT}
        if run_id:
            info = (await self._rest.get("runs/get", run_id=run_id))["run"]["info"]
            body |= {"source_run_id": run_id, "experiment_id": info["experiment_id"]}
        model = (await self._rest.post("logged-models", **body))["model"]["info"]
        address, status = f"logged-models/{model['model_id']}", "LOGGED_MODEL_UPLOAD_FAILED"
        try:
            await push(self._rest, files, str(model["artifact_uri"]))
            status = "LOGGED_MODEL_READY"
        finally:
            await self._rest.patch(address, model_id=model["model_id"], status=status)
        return str(model["model_id"])

    async def _resolved(self, uri: str) -> str:
        """Where the files are that ``uri`` means: those of a logged model, or a folder of a run."""
        if uri.startswith(_BY_ID):
            return await self._artifacts_of(uri.removeprefix("models:/"))
        if not uri.startswith("runs:/"):
            return uri
        run_id, _, path = uri.removeprefix("runs:/").partition("/")
        run = (await self._rest.get("runs/get", run_id=run_id))["run"]
        for output in reversed(run.get("outputs", {}).get("model_outputs", ())):
            model = (await self._rest.get(f"logged-models/{output['model_id']}"))["model"]["info"]
            if model.get("name") == path:
                return str(model["artifact_uri"])
        return f"{run['info']['artifact_uri']}/{path}"

    async def _artifacts_of(self, model_id: str) -> str:
        if "/" in model_id:
            raise NotSupported(f"{model_id[:100]!r} is not a logged model", where="registry")
        return str((await self._rest.get(f"logged-models/{model_id}"))["model"]["info"]["artifact_uri"])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": k, "value": v} for k, v in tags.items()]


def _quoted(name: str) -> str:
    """As MLflow's filters take it; BadInput for a name that they cannot say."""
    if "'" not in name:
        return f"'{name}'"
    if '"' not in name:
        return f'"{name}"'
    raise BadInput(f"{name[:100]!r} has both kinds of quotes", where="model")


def _aliases_by_version(aliases: Any) -> dict[int, tuple[str, ...]]:
    found: dict[int, tuple[str, ...]] = {}
    for entry in aliases:
        version = int(entry["version"])
        found[version] = (*found.get(version, ()), str(entry["alias"]))
    return found


def _registered(wire: Mapping[str, Any], aliases: Mapping[int, tuple[str, ...]]) -> Registered:
    version, source = int(wire["version"]), str(wire.get("source", ""))
    return Registered(
        name=str(wire["name"]),
        version=version,
        run_id=str(wire.get("run_id", "")),
        model_id=source.removeprefix("models:/") if source.startswith(_BY_ID) else "",
        tags={str(t["key"]): str(t.get("value", "")) for t in wire.get("tags", ())},
        aliases=tuple(aliases.get(version, ())),
    )


def open_tile(place: Place) -> MlflowRegistry:
    """The registry in ``place.home``, its server behind ``place.parts["process_sandbox"]``.

    Options: ``database``, ``artifact_store``, ``workspaces`` and ``artifact_roots`` (a list of URIs) as in
    :class:`Store`, ``mlflow_idle_s``, after which MLflow's server rests, and ``model_bytes_max``, how much
    :meth:`MlflowRegistry.fetch` downloads at most.
    """
    roots = place.options.get("artifact_roots", ())
    if isinstance(roots, str) or not all(isinstance(root, str) for root in roots):
        raise BadInput("artifact_roots is a list of URIs", where="registry.artifact_roots")
    store = Store(
        str(place.options.get("database", "")),
        str(place.options.get("artifact_store", "")),
        tuple(roots),
        bool(place.options.get("workspaces")),
    )
    idle_s = float(place.options.get("mlflow_idle_s", IDLE_S))
    child = MlflowChild(place.home, place.parts["process_sandbox"], store, idle_s)
    return MlflowRegistry(child, int(place.options.get("model_bytes_max", MODEL_BYTES_MAX)))
