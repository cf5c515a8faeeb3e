"""The program ``tally``: the command line, with the hub behind ``tally up``."""

from __future__ import annotations

from collections.abc import Callable

from tallystick.doors.cli.main import run
from tallystick.settings import Settings

__all__ = ["main"]


def _serve(settings: Settings, said: Callable[[str], None]) -> None:
    from tallystick.wiring.server import serve  # late: the other commands start quicker without it

    serve(settings, said)


def main() -> None:
    """Run the command line; never returns."""
    run(_serve)
