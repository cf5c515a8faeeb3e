"""What an endpoint was asked and answered, copied for a process that reads it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from tallystick.hub.house import House

__all__ = ["copied_exchanges"]


async def copied_exchanges(house: House, endpoint: str, folder: Path) -> list[Path]:
    """Copies of the files of its window in ``folder``, which is made, in order.

    The record makes room meanwhile, and a wall shows what stays.
    """
    window = await house.traffic.window(house.tenant, endpoint)
    return await asyncio.to_thread(_copied, window, folder)


def _copied(window: Sequence[Path], folder: Path) -> list[Path]:
    folder.mkdir(mode=0o700)
    copies: list[Path] = []
    for number, path in enumerate(window):
        with contextlib.suppress(FileNotFoundError):  # it has made room since
            copies.append(Path(shutil.copyfile(path, folder / f"{number:06d}")))
    return copies
