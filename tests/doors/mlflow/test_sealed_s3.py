"""The same where artifacts lie in an object store: uploads in parts, too, change nothing in production."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.doors.mlflow.gated import opened, refused
from tests.doors.mlflow.house import API, FILES
from tests.doors.mlflow.house import House as DoorHouse
from tests.fakes.machine.bucket import bucket_at, keys, moto_server

pytestmark = pytest.mark.slow

STOCK = """
import json, mlflow, os, pathlib
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
said = {}
pathlib.Path("large.bin").write_bytes(b"another" * 1_000_000)
def what(do):
    try:
        return str(do())
    except Exception as wrong:
        return "refused: " + str(wrong)
with mlflow.start_run() as run:
    said["free"] = what(lambda: mlflow.log_artifact("large.bin"))
for name in ("before", "after"):
    mlflow.MlflowClient().set_registered_model_alias("m", {"before": "free", "after": "champion"}[name], "1")
    said[name] = what(lambda: get_artifact_repository(os.environ["PLACE"]).log_artifact("large.bin"))
    if name == "before":
        repo = get_artifact_repository(os.environ["PLACE"])
        said["removed"] = what(lambda: repo.delete_artifacts("large.bin"))
said["run"] = run.info.run_id
print(json.dumps(said))
"""
IN_PARTS = {
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",
    "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "1000",
    "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(5 * 1024 * 1024),
}


async def test_nothing_changes_in_the_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with moto_server() as endpoint, bucket_at(endpoint, monkeypatch) as s3:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", endpoint)
        async with opened(tmp_path, native=True, store="s3://bucket/kept") as gated:
            await gated.passed("m")
            uri = await gated.http.get(
                API + "model-versions/get-download-uri", params={"name": "m", "version": "1"}
            )
            place = str(uri.json()["artifact_uri"])
            folder = place.removeprefix("mlflow-artifacts:/")
            door = DoorHouse(tmp_path, gated.registry, gated.url, "", gated.http, gated.http)
            said = await door.python(STOCK, PLACE=place, **IN_PARTS)
            assert said["free"] == "None"
            assert (said["before"], said["removed"]) == ("None", "None")
            assert "the files of m@1 are those that were judged" in said["after"]
            files = [f"kept/{folder}/{name}" for name in ("MLmodel", "model.onnx")]
            found = await asyncio.to_thread(keys, s3)
            assert [key for key in found if key.startswith(f"kept/{folder}")] == files
            assert any(key.endswith(f"{said['run']}/artifacts/large.bin") for key in found)
            refused(await gated.http.put(f"{FILES}/{folder}/model.onnx", content=b"x"), "m@1")
            refused(await gated.http.delete(f"{FILES}/{folder}"), "m@1")
