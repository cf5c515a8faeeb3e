"""MLflow's database in a file: which one is meant, what may be wrong with it, and old ones migrated."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Conflict, Damaged, Failed, NotSupported, TallyError, Unavailable
from tallystick.wiring.database.address import address_of
from tallystick.wiring.database.hold import hold
from tallystick.wiring.database.schema import installed_mlflow
from tests.fakes.machine.disk import make_read_only, mounted
from tests.fakes.old.database import AT_2_0, AT_2_10, AT_3_0, make_old_mlflow
from tests.wiring.talking import Person, rows_of

pytest.importorskip("mlflow")
MLFLOW = installed_mlflow()
assert MLFLOW
HEAD = MLFLOW.head
REVISION = "select version_num from alembic_version"


# ---------------------------------------------------------------------- addresses


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for said, url in (
        ("", f"sqlite:///{tmp_path}/home/mlflow.db"),
        ("sqlite:///old/mlflow.db", f"sqlite:///{tmp_path}/old/mlflow.db"),
        ("sqlite:////var/m.db", "sqlite:////var/m.db"),
        ("sqlite+pysqlite:////var/m.db", "sqlite:////var/m.db"),
        ("postgresql://ada:p%40ss@host:5433/runs?sslmode=require",) * 2,
        ("postgresql://ada:a/b?c#d:100%@host/runs", "postgresql://ada:a%2Fb%3Fc%23d%3A100%25@host/runs"),
        ("postgres://host/runs", "postgresql://host/runs"),
        ("postgresql+psycopg2://host/runs", "postgresql://host/runs"),
    ):
        assert address_of(said, tmp_path / "home").url == url


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("mlflow.db", BadInput, "did you mean sqlite:///mlflow.db?"),
        ("sqlite://", BadInput, "names no file"),
        ("sqlite:///:memory:", BadInput, "names no file"),
        ("sqlite:///a.db?mode=ro", BadInput, "must not hold"),
        ("mysql://ada:secret@host/runs", NotSupported, "SQLite and PostgreSQL are"),
        ("postgresql://ada:secret@host:port/runs", BadInput, "cannot be read"),
        ("postgresql://ada:secret@host", BadInput, "names no database"),
        ("ada:secret@host/runs", BadInput, "not the URL"),
        ("postgresql://ada:s@secret@host/runs", BadInput, "write @ as %40"),
        ("postgresql://ada:s@secret/t@host/runs", BadInput, "write @ as %40"),
        ("postgresql://ada:s@cre?secret@host/runs", BadInput, "write @ as %40"),
        ("postgresql://ada:\udc80secret", BadInput, "cannot be read"),
    ],
)
def test_what_is_no_address(tmp_path: Path, said: str, kind: type[TallyError], words: str) -> None:
    with pytest.raises(kind) as wrong:
        address_of(said, tmp_path)
    assert words in str(wrong.value)
    assert "secret" not in str(wrong.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:secret@host/runs", "postgresql://ada:***@host/runs"),
        ("postgresql://ada:a?secret@host/runs", "postgresql://ada:***@host/runs"),
        ("postgresql:///runs?user=a&password=secret&host=/s", "postgresql:///runs?user=a&password=***"),
    ],
)
def test_a_password_is_never_shown(tmp_path: Path, url: str, shown: str) -> None:
    address = address_of(url, tmp_path)
    assert str(address) == shown
    assert "secret" not in f"{address} {address!r}"


def test_a_home_of_before_goes_on_with_its_record(tmp_path: Path) -> None:
    """Its facts and MLflow's tables are in one file; a newer home has a file for each."""
    assert address_of("", tmp_path).file == tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(tmp_path / "tally.db")) as db:
        db.execute("create table tally_facts (x)")
        assert address_of("", tmp_path).file == tmp_path / "mlflow.db"
        db.execute("create table alembic_version (version_num)")
        db.commit()
    assert address_of("", tmp_path).file == tmp_path / "tally.db"
    (tmp_path / "mlflow.db").touch()
    assert address_of("", tmp_path).file == tmp_path / "mlflow.db"


# ---------------------------------------------------------------------- what may be wrong


def test_one_that_is_not_there_is_made_later_and_that_is_said(tmp_path: Path) -> None:
    somebody = Person()
    database = somebody.open(tmp_path / "home", f"sqlite:///{tmp_path}/new.db")
    assert "There is no database at" in somebody.text
    assert "native as soon as" in database.why_not_native()
    database.close()
    silent = Person()
    silent.open(tmp_path / "home").close()
    assert silent.heard == [], "nobody needs to hear it of the home's own"
    assert not list(tmp_path.glob("*.db*"))


def _text(file: Path) -> None:
    file.write_text("not a database at all " * 100)


def _folder(file: Path) -> None:
    file.mkdir()


