"""Settings: three sources in order, limits, and errors that name the nearest known key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import settings_page
from tallystick.core.errors import BadInput
from tallystick.settings import Settings, describe, load


def _file(folder: Path, text: str) -> Path:
    path = folder / "tallystick.toml"
    path.write_text(text, "utf-8")
    return path


def test_file_then_environment_then_flags(tmp_path: Path) -> None:
    file = _file(tmp_path, 'port = 6001\nhome = "a"\nsandbox = "process"\n')
    found = load({"port": 6003, "home": None}, {"TALLY_PORT": "6002", "TALLY_HOME": "b"}, file)
    assert (found.port, found.home, found.sandbox) == (6003, "b", "process")


@pytest.mark.parametrize(
    ("said", "means"), [("true", True), ("ON", True), ("1", True), ("no", False), ("0", False)]
)
def test_a_switch(tmp_path: Path, said: str, means: bool) -> None:
    assert load({}, {"TALLY_WORKSPACES": said}).workspaces is means
    assert load({"workspaces": means}, {}).workspaces is means
    assert load({}, {}, _file(tmp_path, f"workspaces = {str(means).lower()}")).workspaces is means


def test_nothing_said_is_the_defaults() -> None:
    assert load(env={}) == Settings()


@pytest.mark.parametrize(
    ("flags", "env", "text", "said"),
    [
        ({}, {}, "prot = 1", "did you mean port?"),
        ({}, {"TALLY_HOEM": "x"}, "", "did you mean TALLY_HOME?"),
        ({}, {}, "[port]\nx = 1", "port must be int"),
        ({}, {}, "port = true", "port must be int"),
        ({}, {}, "port = 1.5", "port must be int"),
        ({}, {}, "home = 5", "home must be str"),
        ({}, {"TALLY_PORT": "many"}, "", "port must be int"),
        ({"port": 70000}, {}, "", "port must be from 0 to 65535"),
        ({}, {"TALLY_STEP_CPU_S": "0"}, "", "step_cpu_s must be from 1 to 1e+07 s"),
        ({}, {"TALLY_DRIFT_ALPHA": "nan"}, "", "drift_alpha must be from"),
        ({}, {}, "port = ", "is not TOML"),
        ({}, {}, "workspaces = 1", "workspaces must be true or false"),
        ({}, {"TALLY_WORKSPACES": "maybe"}, "", "workspaces must be true or false"),
        ({}, {}, "database = true", "database must be str"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, flags: dict[str, object], env: dict[str, str], text: str, said: str
) -> None:
    with pytest.raises(BadInput) as wrong:
        load(flags, env, _file(tmp_path, text))
    assert said in str(wrong.value)


def test_a_file_that_is_not_there_is_an_error_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    load(env={})
    with pytest.raises(BadInput, match="cannot be read"):
        load(env={}, file=tmp_path / "absent.toml")


@given(st.integers(0, 65535))
def test_text_and_number_mean_the_same(port: int) -> None:
    assert load({"port": port}, {}).port == load({}, {"TALLY_PORT": str(port)}).port == port


def test_every_setting_is_documented_with_default_unit_and_limit() -> None:
    for row in describe():
        assert row["doc"].endswith("."), row["name"]
        if row["type"] in ("int", "float"):
            assert row["low"] is not None, row["name"]
            assert row["high"] is not None, row["name"]


def test_the_page_is_what_the_settings_say() -> None:
    assert settings_page.PAGE.read_text("utf-8") == settings_page.page(), "run tools/settings_page.py"
