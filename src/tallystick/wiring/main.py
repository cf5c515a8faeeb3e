"""The program ``tally``: the command line, with the hub behind ``tally up``."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tallystick.doors.cli.main import run
from tallystick.doors.judge import COMMANDS as JUDGE
from tallystick.doors.store import COMMANDS as STORE
from tallystick.doors.vouch import vouch_commands
from tallystick.settings import WITH_PARENT, Settings
from tallystick.tour.demo import COMMANDS
from tallystick.wiring.tiles import inspect, open_signing

__all__ = ["main"]


def _serve(settings: Settings, said: Callable[[str], None], agreed: Callable[[str], bool]) -> None:
    from tallystick.wiring.database.upgrade import Talk
    from tallystick.wiring.server import serve  # late: the other commands start quicker without it

    if WITH_PARENT in os.environ:
        # prctl(2), PR_SET_PDEATHSIG: a hub that another command started ends with it, however that ended
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    serve(settings, Talk(said, agreed))


def _bring(
    settings: Settings, folder: Path, said: Callable[[str], None], agreed: Callable[[str], bool]
) -> Mapping[str, Any]:
    from tallystick.wiring.bring import bring
    from tallystick.wiring.database.upgrade import Talk

    return bring(settings, folder, Talk(said, agreed))


def main() -> None:
    """Run the command line; never returns."""
    run(_serve, _bring, (*COMMANDS, *JUDGE, *STORE, *vouch_commands(open_signing, inspect)))
