"""Pipelines: a graph of tasks, as Kubeflow's PipelineSpec 2.x means it, in our own words.

A task's body is a component (a Python function or a container's command), an importer (data that exists
already) or a graph of its own, which may run once for each item of a loop. Wire types stay at the door: this
module knows no YAML.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.facts import to_json
from tallystick.core.names import digest_of

__all__ = [
    "Binding",
    "Cache",
    "Command",
    "Component",
    "Constant",
    "Dag",
    "DagOutput",
    "FinalStatus",
    "FromInput",
    "FromTask",
    "Function",
    "Importer",
    "Loop",
    "Param",
    "ParamType",
    "Pipeline",
    "Resources",
    "Retry",
    "Slot",
    "Source",
    "Task",
    "Template",
    "Trigger",
]


class ParamType(enum.StrEnum):
    """The parameter types of PipelineSpec 2.x that carry a value."""

    STRING = "STRING"
    INTEGER = "NUMBER_INTEGER"
    DOUBLE = "NUMBER_DOUBLE"
    BOOLEAN = "BOOLEAN"
    LIST = "LIST"
    STRUCT = "STRUCT"
    FINAL_STATUS = "TASK_FINAL_STATUS"


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a pipeline or component; ``default`` None with ``optional`` means it may be absent.

    ``literals``: the only values that it may have; none stands for any.
    """

    name: str
    type: ParamType
    default: Any = None
    optional: bool = False
    literals: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """An artifact input or output: its name and schema title, for example ``system.Model``."""

    name: str
    schema: str = "system.Artifact"
    is_list: bool = False
    optional: bool = False


# ---------------------------------------------------------------------------- where a task's inputs come from


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that stands in the pipeline itself."""

    value: Any


@dataclass(frozen=True, slots=True)
class Template:
    """Text, or JSON with texts in it, that holds ``{{$...}}``: inputs of the task, or facts of the run."""

    value: Any


@dataclass(frozen=True, slots=True)
class FromInput:
    """An input of the graph around the task; ``item_field`` picks one field of it."""

    name: str
    item_field: str = ""


@dataclass(frozen=True, slots=True)
class FromTask:
    """An output of another task of the same graph; of a looped task it is the list of all iterations."""

    task: str
    output: str
    item_field: str = ""


@dataclass(frozen=True, slots=True)
class FinalStatus:
    """How another task of the same graph ended (KFP's PipelineTaskFinalStatus)."""

    task: str


Binding = Constant | Template | FromInput | FromTask | FinalStatus


# --------------------------------------------------------------------------------------------- what a task is


@dataclass(frozen=True, slots=True)
class Function:
    """A Python function with the source of its module; ``packages`` are what pip would be told.

    ``index_urls`` are where they come from, the first in place of the usual one; of ``trusted_hosts`` no
    certificate is asked.
    """

    name: str
    source: str
    packages: tuple[str, ...] = ()
    index_urls: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A container's command, with ``{{$...}}`` still in it.

    A word is a text, ``{"Concat": [word, ...]}`` or ``{"IfPresent": {"InputName": name, "Then": words,
    "Else": words}}``, where words are one or a list, and ``Else`` may be absent.
    """

    image: str
    command: tuple[Any, ...] = ()
    args: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """What one process of a step may have. 0 is no wish; ``workers`` of them run together.

    The ``least`` is only for choosing a machine, and no limit: a step may use more. ``later`` are pairs: one
    of the fields here, or ``accelerator``, and the input of the task that tells it when the step starts.
    """

    cpus: float = 0.0
    memory_bytes: int = 0
    gpus: int = 0
    workers: int = 1
    cpus_least: float = 0.0
    memory_bytes_least: int = 0
    later: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Component:
    """What runs, in a process of its own, for one step."""

    name: str
    code: Function | Command
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = Resources()
    timeout_s: int = 0
    params: tuple[Param, ...] = ()
    artifacts: tuple[Slot, ...] = ()
    out_params: tuple[Param, ...] = ()
    out_artifacts: tuple[Slot, ...] = ()


@dataclass(frozen=True, slots=True)
class Importer:
    """Brings in data that exists already, by URI (``tally://tables/NAME[@SNAPSHOT]``, ``file:``, ``s3:``).

    ``metadata`` may hold ``{{$...}}``, in its keys too: inputs of the task, or facts of the run. One that is
    ``optional`` puts nothing out where no URI was given.
    """

    uri: Binding
    schema: str = "system.Dataset"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Loop:
    """Run the graph once for each of ``items``, bound to the graph's input ``item``.

    ``parallel_max`` 0 means no limit of its own; ``artifacts``: the items are a list of artifacts.
    """

    items: Binding
    item: str
    parallel_max: int = 0
    artifacts: bool = False


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a task starts, once all that it waits for has ended.

    ``condition`` in CEL over ``inputs.parameter_values``; empty is always. With ``regardless`` it does not
    matter how what it waits for ended (KFP's ALL_UPSTREAM_TASKS_COMPLETED).
    """

    condition: str = ""
    regardless: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """So many tries after the first, ``backoff_s`` apart, each time longer by ``factor``, up to a limit."""

    tries: int = 0
    backoff_s: float = 0.0
    factor: float = 2.0
    backoff_max_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Cache:
    """Whether outputs of an equal step may be taken; ``key``, where given, decides alone what is equal."""

    enabled: bool = True
    key: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """An output of one of a graph's tasks."""

    task: str
    output: str


@dataclass(frozen=True, slots=True)
class DagOutput:
    """An output of a graph: of its sources that of the first whose task was not skipped (KFP's OneOf)."""

    name: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Dag:
    """Tasks and the outputs that the graph shows outside."""

    tasks: tuple[Task, ...]
    outputs: tuple[DagOutput, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One node: its body, where its inputs come from, and what it waits for beyond them.

    ``inputs`` may have names that the body does not declare: for templates and the condition.
    """

    name: str
    body: Component | Importer | Dag
    inputs: Mapping[str, Binding] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    loop: Loop | None = None
    trigger: Trigger = Trigger()
    retry: Retry = Retry()
    cache: Cache = Cache()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A whole pipeline.

    ``root_uri`` is where its author would keep artifacts: what ``{{$.pipeline_root}}`` stands for, while the
    house keeps them in its own store. Its steps share a folder of ``workspace_bytes``, where it is not 0.
    """

    name: str
    root: Dag
    params: tuple[Param, ...] = ()
    description: str = ""
    root_uri: str = ""
    workspace_bytes: int = 0

    @property
    def digest(self) -> str:
        """The digest of everything that the pipeline says."""
        return digest_of(to_json(self))
