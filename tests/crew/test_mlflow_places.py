"""What MLflow's own server opens on request: the hub's artifacts, of the asker's workspace, and no others."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tallystick.crew.mlflow.places import Roots, guarded
from tests.tiles.registry_parts import mlflow_registry

TAG = "mlflow.artifactLocation"


# ---------------------------------------------------------------------- which place is whose


STORE, MORE, PARENT = "file:///h/store", "s3://bucket/more", "file:///h"


@pytest.mark.parametrize(
    ("uri", "whose"),
    [
        (f"{STORE}/1/run/artifacts", "default"),
        (f"{STORE}/workspaces/default/1", "default"),
        (f"{STORE}/workspaces/team-a/1", "team-a"),
        (f"{STORE}/workspaces/team-b/1", "team-b"),
        ("/h/store/workspaces/team-b/1", "team-b"),
        (f"{STORE}//workspaces/./team-b/1", "team-b"),
        (f"{STORE}/workspaces/team-a/../team-b/1", "team-b"),
        (f"{STORE}/1/../workspaces/team-b", "team-b"),
        (f"{STORE}/workspaces/team%2Db/1", "team-b"),
        (f"{STORE}/workspaces", ""),
        (f"{STORE}/workspaces/", ""),
        (f"{STORE}/1/..", ""),
        (STORE, ""),
        (f"{PARENT}/other/1", "default"),
        (PARENT, ""),
        (f"{MORE}/1/run", "default"),
        (f"{MORE}/workspaces/team-b/1", "team-b"),
        (f"{MORE}//workspaces/team-b/1", "team-b"),
        (f"{MORE}/./workspaces/team-b/1", "team-b"),
        (f"{MORE}/1/../workspaces/team-b", ""),
        (f"{MORE}/workspaces%2Fteam-b", ""),
        (f"{MORE}/of-team-a/1", "default team-a"),
        (f"{MORE}/of-team-abc/1", "default"),
        ("s3://bucket/moreover/1", ""),
        ("file:///etc", ""),
        ("/etc/passwd", ""),
        ("https://bucket/more", ""),
    ],
)
def test_whose_a_place_is(uri: str, whose: str) -> None:
    pytest.importorskip("mlflow")
    own = {"team-a": f"{MORE}/of-team-a", "team-b": f"{STORE}/workspaces/team-a"}
    roots = Roots((STORE, MORE, PARENT), lambda workspace: own.get(workspace, ""))
    allowed = [name for name in ("default", "team-a", "team-b") if roots.has(uri, name)]
    assert allowed == whose.split()
    assert not roots.has(uri, None), "nobody's request"
    anybodys = Roots((STORE, MORE, PARENT))
    assert anybodys.has(uri, None) >= bool(allowed)
    assert not anybodys.has("file:///etc", None)


@pytest.mark.parametrize(
    "uri", ["mlflow-artifacts://host/a", "MLFLOW-ARTIFACTS://u@host:1/a", "http://host/a"]
)
def test_no_other_server_is_asked(uri: str) -> None:
    exceptions = pytest.importorskip("mlflow.exceptions")
    make = guarded(lambda uri, **_: uri, Roots((STORE,)))
    assert make("mlflow-artifacts:/a") == "mlflow-artifacts:/a"
    assert make(f"{STORE}/a") == f"{STORE}/a"
    with pytest.raises(exceptions.MlflowException, match="does not open artifacts at"):
        make(uri)


# ---------------------------------------------------------------------- a server with workspaces


class Team:
    """What one workspace asks MLflow's own server."""

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self.client, self.headers, self.experiment = client, {"X-MLFLOW-WORKSPACE": name} if name else {}, ""

    async def ask(self, method: str, path: str, status: int = 200, **more: Any) -> httpx.Response:
        answer = await self.client.request(method, path, headers=self.headers | more.pop("said", {}), **more)
        assert answer.status_code == status, answer.text
        return answer

    async def trace(self, number: int, **more: Any) -> str:
        if not self.experiment:
            made = await self.ask("POST", "/api/2.0/mlflow/experiments/create", json={"name": "e"})
            self.experiment = made.json()["experiment_id"]
        name = f"tr-{number:032x}"
        where = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": self.experiment}}
        info = {"trace_id": name, "trace_location": where, "request_time": "2024-01-01T00:00:00Z", **more}
        await self.ask("POST", "/api/3.0/mlflow/traces", json={"trace": {"trace_info": info}})
        return name

    async def place(self, trace: str) -> str:
        found = await self.ask("GET", f"/api/2.0/mlflow/traces/{trace}/info")
        return str({tag["key"]: tag["value"] for tag in found.json()["trace_info"]["tags"]}[TAG])

    async def read(self, trace: str, status: int = 200) -> str:
        path = f"/ajax-api/2.0/mlflow/get-trace-artifact?request_id={trace}"
        return (await self.ask("GET", path, status)).text


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    pytest.importorskip("mlflow")
    registry = mlflow_registry(tmp_path, workspaces=True)
    try:
        yield await registry.child.client()
    finally:
        await registry.close()


