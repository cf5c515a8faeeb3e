"""``tally artifact``: files and folders into the store and out of it."""

from __future__ import annotations

from pathlib import Path

import click

from tallystick.core.errors import BadInput
from tallystick.terminal.artifacts import get_artifact, put_artifact
from tallystick.terminal.context import Tally, common

__all__ = ["artifact"]


@click.group()
def artifact() -> None:
    """Files and folders that are kept by their content: put, get."""


@artifact.command()
@click.argument("path", type=click.Path(path_type=Path))
@common
@click.pass_obj
def put(tally: Tally, path: Path) -> None:
    """Keep PATH, a file or folder. `tally run --input NAME=DIGEST` gives it to a pipeline."""
    if not path.exists():
        raise BadInput("no such file or folder", where=str(path))
    with tally.screen.counting(path.name) as progress:
        kept = put_artifact(tally.hub, path, progress)
    tally.screen.result(kept, str(kept["digest"]))


@artifact.command()
@click.argument("what")
@click.argument("path", type=click.Path(path_type=Path))
@common
@click.pass_obj
def get(tally: Tally, what: str, path: Path) -> None:
    """Write WHAT to PATH, a new file or folder: every byte is checked.

    WHAT is a digest (sha256:...), RUN/OUTPUT, RUN/STEP/OUTPUT, TABLE or TABLE@SNAPSHOT (as Parquet), or a
    tally:// URI.
    """
    with tally.screen.counting(path.name) as progress:
        found = get_artifact(tally.hub, what, path, progress)
    tally.screen.result({**found, "path": str(path)}, f"{path}: {found['digest']}")
