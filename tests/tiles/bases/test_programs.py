"""What a container's command runs on: the programs that it names, and nothing that it does not."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.pipeline.spec import Command, Component, Function
from tallystick.core.run.recipe import recipe_of
from tallystick.core.values import Environment, Values
from tallystick.tiles.bases import programs
from tallystick.tiles.bases.local import LocalBases
from tallystick.tiles.bases.programs import command_environment

HERE = Environment("CPython 3.11.9", "linux x86_64", {"numpy": "2.0"})


def program(folder, name, text="#!/bin/sh\necho it\n", mode=0o755):
    file = folder / name
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "bin"
    found.mkdir()
    return found


def seen(folder, *words, args=()):
    return command_environment(Command("image", words, args), {"PATH": str(folder)}, HERE)


def key(folder, *words):
    component = Component("it", Command("image", words))
    return recipe_of(component, Values(), seen(folder, *words)).key


def test_a_command_depends_on_its_program(folder):
    tool = program(folder, "tool")
    before = seen(folder, "tool", "--fast")
    assert (before.python, before.platform, list(before.packages)) == (
        "",
        "linux x86_64",
        ["/bin/sh", str(tool)],
    )
    first = key(folder, "tool", "--fast")
    os.utime(tool, (1, 1))
    assert key(folder, "tool", "--fast") == first, "its content counts, and not its time"
    program(folder, "tool", "#!/bin/sh\necho other\n")
    assert key(folder, "tool", "--fast") != first


def test_what_is_installed_beside_the_hub_is_nothing_to_it(folder):
    program(folder, "tool")
    more = Environment(HERE.python, HERE.platform, {"numpy": "2.1", "new": "1"})
    of = (Command("image", ("tool",)), {"PATH": str(folder)})
    assert command_environment(*of, HERE) == command_environment(*of, more)


@pytest.mark.parametrize("words", [("python", "-c", "1"), ("sh", "-c", "set -e\npython -m train | cat")])
def test_but_to_one_that_names_a_program_of_the_hub(words):
    found = command_environment(Command("image", words), {}, HERE)
    assert (found.python, found.packages["numpy"]) == (HERE.python, "2.0")
    assert str(Path(sys.executable).parent / "python") in found.packages


def test_the_words_of_a_script_count_wherever_they_stand(folder):
    for name in ("one", "two", "three", "never"):
        program(folder, name, f"{name}")
    nested = {"IfPresent": {"InputName": "x", "Then": [{"Concat": ["--run=", "three"]}]}}
    found = seen(folder, "sh", "-ec", 'one "$x"|\ntwo >out', args=(nested,))
    assert {Path(name).name for name in found.packages} == {"one", "two", "three"}


def test_a_script_depends_on_what_runs_it(folder):
    program(folder, "runner", "binary")
    program(folder, "tool", "#!/usr/bin/env -S runner --fast\n")
    names = {Path(name).name for name in seen(folder, "tool").packages}
    assert {"env", "runner", "tool"} <= names
    first = key(folder, "tool")
    program(folder, "runner", "another")
    assert key(folder, "tool") != first


def test_two_scripts_that_run_each_other_have_an_end(folder):
    program(folder, "a", f"#!{folder}/b\n")
    program(folder, "b", f"#!{folder}/a\n")
    assert {Path(name).name for name in seen(folder, "a").packages} == {"a", "b"}


def test_a_program_by_its_path_and_none_that_is_not_there(folder, monkeypatch, tmp_path):
    tool = program(folder, "tool", "binary")
    secret = program(folder, "secret", "hunter2", mode=0o600)
    monkeypatch.chdir(tmp_path)
    for words in ((str(tool),), ("nothing", f"--x={tool}"), (str(tool), str(secret), "bin/tool")):
        assert list(seen(Path("/nonexistent"), *words).packages) == [str(tool)]
    assert seen(folder, "nothing", "", "{{$.inputs.parameters['x']}}", "/", ".").packages == {}


def test_a_large_program_is_not_read(folder, monkeypatch):
    monkeypatch.setattr("tallystick.tiles.bases.programs.READ_BYTES_MAX", 10)
    tool = program(folder, "tool", "x" * 11)
    os.utime(tool, ns=(5, 5))
    assert list(seen(folder, "tool").packages.values()) == ["11 bytes of 5"]


async def test_it_is_what_a_command_runs_on():
    bases = LocalBases(None)
    shell = Component("it", Command("image", ("/bin/sh", "-c", "true")))
    found = await bases.environment(shell)
    assert found.packages["/bin/sh"].startswith("sha256:")
    assert "pytest" not in found.packages
    function = await bases.environment(Component("it", Function("it", "")))
    assert function.python
    assert "pytest" in function.packages
    assert await bases.environment(replace(shell, env={"PATH": "/nonexistent"})) != found


def test_what_is_no_ordinary_file_is_not_opened(folder):
    """To open a named pipe would wait, for ever, for somebody who writes to it."""
    os.mkfifo(folder / "pipe", 0o755)
    assert seen(folder, "pipe", str(folder / "pipe"), "/dev/zero").packages == {}


def test_so_much_is_read_of_the_programs_of_a_command(folder, monkeypatch):
    monkeypatch.setattr(programs, "READ_BYTES_MAX", 100)
    for name in ("a", "b", "c"):
        program(folder, name, name * 60)
    os.utime(folder / "b", ns=(7, 7))
    found = seen(folder, "c", "b", "a").packages
    assert [found[str(folder / name)].partition(":")[0] for name in "abc"] == [
        "sha256", "60 bytes of 7", f"60 bytes of {(folder / 'c').stat().st_mtime_ns}",
    ]  # fmt: skip


def test_a_path_is_looked_through_as_far_as_it_is_sensible(folder, tmp_path, monkeypatch):
    program(folder, "tool")
    monkeypatch.chdir(tmp_path)
    for path in ("bin", ":".join([*(f"{folder}/{n}" for n in range(programs.FOLDERS_MAX)), str(folder)])):
        assert command_environment(Command("image", ("tool",)), {"PATH": path}, HERE).packages == {}
