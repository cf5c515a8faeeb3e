"""Programs that make models, each in a process of its own: MLflow and what fits them warn, and weigh."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["REPOSITORY", "run_maker"]

REPOSITORY = Path(__file__).parents[3]


def run_maker(*words: str, seconds: int = 120) -> None:
    """``python WORDS`` in the repository, as in ``run_maker("-c", PROGRAM, str(folder))``, on one thread.

    Its warnings are not told; what it said at all, only where it fails.
    """
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    argv = [sys.executable, "-W", "ignore", *words]
    ended = subprocess.run(argv, env=env, cwd=REPOSITORY, check=False, timeout=seconds, capture_output=True)
    assert ended.returncode == 0, (ended.stdout + ended.stderr).decode(errors="replace")
