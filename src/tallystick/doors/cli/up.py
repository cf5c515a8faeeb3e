"""``tally up``, ``tally import`` and ``tally settings``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tallystick.core.errors import BadInput
from tallystick.record.address import without_password
from tallystick.settings import describe
from tallystick.terminal.context import Tally, agreed, common

__all__ = ["COMMANDS"]


def _record(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for where MLflow's record is."""
    options = (
        click.option("--home", metavar="DIR", help="The state folder (default: tally-home)."),
        click.option("--database", metavar="URL", help="MLflow's database (default: mlflow.db in the home)."),
        click.option(
            "--artifact-store", metavar="WHERE", help="A folder or s3://bucket/prefix (default: in the home)."
        ),
        click.option(
            "--upgrade-database",
            is_flag=True,
            help="Agree that an older database is backed up, then migrated for the MLflow that is installed.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _warn_if_seen(database: str | None) -> None:
    """Say so where a password stands on the command line, as long as the program runs."""
    if database and without_password(database) != database:
        click.echo(
            "warning: whoever is on this machine can read the password in --database (ps shows it);"
            " say the URL in the variable TALLY_DATABASE, or leave the password to ~/.pgpass",
            err=True,
        )


@click.command()
@_record
@click.option("--artifact-roots", metavar="FOLDERS", help="Further folders that MLflow's pages may show.")
@click.option("--workspaces/--no-workspaces", default=None, help="MLflow's workspaces (default: off).")
@click.option("--host", metavar="ADDRESS", help="The address to listen on (default: 127.0.0.1).")
@click.option("--port", type=int, metavar="N", help="The port to listen on (default: 5000; 0: a free one).")
@click.option("--policy", metavar="FILE", help="The gate's rules (default: those that tallystick brings).")
@click.option("--sandbox", metavar="NAME", help="auto, bubblewrap or process (default: auto).")
@click.pass_obj
def up(tally: Tally, /, home: str | None, upgrade_database: bool, **flags: Any) -> None:
    """Start the hub: console, MLflow, pipelines and endpoints on one port.

    With --database it goes on with a database that MLflow has made, of any version from 2.0 on.
    """
    _warn_if_seen(flags["database"])
    tally.serve(tally.settings(home=home or tally.home, **flags), click.echo, agreed(upgrade_database))


@click.command("import")
@_record
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@common
@click.pass_obj
def bring(tally: Tally, /, folder: Path, home: str | None, upgrade_database: bool, **flags: Any) -> None:
    """Bring the runs, models and artifacts of an old ./mlruns folder into the hub's record.

    No hub may run on the home meanwhile. DIR is only read. What is there already stays as it is, so this may
    be done again.
    """
    if not folder.is_dir():
        raise BadInput("no such folder", where=str(folder))
    _warn_if_seen(flags["database"])
    settings = tally.settings(home=home or tally.home, **flags)
    done = tally.bring(settings, folder.absolute(), tally.screen.say, agreed(upgrade_database))
    lines = [f"imported from {folder}: {_counted(done['brought'])}"]
    lines += [f"there already: {_counted(done['there'])}"] if done["there"] else []
    tally.screen.result(done, "\n".join([*lines, *(f"  {note}" for note in done["notes"])]))


def _counted(counts: dict[str, int]) -> str:
    words = [
        f"{number:,} {what if number > 1 else what.removesuffix('s')}" for what, number in counts.items()
    ]
    return ", ".join(words) or "nothing"


@click.command()
@common
@click.pass_obj
def settings(tally: Tally) -> None:
    """List every setting: what holds now, its default, unit, limits and environment variable."""
    now = tally.settings(home=tally.home)
    rows = [{**row, "now": _shown(getattr(now, str(row["name"])))} for row in describe()]

    def limits(row: dict[str, object]) -> str:
        if row["low"] is None:
            return str(row["unit"])
        return f"{row['low']:g} to {row['high']:g} {row['unit']}".strip()

    shown = [
        [str(r["name"]), str(r["now"]), str(r["default"]), limits(r), str(r["env"]), str(r["doc"])]
        for r in rows
    ]
    heads = ["setting", "now", "default", "limits", "variable", "what it is for"]
    tally.screen.table(rows, heads, shown, "none")


def _shown(value: Any) -> Any:
    return without_password(value) if isinstance(value, str) else value


COMMANDS = (up, bring, settings)
