"""How a run is to be done: whoever starts it decides, and it is recorded with the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.pipeline.amounts import settled
from tallystick.core.pipeline.spec import Component
from tallystick.core.values import Values

__all__ = ["KUBEFLOW", "Pins", "RunOptions"]

KUBEFLOW = "kubeflow"
"""Where whole runs are executed by a service elsewhere, at a host."""

SEED_MAX = 2**53
"""Seeds above it would not survive JSON everywhere."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """``cache``: whether outputs of equal steps are taken, none older than ``cache_age_ms_max`` (0: any age).

    A share of them, ``verify_share``, is made again and compared. A ``seed`` other than 0 reaches each step
    as ``TALLY_SEED``, different for each path. ``commands``: container commands may run. ``on`` names the
    executor, where it is not the hub's own, with its ``host`` for one that is a service elsewhere.
    ``experiment`` is what the run belongs to, and ``parent_record`` MLflow's run that it is a part of. With
    ``no_gpus`` steps that ask for GPUs run all the same, without any.
    """

    cache: bool = True
    cache_age_ms_max: int = 0
    verify_share: float = 0.0
    seed: int = 0
    commands: bool = False
    on: str = ""
    host: str = ""
    experiment: str = ""
    parent_record: str = ""
    no_gpus: bool = False

    def fitted(self, component: Component, params: Mapping[str, Any] | None = None) -> Component:
        """The component as it is to run: with what a task's inputs, where ``params`` are known, tell of its
        resources, and without GPUs where they are done without. BadInput for an input that is no amount.
        """
        asked = component.resources if params is None else settled(component.resources, params)
        asked = replace(asked, gpus=0) if self.no_gpus else asked
        return component if asked == component.resources else replace(component, resources=asked)

    def check(self) -> RunOptions:
        """Itself; BadInput names what cannot be."""
        if not (math.isfinite(self.verify_share) and 0 <= self.verify_share <= 1):
            raise BadInput("the share of steps to verify is between 0 and 1", where="verify_share")
        if self.cache_age_ms_max < 0:
            raise BadInput("outputs cannot be younger than now", where="cache_age_ms_max")
        if bool(self.host) is not (self.on == KUBEFLOW):
            raise BadInput(
                "a host goes with kubeflow, and kubeflow with a host",
                where="host",
                hint="--on kubeflow --host URL",
            )
        if not 0 <= self.seed <= SEED_MAX:
            raise BadInput(f"a seed is between 0 and {SEED_MAX}", where="seed")
        return self


@dataclass(frozen=True, slots=True)
class Pins:
    """What a run that reproduces another takes from that, by the paths of steps.

    ``environments`` are digests of what steps ran on, and ``imports`` what importers brought in.
    """

    environments: Mapping[str, str] = field(default_factory=dict)
    imports: Mapping[str, Values] = field(default_factory=dict)
