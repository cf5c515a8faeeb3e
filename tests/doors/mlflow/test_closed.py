"""What is closed, and paths that read in two ways."""

from __future__ import annotations

import json

import pytest

from tallystick.core.errors import BadInput, Refused
from tallystick.doors.mlflow.paths import check_open, target_of
from tests.doors.mlflow.house import API, FILES, House, raw

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLOSED = [
    ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
    ("GET", "/ajax-api/3.0/mlflow/assistant/config"),
    ("PUT", "/ajax-api/3.0/mlflow/assistant/config"),
    ("POST", "/ajax-api/3.0/mlflow/assistant/skills/install"),
    ("GET", "/ajax-api/3.0/mlflow/Assistant/config"),
    ("GET", "/ajax-api/3.0/mlflow/%61ssistant/config"),
    ("POST", "/ajax-api/2.0/mlflow/gateway-proxy"),
    ("PUT", "/ajax-api/2.0/mlflow/gateway-proxy?target_uri=http://x"),
    ("POST", "/api/3.0/mlflow/gateway/endpoints/create"),
    ("GET", "/ajax-api/3.0/mlflow/gateway/secrets/list"),
    ("POST", "/api/2.0/mlflow/webhooks"),
    ("POST", "/ajax-api/2.0/mlflow/webhooks/1/test"),
    ("POST", "/ajax-api/3.0/jobs/"),
    ("GET", "/ajax-api/3.0/mlflow/jobs/1"),
    ("POST", "/ajax-api/3.0/mlflow/genai/evaluate/invoke"),
    ("POST", "/ajax-api/3.0/mlflow/scorer/invoke"),
    ("POST", "/ajax-api/3.0/mlflow/issues/invoke"),
    ("POST", "/api/3.0/mlflow/prompt-optimization/jobs"),
]


@pytest.mark.parametrize("mount", ["", "/mlflow"])
@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_what_runs_commands_or_calls_out_is_closed(
    house: House, method: str, path: str, mount: str
) -> None:
    answer = await raw(house.url, f"{method} {mount}{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0")
    assert answer.status == 403, answer.body
    said = json.loads(answer.body)
    assert (said["error"], said["error_code"]) == ("Refused", "PERMISSION_DENIED")
    assert "closed here" in said["message"]


async def test_there_is_no_gateway_to_be_listed(house: House) -> None:
    """MLflow's pages ask, and would show a refusal as a fault."""
    answer = await house.http.get("/mlflow/ajax-api/2.0/mlflow/gateway-proxy?gateway_path=api/2.0/endpoints/")
    assert (answer.status_code, answer.json()) == (200, {"endpoints": []})


@pytest.mark.parametrize("path", ["/mlflow/gateway/x/mlflow/invocations", "/mlflow/gateway/proxy/x/y"])
async def test_the_gateway_itself_is_closed(house: House, path: str) -> None:
    assert (await house.http.post(path, json={})).status_code == 403


UNCLEAR = [
    "/api/2.0/mlflow/../../x",
    "/api/2.0/mlflow/./runs/get",
    "/api/2.0//mlflow/runs/get",
    "/api/2.0/mlflow/%2e%2e/x",
    "/api/2.0/mlflow/%252e%252e/x",
    "/api/2.0/mlflow%2fruns/get",
    "/api/2.0/mlflow%252Fruns/get",
    "/api/2.0/mlflow\\runs/get",
    "/api/2.0/mlflow%5cruns/get",
    "/api/2.0/mlflow/runs%00/get",
    "/api/2.0/mlflow/runs%0d%0aX:1/get",
    "/api/2.0/mlflow/%ff/get",
    "/api/2.0/ml%2566low/runs/get",
    "/ajax-api/3.0/mlflow/%2561ssistant/config",
    FILES + "/1/mod%2565ls/m-1/artifacts/MLmodel",
    "/api/2.0/mlflow/%zz",
    "/mlflow//gateway/x",
    "/mlflow/%2fgateway/x",
    "/%6dlflow/api",
    *(
        FILES + "/" + up
        for up in ("../x", "..", "%2e%2e/x", "%252e%252e%252fx", "a/../../x", "..%5cx", "%2fetc")
    ),
    "/ajax-api/2.0/mlflow-artifacts/artifacts/..%2f..%2fetc/passwd",
    "/ajax-api/3.0/mlflow%2fassistant/config",
    "/ajax-api/3.0/mlflow/x/../assistant/config",
    "/ajax-api/3.0/mlflow//assistant/config",
]


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("path", UNCLEAR)
async def test_a_path_that_reads_in_two_ways_is_refused(house: House, method: str, path: str) -> None:
    answer = await raw(house.url, f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0")
    assert answer.status in (400, 404), answer.body
    if answer.status == 400 and answer.body.startswith(b"{"):
        assert "more than one way" in json.loads(answer.body)["message"]


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("//api/2.0/mlflow/runs/get?run_id=1", "/api/2.0/mlflow/runs/get?run_id=1"),
        ("//elsewhere.example/x", "/elsewhere.example/x"),
        ("///elsewhere.example/%2e%2e", "/elsewhere.example/%2e%2e"),
    ],
)
async def test_slashes_too_many_at_the_start_lead_to_the_plain_path(
    house: House, path: str, plain: str
) -> None:
    answer = await raw(house.url, f"GET {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0")
    assert answer.status == 308
    assert f"location: {plain}\r\n" in f"{answer.head}\r\n"