def _foreign(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("create table recipes (x)")


def _unmarked(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("create table runs (x)")
        db.execute("create table experiments (x)")


def _newer(file: Path) -> None:
    _unmarked(file)
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("create table alembic_version (version_num)")
        db.execute("insert into alembic_version values ('abcdef123456')")
        db.commit()


def _torn(file: Path) -> None:
    _newer(file)
    content = bytearray(file.read_bytes())
    content[100:200] = b"\xff" * 100
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (_text, BadInput, "is not a database"),
        (_folder, BadInput, "is a folder"),
        (_foreign, Conflict, r"holds other tables \(recipes\)"),
        (_unmarked, Conflict, "without a revision"),
        (_newer, Conflict, r"revision abcdef123456, which MLflow .* does not know.*pip install -U mlflow"),
        (_torn, Damaged, "restore it from a backup"),
    ],
)
def test_what_it_must_not_be_let_at(tmp_path: Path, make, kind: type[TallyError], words: str) -> None:
    file = tmp_path / "m.db"
    make(file)
    before = file.read_bytes() if file.is_file() else b""
    somebody = Person(agrees=True)
    with pytest.raises(kind, match=words):
        somebody.open(tmp_path / "home", f"sqlite:///{file}")
    assert somebody.asked == []
    assert not file.is_file() or file.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "m.db"], "nothing is left beside it"


def _half_made(file: Path, rows: int = 0) -> None:
    _unmarked(file)
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("insert into experiments values (0)")
        db.executemany("insert into runs values (?)", [(n,) for n in range(rows)])
        db.commit()


def test_one_of_the_home_that_mlflow_was_killed_over_is_made_anew(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    _half_made(home / "mlflow.db")
    somebody = Person()
    somebody.open(home).close()
    assert not (home / "mlflow.db").exists()
    (aside,) = home.glob("mlflow.db.unfinished-*")
    assert aside.name in somebody.text


def test_one_that_somebody_wrote_to_is_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    _half_made(home / "mlflow.db", rows=1)
    with pytest.raises(Conflict, match="without a revision"):
        Person().open(home)
    _half_made(tmp_path / "named.db")
    with pytest.raises(Conflict, match="without a revision"):
        Person().open(home, f"sqlite:///{tmp_path}/named.db")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="folder does not exist"):
        Person().open(tmp_path / "home", f"sqlite:///{tmp_path}/typo/m.db")
    assert not (tmp_path / "typo").exists()


def test_a_locked_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.wiring.database.schema.TIMEOUT_S", 0.1)
    file = tmp_path / "m.db"
    _newer(file)
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("begin exclusive")
        with pytest.raises(Unavailable, match="another program holds a lock"):
            Person().open(tmp_path / "home", f"sqlite:///{file}")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A read-only file system with a database in it; it needs leave to mount."""
    with mounted(tmp_path / "disk") as place:
        _newer(place / "m.db")
        make_read_only(place)
        yield place / "m.db"


def test_a_read_only_one(tmp_path: Path, read_only: Path) -> None:
    with pytest.raises(Unavailable, match="read-only"):
        Person().open(tmp_path / "home", f"sqlite:///{read_only}")


# ---------------------------------------------------------------------- one hub at a time


def test_two_hubs_do_not_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "m.db"
    file.touch()
    (tmp_path / "link.db").symlink_to(file)
    first = hold(file, tmp_path / "first home")
    for other in (file, tmp_path / "link.db"):
        with pytest.raises(Conflict, match=r"first home \(process \d+\).*m\.db\.tally-lock"):
            hold(other, tmp_path / "second home")
    first.close()
    first.close()
    assert not (tmp_path / "m.db.tally-lock").exists()
    hold(file, tmp_path / "second home").close()


def test_a_hub_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from tallystick.wiring.database.hold import hold;"
        "held = hold(Path(sys.argv[1]), Path('.')); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.db")], check=False, timeout=60)
    assert (tmp_path / "m.db.tally-lock").exists()
    hold(tmp_path / "m.db", tmp_path).close()


@pytest.mark.parametrize("planted", ["a link", "a link to nothing", "another name", "a pipe"])
def test_what_is_planted_as_the_lock_is_not_written_to(tmp_path: Path, planted: str) -> None:
    """In a shared folder anybody may put something beside a database."""
    precious, lock = tmp_path / "precious", tmp_path / "m.db.tally-lock"
    precious.write_text("mine")
    if planted == "another name":
        lock.hardlink_to(precious)
    elif planted == "a pipe":
        os.mkfifo(lock)
    else:
        lock.symlink_to(precious if planted == "a link" else tmp_path / "nothing")
    with pytest.raises(
        Unavailable, match=r"something else stands in the place of the lock.*m\.db\.tally-lock"
    ):
        hold(tmp_path / "m.db", tmp_path)
    assert precious.read_text() == "mine"
    assert not (tmp_path / "nothing").exists()
    assert lock.is_symlink() or lock.exists(), "nor removed"


# ---------------------------------------------------------------------- an older schema


@pytest.fixture(scope="module")
def olds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Databases of MLflow 2.0, 2.10 and 3.0, to be copied."""
    folder = tmp_path_factory.mktemp("old")
    made = {revision: folder / f"{revision}.db" for revision in (AT_2_0, AT_2_10, AT_3_0)}
    for revision, file in made.items():
        make_old_mlflow(f"sqlite:///{file}", revision)
    return made


