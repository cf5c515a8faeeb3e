"""The program's commands, and the one place where an error becomes a line and an exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from tallystick import __version__
from tallystick.core.errors import TallyError
from tallystick.doors.cli import compare, debug, look, runs, schedules, status, studies, up, verbs
from tallystick.terminal.context import INTERRUPTED, Bring, Serve, Tally
from tallystick.terminal.show import visible

__all__ = ["answer", "cli", "run"]


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
    tally.begin(url, home, config)


for _module in (up, verbs, runs, debug, compare, studies, schedules, status, look):
    for _command in _module.COMMANDS:
        cli.add_command(_command)


def run(serve: Serve, bring: Bring, more: Iterable[click.Command] = ()) -> None:
    """Run the command line, and exit.

    ``serve`` stands behind ``tally up``, ``bring`` behind ``tally import``; ``more`` are commands of the
    floors above.
    """
    for command in more:
        cli.add_command(command)
    sys.exit(answer(Tally(serve, bring=bring), sys.argv[1:]))


def answer(tally: Tally, words: Sequence[str]) -> int:
    """Run one command line; its exit status."""
    try:
        ended = cli.main(list(words), prog_name="tally", obj=tally, standalone_mode=False)
    except TallyError as wrong:
        _tell(wrong, tally.screen.as_json)
        return wrong.exit_code
    except click.Abort:
        click.echo("stopped", err=True)
        return INTERRUPTED
    except click.ClickException as wrong:
        wrong.show()
        return wrong.exit_code
    except BrokenPipeError:
        return 1
    return ended if isinstance(ended, int) else 0


def _tell(wrong: TallyError, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(wrong.as_dict()), err=True)
        return
    where = f"{wrong.where}: " if wrong.where else ""
    click.echo(f"{click.style('error', fg='red')}: {visible(where + wrong.what)}", err=True)
    if wrong.hint:
        click.echo(f"  {visible(wrong.hint)}", err=True)
