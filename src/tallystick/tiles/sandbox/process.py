"""A plain process with limits: for code that is one's own, and where nothing stronger can be had."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.core.wall import Strength, Wall
from tallystick.ports.sandbox import Confined
from tallystick.ports.tile import Place
from tallystick.tiles.sandbox.confined import Order, Warden

__all__ = ["NOT_DONE", "ProcessSandbox", "open_tile"]

NOT_DONE = (
    "sees all files that the hub's user may see, its other processes, and the keys in its user keyring",
    "reaches the network",
    "limits hold for each process, not for all of them together, and memory counts only where it is private: "
    "shared memory (mmap, memfd) is not limited, nor is the number of processes",
    "no filter of system calls",
)
"""What this sandbox does not do, in plain words.

The number of processes is left alone because the kernel counts all of the user's, their desktop's included.
"""


class ProcessSandbox:
    """A process in a session of its own with the wall's environment and limits: nothing else of a wall."""

    def __init__(self) -> None:
        self._warden = Warden()

    def strength(self) -> Strength:
        """Limits only; ``NOT_DONE`` says the rest."""
        return Strength(
            "process", hides_files=False, blocks_network=False, hides_processes=False, limits_resources=True
        )

    async def spawn(self, argv: Sequence[str], wall: Wall) -> Confined:
        """Start ``argv`` with the limits of ``wall``; Unavailable when it cannot be started."""
        return await self._warden.start(Order.behind(wall, argv))

    async def close(self) -> None:
        """End everything that was started and is still running."""
        await self._warden.close()


def open_tile(place: Place) -> ProcessSandbox:
    """The sandbox; it keeps nothing in the home."""
    return ProcessSandbox()
