"""A hub with nothing but the MLflow door, as its tests use it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp

from tallystick.tiles.registry.child import MlflowChild
from tallystick.tiles.registry.mlflow import MlflowRegistry

API = "/api/2.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts"
MIB = 1024 * 1024

TRAIN = """
import json, mlflow, mlflow.onnx, onnx
from onnx import TensorProto, helper
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
mlflow.set_experiment("stock")
with mlflow.start_run(run_name="train") as run:
    mlflow.log_params({"lr": 0.1})
    for step in range(3):
        mlflow.log_metric("acc", 0.5 + step / 10, step=step)
    mlflow.log_text("hello", "notes/a b.txt")
    info = mlflow.onnx.log_model(model, name="model", pip_requirements=["onnxruntime"])
"""


@contextlib.asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """The address of ``app`` on loopback."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off"))
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        serving = asyncio.create_task(server.serve(sockets=[door]))
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@dataclass
class House:
    """A hub with nothing but the MLflow door, and beside it the one for steps."""

    home: Path
    registry: MlflowRegistry
    url: str
    step_url: str
    http: httpx.AsyncClient
    step: httpx.AsyncClient

    async def python(self, code: str, url: str = "", **env: str) -> Any:
        """Run ``code`` with the stock client; what it prints last, as JSON."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "ignore", "-c", code),
            cwd=self.home,
            env={
                "PATH": os.defpath,
                "HOME": str(self.home),
                "MLFLOW_TRACKING_URI": url or self.url,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
                "GIT_PYTHON_REFRESH": "quiet",
                **env,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode == 0, err.decode()[-3000:]
        return json.loads(out.decode().strip().splitlines()[-1])

    @property
    def pid(self) -> int:
        """MLflow's server; 0 when there is none."""
        assert isinstance(self.registry.child, MlflowChild)
        return self.registry.child.pid

    async def new_run(self) -> tuple[str, str]:
        return await self.registry.begin_run("door", "run", {})


@dataclass
class Answered:
    status: int
    head: str
    body: bytes


async def raw(url: str, head: str, body: bytes = b"") -> Answered:
    """Send bytes as they are and read one answer to the end of the connection."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode("latin-1") + body)
    await writer.drain()
    got = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    top, _, rest = got.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in top.lower():
        rest = rest.partition(b"\r\n")[2].rpartition(b"\r\n0\r\n")[0]
    return Answered(int(top.split()[1]), top.decode("latin-1"), rest)


class Echo:
    """Stands in for MLflow's server: says what reached it."""

    def __init__(self, status: int = 200, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.seen: list[httpx.Request] = []
        self.bodies: list[bytes] = []
        self._answer = (status, headers or {}, body)
        self._client = httpx.AsyncClient(transport=httpx.MockTransport(self._say))

    async def _say(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        self.bodies.append(await request.aread())
        status, headers, body = self._answer
        return httpx.Response(status, headers=headers, content=self._stream(body))

    async def _stream(self, body: bytes) -> AsyncIterator[bytes]:
        yield body

    async def client(self, dead: httpx.AsyncClient | None = None) -> httpx.AsyncClient:
        return self._client
