"""The home: made, held by one, refused when it is newer, foreign, or cannot be written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Conflict, Damaged, Unavailable
from tallystick.wiring.home import FORMAT, open_home, running_hub


def test_made_private_and_opened_again(tmp_path: Path) -> None:
    home = open_home(tmp_path / "a" / "home")
    assert (home.path / "run").stat().st_mode & 0o777 == 0o700
    assert json.loads((home.path / "home.json").read_text())["format"] == FORMAT
    home.close()
    open_home(tmp_path / "a" / "home").close()


def test_held_by_one(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    home.announce("http://127.0.0.1:5000")
    with pytest.raises(Conflict, match=r"another hub runs on this home at http://127.0.0.1:5000"):
        open_home(tmp_path / "home")
    home.close()
    assert running_hub(tmp_path / "home") is None
    open_home(tmp_path / "home").close()


def test_a_newer_home_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    open_home(tmp_path / "home").close()
    file = tmp_path / "home" / "home.json"
    file.write_text(json.dumps({"format": FORMAT + 1, "made_by": "9.9"}))
    before = file.read_bytes()
    with pytest.raises(Conflict, match=r"newer tallystick \(9\.9\).*pip install -U"):
        open_home(tmp_path / "home")
    assert file.read_bytes() == before


def test_a_home_that_was_moved_is_refused(tmp_path: Path) -> None:
    open_home(tmp_path / "a").close()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with pytest.raises(Conflict, match=r"made at .*/a, and its tables name their files by that path"):
        open_home(tmp_path / "b")
    open_home(tmp_path / "a").close()


def test_a_path_too_long_for_sockets(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="choose a shorter --home"):
        open_home(tmp_path / ("x" * 100))
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_things_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(Conflict, match=r"thesis\.tex"):
        open_home(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"thesis.tex"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x"}', "{"])
def test_a_damaged_home_is_said_to_be_so(tmp_path: Path, text: str) -> None:
    open_home(tmp_path / "home").close()
    (tmp_path / "home" / "home.json").write_text(text)
    with pytest.raises(Damaged, match=r"home\.json"):
        open_home(tmp_path / "home")


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Unavailable, match="choose another --home"):
        open_home(tmp_path / "file")
    with pytest.raises(Unavailable, match="choose another --home"):
        open_home(tmp_path / "file" / "home")
