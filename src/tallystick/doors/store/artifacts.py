"""``tally artifact``: files and folders into the store and out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.progress import DownloadColumn, Progress, TextColumn

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
    with _counting(tally, path.name) as progress:
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
    with _counting(tally, path.name) as progress:
        found = get_artifact(tally.hub, what, path, progress)
    tally.screen.result({**found, "path": str(path)}, f"{path}: {found['digest']}")


@contextmanager
def _counting(tally: Tally, words: str) -> Iterator[Callable[[int], None]]:
    """A line with the bytes done, on a terminal."""
    screen = tally.screen.err
    columns = TextColumn("{task.description}"), DownloadColumn()
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(words, total=None)
        yield lambda size: bar.advance(task, size)
