"""Tiles are found by entry point, ours as anybody's: here a distribution is planted on the path.

Those of clusters are opened only for hosts that the hub may call.
"""

from __future__ import annotations

import importlib

import pytest

from tallystick.core.errors import BadInput, MissingTile, Refused
from tallystick.ports.tile import Place
from tallystick.settings import Settings
from tallystick.wiring.away import Away
from tallystick.wiring.tiles import known_tiles, open_tile

ENTRIES = """
[tallystick.ledger]
paper = planted_tile:open_tile [pens]
slate = planted_tile:needs_chalk [chalk,sponge]
sand = planted_tile:needs_water
torn = planted_tile:refuses
lost = planted_nowhere:open_tile [maps]
absent = planted_tile:no_such_name
"""

CODE = """
from tallystick.core.errors import BadInput

def open_tile(place):
    return ("paper", place)

def needs_chalk(place):
    import chalk_that_nobody_has.sticks

def needs_water(place):
    raise ImportError("water")

def refuses(place):
    raise BadInput("the option is wrong", where="paper_size")
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    info = tmp_path / "path" / "tally_paper-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tally-paper\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (tmp_path / "path" / "planted_tile.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path / "path")
    importlib.invalidate_caches()
    return Place(tmp_path, {"option": 1})


def test_a_tile_of_anybody_opens_like_ours(place):
    assert open_tile("ledger", "paper", place) == ("paper", place)
    assert {"paper", "sqlite"} <= known_tiles("ledger").keys()
    assert list(known_tiles("ledger")) == sorted(known_tiles("ledger"))
    assert known_tiles("no-such-port") == {}


def test_one_that_is_installed_meanwhile_is_found(place, tmp_path):
    with pytest.raises(MissingTile):
        open_tile("ledger", "rock", place)
    later = tmp_path / "path" / "tally_rock-1.0.dist-info"
    later.mkdir()
    (later / "METADATA").write_text("Metadata-Version: 2.1\nName: tally-rock\nVersion: 1.0\n")
    (later / "entry_points.txt").write_text("[tallystick.ledger]\nrock = planted_tile:open_tile\n")
    importlib.invalidate_caches()
    assert open_tile("ledger", "rock", place) == ("paper", place)


def test_one_that_is_not_installed_says_which_are_and_what_to_install(place):
    with pytest.raises(MissingTile) as caught:
        open_tile("ledger", "postgres", place)
    assert caught.value.where == "tile ledger/postgres"
    assert "installed: absent, lost, paper, sand, slate, sqlite, torn" in caught.value.what
    assert caught.value.hint == "install the package that brings it, or choose an installed ledger"
    with pytest.raises(MissingTile, match="installed: none"):
        open_tile("no-such-port", "x", place)


@pytest.mark.parametrize(
    ("name", "what", "command"),
    [
        ("slate", "chalk_that_nobody_has", "pip install 'tally-paper[chalk,sponge]'"),
        ("sand", "water", "pip install tally-paper"),
        ("lost", "planted_nowhere", "pip install 'tally-paper[maps]'"),
    ],
)
def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(place, name, what, command):
    with pytest.raises(MissingTile) as caught:
        open_tile("ledger", name, place)
    assert caught.value.what == f"it needs the Python package {what}"
    assert (caught.value.where, caught.value.hint) == (f"tile ledger/{name}", command)


def test_an_error_of_the_tile_itself_is_its_own(place):
    with pytest.raises(BadInput, match="the option is wrong"):
        open_tile("ledger", "torn", place)


def test_an_entry_point_that_names_nothing_is_a_bug_of_its_package(place):
    with pytest.raises(AttributeError):
        open_tile("ledger", "absent", place)


@pytest.mark.parametrize(
    ("port", "name", "extra"), [("catalogue", "iceberg", "iceberg"), ("attack", "art", "art")]
)
def test_our_own_tiles_name_their_extra(port, name, extra):
    assert extra in known_tiles(port)[name].extras


@pytest.fixture
async def away(tmp_path):
    opened = Away(Place(tmp_path), Settings(kubeflow_hosts="https://there/pipeline, http://[::2]:80"))
    yield opened
    await opened.close()


async def test_clusters_that_are_named_and_those_of_this_machine(away):
    for host in ("https://there/pipeline/", "http://[::2]:80", "http://localhost:1", "http://[::1]:1/x"):
        assert away.cluster(host) is away.cluster(host)


@pytest.mark.parametrize(
    "host", ["https://elsewhere", "http://there/pipeline", "http://localhost.evil", "http://127.0.0.1@evil"]
)
async def test_no_other_cluster_is_called(away, host):
    with pytest.raises(Refused, match="kubeflow_hosts"):
        away.cluster(host)


@pytest.mark.parametrize(
    "host",
    [
        *("nonsense", "localhost:1", "http://", "http://[::1", "http://localhost:x", "http://localhost:1\n"),
        *(
            "http://evil\\@localhost",
            "http://local host",
            "ftp://localhost",
            "http://localhost:0",
            "http://ü",
        ),
    ],
)
async def test_what_is_no_address_of_a_cluster(away, host):
    with pytest.raises(BadInput, match="no address"):
        away.cluster(host)
    assert away.found == {}
