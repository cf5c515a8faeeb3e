"""What every command gets, and what several commands share: options, files, and leaving work behind."""

from __future__ import annotations

import contextlib
import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from tallystick.core.errors import BadInput, NotSupported
from tallystick.settings import FILE_NAME, Settings, load
from tallystick.terminal.client import Hub, find_hub
from tallystick.terminal.show import Screen

__all__ = ["INTERRUPTED", "Bring", "Serve", "Tally", "agreed", "check_file", "common", "goes_on"]

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""

Said = Callable[[str], None]
Agreed = Callable[[str], bool]
Serve = Callable[[Settings, Said, Agreed], None]
"""Runs a hub; it tells what happens, and asks before it changes what cannot be changed back."""
Bring = Callable[[Settings, Path, Said, Agreed], Mapping[str, Any]]
"""Imports a folder of MLflow's old file store while no hub runs; what came of it."""


def agreed(beforehand: bool) -> Agreed:
    """Asks on a terminal, and takes an empty line for no; elsewhere the answer is what was said before."""

    def ask(question: str) -> bool:
        return beforehand or (sys.stdin.isatty() and click.confirm(question, default=False))

    return ask


def _not_here(*_: Any) -> Mapping[str, Any]:
    raise NotSupported("this command line cannot import")


@dataclass
class Tally:
    """Where the hub is, how to show things, and how to start a hub.

    ``home_said`` tells whether somebody named the home, or it is the one that nobody needs to name.
    """

    serve: Serve
    url: str | None = None
    home: str = ""
    home_said: bool = False
    config: Path | None = None
    screen: Screen = field(default_factory=lambda: Screen(False))
    found: Hub | None = None
    bring: Bring = _not_here

    @property
    def hub(self) -> Hub:
        """The running hub, looked for once."""
        if self.found is None:
            settings = self.settings(home=self.home)
            self.found = find_hub(self.url, Path(self.home), self.home_said, settings)
        return self.found

    def settings(self, **flags: Any) -> Settings:
        """The settings, with this command's flags over them."""
        return load(flags, file=self.config)

    def begin(self, url: str | None, home: str | None, config: Path | None) -> None:
        """Take what stands before the command's name."""
        self.url, self.config = url, config
        self.home = self.settings(home=home).home
        self.home_said = home is not None or "TALLY_HOME" in os.environ or self._file_says_home()

    def _file_says_home(self) -> bool:
        file = self.config or Path(FILE_NAME)
        return file.is_file() and "home" in tomllib.loads(file.read_text("utf-8"))


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` to a command."""

    def begin(context: click.Context, _: click.Parameter, value: bool) -> None:
        context.find_root().obj.screen = Screen(value)

    option = click.option(
        "--json", is_flag=True, expose_value=False, callback=begin, help="Print the result as JSON."
    )
    return option(command)


def check_file(file: Path) -> Path:
    """The file; BadInput when there is none, or none that we may read."""
    if file.is_dir():
        raise BadInput("is a folder, not a file", where=str(file))
    if not file.is_file():
        raise BadInput("no such file", where=str(file))
    if not os.access(file, os.R_OK):
        raise BadInput("may not be read by you", where=str(file))
    return file


@contextlib.contextmanager
def goes_on(tally: Tally, key: str, how: str) -> Iterator[None]:
    """For waiting on work that the hub does: Ctrl-C ends the waiting, and says that the work goes on."""
    try:
        yield
    except KeyboardInterrupt:
        tally.screen.done()
        tally.screen.say(f"{key} goes on; {how}")
        raise click.exceptions.Exit(INTERRUPTED) from None
