"""Models: a named, numbered version of files that predict, with where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tallystick.core.errors import BadInput
from tallystick.core.names import DEFAULT_TENANT, check_digest, check_name, split_key

__all__ = ["MODEL_URI", "ModelRef", "ModelVersion", "Origin", "TensorSpec", "check_specs"]

MODEL_URI = "tally://models/"
"""The files of a version: ``tally://models/NAME@VERSION``."""
TENSORS_MAX = 4096
TENSOR_NAME_CHARS_MAX = 1000
RANK_MAX = 16
LENGTH_MAX = 2**40
_BITS = ("8", "16", "32", "64")
DATATYPES = frozenset(
    ("BOOL", "BYTES", "FP16", "FP32", "FP64", *("INT" + n for n in _BITS), *("UINT" + n for n in _BITS))
)
"""The Open Inference Protocol's."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor of a model's signature: Open Inference Protocol datatype (``FP32``); -1 is any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def check_specs(specs: Sequence[TensorSpec], where: str) -> None:
    """BadInput unless these can be a model's inputs, or its outputs: for what a model says of itself."""
    if len(specs) > TENSORS_MAX or len({spec.name for spec in specs}) < len(specs):
        raise BadInput(f"over {TENSORS_MAX} tensors, or two of one name", where=where)
    for spec in specs:
        if not 0 < len(spec.name) <= TENSOR_NAME_CHARS_MAX or spec.datatype not in DATATYPES:
            raise BadInput(f"{spec.name!r:.100} of {spec.datatype!r:.50} is no tensor", where=where)
        if len(spec.shape) > RANK_MAX or not all(-1 <= length <= LENGTH_MAX for length in spec.shape):
            raise BadInput(f"{spec.name!r:.100} has shape {list(spec.shape)!s:.100}", where=where)


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

    @property
    def tables(self) -> set[str]:
        """The tables that its snapshots are of."""
        return {key.partition("@")[0] for key in self.snapshots}


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered version. ``digest`` is the content of its files, checked at every load.

    ``runtime`` is the tile that loads it, and ``runs_code`` whether that may run code which came with
    the model. Where it may, that code had a word in both, in ``flavors`` and in the signature: nothing
    that must be safe hangs on them.

    ``standing`` is what its files were found to be before anything loaded them: ``data``, ``code``, or empty
    where nobody looked, as in facts of old. ``files`` says it in a few lines, and ``inspection`` is the
    artifact with all of it. Without ``runtime`` it was never loaded: then nobody vouched for its code yet.
    """

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
    runtime: str = ""
    runs_code: bool = True
    standing: str = ""
    files: tuple[str, ...] = ()
    inspection: str = ""

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