@pytest.mark.parametrize(
    "path", ["../../../../etc", "..", "/etc", "%2e%2e/x", "%252e%252e", "file:///etc", "a/../.."]
)
async def test_a_query_cannot_lead_out_of_the_artifacts(house: House, path: str) -> None:
    _, run_id = await house.new_run()
    listed = await house.http.get(FILES, params={"path": path})
    asked = {"run_id": run_id, "run_uuid": run_id, "path": path}
    of_run = await house.http.get(API + "artifacts/list", params=asked)
    got = await house.http.get("/get-artifact", params=asked)
    put = await house.http.post("/ajax-api/2.0/mlflow/upload-artifact", params=asked, content=b"x")
    for answer in (listed, of_run, got, put):
        assert answer.status_code in (400, 404, 500) or not answer.json().get("files"), answer.text
        assert "passwd" not in answer.text
    assert not any("etc" in p.parts for p in (house.home / "mlartifacts").rglob("*"))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "http://127.0.0.1:1"},
    ],
)
async def test_another_sites_page_changes_nothing(house: House, headers: dict[str, str]) -> None:
    body = {"name": f"csrf {headers}"}
    answer = await house.http.post(API + "experiments/create", json=body, headers=headers)
    assert answer.status_code == 403
    assert (await house.http.post(API + "experiments/create", json=body)).status_code == 200
    own = {"origin": house.url, "sec-fetch-site": "same-origin"}
    assert (
        await house.http.post(API + "experiments/search", json={"max_results": 1}, headers=own)
    ).is_success


async def test_an_artifact_cannot_act_as_a_page_of_the_hubs(house: House) -> None:
    experiment_id, run_id = await house.new_run()
    path = f"{FILES}/{experiment_id}/{run_id}/artifacts/page.html"
    await house.http.put(path, content=b"<script>alert(1)</script>")
    got = await house.http.get(path)
    assert got.headers["content-security-policy"].startswith("sandbox")
    page = await house.http.get("/get-artifact", params={"run_uuid": run_id, "path": "page.html"})
    assert page.headers["content-security-policy"].startswith("sandbox")


@pytest.mark.parametrize(
    "raw_path", [b"/a%20b", b"/50%25.txt", b"/a+b;c=1", b"/%C3%BC", b"/a[1]", b"/", b"/a/b/", b"/a..b/...c"]
)
async def test_plain_paths_pass(raw_path: bytes) -> None:
    assert target_of(raw_path).raw == raw_path
    assert target_of(b"/mlflow" + raw_path, b"/mlflow").raw == raw_path


@pytest.mark.parametrize(
    "raw_path",
    [
        b"",
        b"a",
        b"/\xff",
        b"/a b",
        b'/"',
        b"/a#b",
        b"/%" + b"25" * 20 + b"2e",
        b"/mod%2565ls",
        b"/%2525",
        b"/%25C3",
    ],
)
async def test_other_paths_do_not(raw_path: bytes) -> None:
    with pytest.raises(BadInput):
        target_of(raw_path)


async def test_artifacts_may_have_the_names_of_closed_parts() -> None:
    for name in (b"gateway", b"assistant", b"webhooks/invoke", b"jobs"):
        check_open(target_of(FILES.encode() + b"/1/" + name))
    with pytest.raises(Refused):
        check_open(target_of(b"/api/2.0/mlflow/webhooks"))
