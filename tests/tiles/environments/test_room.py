"""Room: what is kept of environments, what goes, and what never does while it is in use."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput
from tallystick.core.pipeline.spec import Param, ParamType
from tallystick.ports.executor import Job
from tallystick.ports.tile import Place
from tallystick.proofs.runs.environments import EnvironmentsProof
from tallystick.tiles.environments import local, room
from tallystick.tiles.environments.folders import Folders
from tallystick.tiles.environments.room import make_room, size_of
from tallystick.tiles.executor import local as executors
from tallystick.tiles.sandbox import process
from tests.fakes.steps import place_on, step
from tests.tiles.environments.index import wheel
from tests.tiles.environments.test_environments import made, python, wanting

DEADLINE_S = 60
INT = {"returns": "int", "out_params": (Param("Output", ParamType.INTEGER),)}
NONE = {"environments_bytes_max": 1}


class TestEnvironments(EnvironmentsProof):
    """The tile itself."""

    packages = ("tinyone", "tinythree")

    @pytest.fixture(autouse=True)
    async def _machine(self, index, tmp_path):
        index.add(*wheel("tinythree", "1.0"))
        self.sandbox = process.open_tile(Place(tmp_path))
        yield
        await self.sandbox.close()

    def open(self, home, *, room=True):
        return local.open_tile(Place(home, {} if room else NONE, {"process_sandbox": self.sandbox}))


@pytest.fixture
def below(tmp_path):
    return tmp_path / "home" / "environments"


def there(below):
    return sorted(folder.name for folder in below.iterdir() if (folder / "pyvenv.cfg").exists())


def name(built):
    return built.python.parents[1].name


# ---------------------------------------------------------------------- what goes


async def test_nothing_goes_while_there_is_room(opened, index, below):
    environments = opened()
    for code in (wanting("tinyone"), wanting("tinytwo"), wanting("tinyone<2")):
        await made(environments, code)
    assert len(there(below)) == 3
    assert (below / "cache").is_dir()


async def test_what_was_not_used_for_longest_goes_first(opened, index, below):
    index.add(*wheel("tinythree", "1.0"))
    environments, codes = opened(), [wanting(p) for p in ("tinyone==1.0", "tinyone==2.0", "tinythree")]
    names = [name(await made(environments, code)) for code in codes]
    for number, one in enumerate(names):
        os.utime(below / f"{one}.used", (number, number))
    await made(environments, codes[0])  # now it is the newest
    folders = Folders(below)
    assert folders.by_last_use() == [names[1], names[2], names[0]]
    assert await asyncio.to_thread(folders.removed, "cache")
    sizes = {one: size_of(below / one) for one in names}
    make_room(folders, sum(sizes.values()))
    assert there(below) == sorted(names)
    make_room(folders, sum(sizes.values()) - 1)
    assert there(below) == sorted([names[2], names[0]])
    make_room(folders, sizes[names[0]])
    assert there(below) == [names[0]]
    make_room(folders, 0)
    assert there(below) == []
    assert not list(below.glob("*.aside"))


async def test_the_cache_goes_before_any_environment(opened, index, below):
    built = await made(opened(), wanting("tinyone"))
    one, folders = name(built), Folders(below)
    del built
    make_room(folders, size_of(below / one) + size_of(below / "cache") - 1)
    assert there(below) == [one]
    assert not (below / "cache").exists()
    again = await opened().resolve(wanting("tinytwo"))
    assert again.packages["tinytwo"] == "0.5", "it is made again"


async def test_it_is_looked_at_whenever_one_was_built(opened, index, below):
    environments, log = opened(**NONE), []
    first = await made(environments, wanting("tinyone==1.0"))
    names = [name(first)]
    del first
    second = await made(environments, wanting("tinyone==2.0"))
    assert there(below) == [name(second)]
    third = await made(environments, wanting("tinyone==1.0"), log)
    assert log == ["building its environment: 1 package", "its environment is built"]
    assert (name(third), python(third, "import tinyone; print(tinyone.version)")) == (names[0], "1.0")
    assert len(there(below)) == 2, "both are in use"


def test_a_file_with_several_names_counts_once(tmp_path):
    for folder in ("a", "b/c"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "a" / "file").write_bytes(b"x" * 400_000)
    alone = size_of(tmp_path)
    os.link(tmp_path / "a" / "file", tmp_path / "b" / "c" / "again")
    (tmp_path / "b" / "away").symlink_to("/")
    assert size_of(tmp_path) - alone < 20_000
    assert 200_000 <= size_of(tmp_path / "a") < 300_000
    assert size_of(tmp_path / "gone") == 0


# ---------------------------------------------------------------------- what is in use


def test_one_from_before_there_were_times_of_use_goes_as_well(tmp_path):
    old = tmp_path / ("a" * 40)
    old.mkdir()
    (old / "file").write_bytes(b"x" * 100_000)
    make_room(Folders(tmp_path), 0)
    assert not old.exists()


HOLDER = """
import asyncio, sys
from pathlib import Path
from tallystick.tiles.environments.folders import Folders

