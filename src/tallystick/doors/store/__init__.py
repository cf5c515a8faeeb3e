"""Commands about what the home keeps: ``tally artifact`` and ``tally env``."""

from tallystick.doors.store.artifacts import artifact
from tallystick.doors.store.environments import env

__all__ = ["COMMANDS"]

COMMANDS = (artifact, env)
