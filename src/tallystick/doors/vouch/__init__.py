"""The notary's door: commands that sign models, hand them out with their papers, and check these anywhere."""

from __future__ import annotations

import click

from tallystick.doors.vouch.check import Inspect
from tallystick.doors.vouch.commands import all_commands
from tallystick.doors.vouch.keys import OpenSigning, trust_command

__all__ = ["vouch_commands"]


def vouch_commands(open_signing: OpenSigning, inspect: Inspect | None = None) -> tuple[click.Command, ...]:
    """All of them. ``open_signing`` opens keys; ``inspect`` looks at files without loading any."""
    return (*all_commands(open_signing, inspect), trust_command(open_signing))
