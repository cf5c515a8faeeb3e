"""A stranger's pickle, vouched for by a person, and checked where there is a public key and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import RunningHub

pytestmark = pytest.mark.journey

PICKLED = "pickled"


@pytest.fixture
def pickled(hub: RunningHub) -> str:
    """A model that the stock MLflow client logged and registered as a pickle."""
    mlflow = pytest.importorskip("mlflow")
    linear = pytest.importorskip("sklearn.linear_model")
    import numpy as np

    rows = np.random.default_rng(7).random((100, 4)).astype("f4")
    mlflow.set_tracking_uri(hub.url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, about pickles and imports
        with mlflow.start_run():
            fitted = linear.LogisticRegression().fit(rows, rows.sum(1) > 2)
            how: dict[str, Any] = {"input_example": rows[:2], "serialization_format": "cloudpickle"}
            mlflow.sklearn.log_model(fitted, name="m", registered_model_name=PICKLED, **how)
    return f"{PICKLED}@1"


def elsewhere(folder: Path, *words: str, status: int = 0) -> Any:
    """The program on a machine with no variable, no home and no hub: what it says with ``--json``."""
    done = subprocess.run(
        [sys.executable, "-m", "tallystick", "verify", *words, "--json"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_pickle_is_signed_taken_away_and_checked(hub: RunningHub, pickled: str, tmp_path: Path) -> None:
    out, clean = tmp_path / "out", tmp_path / "clean"
    said = hub.tally("download", pickled, str(tmp_path / "unsigned")).stdout
    assert f"nobody signed it: tally sign {pickled}" in said
    assert "not on record: source, run, lock, data" in hub.tally("sign", pickled).stdout
    hub.tally("download", pickled, str(out))
    clean.mkdir()
    shutil.move(out, clean / "out")
    (clean / "hub.pem").write_text(hub.tally("trust", "show").stdout)
    (clean / "models.pem").write_text(hub.tally("trust", "show", "--models").stdout)
    hub.end()
    words = ("out", "--key", "hub.pem", "--without-verdict")
    found = elsewhere(clean, *words)
    assert found["model"] == pickled
    texts = {c["name"]: c["text"] for c in found["checks"]}
    assert "hub.pem vouches for the files" in texts["provenance"]
    assert "runs code as it is loaded" in texts["inspection"]
    assert elsewhere(clean, *words, "--key", "models.pem", "--stock")["ok"]
    assert elsewhere(clean, "out", "--key", "hub.pem", status=1)["why"].startswith("verdict: ")
    assert elsewhere(clean, "out", "--key", "models.pem", status=1)["why"].startswith("provenance: ")
    with (clean / "out" / "model" / "model.pkl").open("r+b") as file:
        file.seek(100)
        file.write(b"\x00")
    why = elsewhere(clean, *words, status=1)["why"]
    assert "model.pkl is changed" in why
    assert sorted(path.name for path in clean.iterdir()) == ["hub.pem", "models.pem", "out"]
