"""What Ray places: a task that has the step's share of a node while the node's keeper runs the step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray

__all__ = ["NAMESPACE", "Hand", "hold", "name_of"]

NAMESPACE = "tallystick"
_keepers: dict[str, Any] = {}
"""The keepers that this worker has found already."""


def name_of(prefix: str, node: str) -> str:
    """The name of the actor that is the keeper of a node."""
    return f"{prefix}-{node}"


@ray.remote(max_retries=0, num_cpus=1)
def hold(prefix: str, order: Mapping[str, Any]) -> tuple[str, str]:
    """Have a step run by the keeper of the node that this task is on: ``("done" or "nobody", node)``.

    Not by ``ray.get``: while that waits, the task's CPUs would be given to others.
    """
    node = ray.get_runtime_context().get_node_id()
    name = name_of(prefix, node)
    try:
        keeper = _keepers.get(name) or _keepers.setdefault(name, ray.get_actor(name, NAMESPACE))
    except ValueError:
        return "nobody", node
    try:
        keeper.run.remote(order, _gpus()).future().result()
    except BaseException:
        _keepers.pop(name, None)
        raise
    return "done", node


def _gpus() -> list[str]:
    """The GPUs that Ray has given to this task or actor."""
    return [str(gpu) for gpu in ray.get_runtime_context().get_accelerator_ids().get("GPU", ())]


class _Hand:
    """Holds one worker's GPUs of a step with several workers, and says which they are."""

    def gpus(self) -> list[str]:
        """Their numbers on this node."""
        return _gpus()


Hand: Any = ray.remote(num_cpus=0)(_Hand)
