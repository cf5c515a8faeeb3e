"""How Kubeflow is asked, and what becomes of its answers; a journey goes the whole way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallystick.core.errors import BadInput, Failed, NotFound, Refused, TallyError, Unavailable
from tallystick.ports.runs.cluster import Cluster
from tallystick.ports.tile import Place
from tallystick.tiles.kubeflow.cluster import Kubeflow, open_tile

SPEC = b"""
pipelineInfo: {name: one}
root: {dag: {tasks: {a: {cachingOptions: {enableCache: true}, componentRef: {name: c}}}}}
components: {c: {executorLabel: e}, d: {dag: {tasks: {b: {cachingOptions: {enableCache: true}}}}}}
---
platforms: {kubernetes: {}}
"""


class Server:
    """Remembers what it was asked; ``runs`` are those that are there already."""

    def __init__(self, *runs: str) -> None:
        self.runs = runs
        self.asked: list[tuple[str, str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else dict(request.url.params)
        self.asked.append((request.method, request.url.path, body))
        if request.method == "POST":
            return httpx.Response(200, json={"run_id": "new", "experiment_id": "e-1"})
        return httpx.Response(200, json={"runs": [{"run_id": run} for run in self.runs]})


def kubeflow(answer: Any, token_file: str = "") -> Kubeflow:
    return Kubeflow("https://kf.example/pipeline", token_file, httpx.MockTransport(answer))


async def test_a_pipeline_is_submitted_once() -> None:
    server = Server()
    tile = kubeflow(server)
    assert isinstance(tile, Cluster)
    assert await tile.submit("run-1", SPEC, {"n": 3, "data": None}, experiment="fraud") == "new"
    (find, looked), (made, submitted) = server.asked[:2], server.asked[2:]
    assert json.loads(find[2]["filter"])["predicates"][0]["string_value"] == "run-1"
    assert looked[:2] == ("GET", "/pipeline/apis/v2beta1/experiments")
    assert made == ("POST", "/pipeline/apis/v2beta1/experiments", {"display_name": "fraud"})
    assert submitted[2]["experiment_id"] == "e-1"
    assert submitted[2]["runtime_config"] == {"parameters": {"n": 3}}
    assert submitted[2]["pipeline_spec"]["platform_spec"] == {"platforms": {"kubernetes": {}}}

    server = Server("old")
    assert await kubeflow(server).submit("run-1", SPEC, {}) == "old"
    assert len(server.asked) == 1


@pytest.mark.parametrize("comes", [True, False])
async def test_two_runs_that_are_the_first_of_their_experiment_at_once(comes: bool) -> None:
    """It was not there, and is when it is to be made; or it cannot be made at all."""
    server, made = Server(), []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/experiments"):
            if request.method == "POST":
                made.append(request)
                return httpx.Response(409, json={"code": 6, "message": "it exists already"})
            found = [{"experiment_id": "theirs"}] if made and comes else []
            return httpx.Response(200, json={"experiments": found})
        return server(request)

    if comes:
        assert await kubeflow(answer).submit("run-1", SPEC, {}, experiment="fraud") == "new"
        assert server.asked[-1][2]["experiment_id"] == "theirs"
    else:
        with pytest.raises(BadInput, match="it exists already"):
            await kubeflow(answer).submit("run-1", SPEC, {}, experiment="fraud")


async def test_without_the_cache_no_task_asks_for_it() -> None:
    server = Server()
    await kubeflow(server).submit("run-1", SPEC, {}, cache=False)
    assert "cachingOptions" in SPEC.decode()
    assert "cachingOptions" not in json.dumps(server.asked[-1][2])


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (400, {"error": "x", "message": "no such\nparameter"}, BadInput, "no such parameter"),
        (401, {}, Refused, "HTTP 401"),
        (302, None, Refused, "kubeflow_token_file"),
        (404, {"message": "run r not found"}, NotFound, "run r not found"),
        (500, "x" * 9, Failed, "HTTP 500"),
        (503, {}, Unavailable, "not ready"),
        (200, [], Failed, "did not answer with JSON"),
    ],
)
async def test_errors_say_what_kubeflow_said(
    status: int, body: Any, error: type[TallyError], words: str
) -> None:
    with pytest.raises(error, match=words):
        await kubeflow(lambda _: httpx.Response(status, json=body)).look("r")


async def test_a_page_that_is_no_api_is_said_to_be_none() -> None:
    with pytest.raises(Failed, match="below /pipeline"):
        await kubeflow(lambda _: httpx.Response(200, text="<html>")).look("r")


async def test_a_server_that_is_not_there() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    with pytest.raises(Unavailable, match="connection refused"):
        await kubeflow(away).look("r")


async def test_a_run_id_stays_one_part_of_the_path() -> None:
    server = Server()
    await kubeflow(server).look("../../x?y")
    assert server.asked[0][1] == "/pipeline/apis/v2beta1/runs/../../x?y"  # as decoded; it went quoted


async def test_the_token_is_read_anew_for_each_request(tmp_path: Path) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200, json={})

    token = tmp_path / "token"
    tile = kubeflow(answer, str(token))
    with pytest.raises(Unavailable, match="token cannot be read"):
        await tile.look("r")
    for text in ("one\n", "two"):
        token.write_text(text)
        await tile.look("r")
    assert seen == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize(
    "host", ["", "ftp://a", "https://", "kf.example", "https://u:p@kf.example", "https://a?b=c"]
)
def test_an_address_that_is_none(host: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not the address"):
        open_tile(Place(tmp_path, {"kubeflow_host": host}))


def test_a_token_goes_nowhere_in_the_clear(tmp_path: Path) -> None:
    options = {"kubeflow_host": "http://kf.example", "kubeflow_token_file": "t"}
    with pytest.raises(Refused, match="TLS"):
        open_tile(Place(tmp_path, options))
    open_tile(Place(tmp_path, {**options, "kubeflow_host": "http://127.0.0.1:1"}))
