"""Compile a pipeline's Python file to YAML, in a Python that has the kfp SDK.

The file is its user's own code, and runs as they would run it; only what it compiles to goes to the hub.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from tallystick.core.errors import BadInput, MissingTile, Unavailable
from tallystick.terminal.context import check_file

__all__ = ["SDK", "compiled", "kfp_python", "pipeline_text", "python_source", "script"]

SDK = "kfp>=2.11,<3"
SCRIPTS = "tallystick.crew.author"
"""They are read as text and handed to another Python, which has nothing of ours."""
WHERE = "TALLY_KFP_PYTHON"


def python_source(pipeline: Path) -> tuple[Path, str] | None:
    """The file and the function that ``FILE.py`` or ``FILE.py:FUNCTION`` names; None for anything else."""
    if pipeline.suffix.lower() == ".py":
        return pipeline, ""
    file, colon, function = str(pipeline).rpartition(":")
    if colon and file.lower().endswith(".py") and function.isidentifier():
        return Path(file), function
    return None


def pipeline_text(pipeline: Path, python: str | None, home: Path) -> tuple[str, str]:
    """The YAML that a file holds or compiles to, and what the hub may call that."""
    if source := python_source(pipeline):
        check_file(source[0])
        return compiled(*source, python, home).decode(), f"{source[0].stem}.yaml"
    check_file(pipeline)
    try:
        return pipeline.read_text("utf-8"), pipeline.name
    except UnicodeDecodeError:
        hint = "name its Python file, or compile it to YAML first"
        raise BadInput("is not text", where=str(pipeline), hint=hint) from None


def compiled(path: Path, function: str, python: str | None, home: Path) -> bytes:
    """The YAML that ``function`` of a Python file compiles to; with an empty name, the only pipeline in it.

    ``python`` is one that has the kfp SDK, else TALLY_KFP_PYTHON, else one that is made in ``home`` the first
    time. BadInput with the place in the file for what is wrong with it; its traceback is printed before.
    """
    chosen = python or os.environ.get(WHERE) or ""
    program = _given(chosen, "--kfp-python" if python else WHERE) if chosen else str(kfp_python(home))
    with tempfile.TemporaryDirectory(prefix="tally-compile-") as folder:
        words = [program, "-c", script("compile"), str(path.resolve()), function, folder]
        ran = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=2, check=False)
        try:
            done = json.loads(Path(folder, "done.json").read_bytes())
        except (OSError, ValueError):
            what = f"compiling it ended with status {ran.returncode} and no word"
            raise BadInput(what, where=str(path), hint=f"run it yourself: {program} {path}") from None
    if "spec" in done:
        return str(done["spec"]).encode()
    if done["trace"]:
        click.echo(done["trace"], nl=False, err=True)
    raise BadInput(done["error"], where=done["where"], hint=done["hint"])


def kfp_python(home: Path) -> Path:
    """The Python of the home's own environment with the kfp SDK, made with uv when it is first needed."""
    folder = home / "kfp-sdk"
    python = folder / "bin" / "python"
    if python.exists():
        return python
    uv = _uv()
    click.echo(f"making an environment with the kfp SDK in {folder}, this once", err=True)
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kfp-sdk-", dir=home) as making:
        new = Path(making, "env")
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(new)])
        _run([uv, "pip", "install", "--quiet", "--python", str(new / "bin" / "python"), SDK])
        with contextlib.suppress(OSError):  # another has made it meanwhile
            new.rename(folder)
    return python


def _given(python: str, where: str) -> str:
    found = shutil.which(Path(python).expanduser())
    if not found:
        raise BadInput(f"no program {python!r}", where=where, hint="name a Python that has the kfp SDK")
    return found


def _uv() -> str:
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if not found:
        raise MissingTile(
            "a Python file is compiled with the kfp SDK, and neither that nor uv is here",
            where="kfp SDK",
            hint=f"pip install uv, or set {WHERE} to a Python where `pip install '{SDK}'` was done",
        )
    return found


def _run(words: list[str]) -> None:
    trusting = {"UV_SYSTEM_CERTS": "1", **os.environ}  # whom the machine trusts, as pip does
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=trusting
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[-600:]
        hint = f"is there a network? otherwise set {WHERE} to a Python that has the kfp SDK"
        raise Unavailable(f"the kfp SDK cannot be installed: {said}", where="uv", hint=hint)


def script(name: str) -> str:
    """The text of a main of the author's: ``compile`` or ``play``."""
    spec = importlib.util.find_spec(f"{SCRIPTS}.{name}")
    if spec is None or spec.origin is None:
        raise MissingTile(f"{SCRIPTS}.{name} is missing", hint="install tallystick again")
    return Path(spec.origin).read_text("utf-8")
