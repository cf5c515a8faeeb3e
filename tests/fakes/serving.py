"""A house of the Open Inference Protocol alone: its door on loopback, real serving processes behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time

import tritonclient.http as triton
import uvicorn
from starlette.applications import Starlette

from tallystick.doors.oip.app import oip_routes
from tallystick.doors.oip.codec import InferRequest, encode_request
from tallystick.doors.oip.lines import Lines
from tallystick.hub.house.route import Live, Routes
from tests.fakes.models import REPOSITORY

__all__ = ["BODY_BYTES_MAX", "House", "asked", "digits", "finish", "request", "start"]

BODY_BYTES_MAX = 200_000


class Clock:
    def now_ms(self):
        return time.time_ns() // 1_000_000

    def monotonic_s(self):
        return time.monotonic()


class Record(list):
    """Only what the door asks of Traffic."""

    def record(self, tenant, endpoint, exchange):
        assert tenant == "default"
        self.append((endpoint, exchange))

    def wait_for(self, status):
        """The newest exchange, once there is one with ``status``."""
        deadline = time.monotonic() + 60
        while not any(exchange.status == status for _, exchange in self):
            assert time.monotonic() < deadline, f"no {status} among {[e.status for _, e in self]}"
            threading.Event().wait(0.01)
        return next(exchange for _, exchange in reversed(self) if exchange.status == status)


def start(folder, socket, name, version="3", **more):
    """A serving process and what it says first."""
    order = {
        "folder": str(folder),
        "socket": str(socket),
        "name": name,
        "model": name,
        "version": version,
        **more,
    }
    env = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{os.environ.get('PYTHONPATH', '')}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tallystick.crew.serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
    )
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.flush()
    return process, json.loads(process.stdout.readline() or "{}")


def finish(process):
    """End it by closing its standard input; the last that it said, and its status."""
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        status = process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    lines = process.stdout.read().splitlines()
    process.stdout.close()
    return (json.loads(lines[-1]) if lines else {}), status


class House:
    """The door under uvicorn in a thread, as the hub has it, and the serving processes behind it."""

    def __init__(self, home):
        self.home, self.routes, self.record = home, Routes(), Record()
        self.processes = []
        self.lines = Lines(timeout_s=60)
        app = Starlette(
            routes=oip_routes(
                self.routes, self.record, Clock(), body_bytes_max=BODY_BYTES_MAX, lines=self.lines
            )
        )
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off", ws="none"))
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        async def serve():
            await self.server.serve()
            self.lines.close()

        asyncio.run(serve())

    def open(self):
        self.thread.start()
        deadline = time.monotonic() + 60
        while not self.server.started:
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    def serve(self, folder, name, generation=1, version="3"):
        socket = self.home / f"{name}-{generation}"
        process, said = start(folder, socket, name, version)
        assert "ready" in said, said
        self.processes.append(process)
        self.routes.put(name, Live(socket, generation, name, version))
        return process, said["ready"]

    def close(self):
        self.server.should_exit = True
        self.thread.join(60)
        return [finish(process) for process in self.processes if process.poll() is None]


def asked(name, array, *, binary=True):
    datatypes = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "object": "BYTES"}
    tensor = triton.InferInput(name, list(array.shape), datatypes[array.dtype.name])
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def request(array, name="x", binary=False):
    body, length = encode_request(InferRequest({name: array}, binary=binary), binary=binary)
    return {"content": body, "headers": {"inference-header-content-length": str(length)} if length else {}}


def digits(told, at=0):
    return request(told["x"][at : at + 1], "X")
