"""Links in a file store: those that lead out of it are not followed, whatever MLflow's own reader does.

Somebody else may have made the folder: ``artifacts/k -> ~/.ssh/id`` would be copied to where it is served.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

__all__ = ["LEFT_OUT", "leads_out", "link_out"]

LEFT_OUT = "is a link out of the file store, and was left out"


def leads_out(path: Path, mlruns: Path) -> bool:
    """Whether what ``path`` means, all links followed, is not in the file store."""
    return not path.resolve().is_relative_to(mlruns.resolve())


def link_out(folder: Path, mlruns: Path, without: Collection[str] = ()) -> Path | None:
    """``folder``, the record of an experiment, run or model, or the first below it that leads out.

    Neither artifacts are looked at nor ``without``, names right below ``folder``.
    """
    if leads_out(folder, mlruns):
        return folder
    for at, folders, files in os.walk(folder):
        below = os.path.relpath(at, folder)
        passed_over = without if below == "." else ()
        folders[:] = [n for n in folders if n not in passed_over and not _is_artifacts(below, n)]
        for name in (*folders, *files):
            path = Path(at, name)
            if path.is_symlink() and leads_out(path, mlruns):
                return path
    return None


def _is_artifacts(below: str, name: str) -> bool:
    """Whether they are a run's, a trace's or a model's: a tag or param may be called ``artifacts`` too."""
    return name == "artifacts" and (below == "." or re.fullmatch("(traces|models)/[^/]+", below) is not None)