async def main(home, name):
    hold = await Folders(home).held(name)
    print("held", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


async def test_what_another_hub_uses_stays_until_that_is_gone_however_it_went(opened, index, below):
    built = await made(opened(), wanting("tinyone"))
    one = name(built)
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, str(below), one),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(local.__file__).parents[3])},
    )
    assert await asyncio.wait_for(other.stdout.readline(), DEADLINE_S) == b"held\n"
    del built
    folders = Folders(below)
    await asyncio.to_thread(make_room, folders, 0)
    assert there(below) == [one]
    other.kill()
    await other.wait()
    await asyncio.to_thread(make_room, folders, 0)
    assert there(below) == []


async def test_what_is_being_built_keeps_the_cache(opened, index, below):
    environments = opened()
    await made(environments, wanting("tinyone"))
    hold = await environments._cache()
    await asyncio.to_thread(make_room, Folders(below), 0)
    assert (below / "cache").exists()
    assert there(below), "whoever uses it makes room afterwards"
    del hold
    await asyncio.to_thread(make_room, Folders(below), 0)
    assert not (below / "cache").exists()


async def test_who_wants_one_that_is_being_removed_waits_and_makes_it_anew(opened, index, below, monkeypatch):
    environments, code = opened(), wanting("tinyone")
    one = name(await made(environments, code))
    folders, renamed, go_on = Folders(below), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    usual = folders._alone

    def slow(*of):
        if of == (one, "used"):
            loop.call_soon_threadsafe(renamed.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(DEADLINE_S)
        return usual(*of)

    monkeypatch.setattr(folders, "_alone", slow)
    removing = asyncio.create_task(asyncio.to_thread(folders.removed, one))
    await renamed.wait()
    go_on.set()
    log = []
    built = await made(environments, code, log)
    gone = await removing
    assert bool(log) == gone, "it was gone, or it was in use by then"
    assert python(built, "import tinyone; print(tinyone.version)") == "2.0"


async def test_what_a_hub_was_killed_over_while_it_removed_it_is_made_anew(opened, index, below):
    built = await made(opened(), wanting("tinyone"))
    one = name(built)
    (below / one).rename(below / f"{one}.aside")
    (below / f"{one}.aside" / "pyvenv.cfg").unlink()
    again = await made(opened(), wanting("tinyone"))
    assert (name(again), python(again, "import tinyone; print(tinyone.version)")) == (one, "2.0")
    assert not list(below.glob("*.aside"))


async def test_two_hubs_with_no_room_at_all(opened, index, below):
    """Each of them uses what it was given, while the other removes what it may."""
    hubs, codes = (
        [opened(**NONE), opened(**NONE)],
        [wanting(p) for p in ("tinyone==1.0", "tinyone", "tinytwo")],
    )

    async def use(number):
        built = await made(hubs[number % 2], codes[number % 3])
        assert await asyncio.to_thread(python, built, "import tinyone; print(len(tinyone.version))") == "3"

    for _ in range(2):
        await asyncio.gather(*map(use, range(6)))
    assert not list(below.glob("*.aside"))


async def test_what_cannot_be_measured_spoils_no_step(opened, index, below, monkeypatch, caplog):
    def broken(*_):
        raise OSError("the disk is odd")

    monkeypatch.setattr(local, "make_room", broken)
    assert (await made(opened(), wanting("tinyone"))).python.exists()
    assert "the disk is odd" in caplog.text


async def test_that_all_of_it_is_in_use_is_said(opened, index, below, caplog):
    built = await made(opened(**NONE), wanting("tinyone"))
    assert there(below) == [name(built)]
    assert "all of them are in use: environments_gib" in caplog.text
    assert room.CACHE not in {p.name for p in below.iterdir()}


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_the_limit_is_a_whole_number(opened, wrong):
    with pytest.raises(BadInput, match="environments_bytes_max"):
        opened(environments_bytes_max=wrong)


# ---------------------------------------------------------------------- steps


async def test_what_a_step_or_its_zygote_has_stays(opened, index, below, sandbox, tmp_path):
    """A zygote at rest has opened files of its environment, and forks more from them."""
    (tmp_path / "home" / "scratch").mkdir(parents=True)
    executor = executors.open_tile(place_on(sandbox, tmp_path / "home", environments=opened(**NONE)))

    async def ran(package, number):
        what = step("import tinyone\nreturn int(tinyone.version[0])", **INT)
        what = replace(what, code=replace(what.code, packages=(package,)))
        workdir = tmp_path / "home" / "scratch" / f"{package}{number}"
        job = Job("run/it", what, workdir, environment=await executor.environment(what))
        outcome = await executor.run(job, lambda _: None)
        assert outcome.error == ""
        return outcome.params

    assert await ran("tinyone==1.0", 1) == {"Output": 1}
    (first,) = there(below)
    assert await ran("tinyone==2.0", 1) == {"Output": 2}
    assert len(there(below)) == 2
    assert await ran("tinyone==1.0", 2) == {"Output": 1}
    await executor.close()
    third = await made(opened(**NONE), wanting("tinytwo"))
    assert there(below) == [name(third)], f"{first} is used by nobody"
