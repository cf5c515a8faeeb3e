"""`tally up`, `tally import` and `tally settings` as far as the command line itself goes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from tallystick.doors.cli.main import answer
from tallystick.terminal.context import Tally, agreed
from tests.doors.cli.conftest import STATUS

URL = "postgresql://ada:secret@host/runs"
RECORD = {
    "database": "postgresql://ada:***@host/runs", "artifact_store": "s3://bucket/a", "workspaces": True,
    "native_tracking": "on", "mlflow_version": "3.17.2", "mlflow_server": "rests",
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_flags_are_settings(capsys):
    began = []
    words = [
        "up",
        "--database",
        URL,
        "--workspaces",
        "--artifact-store",
        "s3://b/p",
        "--home",
        "h",
        "--port",
        "0",
    ]
    assert answer(Tally(lambda *given: began.append(given)), words) == 0
    settings = began[0][0]
    assert (settings.database, settings.workspaces, settings.artifact_store) == (URL, True, "s3://b/p")
    assert (settings.home, settings.port) == ("h", 0)
    assert answer(Tally(lambda *given: began.append(given)), ["up", "--upgrade-database"]) == 0
    assert began[1][0].workspaces is False
    assert began[1][2]("Migrate it now?") is True


def test_a_terminal_is_asked_and_a_pipe_is_not(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert agreed(False)("Migrate it now?") is False
    assert capsys.readouterr().out == ""
    for typed, means in (("y\n", True), ("n\n", False), ("\n", False)):
        monkeypatch.setattr(sys, "stdin", Terminal(typed))
        assert agreed(False)("Migrate it now?") is means
        assert "Migrate it now? [y/N]" in capsys.readouterr().out


def test_a_password_is_not_listed(desk, monkeypatch):
    monkeypatch.setenv("TALLY_DATABASE", URL)
    for words in (["settings"], ["settings", "--json"]):
        said = desk.type(*words)
        assert "postgresql://ada:***@host/runs" in said.out
        assert "secret" not in said.out + said.err


def test_a_password_on_the_command_line_is_warned_of(capsys, monkeypatch, tmp_path):
    def warned(*words):
        tally = Tally(lambda *_: None, bring=lambda *_: {"brought": {}, "there": {}, "notes": []})
        assert answer(tally, list(words)) == 0
        said = capsys.readouterr()
        assert "secret" not in said.out + said.err
        return "can read the password in --database" in said.err

    monkeypatch.chdir(tmp_path)
    for words in (["up"], ["import", "."]):
        assert warned(*words, "--database", URL)
        assert warned(*words, "--database", "postgresql:///runs?sslpassword=secret")
        assert not warned(*words, "--database", "postgresql://ada@host/runs")
    monkeypatch.setenv("TALLY_DATABASE", URL)
    assert not warned("up")


def test_what_an_import_came_to(capsys, tmp_path):
    done = {"brought": {"runs": 1234, "models": 1}, "there": {"experiments": 2}, "notes": ["run x: no"]}
    asked = []

    def bring(settings, folder, said, agreed):
        asked.append((settings.database, folder))
        said("  50%  reading")
        return done

    tally = Tally(lambda *_: None, bring=bring)
    (tmp_path / "old").mkdir()
    assert answer(tally, ["import", "old", "--database", URL]) == 0
    assert asked == [(URL, Path("old").absolute())]
    said = capsys.readouterr()
    assert said.out == "imported from old: 1,234 runs, 1 model\nthere already: 2 experiments\n  run x: no\n"
    assert "50%" in said.err
    assert answer(tally, ["import", "old", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == done
    assert answer(tally, ["import", "absent"]) == 2
    assert "absent: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({}, "  record     postgresql://ada:***@host/runs, with workspaces"),
        ({}, "  tracking   native"),
        ({"native_tracking": "by MLflow's own server: ..."}, "  tracking   by MLflow's own server: ..."),
        ({}, "  MLflow     3.17.2, its own server rests"),
        ({"mlflow_version": ""}, "  MLflow     is not installed: its server rests"),
    ],
)
def test_status_says_where_the_record_is_and_who_answers(desk, change, line):
    desk.answers["GET /api/tally/status"] = {**STATUS, **RECORD, **change}
    assert line in desk.type("status").out.splitlines()
