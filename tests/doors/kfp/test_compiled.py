"""The YAML of these tests is what the stock SDK makes of its source, and what it writes is read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tallystick.doors.kfp.reader import read_pipeline
from tests.doors.kfp.corpus import HERE, KFP_PYTHON, by_name, function, needs_kfp

NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code", "id": "a", "execution_count": None, "outputs": [],
            "metadata": {"tags": ["parameters"]}, "source": ["text = ''"],
        }
    ],
    "metadata": {}, "nbformat": 4, "nbformat_minor": 5,
}  # fmt: skip
WITH_NOTEBOOK = """
import warnings
warnings.simplefilter("ignore")
from kfp import compiler, dsl

@dsl.notebook_component(notebook_path="note.ipynb", packages_to_install=["nbclient"])
def noted(text: str) -> str:
    dsl.run_notebook(text=text)
    return "done"

@dsl.pipeline(name="notebook")
def notebook(text: str = "a"):
    noted(text=text)

compiler.Compiler().compile(notebook, "notebook.yaml")
"""


@needs_kfp
def test_the_yaml_of_these_tests_is_what_its_source_compiles_to(tmp_path: Path) -> None:
    subprocess.run([KFP_PYTHON, HERE / "compile.py", tmp_path], check=True, timeout=120)
    assert meaning(tmp_path) == meaning(HERE)


def meaning(folder: Path) -> dict[Path, list[str]]:
    """The lines of each file, but for the comment at its top, where kfp writes a dict in any order."""
    return {
        file.relative_to(folder): [line for line in file.read_text().splitlines() if line[:1] != "#"]
        for file in folder.rglob("*.yaml")
    }


@needs_kfp
def test_a_notebook_is_a_function_that_carries_it(tmp_path: Path) -> None:
    (tmp_path / "note.ipynb").write_text(json.dumps(NOTEBOOK))
    (tmp_path / "noted.py").write_text(WITH_NOTEBOOK)
    subprocess.run([KFP_PYTHON, "noted.py"], check=True, timeout=120, cwd=tmp_path)
    code = function(by_name(read_pipeline((tmp_path / "notebook.yaml").read_bytes()).root)["noted"])
    assert (code.name, code.packages) == ("noted", ("nbclient",))
    assert "__KFP_EMBEDDED_ARCHIVE_B64" in code.source
    compile(code.source, "noted.py", "exec")
