"""What is installed beside the hub, and whether that is enough for a component."""

from __future__ import annotations

import os
import sys

import pytest

from tallystick.core.errors import NotSupported
from tallystick.core.pipeline.spec import Component, Function
from tallystick.core.values import Environment
from tallystick.ports.runs.bases import Bases
from tallystick.ports.tile import Place
from tallystick.tiles.bases.installed import check_packages
from tallystick.tiles.bases.local import open_tile


@pytest.mark.parametrize(
    ("package", "said"),
    [
        ("pytest<1", "is installed"),
        ("pytest @ https://example.invalid/x.whl", "an address"),
        ("--index-url=https://example.invalid", "not a plain requirement"),
        ("./folder", "not a plain requirement"),
        ("no-such-package-of-anybody", "not installed"),
    ],
)
def test_packages_that_are_not_here(package, said):
    with pytest.raises(NotSupported, match=said) as wrong:
        check_packages([package], "it")
    assert "name==1.2" in wrong.value.hint or "tallystick[environments]" in wrong.value.hint


def test_packages_that_are_here():
    check_packages(["pytest", "PyYAML>=5", "coverage[toml]", "nothing; python_version < '3'"], "it")


def test_it_is_the_port(tmp_path):
    assert isinstance(open_tile(Place(tmp_path)), Bases)


async def test_without_a_builder_only_what_is_installed_can_be_had(tmp_path):
    bases = open_tile(Place(tmp_path))
    bases.check(Component("it", Function("it", "", ("pytest",))))
    elsewhere = Component("it", Function("it", "", ("no-such-package-of-anybody",)))
    with pytest.raises(NotSupported, match="not installed"):
        bases.check(elsewhere)
    with pytest.raises(NotSupported, match="not installed"):
        await bases.environment(elsewhere)
    with pytest.raises(NotSupported, match="not installed"):
        await bases.built(elsewhere, Environment("", "", {}, "one==1 --hash=sha256:00"), print)
    assert await bases.built(elsewhere, None, print) is None


async def test_a_package_that_was_installed_shows(tmp_path, monkeypatch):
    bases, folder = open_tile(Place(tmp_path)), tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    component = Component("it", Function("it", ""))
    before, stamp = await bases.environment(component), bases.stamp()
    assert bases.stamp() == stamp
    (folder / "planted-1.2.dist-info").mkdir()
    (folder / "planted-1.2.dist-info" / "METADATA").write_text("Name: planted\nVersion: 1.2\n")
    assert bases.stamp() != stamp
    after = await bases.environment(component)
    assert "planted" not in before.packages
    assert after.packages["planted"] == "1.2"
    assert after.python == before.python
    assert str(folder) in sys.path


def test_what_is_no_package_comes_and_goes_unnoticed(tmp_path, monkeypatch):
    """A hub may have been started in a folder in which others work."""
    bases = open_tile(Place(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    stamp = bases.stamp()
    (tmp_path / "notes.txt").write_text("x")
    assert bases.stamp() == stamp
    (tmp_path / "planted-1.2.egg-info").mkdir()
    planted = bases.stamp()
    assert planted != stamp
    os.utime(tmp_path / "planted-1.2.egg-info", (1, 1))
    (tmp_path / "notes.txt").unlink()
    assert bases.stamp() not in (stamp, planted), "installed once more"
