"""Artifacts natively: MLflow's own client, and the process that serves them, its memory and its end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from tallystick.doors.mlflow.artifacts import artifact_routes
from tallystick.ports.tile import Place
from tallystick.tiles.files.local import open_tile
from tests.doors.mlflow.artifacts.asking import unsealed
from tests.doors.mlflow.house import FILES, MIB, served

SERVER = """
import asyncio, resource, sys
from pathlib import Path
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tallystick.doors.mlflow.artifacts import artifact_routes
from tallystick.ports.tile import Place
from tallystick.tiles.files.local import open_tile
from tests.doors.mlflow.artifacts.asking import unsealed

async def peak(request):
    return PlainTextResponse(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))

class Announced(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("port", self.servers[0].sockets[0].getsockname()[1], flush=True)

async def main():
    files = open_tile(Place(Path(sys.argv[1])))
    app = Starlette(routes=[Route("/peak", peak), *artifact_routes(files, unsealed())])
    await Announced(uvicorn.Config(app, port=0, log_level="critical", lifespan="off")).serve()

asyncio.run(main())
"""


class Served:
    """The routes in a process of their own."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(home)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 60)[0], "it did not start"
        found = re.fullmatch(r"port (\d+)\n", self.process.stdout.readline())
        assert found
        self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path)
    yield server
    server.kill()


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    files = open_tile(Place(tmp_path / "home"))
    async with served(Starlette(routes=artifact_routes(files, unsealed()))) as url:
        yield url
    await files.close()


def make_tree(folder: Path) -> dict[str, bytes]:
    content = {
        "MLmodel": b"flavors: {}\n",
        "data/model.bin": bytes(range(256)) * 9000,
        "data/empty": b"",
        "data/deep/er/a b.txt": b"hello",
        "zażółć/🐢.json": b"{}",
        "100%/x+y=z.csv": b"1,2\n",
    }
    for name, raw in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(raw)
    return content


def tree_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


async def test_mlflows_client_uploads_lists_downloads_and_removes(url: str, tmp_path: Path) -> None:
    content = make_tree(tmp_path / "source")

    def with_mlflow() -> None:
        from mlflow.artifacts import download_artifacts
        from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

        store: Any = MlflowArtifactsRepository("mlflow-artifacts:/1/run/artifacts", tracking_uri=url)
        store.log_artifacts(str(tmp_path / "source"), "model")
        store.log_artifact(str(tmp_path / "source" / "MLmodel"))
        assert [(i.path, i.is_dir, i.file_size) for i in store.list_artifacts()] == [
            ("MLmodel", False, 12),
            ("model", True, None),
        ]
        assert [i.path for i in store.list_artifacts("model/data")] == [
            "model/data/deep",
            "model/data/empty",
            "model/data/model.bin",
        ]
        assert store.list_artifacts("MLmodel") == store.list_artifacts("nope") == []
        got = download_artifacts(
            "mlflow-artifacts:/1/run/artifacts/model", dst_path=str(tmp_path / "got"), tracking_uri=url
        )
        assert tree_of(Path(got)) == content
        store.delete_artifacts("model")
        assert [i.path for i in store.list_artifacts()] == ["MLmodel"]

    await asyncio.to_thread(with_mlflow)


async def test_mlflow_itself_goes_on_with_the_folder(url: str, tmp_path: Path) -> None:
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    content = make_tree(tmp_path / "source")
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        for name, raw in content.items():
            await http.put(f"{FILES}/1/run/artifacts/{name.replace('%', '%25')}", content=raw)

        def with_mlflow() -> None:
            theirs: Any = LocalArtifactRepository((tmp_path / "home" / "mlartifacts").as_uri())
            assert [i.path for i in theirs.list_artifacts()] == ["1"]
            got = theirs.download_artifacts("1/run/artifacts", str(tmp_path))
            assert tree_of(Path(got)) == content
            theirs.log_artifact(str(tmp_path / "source" / "MLmodel"), "1/run/artifacts/theirs")

        await asyncio.to_thread(with_mlflow)
        assert (await http.get(f"{FILES}/1/run/artifacts/theirs/MLmodel")).content == b"flavors: {}\n"


def sized(total: int, digest: Any) -> Iterator[bytes]:
    block = os.urandom(MIB)
    for n in range(total // MIB):
        chunk = n.to_bytes(8, "big") + block[8:]
        digest.update(chunk)
        yield chunk


def test_a_large_file_passes_through_in_bounded_memory(server: Served, tmp_path: Path) -> None:
    total = 256 * MIB
    path, sent, got = f"{FILES}/1/run/artifacts/big.bin", hashlib.sha256(), hashlib.sha256()
    with httpx.Client(base_url=server.url, timeout=60) as http:
        http.put(f"{FILES}/warm", content=bytes(4 * MIB))
        http.get(f"{FILES}/warm")
        before = int(http.get("/peak").text)
        put = http.put(path, content=sized(total, sent), headers={"content-length": str(total)})
        assert put.status_code == 200
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        for connection in slow:  # they read next to nothing of it
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            connection.recv(1)
        with http.stream("GET", path) as answer:
            for chunk in answer.iter_raw(MIB):
                got.update(chunk)
        for connection in slow:
            connection.close()
        grown_kib = int(http.get("/peak").text) - before
    assert got.digest() == sent.digest()
    assert grown_kib < 96 * 1024, f"{grown_kib} KiB more for {total // MIB} MiB"


def test_killed_in_the_middle_of_uploads_old_content_is_whole(tmp_path: Path) -> None:
    server = Served(tmp_path)
    old, new = bytes(3 * MIB), os.urandom(8 * MIB)
    paths = [f"{FILES}/1/run/artifacts/{n}" for n in range(8)]
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for path in paths:
            assert http.put(path, content=old).status_code == 200
    acknowledged: dict[str, int] = {}
    some = threading.Event()

    def upload(path: str) -> None:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            for n in range(1000):
                try:
                    http.put(path, content=n.to_bytes(4, "big") + new).raise_for_status()
                except httpx.TransportError:
                    return
                acknowledged[path] = n
                some.set()

    uploading = [threading.Thread(target=upload, args=(path,)) for path in paths]
    for thread in uploading:
        thread.start()
    assert some.wait(60)
    server.process.send_signal(signal.SIGKILL)
    for thread in uploading:
        thread.join(60)
    server.kill()
    again = Served(tmp_path)
    try:
        with httpx.Client(base_url=again.url, timeout=60) as http:
            for path in paths:
                content = http.get(path).content
                if path in acknowledged:
                    assert content[4:] == new
                    assert int.from_bytes(content[:4], "big") in (acknowledged[path], acknowledged[path] + 1)
                else:
                    assert content in (old, (0).to_bytes(4, "big") + new)
                offset = int(http.head(path, params={"upload": ""}).headers["upload-offset"])
                assert 0 <= offset <= len(new) + 4
            listed = http.get(FILES, params={"path": "1/run/artifacts"}).json()["files"]
            assert [entry["path"] for entry in listed] == [str(n) for n in range(8)]
    finally:
        again.kill()
