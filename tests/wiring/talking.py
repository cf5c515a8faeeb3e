"""What the tests of MLflow's database share: somebody to talk to, and what a file holds."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tallystick.settings import Settings
from tallystick.wiring.database.opened import Database, open_database
from tallystick.wiring.database.upgrade import Talk

__all__ = ["Person", "rows_of"]


@dataclass
class Person:
    """Hears what is said, and gives the same answer to every question."""

    agrees: bool = False
    heard: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def talk(self) -> Talk:
        return Talk(self.heard.append, self._answer)

    @property
    def text(self) -> str:
        return "\n".join(self.heard)

    def _answer(self, question: str) -> bool:
        self.asked.append(question)
        return self.agrees

    def open(self, home: Path, database: str = "", **settings: Any) -> Database:
        home.mkdir(exist_ok=True)
        return open_database(Settings(database=database, **settings), home, self.talk)


def rows_of(file: Path, statement: str) -> list[tuple[Any, ...]]:
    """What a statement finds in a file of SQLite."""
    with contextlib.closing(sqlite3.connect(file)) as db:
        return db.execute(statement).fetchall()