def folder_of(home: Path, place: str) -> Path:
    return home / "mlartifacts" / place.removeprefix("mlflow-artifacts:/")


async def test_no_workspace_reads_what_another_has(client: httpx.AsyncClient, tmp_path: Path) -> None:
    ours, theirs = Team(client, ""), Team(client, "team-b")
    await ours.ask("POST", "/api/3.0/mlflow/workspaces", 201, json={"name": "team-b"})
    for number, team in ((1, ours), (2, theirs)):
        folder = folder_of(tmp_path, await team.place(await team.trace(number)))
        folder.mkdir(parents=True)
        (folder / "traces.json").write_text(f'{{"spans": [], "info": "of team {number}"}}')
        assert f"team {number}" in await team.read(f"tr-{number:032x}"), "each its own"
    theirs_at = await theirs.place(f"tr-{2:032x}")
    folder = folder_of(tmp_path, theirs_at)
    for n, value in enumerate((theirs_at, folder.as_uri(), str(folder), theirs_at.replace(":/", "://host/"))):
        trace = await ours.trace(10 + n)
        before = await ours.place(trace)
        await _no_tag_moves_it(ours, trace, value)
        assert await ours.place(trace) == before
        for there in (value, (tmp_path / "mlartifacts").as_uri()):
            _move_it(tmp_path, trace, there)  # as if it had been so before the hub was
            assert "team 2" not in await ours.read(trace, 403)
    listing = "/api/2.0/mlflow-artifacts/artifacts?path="
    for written in ("./{}", ".//./{}", "%252e/{}", "%25252e/{}", "x/./../{}", "{}"):
        asked = listing + written.format(theirs_at.removeprefix("mlflow-artifacts:/"))
        assert "traces.json" not in (await client.get(asked)).text
        answer = await client.get(asked, headers=theirs.headers)
        assert ("traces.json" in answer.text) == ("x/" not in written), "they list it themselves"


async def _no_tag_moves_it(team: Team, trace: str, value: str) -> None:
    """Whichever of MLflow's routes sets it; what else they set is taken."""
    for api in ("2.0", "3.0"):
        tags = f"/api/{api}/mlflow/traces/{trace}/tags"
        refused = await team.ask("PATCH", tags, 400, json={"key": TAG, "value": value})
        assert "immutable" in refused.text
        await team.ask("DELETE", tags, 400, json={"key": TAG})
        await team.ask("PATCH", tags, json={"key": "mine", "value": "1"})
        await team.ask("DELETE", tags, json={"key": "mine"})
    both = [{"key": TAG, "value": value}, {"key": "kept", "value": "1"}]
    end = {"timestamp_ms": 1, "status": "OK", "tags": both}
    assert "kept" in (await team.ask("PATCH", f"/api/2.0/mlflow/traces/{trace}", json=end)).text
    said = {"content-type": "application/x-protobuf", "x-mlflow-experiment-id": team.experiment}
    await team.ask(
        "POST", "/v1/traces", 400, said=said, content=_spans(trace, f"mlflow.traceTag.{TAG}", value)
    )
    await team.ask("POST", "/v1/traces", said=said, content=_spans(trace, "mlflow.traceTag.x", value))
    assert await team.trace(int(trace[3:], 16), tags={TAG: value}) == trace, "sent once more"


def _spans(trace: str, key: str, value: str) -> bytes:
    asked = ExportTraceServiceRequest()
    span = asked.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id = bytes.fromhex(trace.removeprefix("tr-")), b"12345678"
    span.name, span.start_time_unix_nano, span.end_time_unix_nano = "s", 1, 2
    attribute = span.attributes.add()
    attribute.key, attribute.value.string_value = key, value
    return bytes(asked.SerializeToString())


def _move_it(home: Path, trace: str, value: str) -> None:
    with contextlib.closing(sqlite3.connect(home / "mlflow.db")) as db:
        db.execute("update trace_tags set value = ? where request_id = ? and key = ?", (value, trace, TAG))
        # its spans are then where the tag says
        db.execute("delete from trace_tags where request_id = ? and key like '%spansLocation'", (trace,))
        db.execute("delete from spans where trace_id = ?", (trace,))
        db.commit()
