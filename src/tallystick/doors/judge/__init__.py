"""The judge's door: commands that judge models, harden them, show verdicts, and try out policies."""

from __future__ import annotations

import click

from tallystick.doors.judge import harden, policies, verdicts

__all__ = ["COMMANDS"]

COMMANDS: tuple[click.Command, ...] = (*verdicts.COMMANDS, *harden.COMMANDS, *policies.COMMANDS)
