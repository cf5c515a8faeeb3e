"""What only these tests are marked with."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "ceph: against Ceph's own S3 gateway; skipped, and said so, without it"
    )
