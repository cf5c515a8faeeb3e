from __future__ import annotations

from typing import Any

import pytest

from tallystick.core.errors import BadInput
from tallystick.core.model import ModelVersion
from tallystick.core.names import digest_of
from tallystick.core.wall import Strength, Wall

FILES = digest_of("files")


def test_a_model_version_has_a_key() -> None:
    assert ModelVersion("m", 3, FILES).key == "m@3"


@pytest.mark.parametrize(
    ("name", "version", "digest"), [("a/b", 1, FILES), ("m", 0, FILES), ("m", 1, "files")]
)
def test_a_model_version_that_is_none(name: str, version: int, digest: str) -> None:
    with pytest.raises(BadInput):
        ModelVersion(name, version, digest)


@pytest.mark.parametrize(
    "limits",
    [
        {"workdir": "relative"},
        {"workdir": ""},
        {"readable": ("/a/../b",)},
        {"readable": ("/..",)},
        {"writable": ("b",)},
        {"cpu_seconds": -1},
        {"memory_mib": 0},
        {"file_mib": 0},
        {"open_files": 0},
        {"processes": 0},
    ],
)
def test_a_wall_with_a_hole_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Wall(**{"workdir": "/w", **limits})


def test_a_wall_is_shut_unless_it_is_opened() -> None:
    wall = Wall("/w", readable=("/a..b", "/c"), cpu_seconds=0)
    assert not wall.network
    assert wall.env == {}


def test_a_sandbox_says_what_it_can_and_cannot_do() -> None:
    assert str(Strength("s", True, False, False, True)) == (
        "s: hides files, limits resources; not: blocks the network, hides processes"
    )
    assert str(Strength("s", False, False, False, False)).startswith("s: nothing; not: hides files")
    assert str(Strength("s", True, True, True, True)).endswith("limits resources")