@pytest.fixture
def old(olds: dict[str, Path], tmp_path: Path) -> Path:
    """A database of MLflow 2.0."""
    return Path(shutil.copy(olds[AT_2_0], tmp_path / "old.db"))


def _backups(file: Path) -> list[Path]:
    return sorted(file.parent.glob(f"{file.name}.before-tally-*"))


def test_nothing_is_done_that_nobody_agreed_to(tmp_path: Path, old: Path) -> None:
    before = old.read_bytes()
    somebody = Person(agrees=False)
    with pytest.raises(Conflict, match=r"nothing was changed \(.*--upgrade-database\)"):
        somebody.open(tmp_path / "home", f"sqlite:///{old}")
    assert AT_2_0 in somebody.text
    assert f"{HEAD}, of MLflow {MLFLOW.version}" in somebody.text
    assert f"stock MLflow before {MLFLOW.version} no longer opens it" in somebody.text
    assert f"{old}.before-tally-" in somebody.text
    assert somebody.asked == ["Migrate it now?"]
    assert old.read_bytes() == before
    assert _backups(old) == []


@pytest.mark.parametrize("revision", [AT_2_0, AT_2_10, AT_3_0])
def test_it_is_backed_up_and_then_migrated(tmp_path: Path, olds: dict[str, Path], revision: str) -> None:
    file = Path(shutil.copy(olds[revision], tmp_path / "old.db"))
    somebody = Person(agrees=True)
    somebody.open(tmp_path / "home", f"sqlite:///{file}").close()
    assert rows_of(file, REVISION) == [(HEAD,)]
    assert rows_of(file, "select count(*) from metrics") == [(200,)]
    assert rows_of(file, "select workspace, name from registered_models") == [("default", "old model")]
    (backup,) = _backups(file)
    assert rows_of(backup, REVISION) == [(revision,)]
    assert rows_of(backup, "select count(*) from metrics") == [(200,)]
    assert backup.stat().st_mode & 0o077 == 0
    again = Person()
    again.open(tmp_path / "home", f"sqlite:///{file}").close()
    assert again.heard == []
    assert len(_backups(file)) == 1


def test_what_is_still_in_the_log_is_in_the_backup(tmp_path: Path, old: Path) -> None:
    with contextlib.closing(sqlite3.connect(old)) as db:
        db.execute("pragma journal_mode = wal")
        db.execute("insert into experiments (name) values ('not checkpointed')")
        db.commit()
        Person(agrees=True).open(tmp_path / "home", f"sqlite:///{old}").close()
    (backup,) = _backups(old)
    assert rows_of(backup, "select count(*) from experiments") == [(3,)]


def test_no_backup_no_migration(tmp_path: Path, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.wiring.database.backup.TIMEOUT_S", 0.1)
    with contextlib.closing(sqlite3.connect(old)) as writing:
        writing.execute("begin immediate")
        with pytest.raises(Unavailable, match="the backup cannot be made: database is locked"):
            Person(agrees=True).open(tmp_path / "home", f"sqlite:///{old}")
    assert rows_of(old, REVISION) == [(AT_2_0,)]
    assert _backups(old) == []


def test_a_migration_that_fails_says_how_to_go_back(tmp_path: Path, old: Path) -> None:
    with contextlib.closing(sqlite3.connect(old)) as db:
        db.execute("create table trace_info (in_the_way)")  # made by a migration in the middle
        db.commit()
    with pytest.raises(Failed) as wrong:
        Person(agrees=True).open(tmp_path / "home", f"sqlite:///{old}")
    (backup,) = _backups(old)
    assert "trace_info already exists" in str(wrong.value)
    assert str(backup) in wrong.value.what
    command = wrong.value.hint.removeprefix("bring it back with: ")
    subprocess.run(["sh", "-c", command], check=True)
    assert rows_of(old, REVISION) == [(AT_2_0,)]
    assert shlex.split(command)[-1] == str(old)


# ---------------------------------------------------------------------- where its artifacts are


def test_folders_of_artifacts_are_found_that_are_not_the_hubs(tmp_path: Path, olds: dict[str, Path]) -> None:
    file = Path(shutil.copy(olds[AT_3_0], tmp_path / "old.db"))
    places = [
        "/old/mlruns/5",
        "file:///old/mlruns/6",
        "/old/other%20x",
        f"{tmp_path}/home/mlartifacts/7",
        "s3://b/8",
    ]
    with contextlib.closing(sqlite3.connect(file)) as db:
        for number, place in enumerate(places):
            db.execute(
                "insert into experiments (name, artifact_location) values (?, ?)", (f"e{number}", place)
            )
        db.commit()
    database = Person(agrees=True).open(tmp_path / "home", f"sqlite:///{file}")
    known = [tmp_path / "home" / "mlartifacts"]
    assert database.folders_outside(known) == [Path("/old/mlruns"), Path("/old/other%20x")]
    assert database.folders_outside([*known, Path("/old")]) == []
    database.close()
