"""`tally debug RUN STEP`: one step again, in a terminal, with the inputs that it had."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tallystick.core.errors import BadInput, NotFound
from tallystick.crew.author.layout import component_at
from tallystick.doors.cli.debug import debug_newest
from tests.doors.kfp.corpus import read
from tests.fakes.machine.threaded import threaded

SPEC, ROWS, MODEL = (f"sha256:{mark * 64}" for mark in "abc")
SOURCE = """
from kfp import dsl
from kfp.dsl import *
from typing import *

def train(rows: Input[Dataset], eps: float, model: Output[Model], note: str = "none") -> str:
    import os
    with open(rows.path) as file:
        text = file.read()
    if eps < 0:
        raise ValueError("eps is negative")
    os.makedirs(model.path)
    print("in the step", text, rows.metadata["n"], note, os.environ["WORD"])
    return f"{text} {eps}"
"""
MAIN = """
import sys
from tallystick.doors.cli import debug, main
from tallystick.terminal.context import Tally
main.cli.add_command(debug.debug)
sys.exit(main.answer(Tally(lambda *_: None), sys.argv[1:]))
"""


def pipeline() -> dict[str, Any]:
    """A loop with one step in it, as kfp compiles it."""
    shell = (
        'program_path=$(mktemp -d)\n\nprintf "%s" "$0" > "$program_path/ephemeral_component.py"\n'
        "_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --component_module_path "
        '"$program_path/ephemeral_component.py" "$@"\n'
    )
    container = {
        "image": "python:3.11",
        "command": ["sh", "-ec", shell, SOURCE],
        "args": ["--executor_input", "{{$}}", "--function_to_execute", "train"],
        "env": [{"name": "WORD", "value": "w"}],
    }
    dataset, model = ({"artifactType": {"schemaTitle": f"system.{k}"}} for k in ("Dataset", "Model"))
    face = {
        "parameters": {
            "eps": {"parameterType": "NUMBER_DOUBLE"},
            "note": {"parameterType": "STRING", "defaultValue": "none", "isOptional": True},
        },
        "artifacts": {"rows": {**dataset, "isOptional": True}},
    }
    loop = {"parameterIterator": {"itemInput": "eps", "items": {"raw": "[0.5, -1.0]"}}}
    out = {
        "parameters": {"Output": {"parameterType": "STRING"}},
        "artifacts": {"model": model},
    }
    return {
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "pipelineInfo": {"name": "looped"},
        "deploymentSpec": {"executors": {"exec-train": {"container": container}}},
        "components": {
            "comp-train": {"executorLabel": "exec-train", "inputDefinitions": face, "outputDefinitions": out}
        },
        "root": {"dag": {"tasks": {"train": {"componentRef": {"name": "comp-train"}, **loop}}}},
    }


def step(path: str, eps: float, attempt: int = 1) -> dict[str, Any]:
    ref = {"name": "rows", "digest": ROWS, "schema": "system.Dataset", "uri": "", "metadata": {"n": 3}}
    inputs = {"params": {"eps": eps, "undeclared": 1}, "artifacts": {"rows": [ref]}}
    return {"path": path, "state": "succeeded", "attempt": attempt, "inputs": inputs, "error": ""}


def run_of(key: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"key": key, "pipeline": "looped", "spec_digest": SPEC, "state": "failed", "steps": list(steps)}


FIRST, SECOND = "train[0]/train", "train[1]/train"
OLD = run_of("run-1", step(FIRST, 0.5), step(SECOND, -1.0))
NEW = run_of("run-2", step(FIRST, 0.25, attempt=0))


def tar_of(text: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("it")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    return out.getvalue()


@pytest.fixture
def url() -> Iterator[str]:
    """A hub with two runs of one pipeline: the newer one has not begun the step."""
    answers = {
        "/api/tally/nouns/run/run-1": json.dumps(OLD).encode(),
        "/api/tally/nouns/run/run-2": json.dumps(NEW).encode(),
        "/api/tally/nouns/run?limit=1000": json.dumps([{**r, "steps": []} for r in (OLD, NEW)]).encode(),
        f"/artifacts/{SPEC}": json.dumps(pipeline()).encode(),
        f"/api/tally/artifacts/{ROWS}": tar_of(b"some rows"),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path)
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(found or b'{"error": "NotFound", "what": "nothing there"}')

        def log_message(self, *_: Any) -> None:
            pass

    with threaded(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def typed(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", MAIN, "--url", url, "debug", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
    )


class Terminal:
    """A command with a terminal of its own; ``says`` waits for a text, ``type`` answers."""

    def __init__(self, *words: str) -> None:
        self.shown = ""
        self.pid, self.master = pty.fork()
        if not self.pid:
            os.execv(sys.executable, [sys.executable, "-c", MAIN, *words])  # noqa: S606  reason: pty.fork

    def says(self, text: str, seconds: float = 40) -> str:
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} is not in {self.shown!r}"
            if select.select([self.master], [], [], 1)[0]:
                try:
                    self.shown += os.read(self.master, 65536).decode()
                except OSError:
                    break
        assert text in self.shown, self.shown
        before, _, self.shown = self.shown.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self.master, text.encode() + b"\n")

    def status(self) -> int:
        while True:
            try:
                if not os.read(self.master, 65536):
                    break
            except OSError:
                break
        os.close(self.master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def left_behind() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("tally-debug-*")}


def test_a_step_runs_again_with_its_inputs(url: str) -> None:
    before = left_behind()
    done = typed(url, "run-1", FIRST, "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "in the step some rows 3 none w" in done.stdout
    assert 'Output = "some rows 0.5"' in done.stdout
    assert left_behind() == before


def test_a_failure_is_shown_from_its_own_code_on(url: str) -> None:
    done = typed(url, "run-1", SECOND, "--yes")
    assert done.returncode != 0
    assert "ValueError: eps is negative" in done.stderr
    assert "executor.py" not in done.stderr
    assert "the step did not succeed" in done.stderr


def test_its_folder_stays_where_that_is_asked(url: str) -> None:
    done = typed(url, "run-1", FIRST, "--yes", "--keep")
    folder = Path(re.search(r"its folder stays: (\S+)", done.stderr)[1])  # type: ignore[index]  # it is there
    assert (folder / "in" / "0-0" / "it").read_bytes() == b"some rows"
    assert (folder / "step" / "out" / "artifacts" / "model").is_dir()
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_nothing_runs_without_consent(url: str) -> None:
    done = typed(url, "run-1", FIRST)
    assert done.returncode != 0
    assert "as you, outside the sandbox" in done.stderr
    assert "in the step" not in done.stdout


def test_what_is_not_there_is_named(url: str) -> None:
    assert "say which: train[0]/train, train[1]/train" in typed(url, "run-1", "train", "--yes").stderr
    assert "no step 'other'" in typed(url, "run-1", "other", "--yes").stderr
    assert "cannot be started" in typed(url, "run-1", FIRST, "--yes", "--python", "/no/python").stderr
    bare = typed(url, "run-1", FIRST, "--yes", "--python", "/usr/bin/python3")
    assert "has no kfp" in bare.stderr


@pytest.mark.slow
def test_the_debugger_stops_at_the_first_line(url: str) -> None:
    screen = Terminal("--url", url, "debug", "run-1", FIRST, "--pdb")
    screen.says("outside the sandbox? [y/N]")
    screen.type("y")
    screen.says("-> import os")
    screen.says("(Pdb)")
    screen.type("p eps")
    screen.says("0.5")
    screen.says("(Pdb)")
    screen.type("\x03")
    screen.says("(Pdb)")
    screen.type("eps = 7.5")
    screen.says("(Pdb)")
    screen.type("c")
    screen.says('Output = "some rows 7.5"')
    assert screen.status() == 0


@pytest.mark.slow
def test_the_debugger_stops_where_it_fails(url: str) -> None:
    screen = Terminal("--url", url, "debug", "run-1", SECOND, "--pdb", "--yes")
    screen.says("(Pdb)")
    screen.type("c")
    screen.says("ValueError: eps is negative")
    screen.says('-> raise ValueError("eps is negative")')
    screen.says("(Pdb)")
    screen.type("p text")
    screen.says("'some rows'")
    screen.type("q")
    assert screen.status() != 0


class Fake:
    """The hub as `debug_newest` asks it."""

    url = "http://hub"

    def get(self, path: str, **_: Any) -> Any:
        assert path == "/nouns/run"
        return [OLD, NEW]

    def noun(self, _: str, key: str) -> Any:
        return {"run-1": OLD, "run-2": NEW}[key]


def test_the_newest_run_that_got_so_far_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    played: list[Any] = []
    monkeypatch.setattr("tallystick.doors.cli.debug._play", lambda tally, *said, **how: played.append(said))
    tally: Any = type("T", (), {"hub": Fake(), "home": str(tmp_path)})()
    file = tmp_path / "p.yaml"
    file.write_text(json.dumps(pipeline()))
    for spelled in (str(file), "looped"):
        debug_newest(tally, Path(spelled), FIRST, pdb=True, yes=True)
    assert played == [("run-1", FIRST, True)] * 2
    with pytest.raises(NotFound, match="no run of looped has begun a step 'none'"):
        debug_newest(tally, Path("looped"), "none", pdb=False, yes=True)
    with pytest.raises(NotFound, match="no run of other"):
        debug_newest(tally, Path("other"), FIRST, pdb=False, yes=True)
    file.write_text("a: [")
    with pytest.raises(BadInput, match="no compiled pipeline"):
        debug_newest(tally, Path(file), FIRST, pdb=False, yes=True)


def test_a_steps_component_is_found_by_its_path() -> None:
    assert component_at(read("artifact-loop"), "several-graph/for-loop-2[11]/make").name == "make"
    with pytest.raises(BadInput, match="no step that runs code"):
        component_at(read("artifact-loop"), "for-loop-1[0]")
