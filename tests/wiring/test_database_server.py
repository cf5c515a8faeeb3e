"""MLflow's database in PostgreSQL: reached or not, migrated with a backup, and shared by several hubs."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tallystick.core.errors import BadInput, Conflict, Failed, MissingTile, NotSupported, Unavailable
from tallystick.wiring.database.address import address_of
from tallystick.wiring.database.backup import back_up
from tallystick.wiring.database.schema import installed_mlflow
from tests.fakes.mlflow.postgres import PostgresServer, postgres
from tests.fakes.old.database import AT_2_0, make_old_mlflow
from tests.wiring.talking import Person

__all__ = ["postgres"]

pytest.importorskip("mlflow")
MLFLOW = installed_mlflow()
assert MLFLOW
TEMPLATE = "old_mlflow"


@pytest.fixture(scope="module")
def server(postgres: PostgresServer) -> PostgresServer:
    """A server with a database of MLflow 2.0 to copy."""
    make_old_mlflow(postgres.create(TEMPLATE), AT_2_0)
    return postgres


@pytest.fixture
def old(server: PostgresServer) -> Iterator[str]:
    """The name of a database of MLflow 2.0."""
    name = f"old_{secrets.token_hex(4)}"
    server.create(name, TEMPLATE)
    yield name
    server.drop(name)


def _ask(server: PostgresServer, name: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url_of(name, "")) as db:
        return db.execute(statement.encode()).fetchall()


def test_it_is_backed_up_and_then_migrated(tmp_path: Path, server: PostgresServer, old: str) -> None:
    before = _ask(server, old, "select * from metrics order by 1, 2, 3, 4, 5, 6")
    somebody = Person(agrees=True)
    first = somebody.open(tmp_path / "home", server.url_of(old))
    assert _ask(server, old, "select version_num from alembic_version") == [(MLFLOW.head,)]
    assert _ask(server, old, "select count(*) from metrics") == [(200,)]
    (backup,) = (tmp_path / "home" / "backups").iterdir()
    assert backup.stat().st_mode & 0o077 == 0
    second = Person().open(tmp_path / "home 2", server.url_of(old, ""))  # several hubs share it
    second.close()
    first.close()
    other = f"{old}_back"
    server.create(other)
    restore = ["pg_restore", f"--dbname={server.url_of(other, '')}", str(backup)]
    subprocess.run(restore, check=True, timeout=120)
    assert _ask(server, other, "select * from metrics order by 1, 2, 3, 4, 5, 6") == before
    server.drop(other)


def test_nothing_is_done_that_nobody_agreed_to(tmp_path: Path, server: PostgresServer, old: str) -> None:
    with pytest.raises(Conflict, match="nothing was changed"):
        Person().open(tmp_path / "home", server.url_of(old))
    assert _ask(server, old, "select version_num from alembic_version") == [(AT_2_0,)]
    assert not (tmp_path / "home" / "backups").exists()


def test_a_migration_that_fails_says_how_to_go_back(tmp_path: Path, server: PostgresServer, old: str) -> None:
    with psycopg.connect(server.url_of(old, ""), autocommit=True) as db:
        db.execute("create table trace_info (in_the_way int)")
    with pytest.raises(
        Failed, match=r"already exists.*pg_restore --clean --if-exists --dbname=postgresql://"
    ):
        Person(agrees=True).open(tmp_path / "home", server.url_of(old))
    assert _ask(server, old, "select count(*) from metrics") == [(200,)]


def test_pg_dump_must_be_there_and_new_enough_before_anybody_is_asked(
    tmp_path: Path, server: PostgresServer, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody = Person(agrees=True)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(MissingTile, match=r"pg_dump is needed.*apt-get install postgresql-client,"):
        somebody.open(tmp_path / "home", server.url_of(old))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "pg_dump"
    program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    program.chmod(0o755)
    with pytest.raises(MissingTile, match=r"pg_dump is of PostgreSQL 9, .*postgresql-client-\d+"):
        somebody.open(tmp_path / "home", server.url_of(old))
    assert somebody.heard == []


def test_a_server_that_does_not_answer_and_a_database_that_is_not_there(
    tmp_path: Path, server: PostgresServer
) -> None:
    with pytest.raises(Unavailable, match=r"does not exist.*createdb"):
        Person().open(tmp_path / "home", server.url_of("nobody_made_it"))
    gone = f"postgresql://ada:secret@/runs?host={tmp_path}"
    with pytest.raises(Unavailable, match="PostgreSQL does not answer") as wrong:
        Person().open(tmp_path / "home", gone)
    assert "secret" not in str(wrong.value)
    assert "ada:***@" in str(wrong.value)


def test_a_client_that_cannot_read_the_address_quotes_nothing_of_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read it") as wrong:
        Person().open(tmp_path / "home", "postgresql:///runs?password=a&secret")
    assert "secret" not in str(wrong.value)


def test_other_peoples_tables_and_none(tmp_path: Path, server: PostgresServer, old: str) -> None:
    server.create(f"{old}_x")
    database = Person().open(tmp_path / "home", server.url_of(f"{old}_x"))
    assert "native as soon as" in database.why_not_native()
    database.close()
    with psycopg.connect(server.url_of(f"{old}_x", ""), autocommit=True) as db:
        db.execute("create table recipes (x int)")
    with pytest.raises(Conflict, match=r"holds other tables \(recipes\)"):
        Person().open(tmp_path / "home", server.url_of(f"{old}_x"))
    server.drop(f"{old}_x")


def test_a_password_is_on_no_command_line(
    tmp_path: Path, server: PostgresServer, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may list processes reads their arguments."""
    program = tmp_path / "bin" / "pg_dump"
    program.parent.mkdir()
    real = os.environ["PATH"]
    seen = f'echo "$@" >> {tmp_path}/said; [ -z "$PGSERVICEFILE" ] || cp "$PGSERVICEFILE" {tmp_path}/service'
    program.write_text(f'#!/bin/sh\n{seen}\nPATH={real} exec pg_dump "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{real}")
    url = re.sub("//postgres@", "//postgres:very%20secret@", server.url_of(old))
    url += f"{'&' if '?' in url else '?'}sslpass%77ord=another%20secret"
    of_service = address_of(f"{url}&service=mine", tmp_path)
    with pytest.raises(NotSupported, match=r"write sslpassword into the file of that service"):
        back_up(of_service, tmp_path / "no.dump")
    somebody = Person(agrees=True)
    somebody.open(tmp_path / "home", url).close()
    said = (tmp_path / "said").read_text()
    assert "postgres@" in said
    assert "secret" not in said + somebody.text
    assert (tmp_path / "service").read_text() == "[tally]\nsslpassword=another secret\n"
    assert (tmp_path / "service").stat().st_mode & 0o077 == 0
