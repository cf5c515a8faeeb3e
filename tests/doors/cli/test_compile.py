"""`tally run file.py`: a pipeline's Python file is compiled by a Python that has the kfp SDK."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, MissingTile, Unavailable
from tallystick.doors.cli import compile as door
from tallystick.doors.cli.compile import compiled, kfp_python, python_source
from tallystick.doors.kfp.reader import read_pipeline
from tests.doors.kfp.corpus import KFP_PYTHON, needs_kfp

SOURCE = """
from kfp import dsl
import beside

@dsl.component(base_image="python:3.11", install_kfp_package=False)
def say(text: str = beside.TEXT) -> str:
    return text

@dsl.pipeline(name="one")
def one(text: str = "a") -> str:
    return say(text=text).output

again = one
print("imported")
"""
TWO = SOURCE + '\n@dsl.pipeline(name="two")\ndef two():\n    one()\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("TEXT = 'from beside'\n")
    return tmp_path / "pipe line.py"


def compile_it(file: Path, source: str, function: str = "") -> bytes:
    file.write_text(source)
    return compiled(file, function, str(KFP_PYTHON), file.parent / "home")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("a/b.py", ("a/b.py", "")),
        ("a/b.PY", ("a/b.PY", "")),
        ("a/b.py:train", ("a/b.py", "train")),
        ("b.yaml", None),
        ("b.yaml:train", None),
        ("b.py:not a name", None),
    ],
)
def test_what_names_a_python_file(said: str, meant: tuple[str, str] | None) -> None:
    assert python_source(Path(said)) == (meant and (Path(meant[0]), meant[1]))


@needs_kfp
class TestCompiled:
    def test_the_only_pipeline_is_taken(self, file: Path, capfd: pytest.CaptureFixture[str]) -> None:
        pipeline = read_pipeline(compile_it(file, SOURCE))
        assert (pipeline.name, [task.name for task in pipeline.root.tasks]) == ("one", ["say"])
        assert "imported" in capfd.readouterr().err, "what the file prints never mixes with --json"

    def test_one_of_several_is_named(self, file: Path) -> None:
        with pytest.raises(BadInput, match="2 pipelines") as wrong:
            compile_it(file, TWO)
        assert wrong.value.hint == "say which: pipe line.py:one, pipe line.py:two"
        assert read_pipeline(compile_it(file, TWO, "two")).name == "two"
        assert read_pipeline(compile_it(file, TWO, "say")).name == "say", (
            "a component alone is a pipeline too"
        )
        with pytest.raises(BadInput, match="no pipeline or component 'three'"):
            compile_it(file, TWO, "three")

    def test_a_file_without_one_says_so(self, file: Path) -> None:
        with pytest.raises(BadInput, match="no pipeline in it"):
            compile_it(file, "x = 1\n")

    @pytest.mark.parametrize(
        ("source", "what", "line"),
        [
            ("def f():\n    raise KeyError('k')\n\nf()\n", "KeyError", 4),
            ("import nothing_of_the_kind\n", "ModuleNotFoundError", 1),
            ("x = (\n", "SyntaxError", 1),
            ("raise SystemExit(3)\n", "SystemExit", 1),
        ],
    )
    def test_errors_are_told_with_their_own_part(
        self, file: Path, capfd: pytest.CaptureFixture[str], source: str, what: str, line: int
    ) -> None:
        with pytest.raises(BadInput, match=what) as wrong:
            compile_it(file, source)
        assert wrong.value.where == f"{file}, line {line}"
        said = capfd.readouterr().err
        assert what in said
        assert "importlib" not in said

    def test_a_file_that_ends_its_process_says_so(self, file: Path) -> None:
        with pytest.raises(BadInput, match="ended with status 7 and no word"):
            compile_it(file, "import os\nos._exit(7)\n")


def test_a_python_without_the_sdk_says_so(file: Path) -> None:
    file.write_text("x = 1\n")
    with pytest.raises(BadInput, match="has no kfp SDK"):
        compiled(file, "", "/usr/bin/python3", file.parent)
    with pytest.raises(BadInput, match="no program"):
        compiled(file, "", str(file.parent / "none"), file.parent)


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'
        'if [ "$1" = venv ]; then for last; do :; done; mkdir -p "$last/bin"; touch "$last/bin/python"; fi\n'
    )
    uv.chmod(0o755)
    monkeypatch.setattr(door.sys, "executable", str(tmp_path / "bin" / "python"))
    home = tmp_path / "home"
    assert kfp_python(home) == home / "kfp-sdk" / "bin" / "python"
    assert kfp_python(home).exists()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [words.split()[0] for words in asked] == ["venv", "pip"]
    assert asked[1].endswith(door.SDK)
    assert [path.name for path in home.iterdir()] == ["kfp-sdk"]


def test_without_uv_or_network_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door.sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTile, match="neither that nor uv"):
        kfp_python(tmp_path / "home")
    (tmp_path / "uv").write_text("#!/bin/sh\necho no route to host >&2\nexit 2\n")
    (tmp_path / "uv").chmod(0o755)
    with pytest.raises(Unavailable, match="no route to host"):
        kfp_python(tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []
