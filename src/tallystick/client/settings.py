"""What a user may set, by environment variables; read once, as a store is opened."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

__all__ = ["Limits", "read_limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long points may wait, and how many."""

    flush_ms: int = 1000
    """TALLY_CLIENT_FLUSH_MS: a point is sent at most this long, in milliseconds, after it was logged."""
    buffer_points: int = 250_000
    """TALLY_CLIENT_BUFFER_POINTS: so many may wait, about 190 bytes each; whoever logs more waits."""
    retry_s: int = 300
    """TALLY_CLIENT_RETRY_S: a hub that is away is an error only after so many seconds."""


def read_limits() -> Limits:
    """The limits as the environment has them; MlflowException names a variable that is no number in range."""
    return Limits(
        flush_ms=_whole("TALLY_CLIENT_FLUSH_MS", 1000, least=1, most=3_600_000),
        buffer_points=_whole("TALLY_CLIENT_BUFFER_POINTS", 250_000, least=1, most=100_000_000),
        retry_s=_whole("TALLY_CLIENT_RETRY_S", 300, least=0, most=86_400),
    )


def _whole(name: str, default: int, *, least: int, most: int) -> int:
    word = os.environ.get(name, "").strip()
    if not word:
        return default
    if not (word.isascii() and word.isdigit() and least <= int(word) <= most):
        raise MlflowException(
            f"{name} is '{word}': a whole number from {least} to {most} is needed", INVALID_PARAMETER_VALUE
        )
    return int(word)
