"""Grids: every combination of the values of a space, the last parameter changing fastest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tallystick.core.study import Dimension

__all__ = ["grid_point"]


def grid_point(space: Sequence[Dimension], number: int) -> dict[str, Any] | None:
    """The combination of that number, from 0; None past the last one."""
    point: dict[str, Any] = {}
    for one in reversed(space):
        points = one.points()
        number, place = divmod(number, len(points))
        point[one.name] = points[place]
    return None if number else {one.name: point[one.name] for one in space}
