"""The command line with the commands of this door, before a hub that says what a test wants."""

from __future__ import annotations

from tallystick.doors.cli.main import cli
from tallystick.doors.store import COMMANDS
from tests.doors.cli.conftest import desk, nobody_elses_settings

__all__ = ["desk", "nobody_elses_settings"]

for _command in COMMANDS:  # as wiring/main.py adds them
    cli.add_command(_command)
