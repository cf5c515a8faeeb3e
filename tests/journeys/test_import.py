"""`tally import`: an old ./mlruns comes into the hub, and the stock client finds and loads what was there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.fakes.old.filestore import make_filestore
from tests.journeys.conftest import start_hub, tally

pytestmark = [pytest.mark.journey, pytest.mark.slow]
pytest.importorskip("mlflow")
pytest.importorskip("pandas")

STOCK = """
import sys, warnings
warnings.simplefilter("ignore")
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
print(mlflow.artifacts.load_text(f"runs:/{sys.argv[2]}/deep/a.txt"))
print(mlflow.pyfunc.load_model("models:/reg@best").predict(pandas.DataFrame({"a": [41]}))["a"][0] + 1)
"""


def test_an_old_folder_comes_along(tmp_path: Path) -> None:
    runs = make_filestore(tmp_path / "old")
    home = tmp_path / "home"
    done = tally("--home", str(home), "import", str(tmp_path / "old"))
    assert "5 runs" in done.stdout
    assert "Traceback" not in done.stderr
    hub = start_hub(home)
    try:
        refused = tally("--home", str(home), "import", str(tmp_path / "old"), status=2)
        assert f"another hub runs on this home at {hub.url}" in refused.stderr
        assert "end it, import, then start it again" in refused.stderr
        found = httpx.get(f"{hub.url}/api/2.0/mlflow/runs/get", params={"run_id": runs[1]}, timeout=60).json()
        assert {m["key"]: m["value"] for m in found["run"]["data"]["metrics"]}["loss"] == 1.2
        script = [sys.executable, "-c", STOCK, hub.url, runs[0]]
        said = subprocess.run(script, capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path)
        assert said.stdout.split("\n")[:2] == ["hello 0", "42"], said.stderr
    finally:
        hub.end()
    again = json.loads(tally("--home", str(home), "import", str(tmp_path / "old"), "--json").stdout)
    assert again["brought"] == {}
