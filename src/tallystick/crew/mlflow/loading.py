"""Loading MLflow in a process of ours: it tells nobody of its use, and is missed in the house's words."""

from __future__ import annotations

import contextlib
import gc
import os
import warnings
from collections.abc import Iterator, Mapping

from tallystick.core.errors import MissingTile

__all__ = ["TELLS_NOBODY", "loading_mlflow"]

TELLS_NOBODY: Mapping[str, str] = {"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
"""What MLflow reads as it is imported."""


@contextlib.contextmanager
def loading_mlflow(extras: str) -> Iterator[None]:
    """Around the imports; MissingTile names the package that is not there; ``extras`` would bring it.

    Meanwhile no garbage is collected: there is hardly any, and looking for it takes a fifth of the time.
    """
    os.environ |= TELLS_NOBODY
    warnings.simplefilter("ignore")  # of what MLflow imports; nobody here could mend it
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    except ImportError as missing:
        raise MissingTile(
            f"it needs the Python package {missing.name or missing}",
            where="MLflow",
            hint=f"pip install 'tallystick[{extras}]'",
        ) from missing
    finally:
        gc.freeze()  # what was imported stays: it is looked through no more
        if collects:
            gc.enable()
