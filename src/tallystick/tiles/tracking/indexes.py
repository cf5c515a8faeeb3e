"""The indexes that reading wants, beside MLflow's own."""

from __future__ import annotations

from tallystick.ports.database import Session
from tallystick.tiles.tracking import sql

__all__ = ["make_indexes"]


def make_indexes(session: Session) -> None:
    """Make what is not there yet, in the transaction that the caller began."""
    lite = session.name == "sqlite"
    before = session.rows(sql.INDEXES_KNOWN) if lite else []
    for statement in sql.INDEXES:
        session.run(statement)
    if lite and len(before) < len(sql.INDEXES) and session.rows(sql.STATISTICS_KNOWN):
        for statement in sql.INDEXES_MEASURE:
            session.run(statement)
