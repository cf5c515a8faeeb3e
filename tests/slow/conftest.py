"""What only these tests are marked with."""

from __future__ import annotations

import os

import pytest

collect_ignore_glob = [] if os.environ.get("TALLY_CEPH") else ["test_*.py"]
"""`make conformance-s3` asks for them."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "ceph: against Ceph's own S3 gateway; skipped, and said so, without it"
    )
