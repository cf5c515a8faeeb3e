"""The tuner: which parameters to try next, and which trial is not worth going on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from tallystick.core.study import Study, Trial

__all__ = ["Tuner"]


@runtime_checkable
class Tuner(Protocol):
    """Whatever it says follows from the study and its trials alone, so that it may be ended at any time.

    ``trials`` are all so far, in the order of their numbers, which count from 0 without a gap. NotSupported
    for a sampler or pruner that it does not know, and for a space that the sampler cannot search.
    """

    async def ask(self, study: Study, trials: Sequence[Trial]) -> Mapping[str, Any] | None:
        """Parameters of the next trial, one for each of ``study.space``; None when there are no others.

        The same study, by its settings and seed, and the same trials give the same parameters.
        """
        ...

    async def worse(self, study: Study, trials: Sequence[Trial], number: int) -> bool:
        """Whether trial ``number``, which runs, is to be pruned, by its ``steps`` beside those of others."""
        ...
