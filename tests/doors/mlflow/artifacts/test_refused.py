"""What the native routes for artifacts refuse, and what they leave to MLflow's own server."""

from __future__ import annotations

from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from tallystick.doors.mlflow.artifacts import artifact_routes
from tallystick.tiles.files.local import LocalFiles
from tests.doors.mlflow.artifacts.asking import below, relayed, spoken, unsealed
from tests.doors.mlflow.house import FILES, served

TRAVERSALS = [
    "..",
    "../secret",
    "a/../../secret",
    "%2e%2e/secret",
    "%2E%2e%2fsecret",
    "..%2fsecret",
    "..%5csecret",
    "..\\secret",
    "%252e%252e/secret",
    "%252e%252e%252fsecret",
    "%25252e%25252e/secret",
    "a/%2e%2e/%2e%2e/secret",
    "./a",
    "a/./b",
    "a//b",
    "//secret",
    "%2fetc/passwd",
    "%2Fetc%2Fpasswd",
    "file:%2f%2f%2fetc/passwd",
    "file:etc/passwd",
    "FILE:x",
    "C:/secret",
    "c:%5csecret",
    "a%00b",
    "a%00.txt",
    "a%0ab",
    "a%7fb",
    "%c0%ae%c0%ae/secret",
    "%ff",
    "%e0%80%ae",
    "a%23b",
    "a%2523b",
    ".artifact.uploading.tally/x",
    "1/.artifact.uploading.x",
    "x" * 300,
    "/".join(["y" * 200] * 30),
    "%uff0e",
    "a/",
    "",
]


async def test_traversal_is_refused_in_every_spelling(url: str, root: Path) -> None:
    (root.parent / "secret").write_bytes(b"secret")
    before = below(root)
    for path in TRAVERSALS:
        await refused(url, path)
    assert below(root) == before
    assert (root.parent / "secret").read_bytes() == b"secret"


async def refused(url: str, path: str) -> None:
    for base in (FILES, "/mlflow" + FILES):
        for method in (b"GET", b"HEAD", b"PUT", b"DELETE"):
            answer = await spoken(url, method, f"{base}/{path}".encode(), b"mine")
            assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404")), answer
            assert b"secret\r\n" not in answer
            assert not answer.endswith(b"secret")
    if path:
        answer = await spoken(url, b"GET", f"{FILES}?path={path}".encode(), b"")
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 200"))
        assert b"HTTP/1.1 400" in answer or answer.endswith(b"{}") or path == "a/"


async def test_what_is_not_ours_is_left_to_mlflow(http: httpx.AsyncClient) -> None:
    for method, path, headers in [
        ("POST", FILES, {}),
        ("POST", f"{FILES}/a", {}),
        ("DELETE", FILES, {}),
        ("GET", "/api/2.0/mlflow-artifacts/mpu/create/a", {}),
        ("GET", "/get-artifact?path=a&run_id=b", {}),
        ("GET", f"{FILES}/a", {"x-mlflow-workspace": "team"}),
        ("GET", f"{FILES}?path=a", {"X-MLFLOW-WORKSPACE": "default"}),
    ]:
        assert (await http.request(method, path, headers=headers)).status_code == 299
    assert (await http.get(f"{FILES}/a", headers={"x-mlflow-workspace": ""})).status_code == 404


async def test_with_workspaces_ours_is_the_default_one(files: LocalFiles) -> None:
    rest = Route("/{rest:path}", relayed, methods=["GET", "HEAD", "PUT", "DELETE"])
    app = Starlette(routes=[*artifact_routes(files, unsealed(), workspaces=True), rest])
    async with served(app) as url, httpx.AsyncClient(base_url=url, timeout=60) as http:
        for method, path, workspace, status in [
            ("PUT", f"{FILES}/1/a", "", 200),
            ("GET", f"{FILES}/1/a", "default", 200),
            ("GET", f"{FILES}/1/a", "team", 299),
            ("GET", f"{FILES}/workspaces/team/1/a", "", 299),
            ("PUT", f"{FILES}/work%73paces/team/1/a", "", 299),
            ("GET", f"{FILES}/workspaces", "", 299),
            ("PUT", f"{FILES}/work%2573paces/team/1/a", "", 400),
            ("GET", f"{FILES}?path=workspaces/team", "", 299),
        ]:
            got = await http.request(method, path, headers={"x-mlflow-workspace": workspace})
            assert got.status_code == status, path


async def test_another_sites_page_changes_nothing(http: httpx.AsyncClient, root: Path) -> None:
    for headers in ({"origin": "http://evil"}, {"sec-fetch-site": "cross-site"}):
        for method in ("PUT", "DELETE"):
            assert (await http.request(method, f"{FILES}/a", headers=headers)).status_code == 403
    assert below(root) == [".artifact.uploading.tally"]
