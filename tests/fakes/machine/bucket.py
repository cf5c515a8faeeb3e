"""A bucket to keep artifacts in: moto's server, and boto3's client to look behind a tile's back."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

__all__ = ["bucket_at", "keys", "moto_server", "uploads"]

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("port", server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def moto_server() -> Iterator[str]:
    """Its address, in a process that ends with its stdin."""
    pytest.importorskip("moto")
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        assert select.select([server.stdout], [], [], 60)[0], "moto did not start"
        found = re.fullmatch(r"port (\d+)\n", server.stdout.readline())
        assert found
        yield f"http://127.0.0.1:{found[1]}"
        server.stdin.close()
        server.wait(60)


@contextlib.contextmanager
def bucket_at(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, region: str = "us-east-1", region_in: str = "AWS_REGION"
) -> Iterator[Any]:
    """boto3's client on ``bucket``, which is empty, with the variables set by which others find it."""
    boto3 = pytest.importorskip("boto3")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK")
    monkeypatch.setenv(region_in, region)
    with contextlib.closing(boto3.client("s3", region_name=region)) as client:
        client.create_bucket(Bucket="bucket")
        for key in keys(client):
            client.delete_object(Bucket="bucket", Key=key)
        yield client


def keys(client: Any) -> list[str]:
    """What is in the bucket, the first thousand."""
    return [o["Key"] for o in client.list_objects_v2(Bucket="bucket").get("Contents", [])]


def uploads(client: Any) -> list[str]:
    """What is sent in parts and neither made an object nor given up."""
    return [u["Key"] for u in client.list_multipart_uploads(Bucket="bucket").get("Uploads", [])]
