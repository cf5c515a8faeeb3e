"""Where MLflow's database is: the URL that a person gave, read once and made whole."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

from tallystick.core.errors import BadInput, NotSupported
from tallystick.record.address import USER, without_password

__all__ = ["Address", "address_of"]

WHERE = "database"
_QUOTE = "in a user name or password write @ as %40, : as %3A, / as %2F and % as %25"
_EXAMPLES = "for example sqlite:///mlflow.db or postgresql://user@host/name"


@dataclass(frozen=True, slots=True)
class Address:
    """A database. ``url`` bears the password, where there is one: only ``str(address)`` may be shown.

    ``url`` names no driver, and a file by its whole path: ``sqlite:////whole/path`` or ``postgresql://...``.
    """

    url: str = field(repr=False)
    file: Path | None = None

    @property
    def kind(self) -> str:
        """``sqlite`` or ``postgresql``: also the name of the tile for it."""
        return self.url.partition(":")[0]

    @property
    def for_sqlalchemy(self) -> str:
        """The URL for MLflow: with psycopg 3 named, which SQLAlchemy before 2.1 does not choose by itself."""
        return self.url.replace("postgresql://", "postgresql+psycopg://", 1)

    def __str__(self) -> str:
        return str(self.file) if self.file else without_password(self.url)


def address_of(text: str, home: Path) -> Address:
    """The database that setting ``database`` means; where it is empty, the one in the home.

    BadInput for what is no URL, NotSupported for a database that is neither SQLite nor PostgreSQL.
    """
    if not text:
        return _sqlite_at(_in_home(home))
    scheme, mark, rest = text.partition("://")
    name, _, driver = scheme.lower().partition("+")
    if not mark or not re.fullmatch(r"[a-z][a-z0-9]*(\+[a-z0-9]+)?", scheme.lower()):
        raise BadInput("is not the URL of a database", where=WHERE, hint=_hint(text))
    if name == "sqlite" and driver in ("", "pysqlite"):
        return _sqlite(rest)
    if name in ("postgresql", "postgres"):
        return _postgresql(rest)
    raise NotSupported(f"{scheme} is not supported: SQLite and PostgreSQL are", where=WHERE, hint=_EXAMPLES)


def _hint(text: str) -> str:
    looks_like_a_file = "@" not in text and (Path(text).suffix in (".db", ".sqlite") or Path(text).exists())
    return f"did you mean sqlite:///{text}?" if looks_like_a_file else _EXAMPLES


def _in_home(home: Path) -> Path:
    """``mlflow.db``; in a home of an earlier tallystick ``tally.db``, which held MLflow's tables as well."""
    own, earlier = home / "mlflow.db", home / "tally.db"
    return earlier if not own.exists() and _has_mlflow(earlier) else own


def _has_mlflow(file: Path) -> bool:
    if not file.is_file():
        return False
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as db,
    ):
        return bool(db.execute("select 1 from sqlite_master where name = 'alembic_version'").fetchall())
    return False


def _sqlite(rest: str) -> Address:
    if not rest.startswith("/") or rest in ("/", "/:memory:"):
        hint = "a file: sqlite:///relative.db or sqlite:////whole/path.db"
        raise BadInput("names no file of SQLite", where=WHERE, hint=hint)
    return _sqlite_at(Path(rest[1:]).absolute())


def _sqlite_at(file: Path) -> Address:
    if any(mark in str(file) for mark in "?#%"):
        raise BadInput("the path of a database must not hold '?', '#' or '%'", where=str(file))
    return Address(f"sqlite:///{file}", file)


def _postgresql(rest: str) -> Address:
    url = f"postgresql://{rest}"
    try:
        found = USER.match(rest)
        if found and found[2] is not None:  # quoted: PostgreSQL takes less as it is than SQLAlchemy does
            url = (
                f"postgresql://{found[1]}:{quote(unquote_to_bytes(found[2]), safe='')}@{rest[found.end() :]}"
            )
        if "@" in rest[found.end() if found else 0 :]:
            raise BadInput("holds a stray @", where=without_password(url), hint=_QUOTE)
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise BadInput(
            "its host or port cannot be read", where=without_password(url), hint=_EXAMPLES
        ) from None
    if len(parts.path) < 2 and "dbname=" not in parts.query:
        raise BadInput("names no database", where=without_password(url), hint=_EXAMPLES)
    return Address(url)
