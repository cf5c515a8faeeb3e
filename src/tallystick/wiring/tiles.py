"""Finding tiles by entry point; built-in ones take the same route as everybody's."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import MissingTile
from tallystick.ports.tile import Place

if TYPE_CHECKING:
    from tallystick.evidence.supply import Inspected
    from tallystick.ports.models.inspection import Inspection
    from tallystick.ports.models.signing import Signing

__all__ = ["inspect", "known_tiles", "open_signing", "open_tile"]

GROUP = "tallystick."


def known_tiles(port: str) -> dict[str, EntryPoint]:
    """The installed tiles of a port, by name."""
    found = _installed(tuple(sys.path)).select(group=GROUP + port)
    return {e.name: e for e in sorted(found, key=lambda e: e.name)}


@functools.lru_cache(maxsize=1)
def _installed(_path: tuple[str, ...]) -> Any:
    """Every entry point there is, looked for once: to read all packages' lists anew for each port was a third
    of the CPU of a hub's start.
    """
    return entry_points()  # of two kinds: Python 3.11 has one of its own for all groups


def open_tile(port: str, name: str, place: Place) -> Any:
    """Open the tile ``name`` of ``port``; MissingTile says which are installed and what to install."""
    found = known_tiles(port)
    if name not in found:  # its package may have been installed since
        _installed.cache_clear()
        found = known_tiles(port)
    entry = found.get(name)
    if entry is None:
        raise MissingTile(
            f"no {port} tile {name!r} is installed; installed: {', '.join(found) or 'none'}",
            where=f"tile {port}/{name}",
            hint=f"install the package that brings it, or choose an installed {port}",
        )
    try:
        opener: Callable[[Place], Any] = entry.load()
        return opener(place)
    except ImportError as missing:
        raise MissingTile(
            f"it needs the Python package {missing.name or missing}",
            where=f"tile {port}/{name}",
            hint=_install_command(entry),
        ) from missing


def _install_command(entry: EntryPoint) -> str:
    """From the entry point's own words: its distribution and the extras that it names in brackets."""
    package = entry.dist.name if entry.dist else "tallystick"
    extras = ",".join(entry.extras)
    return f"pip install '{package}[{extras}]'" if extras else f"pip install {package}"


def open_signing(home: Path, trusted: Sequence[tuple[str, str]] | None = None, private: str = "") -> Signing:
    """The keys of a home, or those that are handed over in its place: for commands that need no hub."""
    options: dict[str, Any] = {} if trusted is None else {"trusted": list(trusted)}
    options |= {"private": private} if private else {}
    signing: Signing = open_tile("signing", "dsse", Place(home, options))
    return signing


def inspect(folder: Path) -> Inspected:
    """What a download's files are. It loads none of them, so that it may be done where the command runs."""
    options = {"inspection_advisors": False}  # their advice decides nothing, and they would all be imported
    inspection: Inspection = open_tile("inspection", "strict", Place(folder, options))
    return inspection.inspect(folder, lambda _share, _words: None)
