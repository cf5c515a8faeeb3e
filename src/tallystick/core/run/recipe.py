"""Recipes: what a step's outputs depend on, part by part, so that it can be said which part changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from tallystick.core.data import TABLE_URI
from tallystick.core.facts import from_json, to_json
from tallystick.core.names import canonical_json, digest_of
from tallystick.core.pipeline.spec import Command, Component, Function
from tallystick.core.values import ArtifactRef, Environment, Values

__all__ = [
    "Kept",
    "Recipe",
    "body_parts",
    "changed",
    "content_of",
    "differing",
    "last_key",
    "read_kept",
    "recipe_of",
    "seed_of",
]

SHOWN_CHARS_MAX = 60
"""Characters of a parameter that stand in a recipe as they are; of longer ones, the digest."""
ORIGIN = ("uri", "snapshot", "snapshot_digest", "rows")
"""Metadata that the importer itself adds to a table's rows."""
MAKER = "mlflow_run_id"
"""Metadata by which a step names the MLflow run in which it made an artifact."""
NOTHING: Mapping[str, str] = MappingProxyType({})
_TURN = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class Recipe:
    """The parts, by name: ``source``, ``interface``, ``packages``, ``python``, ``platform``, ``env``,
    ``param NAME``, ``input NAME``, ``fact NAME`` and, where one was given, ``seed``; or ``own key`` alone.
    """

    parts: Mapping[str, str]

    @property
    def key(self) -> str:
        """Equal for equal parts, in whatever order."""
        return _digest(tuple(self.parts.items()))


@lru_cache(maxsize=256)
def _digest(parts: tuple[tuple[str, str], ...]) -> str:
    """Asked for several times of each step."""
    return digest_of(dict(parts))


@dataclass(frozen=True, slots=True)
class Kept:
    """A step's outputs as they are kept under their recipe's key; ``run`` and ``path`` made them.

    Nothing is known of a recipe, a time or a maker that a tallystick of before kept none of.
    """

    outputs: Values
    recipe: Mapping[str, str] = field(default_factory=dict)
    made_ms: int = 0
    run: str = ""
    path: str = ""


def read_kept(state: Mapping[str, Any]) -> Kept:
    """The noun ``step`` as a fact has it; of old it was the outputs alone. BadInput for neither."""
    if "outputs" in state:
        return from_json(Kept, state)
    return Kept(from_json(Values, state))


def recipe_of(
    component: Component,
    inputs: Values,
    environment: Environment,
    own: str = "",
    *,
    seed: str = "",
    body: Mapping[str, str] | None = None,
    facts: Mapping[str, str] = NOTHING,
) -> Recipe:
    """What a step of ``component`` depends on, given what it declares of ``inputs``.

    Names and URIs of artifacts do not count, only their content and metadata. With ``own``, a key that the
    pipeline's author chose, that alone decides. ``body`` is what :func:`body_parts` said, where that is known
    already. Of ``facts``, what templates may name, those count that a container's command names.
    """
    if own:
        return Recipe({"own key": canonical_json([component.name, own])})
    parts = dict(body_parts(component, environment) if body is None else body)
    parts |= {f"param {name}": _shown(to_json(value)) for name, value in inputs.params.items()}
    declared = {slot.name: slot.schema for slot in component.artifacts}
    for name, refs in inputs.artifacts.items():
        parts[f"input {name}"] = " ".join(_read_as(ref, declared.get(name, "")) for ref in refs)
    if isinstance(component.code, Command):
        words = canonical_json(to_json(component.code))
        parts |= {f"fact {name}": told for name, told in facts.items() if "{{$." + name + "}}" in words}
    return Recipe({**parts, "seed": seed} if seed else parts)


def body_parts(component: Component, environment: Environment) -> dict[str, str]:
    """The parts that are the same for each step of a component.

    Limits (CPU, memory, time) are none of them, as they do not change what comes out; the number of workers
    is in the interface. The packages are those that were resolved, and not what was asked for.
    """
    code = component.code
    source = [code.name, code.source] if isinstance(code, Function) else to_json(code)
    shape = (component.params, component.artifacts, component.out_params, component.out_artifacts)
    return {
        "source": digest_of(source),
        "interface": digest_of([to_json(shape), component.resources.workers]),
        "packages": digest_of([dict(environment.packages), environment.lock]),
        "python": environment.python,
        "platform": environment.platform,
        "env": digest_of(dict(component.env)),
    }


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The parts that differ, in words: ``param alpha (1 -> 2)``, ``source``, ``input data (new)``."""
    names = [*after, *(name for name in before if name not in after)]
    return [_differs(n, before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n)]


def differing(before: Values, after: Values) -> list[str]:
    """The outputs that are not the same, parameters and artifacts, by name."""
    was, now = (
        {**v.params, **{name: [content_of(ref) for ref in refs] for name, refs in v.artifacts.items()}}
        for v in (before, after)
    )
    return [name for name in {**was, **now} if name not in was or name not in now or was[name] != now[name]]


def last_key(pipeline: str, path: str) -> str:
    """Under which key the newest step of a pipeline's path is told, whichever turn of its loops it was."""
    return f"last {pipeline} {_TURN.sub('', path)}"


def seed_of(seed: int, path: str) -> str:
    """``TALLY_SEED`` of a step: a number below 2**32 by the run's seed and the step's path; none for 0."""
    return str(int(digest_of([seed, path])[7:15], 16)) if seed else ""


def content_of(ref: ArtifactRef) -> str:
    """What an artifact holds. Metadata counts, as a step may read it (of metrics it is all there is), but not
    where it only says from where the artifact is: equal rows are equal rows.
    """
    own = (*ORIGIN, MAKER) if ref.uri.startswith(TABLE_URI) else (MAKER,)
    said = {name: value for name, value in ref.metadata.items() if name not in own}
    return f"{ref.digest} with {digest_of(to_json(said))}" if said else ref.digest


def _read_as(ref: ArtifactRef, declared: str) -> str:
    """Its content, and of what schema it is where that is not the declared one: a step sees it, too."""
    return content_of(ref) if ref.schema == declared else f"{content_of(ref)} as {ref.schema}"


def _shown(value: Any) -> str:
    text = canonical_json(value)
    return text if len(text) <= SHOWN_CHARS_MAX else digest_of(text)


def _differs(name: str, before: str | None, after: str | None) -> str:
    if before is None:
        return f"{name} (new)"
    if after is None:
        return f"{name} (gone)"
    plain = name in ("python", "platform", "seed") or name.startswith("param ")
    if plain and not (before.startswith("sha256:") or after.startswith("sha256:")):
        return f"{name} ({before} -> {after})"
    return name
