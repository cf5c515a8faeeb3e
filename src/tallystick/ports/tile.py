"""What a tile gets when it is opened: its place in the home, its options, and the parts it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """Handed to every tile's ``open_tile(place)``.

    ``home`` is the state folder (a tile uses a folder or file of its own name in it), ``options``
    are settings meant for the tile, ``parts`` are tiles of other ports by port name (for example
    ``parts["sandbox"]``) where the tile stands on them.
    """

    home: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
