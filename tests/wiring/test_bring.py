"""An old file store, brought into the hub's record: all of it, once, and what does not fit is said."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tallystick.core.errors import BadInput, Conflict
from tallystick.settings import Settings
from tallystick.wiring.bring import bring
from tallystick.wiring.home import open_home
from tests.fakes.mlflow.postgres import PostgresServer, postgres
from tests.fakes.mlflow.schema import WithRecord
from tests.fakes.old.filestore import make_filestore
from tests.wiring.talking import Person, rows_of

__all__ = ["postgres"]

pytest.importorskip("mlflow")
pytest.importorskip("pandas")

OF_RUN = "select experiment_id, artifact_uri, lifecycle_stage from runs where run_uuid = '{}'"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A file store to copy, and its runs."""
    folder = tmp_path_factory.mktemp("store")
    return folder, make_filestore(folder)


@pytest.fixture
def old(store: tuple[Path, list[str]], tmp_path: Path) -> Path:
    """A file store, not where it was made: its files say other addresses."""
    return shutil.copytree(store[0], tmp_path / "old")


@pytest.fixture
def runs(store: tuple[Path, list[str]]) -> list[str]:
    return store[1]


@pytest.fixture
def made(tmp_path: Path, with_record: WithRecord) -> Path:
    """A home with MLflow's tables, and nothing in them: as an import makes it when there is none."""
    home = with_record(tmp_path / "home")
    with contextlib.closing(sqlite3.connect(home / "mlflow.db")) as db:
        db.execute("delete from experiments")
        db.commit()
    return home


def _bring(home: Path, folder: Path, person: Person | None = None, **settings: Any) -> Mapping[str, Any]:
    return bring(Settings(home=str(home), **settings), folder, (person or Person()).talk)


