"""What is said of environments that are kept, and what goes when somebody wants it to."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tallystick.tiles.environments import local
from tallystick.tiles.environments.folders import Folders
from tests.tiles.environments.index import wheel
from tests.tiles.environments.test_environments import made, python, wanting
from tests.tiles.environments.test_room import below, name, there

DEADLINE_S = 60
DAY_S = 86_400
__all__ = ["below"]


@pytest.fixture
async def three(opened, index, below):
    """The tile, and the names of three environments, last used three, two and one day ago."""
    index.add(*wheel("tinythree", "1.0"))
    environments, wanted = opened(), ("tinyone==1.0", "tinyone==2.0", "tinythree")
    names = [name(await made(environments, wanting(package))) for package in wanted]
    for days, one in zip((3, 2, 1), names, strict=True):
        at = time.time() - days * DAY_S
        os.utime(below / f"{one}.used", (at, at))
    return environments, names


async def test_each_is_said_with_its_size_its_last_use_and_what_it_is_for(three):
    environments, names = three
    said = await environments.kept()
    *found, cache = said["environments"]
    assert [one["name"] for one in found] == names, "those that were not used for longest come first"
    assert [one["wanted"] for one in found] == [["tinyone==1.0"], ["tinyone==2.0"], ["tinythree"]]
    assert [one["packages"] for one in found[:2]] == [{"tinyone": "1.0"}, {"tinyone": "2.0"}]
    assert [round(time.time() - one["used_ms"] / 1000) // DAY_S for one in found] == [3, 2, 1]
    assert all(one["size_bytes"] > 1000 and not one["in_use"] for one in found)
    assert (cache["name"], cache["used_ms"], cache["packages"], cache["wanted"]) == ("cache", 0, {}, [])
    assert said["size_bytes"] == sum(one["size_bytes"] for one in said["environments"])
    assert said["bytes_max"] == 10 * 2**30


async def test_looking_is_no_use_and_makes_nothing(three, below, opened):
    environments, names = three
    before = sorted((p.name, p.stat().st_mtime_ns) for p in below.glob("*.used"))
    await environments.kept()
    assert sorted((p.name, p.stat().st_mtime_ns) for p in below.glob("*.used")) == before
    (below / f"{names[0]}.used").unlink()
    await environments.kept()
    assert not (below / f"{names[0]}.used").exists(), "one from before there were times of use"


async def test_what_cannot_be_read_is_said_as_far_as_it_can(three, below):
    environments, names = three
    (below / names[0] / "lock.txt").write_bytes(b"\xff --index-url x\n")
    (below / names[1] / "lock.txt").unlink()
    (below / "locks" / "abc.json").write_text("{")
    found = (await environments.kept())["environments"]
    assert [one["packages"] for one in found[:2]] == [{}, {}]
    assert [one["wanted"] for one in found[:3]] == [[], [], ["tinythree"]]
    os.truncate(below / names[2] / "lock.txt", 2**40)  # a package's own, and larger than any memory
    assert (await environments.kept())["environments"][2]["packages"] == {}


async def test_nothing_goes_where_there_is_room(three, below):
    environments, names = three
    assert (await environments.prune())["removed"] == []
    assert there(below) == sorted(names)


@pytest.mark.parametrize("dry_run", [True, False])
async def test_what_was_not_used_for_long_goes_and_the_cache_stays(three, below, dry_run):
    environments, names = three
    said = await environments.prune(unused_s=2 * DAY_S - 60, dry_run=dry_run)
    assert [one["name"] for one in said["removed"]] == names[:2]
    assert [one["wanted"] for one in said["removed"]] == [["tinyone==1.0"], ["tinyone==2.0"]]
    assert there(below) == sorted(names if dry_run else names[2:])
    assert len(said["environments"]) == (4 if dry_run else 2)
    assert (below / "cache").is_dir()


@pytest.mark.parametrize("dry_run", [True, False])
async def test_down_to_a_size(three, below, dry_run):
    environments, names = three
    sizes = {one["name"]: one["size_bytes"] for one in (await environments.kept())["environments"]}
    said = await environments.prune(sizes[names[1]] + sizes[names[2]], dry_run=dry_run)
    assert [one["name"] for one in said["removed"]][:2] == ["cache", names[0]]
    assert names[2] in there(below)
    assert (names[0] in there(below)) == dry_run
    nothing = await environments.prune(0, dry_run=dry_run)
    assert there(below) == (sorted(names) if dry_run else [])
    assert nothing["size_bytes"] == (sum(sizes.values()) if dry_run else 0)
    assert not list(below.glob("*.aside"))


async def test_what_is_in_use_stays_and_is_said_to_be(three, below):
    environments, names = three
    built = await made(environments, wanting("tinyone==1.0"))
    assert [
        one["in_use"] for one in (await environments.kept())["environments"] if one["name"] == names[0]
    ] == [True]
    for dry_run in (True, False):
        gone = [one["name"] for one in (await environments.prune(0, 0, dry_run=dry_run))["removed"]]
        assert sorted(gone) == sorted(["cache", *names[1:]])
    assert there(below) == [names[0]]
    assert python(built, "import tinyone; print(tinyone.version)") == "1.0"


async def test_one_that_went_is_built_again(three, index, below):
    environments, names = three
    await environments.prune(0)
    log = []
    built = await made(environments, wanting("tinyone==1.0"), log)
    assert (name(built), log[0]) == (names[0], "building its environment: 1 package")


async def test_runs_that_begin_meanwhile_have_what_they_were_given(three, below):
    """Each either finds one, and it stays, or has it built anew; whoever prunes waits for nobody."""
    environments, _ = three
    wanted = ("tinyone==1.0", "tinyone==2.0", "tinythree")

    async def use(number):
        built = await made(environments, wanting(wanted[number % 3]))
        assert await asyncio.to_thread(python, built, "print(1)") == "1"

    async def prune():
        for _ in range(4):
            await environments.prune(0)

    await asyncio.gather(prune(), *map(use, range(6)))
    assert not list(below.glob("*.aside"))


PRUNER = """
import sys, time
from pathlib import Path
from tallystick.tiles.environments import folders, kept

def stuck(folder, **_):
    if folder.exists():
        print("removing", flush=True)
        time.sleep(1000)

folders.shutil.rmtree = stuck
kept.prune(folders.Folders(Path(sys.argv[1])), unused_s=0)
"""


async def test_whoever_is_killed_over_it_leaves_nothing_half(three, below, opened, index):
    environments, names = three
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PRUNER, str(below)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(local.__file__).parents[3])},
    )
    assert await asyncio.wait_for(other.stdout.readline(), DEADLINE_S) == b"removing\n"
    other.send_signal(signal.SIGKILL)
    await other.wait()
    assert there(below) == sorted([f"{names[0]}.aside", *names[1:]]), "it is whole, or it is not there"
    assert [one["name"] for one in (await environments.kept())["environments"][:-1]] == names[1:]
    assert not list(Folders(below).root.glob("*.aside")), "the next one sweeps"
    built = await made(opened(), wanting("tinyone==1.0"))
    assert (name(built), python(built, "import tinyone; print(tinyone.version)")) == (names[0], "1.0")
