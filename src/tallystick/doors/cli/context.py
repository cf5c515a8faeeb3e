"""What every command gets, and the option that every command takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from tallystick.doors.cli.client import Hub, find_url
from tallystick.doors.cli.show import Screen
from tallystick.settings import Settings, load

__all__ = ["Serve", "Tally", "common"]

Serve = Callable[[Settings, Callable[[str], None]], None]


@dataclass
class Tally:
    """Where the hub is, how to show things, and how to start a hub."""

    serve: Serve
    url: str | None = None
    home: str = ""
    config: Path | None = None
    screen: Screen = field(default_factory=lambda: Screen(False))

    @property
    def hub(self) -> Hub:
        """The running hub."""
        return Hub(find_url(self.url, self.home))

    def settings(self, **flags: Any) -> Settings:
        """The settings, with this command's flags over them."""
        return load(flags, file=self.config)


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` to a command."""

    def begin(context: click.Context, _: click.Parameter, value: bool) -> None:
        context.find_root().obj.screen = Screen(value)

    option = click.option(
        "--json", is_flag=True, expose_value=False, callback=begin, help="Print the result as JSON."
    )
    return option(command)
