"""Stock MLflow and a hub beside each other, on databases of their own, once for all tests here.

``TALLY_DIFF_DATABASE=postgresql`` compares them on PostgreSQL instead of SQLite.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential.servers import database_of, hub_on, stock_on
from tests.differential.twin import Twin
from tests.fakes.mlflow.postgres import start_postgres

ON_POSTGRES = os.environ.get("TALLY_DIFF_DATABASE") == "postgresql"


class Pair:
    """The two, running, and a ``twin`` that asks both. ``databases`` are stock's and the hub's."""

    def __init__(
        self,
        folder: Path,
        databases: tuple[str, str],
        stock_words: tuple[str, ...],
        hub_words: tuple[str, ...],
    ) -> None:
        self.databases = databases
        self._folder = folder
        self._words = (stock_words, hub_words)
        self._changes = 0
        self._open(databases[1])

    def _open(self, hub_database: str) -> None:
        folder = self._folder / str(self._changes)
        words = (*self._words[1], "--database", hub_database) if hub_database else self._words[1]
        if not hub_database:
            self.databases = (self.databases[0], f"sqlite:///{database_of(folder / 'home')}")
        with contextlib.ExitStack() as undo:
            self.stock = stock_on(self.databases[0], folder / "stock", *self._words[0])
            undo.callback(self.stock.end)
            self.hub = hub_on(folder / "home", *words)
            undo.pop_all()
        self.twin = Twin(self.stock.url, self.hub.url)

    def close(self) -> None:
        self.twin.close()
        if self.hub.process.poll() is None:
            self.hub.end()
        self.stock.end()

    def swap(self) -> None:
        """Each goes on with the database of the other; what was made is known by its marks still."""
        self.close()
        before = self.twin
        self.databases = (self.databases[1], self.databases[0])
        self._changes += 1
        self._open(self.databases[1])
        for side, other in zip(self.twin.sides, reversed(before.sides), strict=True):
            side.know(other)


@contextlib.contextmanager
def paired(
    folder: Path, *, stock_words: tuple[str, ...] = (), hub_words: tuple[str, ...] = ()
) -> Iterator[Pair]:
    """Both, each on an empty database, while the context lasts."""
    with contextlib.ExitStack() as stack:
        databases = (f"sqlite:///{folder}/mlflow.db", "")
        if ON_POSTGRES:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="tally-diff-"))
            server = start_postgres(Path(place))
            stack.callback(server.stop)
            databases = (server.create("stock"), server.create("hub"))
        yield stack.enter_context(contextlib.closing(Pair(folder, databases, stock_words, hub_words)))


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with paired(tmp_path_factory.mktemp("twins")) as both:
        yield both


@pytest.fixture
def twin(pair: Pair) -> Twin:
    """Both servers; nothing made by another test is known."""
    pair.twin.new_page()
    return pair.twin
