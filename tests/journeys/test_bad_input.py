"""Malformed input gets one clear error and status 2, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doors.kfp.corpus import KFP_PYTHON, needs_kfp
from tests.journeys.conftest import RunningHub, WithRecord, start_hub, tally

pytestmark = pytest.mark.journey

GOOD = "a,b,label\n1.5,2.5,0\n2.5,3.5,1\n"
YAML = Path(__file__).resolve().parents[2] / "examples" / "digits" / "pipeline.yaml"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, with_record: WithRecord) -> Iterator[RunningHub]:
    folder = tmp_path_factory.mktemp("bad")
    running = start_hub(with_record(folder / "home"))
    good = folder / "good.csv"
    good.write_text(GOOD)
    running.tally("ingest", "good", str(good))
    yield running
    running.end()


def _facts(hub: RunningHub) -> Any:
    """All that the hub has recorded; the command `tally log` asks for no more."""
    answer = hub.get("/api/tally/log?limit=1000")
    assert answer.status_code == 200, answer.text
    return answer.json()


def _refused(hub: RunningHub, words: list[str], *said: str, status: int = 2) -> None:
    before = _facts(hub)
    assert before
    done = hub.tally(*words, status=status)
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("error: "), done.stderr
    assert len(lines) <= 2, done.stderr
    assert "Traceback" not in done.stderr
    assert [text for text in said if text not in done.stderr] == [], done.stderr
    words_said = done.stderr.split(": ")
    assert len(words_said) == len(set(words_said)), f"it says something twice: {done.stderr}"
    assert _facts(hub) == before, "something was changed"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.csv", "a,label\n1.5,0\n", "column 'b' is missing"),
        ("new.csv", "a,b,c,label\n1.5,2.5,3,0\n", "column 'c' is not in the table"),
        ("nan.csv", "a,b,label\n1.5,nan,0\n", "NaN"),
        ("text.csv", "a,b,label\n1.5,many,0\n", "b"),
        ("ragged.csv", "a,b,label\n1.5,2.5\n", "2"),
        ("empty.csv", "", "empty"),
        ("headonly.csv", "a,b,label\n", "no rows"),
        ("broken.jsonl", '{"a": 1.5, "b": \n', "1"),
        ("not.parquet", "PAR1 no", "Parquet"),
        ("what.docx", "x", ".csv"),
    ],
)
def test_files(hub: RunningHub, tmp_path: Path, name: str, content: str, said: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    _refused(hub, ["ingest", "good", str(file)], f"error: {name}: ", said)


def test_a_file_that_shows_as_another(hub: RunningHub, tmp_path: Path) -> None:
    file = tmp_path / "a\x1b[2J.csv"
    file.write_text(GOOD)
    _refused(hub, ["ingest", "good", str(file)], "has control characters in it")


def test_a_url_that_is_none() -> None:
    done = tally("--url", "nonsense", "status", status=2)
    assert done.stderr == "error: --url: 'nonsense' is not a URL\n  for example http://127.0.0.1:5000\n"


@pytest.mark.parametrize("name", ["../evil", "a/b", "..", ".hidden", "a b", "x" * 101, "ü", "-"])
def test_names(hub: RunningHub, tmp_path: Path, name: str) -> None:
    file = tmp_path / "good.csv"
    file.write_text(GOOD)
    _refused(hub, ["ingest", "--", name, str(file)], "is not a valid table name")
    _refused(hub, ["predict", "--", name, str(file)], "is not a valid endpoint name")


def test_a_file_that_is_not_there(hub: RunningHub) -> None:
    _refused(hub, ["ingest", "good", "/nowhere/file.csv"], "no such file")
    _refused(hub, ["run", "/nowhere/pipeline.yaml"], "no such file")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2", "line"),
        ("- just\n- a list\n", "expected a mapping, got a list"),
        ("schemaVersion: 9.9.9\n", "compile it with kfp 2"),
        ("\x00\x01", "YAML"),
    ],
)
def test_pipelines(hub: RunningHub, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(text)
    _refused(hub, ["run", str(file)], "error: pipeline.yaml: ", said)


@needs_kfp
def test_a_pipeline_as_python_source(hub: RunningHub) -> None:
    source = YAML.with_suffix(".py")
    words = ["run", str(source), "--kfp-python", str(KFP_PYTHON)]
    _refused(hub, words, "no table 'digits'")


def test_a_registration_that_nobody_would_wait_for(hub: RunningHub) -> None:
    words = ["run", str(YAML), "-p", "data=tally://tables/good", "--no-wait", "--register", "best=m"]
    _refused(hub, words, "leave out one of the two")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (["-p", "sead=7"], "no parameter 'sead'"),
        (["-p", "seed=seven"], "is not NUMBER_INTEGER"),
        (["-p", "seed=7.5"], "must be NUMBER_INTEGER"),
        (["-p", "seed"], "is not NAME=VALUE"),
        (["-p", "data=tally://tables/nowhere"], "no table 'nowhere'"),
        (["-p", "data=tally://tables/good@99"], "no data 'good@99'"),
        (["-p", "data=/etc/passwd"], "cannot import from"),
        (["-p", "data=tally://tables/../x"], "is not a valid table name"),
    ],
)
def test_parameters(hub: RunningHub, params: list[str], said: str) -> None:
    _refused(hub, ["run", str(YAML), *params], said)


def test_things_that_are_not_there(hub: RunningHub, tmp_path: Path) -> None:
    file = tmp_path / "good.csv"
    file.write_text(GOOD)
    _refused(hub, ["judge", "nobody", "--data", "good"], "no model 'nobody'")
    _refused(hub, ["judge", "nobody@x"], "is not a model version")
    _refused(hub, ["deploy", "nobody", "--name", "e"], "no model 'nobody'")
    _refused(hub, ["predict", "nobody", str(file)], "no endpoint 'nobody'")
    _refused(hub, ["observe", "nobody"], "no endpoint 'nobody'")
    _refused(hub, ["heal", "nobody"], "no remedy 'nobody'")
    _refused(hub, ["withdraw", "nobody"], "no endpoint 'nobody'")
    _refused(hub, ["register", "m", "--run", "nobody", "--output", "o"], "no run 'nobody'")
    _refused(hub, ["cancel", "nobody"], "no run 'nobody'")
    _refused(hub, ["logs", "nobody"], "no run 'nobody'")
    _refused(hub, ["show", "run", "nobody"], "no run 'nobody'")
    _refused(hub, ["show", "run", "a/b"], "cannot be a key")


def test_a_model_that_does_not_load(hub: RunningHub, tmp_path: Path) -> None:
    """Registered by a stock client, as anybody may; judging it says what is wrong with its files."""
    import subprocess
    import sys

    script = """
import mlflow, pathlib, sys
from mlflow import MlflowClient
mlflow.set_tracking_uri(sys.argv[1])
folder = pathlib.Path(sys.argv[2]); folder.mkdir()
(folder / "MLmodel").write_text("flavors:\\n  onnx:\\n    data: model.onnx\\n    onnx_version: 1.0.0\\n")
(folder / "model.onnx").write_bytes(b"this is no model")
with mlflow.start_run() as run:
    mlflow.log_artifacts(str(folder), "model")
client = MlflowClient()
client.create_registered_model("broken")
client.create_model_version("broken", f"runs:/{run.info.run_id}/model", run.info.run_id)
"""
    arguments = [sys.executable, "-W", "ignore", "-c", script, hub.url, str(tmp_path / "model")]
    subprocess.run(arguments, check=True, capture_output=True, timeout=120)
    _refused(hub, ["judge", "broken", "--data", "good"], "model.onnx")
    file = tmp_path / "rows.csv"
    file.write_text(GOOD)
    _refused(hub, ["judge", "broken", "--data", str(file)], "model.onnx")
    _refused(hub, ["deploy", "broken", "--name", "e"], "model.onnx")
