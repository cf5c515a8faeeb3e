"""A cluster to test on, executors on it, and steps that tell where they are."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick.core.errors import Unavailable
from tallystick.core.pipeline.spec import Param, ParamType, Resources
from tallystick.ports.tile import Place
from tallystick.tiles.executor import local
from tallystick.tiles.ray.executor import open_tile
from tallystick.tiles.sandbox import bubblewrap, process
from tests.fakes.steps import place_on, step

STRING = {"returns": "str", "out_params": (Param("Output", ParamType.STRING),)}
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's name for: on loopback alone
}


class Cluster:
    """Ray's own processes, all in a folder of their own and in one process group."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="rt"))  # short: unix sockets lie in it
        (self.folder / "ray").mkdir()
        self.env = {**QUIET, "RAY_TMPDIR": str(self.folder), "TMPDIR": str(self.folder)}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("cluster.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **self.env},
            start_new_session=True,
            text=True,
        )
        self.address = ""

    def tell(self, words):
        """Have it done."""
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()
        self.address = self._process.stdout.readline().strip() or self.address

    def keepers(self):
        """The folders of keepers that lie on the nodes."""
        return [path for path in self.folder.glob("tally-*") if path.is_dir()]

    def close(self):
        with contextlib.suppress(OSError):
            self._process.stdin.write("end\n")
            self._process.stdin.close()
        try:
            self._process.wait(20)
        finally:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            self._process.stdout.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self):
        """Whatever runs with this cluster's folder in its environment."""
        mark, found = f"RAY_TMPDIR={self.folder}".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes() and int(path.parent.name) != os.getpid():
                    found.append(int(path.parent.name))
        return found


@contextlib.contextmanager
def cluster_of(*nodes: str) -> Iterator[Cluster]:
    """One of ``nodes`` (``NAME CPUS GPUS``), which Ray's clients in this process find meanwhile."""
    with contextlib.closing(Cluster()) as cluster, pytest.MonkeyPatch.context() as patch:
        for words in nodes:
            cluster.tell(f"add {words}")
        for name, value in cluster.env.items():
            if name.startswith("RAY_"):
                patch.setenv(name, value)
        yield cluster


class Opened:
    """An executor with the parts that it stands on; its steps' folders may be anywhere in ``folder``."""

    def __init__(self, folder, *, wall=bubblewrap, **options):
        home = folder / "home"
        home.mkdir(parents=True)
        options.setdefault("step_folders", [str(folder)])
        self.process = process.open_tile(Place(home))
        try:
            self.sandbox = wall.open_tile(Place(home))
        except Unavailable:
            self.sandbox = process.open_tile(Place(home))
        here = local.open_tile(place_on(self.sandbox, home, options))
        parts = {"sandbox": self.sandbox, "process_sandbox": self.process, "executor": here}
        self.executor = open_tile(Place(home, options, parts))

    async def close(self):
        await self.executor.close()
        await self.sandbox.close()
        await self.process.close()


def where(cpus=0.0, body="", **fields):
    """A step that says on which node it was, once ``body`` is done."""
    resources = fields.pop("resources", Resources(cpus=cpus))
    return step(
        f"{body}\nimport os\nreturn os.environ['TALLY_NODE']", **STRING, resources=resources, **fields
    )
