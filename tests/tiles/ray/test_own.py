"""A cluster of this machine alone: started when first needed, reached by nobody else, and gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import tempfile
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, NotSupported, Unavailable
from tallystick.core.pipeline.spec import Resources, Slot
from tallystick.ports.executor import InputFile, Job
from tallystick.ports.tile import Place
from tallystick.tiles.ray import executor as tile
from tests.fakes.steps import outcome, step
from tests.tiles.ray.parts import STRING, Opened, where

DEADLINE_S = 60


def listening(pids):
    """The addresses, in hexadecimal, on which these processes listen over TCP."""
    inodes = set()
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(str(file.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in inodes:
                found.add(columns[1].partition(":")[0])
    return found


def mentioning(words):
    """Processes whose command or environment has these words."""
    found = set()
    for name in ("cmdline", "environ"):
        for path in Path("/proc").glob(f"[0-9]*/{name}"):
            with contextlib.suppress(OSError):
                if words.encode() in path.read_bytes():
                    found.add(int(path.parent.name))
    return found - {os.getpid()}


@pytest.mark.slow
async def test_the_whole_life_of_it(tmp_path):
    opened = Opened(tmp_path, ray_cpus=2)
    made = (
        "open(made.path, 'w').write(open(given.path).read() * 2)\nimport os\nreturn os.environ['RAY_JOB_ID']"
    )
    what = step(
        made,
        **STRING,
        arguments="given: Input[Dataset], made: Output[Dataset]",
        artifacts=(Slot("given"),),
        out_artifacts=(Slot("made"),),
    )
    given = tmp_path / "given"
    given.write_text("twice")
    try:
        async with asyncio.timeout(DEADLINE_S):
            told = await outcome(
                opened.executor, tmp_path, what, artifacts={"given": (InputFile(given, ""),)}
            )
            assert told.error.startswith("KeyError: 'RAY_JOB_ID'")  # nothing of Ray's own reaches a step
            plain = step(
                "open(made.path, 'w').write('x')",
                arguments="made: Output[Dataset]",
                out_artifacts=(Slot("made"),),
            )
            told = await outcome(opened.executor, tmp_path, plain)
        assert told.artifacts["made"].path.read_text() == "x"
        folder = opened.executor._folder
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        ours = mentioning(str(folder))
        assert len(ours) > 4
        assert listening(ours) <= {"0100007F", "0000000000000000FFFF00000100007F"}
        with pytest.raises(NotSupported, match="it asks for 3 CPUs, and the largest node"):
            opened.executor.check(where(3))
    finally:
        await opened.close()
    assert not folder.exists()
    assert not mentioning(str(folder))


@pytest.mark.slow
async def test_a_killed_driver_takes_its_cluster_along(tmp_path):
    opened = Opened(tmp_path, ray_cpus=1)
    try:
        async with asyncio.timeout(DEADLINE_S):
            assert (await outcome(opened.executor, tmp_path, where())).error == ""
            folder, pid = opened.executor._folder, opened.executor.pid
            log = []
            running = asyncio.create_task(
                outcome(
                    opened.executor, tmp_path, where(1, "print('begun')\nimport time\ntime.sleep(600)"), log
                )
            )
            while not log:  # noqa: ASYNC110  the executor calls a function
                await asyncio.sleep(0.02)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(Unavailable, match="signal 9"):
                await running
        assert not mentioning(str(folder))
    finally:
        await opened.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("ray_address", "ray://head:10001", "an address for Ray's client"),
        ("ray_address", 7, "is not a str"),
        ("ray_cpus", -1, "at least 0"),
        ("ray_tries", True, "not a number"),
        ("ray_same_files", 1, "is not a bool"),
    ],
)
def test_options_are_checked(tmp_path, option, value, words):
    with pytest.raises(BadInput, match=words):
        Opened(tmp_path, **{option: value})


def test_it_says_which_part_it_lacks(tmp_path):
    with pytest.raises(Unavailable, match="part 'executor'"):
        tile.open_tile(Place(tmp_path))


async def test_a_cluster_that_is_not_there_is_said(tmp_path):
    opened = Opened(tmp_path, ray_address="127.0.0.1:1")
    opened.executor.check(where(1000))  # nothing is known of it yet
    try:
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(Unavailable, match="cannot be joined"):
                await outcome(opened.executor, tmp_path, where())
    finally:
        await opened.close()


async def test_a_workspace_is_not_shared_between_machines(tmp_path):
    opened = Opened(tmp_path)
    try:
        job = Job("run-1 train", where(), tmp_path / "work", shared=tmp_path)
        with pytest.raises(NotSupported, match="on one machine"):
            await opened.executor.run(job, print)
    finally:
        await opened.close()


def test_only_what_concerns_steps_is_told_to_the_nodes(tmp_path):
    opened = Opened(tmp_path, database="postgresql://me:secret@host/name", step_threads=3)
    order = opened.executor._order(tmp_path)
    assert order["options"]["step_threads"] == 3
    assert "secret" not in str(order)


def test_a_short_home_holds_ray_s_folder_and_a_long_one_does_not():
    assert tile._folder_of(Path("/srv/home")) == Path("/srv/home/run/ray")
    long = tile._folder_of(Path("/srv") / ("x" * 60))
    assert long.parent == Path(tempfile.gettempdir())


def test_another_s_folder_is_neither_used_nor_removed(tmp_path, monkeypatch):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    monkeypatch.setattr(tile, "_folder_of", lambda home: theirs)
    monkeypatch.setattr(tile, "FOLDER_BYTES_MAX", 1000)
    monkeypatch.setattr(tile.os, "getuid", lambda: 12345)
    tile._remove(theirs)
    with pytest.raises(Unavailable, match="cannot be made"):
        tile._make_folder(tmp_path)
    assert theirs.is_dir()


@pytest.mark.parametrize(
    ("resources", "asks"),
    [
        (Resources(), "1 CPU"),
        (Resources(cpus=0.5), "0.5 CPUs"),
        (Resources(cpus=2.5, memory_bytes=2**31), "3 CPUs and 2 GiB of memory"),
        (
            Resources(cpus=8, cpus_least=2, memory_bytes=2**33, memory_bytes_least=2**30),
            "2 CPUs and 1 GiB of memory",
        ),
        (Resources(gpus=1), "1 GPU"),
        (Resources(cpus=4, gpus=2, workers=3), "3 workers with 4 CPUs and 2 GPUs each"),
    ],
)
def test_what_a_step_asks_for_in_words(resources, asks):
    assert str(tile.Ask.of(where(resources=resources), 1.0)) == asks
