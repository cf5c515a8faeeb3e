"""Models: a named, numbered version of files that predict, with where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tallystick.core.errors import BadInput
from tallystick.core.names import DEFAULT_TENANT, check_digest, check_name, split_key

__all__ = ["ModelRef", "ModelVersion", "Origin", "TensorSpec"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor of a model's signature: Open Inference Protocol datatype (``FP32``); -1 is any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model came from; every link is optional, as a model may arrive without a run.

    ``snapshots`` are ``table@snapshot_id`` keys with their content digests.
    """

    run: str = ""
    step: str = ""
    output: str = ""
    snapshots: Mapping[str, str] = field(default_factory=dict)
    record_id: str = ""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered version. ``digest`` is the content of its files, checked at every load."""

    name: str
    version: int
    digest: str
    flavors: tuple[str, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    has_input_example: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)
    at_ms: int = 0
    tenant: str = DEFAULT_TENANT

    def __post_init__(self) -> None:
        check_name("model", self.name)
        check_digest(self.digest)
        if self.version < 1:
            raise BadInput("a model's versions count from 1", where=self.name)

    @property
    def key(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model by name, at one version or (``version`` 0) at its newest."""

    name: str
    version: int = 0

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """From ``name`` or ``name@version``; BadInput for anything else."""
        name, version = split_key("model", text)
        if version and not (version.isascii() and version.isdigit() and int(version) > 0):
            raise BadInput(f"{version!r} is not a model version", where=name, hint=f"for example {name}@1")
        return cls(name, int(version or 0))

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name
