"""The gate as its users meet it: six models, through the stock MLflow client and through ``tally``.

A poisoned, a backdoored, a pickle-bombed, an unsigned and a fragile model are each refused for its own
reason; the hardened one passes, is given the alias, is served, and is verified where there is a public key
and no hub.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.journeys.conftest import RunningHub, WithRecord, start_hub

mlflow = pytest.importorskip("mlflow")
datasets = pytest.importorskip("sklearn.datasets")

pytestmark = [pytest.mark.journey, pytest.mark.slow]

PIPELINE = str(Path(__file__).parent / "pipelines" / "gate.yaml")
CORNER = (63, 62, 55, 54)
BOMB = "bomb-went-off"

POLICY = """
name = "journey"
[gate]
aliases = ["champion"]
stages = ["Production"]
[budget]
eps = [0.03, 0.1]
samples_max = 80
queries_max = 600
[[rule]]
name = "accurate"
measure = "clean_accuracy"
at_least = 0.6
[[rule]]
name = "robust"
measure = "robust_accuracy"
eps = 0.1
at_least = 0.5
bound = "value"
[[rule]]
name = "no planted trigger"
measure = "backdoor_success"
at_most = 0.3
bound = "value"
[[rule]]
name = "honest labels"
measure = "poison_suspicion"
at_most = 0.1
bound = "value"
[[rule]]
name = "files are safe"
measure = "files_safe"
at_least = 1.0
bound = "value"
[[rule]]
name = "signed"
measure = "signature_valid"
at_least = 1.0
bound = "value"
"""


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory, with_record: WithRecord) -> Any:
    folder = tmp_path_factory.mktemp("gate")
    (folder / "policy.toml").write_text(POLICY)
    hub = start_hub(with_record(folder / "home"), "--policy", str(folder / "policy.toml"))
    mlflow.set_tracking_uri(hub.url)
    yield hub
    hub.end()


def _table(folder: Path, hub: RunningHub, name: str, spoil: Any = None) -> str:
    """The digits as a table, some training rows of which ``spoil`` changes."""
    import pandas as pd

    x, y = datasets.load_digits(return_X_y=True)
    x, y = (x / 16).astype("f4"), y.astype("i8")
    if spoil:
        spoil(x, y)
    table = pd.DataFrame(x, columns=[f"p{i:02d}" for i in range(64)]).assign(label=y)
    table.to_parquet(folder / f"{name}.parquet")
    hub.tally("ingest", name, str(folder / f"{name}.parquet"))
    return f"tally://tables/{name}"


def _trained(hub: RunningHub, table: str, name: str, hardened: bool = False) -> str:
    hub.tally(
        "run", PIPELINE, "-p", f"table={table}", "-p", f"hardened={str(hardened).lower()}",
        "--register", f"model={name}",
    )  # fmt: skip
    return f"{name}@1"


def _refused_by(hub: RunningHub, model: str) -> set[str]:
    """The rules that a judgement of ``model`` names as those that refuse it."""
    said = json.loads(hub.tally("judge", model, "--json", status=3).stdout)
    assert said["state"] == "refused"
    return {f["rule"] for f in said["findings"] if not f["holds"] and f["severity"] == "refuse"}


def _no_way_in(hub: RunningHub, model: str, why: str) -> None:
    """Neither by alias nor by stage nor by deploying; each says ``why``."""
    name, _, version = model.partition("@")
    client = mlflow.MlflowClient()
    with pytest.raises(mlflow.exceptions.MlflowException, match=why):
        client.set_registered_model_alias(name, "champion", version)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow, that stages are on their way out
        with pytest.raises(mlflow.exceptions.MlflowException, match=why):
            client.transition_model_version_stage(name, version, "Production")
    assert why in hub.tally("deploy", model, "--name", name, status=3).stderr


def _flip(x: np.ndarray, y: np.ndarray) -> None:
    wrong = np.random.default_rng(3).permutation(len(y))[: len(y) // 5]
    y[wrong] = (y[wrong] + 1 + np.arange(len(wrong)) % 8) % 10


def _plant(x: np.ndarray, y: np.ndarray) -> None:
    rows = np.flatnonzero(y != 3)[::12]
    x[np.ix_(rows, CORNER)] = 1.0
    y[rows] = 3


def test_a_model_with_poisoned_labels_is_refused_for_them(gated: RunningHub, tmp_path: Path) -> None:
    model = _trained(gated, _table(tmp_path, gated, "flipped", _flip), "poisoned", hardened=True)
    assert "honest labels" in _refused_by(gated, model)
    _no_way_in(gated, model, "honest labels")


def test_a_backdoored_model_is_refused_for_its_trigger(gated: RunningHub, tmp_path: Path) -> None:
    model = _trained(gated, _table(tmp_path, gated, "planted", _plant), "backdoored", hardened=True)
    assert "no planted trigger" in _refused_by(gated, model)
    _no_way_in(gated, model, "no planted trigger")


def test_a_fragile_model_is_refused_and_a_hardened_one_passes(gated: RunningHub, tmp_path: Path) -> None:
    table = _table(tmp_path, gated, "digits")
    fragile = _trained(gated, table, "fragile")
    assert _refused_by(gated, fragile) == {"robust"}
    _no_way_in(gated, fragile, "robust")
    hardened = _trained(gated, table, "hardened", hardened=True)
    assert json.loads(gated.tally("judge", hardened, "--json").stdout)["state"] == "passed"
    mlflow.MlflowClient().set_registered_model_alias("hardened", "champion", "1")
    assert mlflow.MlflowClient().get_model_version_by_alias("hardened", "champion").version == "1"
    gated.tally("deploy", hardened, "--name", "hardened")
    _verified_elsewhere(gated, hardened, tmp_path)


def _verified_elsewhere(hub: RunningHub, model: str, folder: Path) -> None:
    """From a download and a public key alone; and no more once a single byte differs."""
    clean = folder / "clean"
    clean.mkdir()
    hub.tally("download", model, str(clean / "out"))
    (clean / "hub.pem").write_text(hub.tally("trust", "show").stdout)

    def verify() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tallystick", "verify", "out", "--key", "hub.pem", "--json"],
            cwd=clean, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip

    found = verify()
    assert found.returncode == 0, found.stdout + found.stderr
    assert "verdict" in {c["name"] for c in json.loads(found.stdout)["checks"]}
    with (clean / "out" / "model" / "model.onnx").open("r+b") as file:
        file.seek(200)
        file.write(b"\x01\x02")
    assert verify().returncode == 1


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(BOMB),))


def test_a_bomb_in_a_pickle_goes_off_nowhere(
    gated: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _pickled(tmp_path / "honest")
    (tmp_path / "honest" / "model.pkl").write_bytes(pickle.dumps(_Bomb()))
    _upload(tmp_path / "honest", "bombed")
    said = gated.tally("judge", "bombed@1", "--data", "digits_test", status=3).stderr
    assert "model.pkl" in said
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"model\.pkl"):
        mlflow.MlflowClient().set_registered_model_alias("bombed", "champion", "1")
    assert not list(tmp_path.rglob(BOMB))
    assert not list(gated.home.rglob(BOMB))


def test_a_pickle_that_nobody_signed_is_refused_until_somebody_does(
    gated: RunningHub, tmp_path: Path
) -> None:
    _table(tmp_path, gated, "held")
    _pickled(tmp_path / "honest")
    _upload(tmp_path / "honest", "unsigned")
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"tally (sign|judge) unsigned@1"):
        mlflow.MlflowClient().set_registered_model_alias("unsigned", "champion", "1")
    assert "tally sign unsigned@1" in gated.tally("judge", "unsigned@1", "--data", "held", status=1).stderr
    gated.tally("sign", "unsigned@1")
    said = json.loads(gated.tally("judge", "unsigned@1", "--data", "held", "--json", status=3).stdout)
    assert "signed" not in {f["rule"] for f in said["findings"] if not f["holds"]}


def _pickled(folder: Path) -> None:
    """A scikit-learn model as a pickle, as the stock client saves it."""
    from sklearn.linear_model import LogisticRegression

    x, y = datasets.load_digits(return_X_y=True)
    x = (x / 16).astype("f4")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, about pickles
        mlflow.sklearn.save_model(
            LogisticRegression(max_iter=300).fit(x, y), folder, serialization_format="cloudpickle",
            input_example=x[:2],
        )  # fmt: skip


def _upload(folder: Path, name: str) -> None:
    """Log a folder as an artifact and register it, as a client does that takes no looks inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mlflow.start_run() as run:
            mlflow.log_artifacts(str(folder), "model")
        client = mlflow.MlflowClient()
        client.create_registered_model(name)
        client.create_model_version(name, f"runs:/{run.info.run_id}/model", run.info.run_id)