def _all_rows(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    names = rows_of(file, "select name from sqlite_master where type = 'table' and name not like 'sqlite%'")
    return {name: sorted(rows_of(file, f"select * from {name}"), key=repr) for (name,) in names}  # noqa: S608


def test_all_of_it_comes_and_a_second_time_nothing(tmp_path: Path, old: Path, runs: list[str]) -> None:
    home, person = tmp_path / "home", Person()
    done = _bring(home, old, person)
    assert done["brought"] == {
        "experiments": 4, "runs": 5, "params": 3, "tags": done["brought"]["tags"], "metric points": 18,
        "datasets": 1, "traces": 1, "models": 1, "registered models": 1, "model versions": 1, "files": 9,
    }  # fmt: skip
    assert "s3" in " ".join(done["notes"])
    assert any("%" in line for line in person.heard), "progress is told"
    file = home / "mlflow.db"
    assert rows_of(file, "select name, lifecycle_stage from experiments order by name") == [
        ("Default", "active"),
        ("elsewhere", "active"),
        ("gone", "deleted"),
        ("old work", "active"),
    ]
    ((number, uri, stage),) = rows_of(file, OF_RUN.format(runs[2]))
    assert (uri, stage) == (f"mlflow-artifacts:/{number}/{runs[2]}/artifacts", "deleted")
    assert (home / "mlartifacts" / str(number) / runs[1] / "artifacts/deep/a.txt").read_text() == "hello 1"
    odd = rows_of(file, "select value, is_nan from metrics where key = 'odd' order by value, is_nan")
    assert odd == [(-1.7976931348623157e308, 0), (0.0, 1), (1.7976931348623157e308, 0)]
    before = _all_rows(file)
    again = _bring(home, old)
    assert again["brought"] == {}
    assert again["there"]["runs"] == 5
    assert _all_rows(file) == before
    assert not list((home / "scratch").iterdir())


def test_what_is_new_comes_later(tmp_path: Path, made: Path, old: Path, runs: list[str]) -> None:
    """A folder that is still used is imported again and again."""
    (late,) = (old / "mlruns").glob(f"*/{runs[1]}")
    shutil.move(late, tmp_path / "late")
    assert _bring(made, old)["brought"]["runs"] == 4
    shutil.move(tmp_path / "late", late)
    done = _bring(made, old)["brought"]
    assert (done["runs"], done["metric points"], done["files"]) == (1, 6, 1)
    inputs = "select count(*) from inputs where source_type = 'DATASET'"
    assert rows_of(made / "mlflow.db", inputs) == [(3,)]
    tags = "select count(*) from input_tags where input_uuid not in (select input_uuid from inputs)"
    assert rows_of(made / "mlflow.db", tags) == [(0,)]


def test_it_joins_what_is_there_and_changes_nothing_of_it(made: Path, old: Path, runs: list[str]) -> None:
    _bring(made, old)
    file = made / "mlflow.db"
    with contextlib.closing(sqlite3.connect(file)) as db:  # as if all of it were the hub's own
        db.execute("delete from runs where run_uuid <> ?", (runs[0],))
        db.execute("update registered_models set creation_time = 1, description = 'ours'")
        db.execute("update experiments set lifecycle_stage = 'deleted' where name = 'old work'")
        db.execute("update params set value = 'ours'")
        db.commit()
    done = _bring(made, old)
    assert rows_of(file, f"select value from params where run_uuid = '{runs[0]}'") == [("ours",)]  # noqa: S608
    assert rows_of(file, "select description from registered_models") == [("ours",)]
    notes = " ".join(done["notes"])
    assert "registered model 'reg': another of this name is there, and stayed as it is" in notes
    assert "experiment 'old work' is deleted in the database; its runs came to it" in notes


def test_what_cannot_be_read_is_said_and_the_rest_comes(
    tmp_path: Path, made: Path, old: Path, runs: list[str]
) -> None:
    folder = next((old / "mlruns").glob(f"*/{runs[0]}"))
    with (folder / "metrics" / "loss").open("a") as file:
        first = (folder / "metrics" / "loss").read_text().splitlines()[0]
        file.write(f"{first}\nnonsense\n")
    (folder.parent / runs[1] / "meta.yaml").write_text("{ not yaml")
    (folder / "artifacts" / "link").symlink_to(tmp_path)
    (old / "mlruns" / "77").mkdir()
    done = _bring(made, old / "mlruns")
    assert done["brought"]["runs"] == 4
    notes = "\n".join(done["notes"])
    assert f"run {runs[0]}: lines of metrics that cannot be read were left out: 1" in notes
    assert "Failed to read" in notes
    assert runs[1] in notes
    assert "experiment 77: it has no meta.yaml" in notes
    assert "is a link to a folder" in notes
    points = f"select count(*) from metrics where key = 'loss' and run_uuid = '{runs[0]}'"  # noqa: S608
    assert rows_of(made / "mlflow.db", points) == [(5,)], "the one that was there twice is there once"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """What links of a file store should never bring along."""
    file = tmp_path / "ssh" / "id"
    file.parent.mkdir()
    file.write_text("PRIVATE")
    return file


def _texts(home: Path) -> str:
    files = [p for p in home.rglob("*") if p.is_file()]
    return " ".join(p.read_text("utf-8", "replace") for p in files)


def test_links_that_lead_out_are_left_out_and_that_is_said(
    made: Path, old: Path, runs: list[str], key: Path
) -> None:
    (folder,) = (old / "mlruns").glob(f"*/{runs[0]}")
    (folder / "artifacts" / "key").symlink_to(key)
    (folder / "artifacts" / "own").symlink_to(folder / "artifacts/deep/a.txt")
    (folder / "artifacts" / "up").symlink_to("../../../../../ssh/id")
    shutil.rmtree(folder.parent / runs[1] / "artifacts")
    (folder.parent / runs[1] / "artifacts").symlink_to(key.parent)
    (folder.parent / runs[2] / "params" / "key").symlink_to(key)
    done = _bring(made, old)
    notes = "\n".join(done["notes"])
    for left in ("artifacts/key", "artifacts/up", f"{runs[1]}/artifacts", f"{runs[2]}/params/key"):
        assert f"{left}: is a link out of the file store, and was left out" in notes
    assert done["brought"]["runs"] == 4, "a run is left out whose record is such a link"
    (own,) = made.glob(f"mlartifacts/*/{runs[0]}/artifacts/own")
    assert own.read_text() == "hello 0"
    assert "PRIVATE" not in _texts(made)


def test_what_is_elsewhere_as_a_whole_is_left_out(
    tmp_path: Path, made: Path, old: Path, runs: list[str]
) -> None:
    (run,) = (old / "mlruns").glob(f"*/{runs[0]}")
    places = (old / "mlruns" / "0", run.parent / "tags", old / "mlruns" / "models" / "reg")
    for n, place in enumerate(places):
        place.mkdir(exist_ok=True)
        shutil.move(place, tmp_path / f"away{n}")
        place.symlink_to(tmp_path / f"away{n}")
    done = _bring(made, old)
    notes = " ".join(done["notes"])
    for place in places:
        assert f"{place}: is a link out of the file store, and was left out" in notes
    kept = [done["brought"].get(kind, 0) for kind in ("experiments", "runs", "registered models")]
    assert kept == [2, 1, 0], "of an experiment without its own record nothing comes"


def test_artifacts_go_where_the_hub_keeps_them(
    tmp_path: Path, made: Path, old: Path, runs: list[str]
) -> None:
    _bring(made, old, artifact_store=str(tmp_path / "store"))
    assert [p.read_text() for p in (tmp_path / "store").glob(f"*/{runs[0]}/artifacts/deep/a.txt")] == [
        "hello 0"
    ]
    assert not (made / "mlartifacts").exists()


def test_while_a_hub_runs_it_waits_for_nobody(tmp_path: Path, old: Path) -> None:
    with (
        contextlib.closing(open_home(tmp_path / "home")),
        pytest.raises(Conflict, match=r"another hub runs on this home.*end it, import, then start it again"),
    ):
        _bring(tmp_path / "home", old)


def test_a_folder_that_is_no_file_store(tmp_path: Path) -> None:
    (tmp_path / "photos" / "2024").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"no file store of MLflow's"):
        _bring(tmp_path / "home", tmp_path / "empty")


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    postgres.create("brought")
    yield postgres.url_of("brought", "")
    postgres.drop("brought")


def test_into_postgresql_with_numbers_that_fit_and_texts_that_do_not(
    tmp_path: Path, old: Path, runs: list[str], database: str
) -> None:
    tags = next((old / "mlruns").glob(f"*/{runs[0]}/tags"))
    (tags / "long").write_text("x" * 9000)
    meta = tags.parent / "meta.yaml"
    meta.write_text(meta.read_text().replace("run_name: run 0", f"run_name: {'n' * 300}"))
    done = _bring(tmp_path / "home", old, database=database)
    assert done["brought"]["runs"] == 5
    assert f"tags of {runs[0]}: value is over 8000 characters" in " ".join(done["notes"])
    with psycopg.connect(database) as db:
        rows = db.execute("select experiment_id, name from experiments order by 1").fetchall()
        assert [number for number, _ in rows] == [0, 1, 2, 3], (
            "PostgreSQL's column holds no number of 18 digits"
        )
        (name,) = db.execute("select name from runs where run_uuid = %s", (runs[0],)).fetchone() or ("",)
        assert name == "n" * 250
        # The next experiment's number comes after these.
        made = db.execute("insert into experiments (name) values ('next') returning experiment_id").fetchone()
        assert made == (4,)
    assert _bring(tmp_path / "home", old, database=database)["brought"] == {}
