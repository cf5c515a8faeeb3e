"""Download a model with its papers: ``model/``, and what is signed beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tallystick.doors.vouch.check import BOM, MODEL, PROVENANCE_FILE, VERDICT_FILE
from tallystick.evidence.papers.oms import SIGNATURE_FILE
from tallystick.terminal.artifacts import check_new, new_place, write_artifact
from tallystick.terminal.client import Hub

__all__ = ["download"]

PAPERS = (PROVENANCE_FILE, SIGNATURE_FILE, BOM, VERDICT_FILE)


def download(hub: Hub, model: str, folder: Path, progress: Callable[[int], None]) -> dict[str, Any]:
    """Write model and papers into ``folder``, which must not exist: whole or not at all. What the hub said.

    Conflict where the folder exists; Damaged when the hub sends what is no file or folder.
    """
    check_new(folder, "folder")
    said: dict[str, Any] = hub.post("/papers", model=model)
    wanted = {MODEL: said["model"]["digest"]}
    wanted |= {name: digest for name, digest in said["papers"].items() if name in PAPERS}
    with new_place(folder) as temp:
        whole = temp / "whole"
        whole.mkdir(mode=0o755)
        for name, digest in wanted.items():
            write_artifact(hub, digest, temp, whole / name, progress)
        whole.rename(folder)
    return said
