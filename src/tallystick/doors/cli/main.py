"""The program's commands, and the one place where an error becomes a line and an exit status."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from tallystick import __version__
from tallystick.core.errors import TallyError
from tallystick.doors.cli import demo, look, up, verbs
from tallystick.doors.cli.context import Serve, Tally

__all__ = ["cli", "run"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tally")
@click.option("--url", metavar="URL", help="The hub to ask (default: TALLY_URL, or the hub of this home).")
@click.option("--home", metavar="DIR", help="The state folder (default: tally-home).")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings (default: tallystick.toml)."
)
@click.pass_obj
def cli(tally: Tally, url: str | None, home: str | None, config: Path | None) -> None:
    """The whole life of a model, from data to remedy, in one program.

    Start with `tally up`, or see everything at once with `tally demo`.
    """
    tally.url, tally.config = url, config
    tally.home = tally.settings(home=home).home


for _command in (*up.COMMANDS, *verbs.COMMANDS, *look.COMMANDS, *demo.COMMANDS):
    cli.add_command(_command)


def run(serve: Serve) -> None:
    """Run the command line with ``serve`` behind ``tally up``, and exit."""
    tally = Tally(serve)
    try:
        status = cli.main(obj=tally, standalone_mode=False)
    except TallyError as wrong:
        _tell(wrong, tally.screen.as_json)
        status = wrong.exit_code
    except click.Abort:
        click.echo("stopped", err=True)
        status = 130
    except click.ClickException as wrong:
        wrong.show()
        status = wrong.exit_code
    except BrokenPipeError:
        status = 1
    sys.exit(status)


def _tell(wrong: TallyError, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(wrong.as_dict()), err=True)
        return
    where = f"{wrong.where}: " if wrong.where else ""
    click.echo(f"{click.style('error', fg='red')}: {where}{wrong.what}", err=True)
    if wrong.hint:
        click.echo(f"  {wrong.hint}", err=True)
