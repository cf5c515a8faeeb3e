"""Artifacts in Ceph: its own S3 gateway before one monitor and one store in memory, started for these tests.

``make conformance-s3`` runs them, and installs Debian's packages for them where it may.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallystick.ports.files import Files
from tallystick.ports.tile import Place
from tallystick.proofs.files import FilesProof
from tallystick.tiles.files.s3 import PART_BYTES, open_tile
from tests.fakes.machine.bucket import bucket_at, uploads

PROGRAMS = ("ceph", "ceph-mon", "ceph-mgr", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
MISSING = [name for name in PROGRAMS if not shutil.which(name)]

pytestmark = [
    pytest.mark.ceph,
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING),
        reason=f"not installed: {', '.join(MISSING)} (apt-get install radosgw ceph-mon ceph-mgr ceph-osd)",
    ),
]

START_S = 180
CONFIG = """
[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{mon_port}]
auth cluster required = none
auth service required = none
auth client required = none
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
run dir = {home}
admin socket =
pid file = {home}/$name.pid
log file = {home}/$name.log
keyring = {home}/keyring
crash dir = {home}/crash
mon data = {home}/mon
mgr data = {home}/mgr
osd data = {home}/osd
rgw data = {home}/rgw
mon data avail crit = 0
mon allow pool size one = true
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
"""


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


class Cluster:
    """One of everything, in the foreground, ended one after the other at the end."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / "ceph.conf"
        self.stack = contextlib.ExitStack()
        self.fsid, self.osd, self.mon_port = str(uuid.uuid4()), str(uuid.uuid4()), free_port()
        for name in ("crash", "mon", "mgr", "osd", "rgw"):
            (home / name).mkdir()
        (home / "keyring").touch()
        self.config.write_text(CONFIG.format(fsid=self.fsid, home=home, mon_port=self.mon_port))

    def run(self, *command: str) -> None:
        done = subprocess.run(
            [*command, "--conf", str(self.config)],
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"

    def start(self, *command: str) -> None:
        said = self.stack.enter_context((self.home / f"{command[0]}.out").open("wb"))
        process = subprocess.Popen(
            [*command, "--conf", str(self.config), "-f"], cwd=self.home, stdout=said, stderr=subprocess.STDOUT
        )
        self.stack.callback(end, process)

    def begin(self) -> str:
        """Start all of it; the gateway's address."""
        monmap = str(self.home / "monmap")
        address = f"[v1:127.0.0.1:{self.mon_port}]"
        self.run("monmaptool", "--create", "--fsid", self.fsid, "--addv", "a", address, monmap)
        self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self.start("ceph-mon", "-i", "a")
        self.run("ceph", "osd", "new", self.osd)
        self.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", self.osd)
        self.start("ceph-mgr", "-i", "x")
        self.start("ceph-osd", "-i", "0")
        user = ("--uid", "tally", "--display-name", "tally", "--access-key", "AK", "--secret-key", "SK")
        self.run("radosgw-admin", "-n", "client.rgw", "user", "create", *user)
        port = free_port()
        self.start("radosgw", "-n", "client.rgw", f"--rgw-frontends=beast endpoint=127.0.0.1:{port}")
        return answering(f"http://127.0.0.1:{port}")


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answering(url: str) -> str:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(url)
            return url
        time.sleep(0.2)  # nothing tells when it listens
    raise AssertionError("radosgw did not answer")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    cluster = Cluster(tmp_path_factory.mktemp("ceph"))
    with cluster.stack:
        yield cluster.begin()


class TestCephFiles(FilesProof):
    large = 2 * PART_BYTES + 17

    @pytest.fixture(autouse=True)
    def client(self, gateway: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        """boto3's, on an empty bucket; afterwards no upload in parts may be left."""
        with bucket_at(gateway, monkeypatch, region="default") as client:
            yield client
            assert uploads(client) == []

    async def open(self, home: Path) -> Files:
        return open_tile(Place(home, {"artifact_store": "s3://bucket/some/prefix"}))

    async def test_wrong_secrets_are_told(self, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        from tallystick.core.errors import Unavailable

        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        files = open_tile(Place(Path("unused"), {"artifact_store": "s3://bucket/some/prefix"}))
        for ask in (files.stat("a"), files.list(), files.delete("a")):
            with pytest.raises(Unavailable, match="refuses"):
                await ask
