"""What one step of a pipeline may write to: what it made itself, as MLflow answered when it was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.errors import BadInput, Conflict, Refused, TooLarge
from tallystick.doors.mlflow.paths import folder_of

__all__ = ["MADE_MAX", "NODES_MAX", "RESERVED", "Own"]

MADE_MAX = 10_000
"""Experiments, runs and logged models of one step together."""
NODES_MAX = 200_000
"""Values in one body: a batch of 1,000 metrics, 100 params and 100 tags has under 10,000."""
RESERVED = "tally."
"""Tags that begin so are the hub's: lineage rests on them."""
_RUN = frozenset(("runid", "runuuid", "sourcerunid"))


@dataclass(slots=True)
class Own:
    """The experiments, runs and logged models of one step, and the folders of their artifacts.

    ``tags`` are on every run and model that it makes. Every field of a body that is named like an id
    counts, in every spelling and depth that protobuf's JSON knows (``run_id``, ``runId``, ``run_uuid``),
    so that MLflow cannot take another id from it than the one that was looked at.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    experiments: set[str] = field(default_factory=set)
    runs: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    _folders: dict[str, str] = field(default_factory=dict)
    _ending: set[str] = field(default_factory=set)
    _uploads: Counter[str] = field(default_factory=Counter)

    def learn(self, call: str, answer: Mapping[str, Any]) -> None:
        """Keep what MLflow answered to ``experiments/create``, ``runs/create`` or ``logged-models``."""
        if call == "experiments/create":
            self.experiments.add(str(answer["experiment_id"]))
        elif call == "runs/create":
            info = answer["run"]["info"]
            self.runs.add(str(info["run_id"]))
            self._keep(str(info["artifact_uri"]), "")
        elif call == "logged-models":
            info = answer["model"]["info"]
            self.models.add(str(info["model_id"]))
            self._keep(str(info["artifact_uri"]), str(info["model_id"]))

    def _keep(self, uri: str, model_id: str) -> None:
        if folder := folder_of(uri):
            self._folders[folder] = model_id

    def body(self, call: str, body: dict[str, Any], path_model: str = "") -> dict[str, Any]:
        """``body`` as it may be sent; Refused when ``call`` would write to what the step did not make.

        ``path_model`` is the logged model that the call's path names.
        """
        if call in ("experiments/create", "runs/create", "logged-models"):
            self._check_room()
        if path_model and path_model not in self.models:
            raise _not_own(f"logged model {path_model[:100]}")
        for name, value in _fields(body):
            self._check_field(call, name, value, path_model)
        if call in ("runs/create", "logged-models"):  # the stock client tags both by MLFLOW_RUN_CONTEXT
            return {**body, "tags": [*_tags_but_ours(body.get("tags")), *_pairs(self.tags)]}
        self._check_tags([body] if call in ("runs/set-tag", "runs/delete-tag") else body.get("tags"))
        return body

    def _check_room(self) -> None:
        if len(self.experiments) + len(self.runs) + len(self.models) >= MADE_MAX:
            raise TooLarge(f"one step makes at most {MADE_MAX} experiments, runs and models", where="MLflow")

    def _check_field(self, call: str, name: str, value: Any, path_model: str) -> None:
        if value in (None, ""):
            return
        allowed: set[str] | None = None
        if name in _RUN:
            allowed = self.runs
        elif name == "modelid" and call != "runs/log-inputs":  # a model that goes into a run is only read
            allowed = {path_model} if path_model else self.models
        elif name == "experimentid" and call == "experiments/set-experiment-tag":
            allowed = self.experiments
        if allowed is not None and not (isinstance(value, str) and value in allowed):
            raise _not_own(f"{name.removesuffix('id')} {str(value)[:100]}")
        if name == "artifactlocation":
            raise Refused(
                "a pipeline's step may not say where artifacts are kept",
                where="artifact_location",
                hint="leave it out: they are kept among the hub's",
            )

    def _check_tags(self, tags: Any) -> None:
        for tag in _tags(tags):
            key = str(tag.get("key", ""))
            if key.startswith(RESERVED) and ("value" not in tag or tag["value"] != self.tags.get(key)):
                raise Refused(f"tags that begin with {RESERVED!r} are the hub's", where=key[:100])

    def model_of(self, path: str) -> str:
        """The own logged model whose file ``path`` is, empty for an own run's; Refused for other files."""
        parts = path.split("/")
        for i in range(len(parts) - 1, 0, -1):
            folder = "/".join(parts[:i])
            if folder in self._folders and parts[-1]:
                return self._folders[folder]
        raise _not_own(path[:200])

    def begin_upload(self, model_id: str) -> None:
        """A file of a model is on its way; Refused once its end was told."""
        if model_id in self._ending:
            raise Refused(f"logged model {model_id} is finished", where="MLflow", hint="log another one")
        self._uploads[model_id] += 1

    def end_upload(self, model_id: str) -> None:
        """It has arrived, or never will."""
        self._uploads[model_id] -= 1

    def end_model(self, model_id: str) -> None:
        """No more files for a model; Conflict while some are on their way, as they would arrive later."""
        if self._uploads[model_id]:
            raise Conflict(f"files of logged model {model_id} are still on their way", where="MLflow")
        self._ending.add(model_id)


def _not_own(what: str) -> Refused:
    return Refused(
        "a pipeline's step may not change what it did not make",
        where=what,
        hint="it logs to runs, models and experiments that it made itself; others it may read",
    )


def _fields(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every field in a body, at any depth, its name without underscores and in small letters."""
    waiting: list[Any] = [body]
    seen = 0
    while waiting:
        value = waiting.pop()
        found = value.values() if isinstance(value, Mapping) else value
        seen += len(found)
        if seen > NODES_MAX:
            raise TooLarge(f"a body has at most {NODES_MAX} values", where="MLflow")
        if isinstance(value, Mapping):
            yield from ((name.replace("_", "").lower(), inner) for name, inner in value.items())
        waiting += [inner for inner in found if isinstance(inner, (Mapping, list))]


def _tags(tags: Any) -> list[Mapping[str, Any]]:
    found = [] if tags is None else tags
    if not isinstance(found, list) or not all(isinstance(tag, Mapping) for tag in found):
        raise BadInput("tags are a list of objects with key and value", where="tags")
    return found


def _tags_but_ours(tags: Any) -> list[Mapping[str, Any]]:
    return [tag for tag in _tags(tags) if not str(tag.get("key", "")).startswith(RESERVED)]


def _pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": k, "value": v} for k, v in tags.items()]
