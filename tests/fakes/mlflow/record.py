"""The tracking tile on the database tile that a place's option ``database`` asks for."""

from __future__ import annotations

from dataclasses import replace

from tallystick.ports.tile import Place
from tallystick.tiles.database import postgresql, sqlite
from tallystick.tiles.tracking.record import Record, open_tile

__all__ = ["open_record"]


def open_record(place: Place) -> Record:
    """As the house does it."""
    kind = sqlite if str(place.options["database"]).startswith("sqlite") else postgresql
    return open_tile(replace(place, parts={"database": kind.open_tile(place)}))
