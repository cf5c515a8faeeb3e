"""Environments: what is resolved once, built once, and what a package cannot do meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tallystick.core.errors import BadInput, Failed, MissingTile, NotSupported, TookTooLong, Unavailable
from tallystick.core.pipeline.spec import Function
from tallystick.core.values import Environment
from tallystick.ports.runs.environments import Environments
from tallystick.ports.tile import Place
from tallystick.tiles.environments import local, tool
from tallystick.tiles.environments.folders import Folders
from tests.tiles.environments.index import source, wheel

DEADLINE_S = 60


def wanting(*packages, **fields):
    return Function("it", "", packages, **fields)


def python(built, code):
    """What the environment's own Python prints."""
    env = {"_KFP_RUNTIME": "true"}
    done = subprocess.run(
        [built.python, "-c", code], capture_output=True, text=True, check=True, timeout=60, env=env
    )
    return done.stdout.strip()


async def made(environments, code, log=None):
    environment = await environments.resolve(code)
    return await environments.build(environment, code, (log if log is not None else []).append)


def whole(tmp_path):
    return [f for f in (tmp_path / "home" / "environments").iterdir() if (f / "pyvenv.cfg").exists()]


# ---------------------------------------------------------------------- what is made


async def test_packages_become_an_environment_of_their_own(opened, index, tmp_path):
    environments, log, code = opened(), [], wanting("tinytwo")
    assert isinstance(environments, Environments)
    environments.check(code)
    environment = await environments.resolve(code)
    assert environment.packages == {"tinyone": "1.0", "tinytwo": "0.5"}
    assert environment.lock.count("--hash=sha256:") == 2
    built = await environments.build(environment, code, log.append)
    assert log == ["building its environment: 2 packages", "its environment is built"]
    assert python(built, "import tinyone, tinytwo; print(tinyone.version, tinytwo.version)") == "1.0 0.5"
    found = python(built, "import sys, kfp, tallystick; print(sys.path[-1]); print(len(sys.path))")
    assert found.splitlines()[0] == str(built.runtime)
    assert sorted(path.name for path in built.runtime.iterdir()) == ["kfp", "tallystick"]
    with pytest.raises(subprocess.CalledProcessError):
        python(built, "import httpx")  # of the hub's
    assert list((built.python.parents[1] / "lib").rglob("__pycache__/tinytwo.*"))


async def test_what_came_without_a_certificate_is_for_those_alone_who_ask_for_none(opened, index, tmp_path):
    """Else who stands in the way of one component's packages would be in everybody's cache."""
    environments, cache = opened(package_indexes=index.url), tmp_path / "home" / "environments" / "cache"
    host = urlsplit(index.url).netloc
    await made(environments, wanting("tinyone==1.0", index_urls=(index.url,), trusted_hosts=(host,)))
    assert not list(cache.glob("[!u]*/**/*tinyone*"))
    await made(environments, wanting("tinyone==2.0", index_urls=(index.url,)))
    assert list(cache.glob("[!u]*/**/*tinyone*"))


async def test_a_second_time_asks_nobody_and_builds_nothing(opened, index):
    code = wanting("tinytwo")
    first = await made(opened(), code)
    asked, log = len(index.asked), []
    assert await made(opened(), code, log) == first
    assert (len(index.asked), log) == (asked, [])


async def test_one_lock_is_one_environment_however_it_was_asked_for(opened, index, tmp_path):
    environments = opened()
    await made(environments, wanting("tinyone>1"))
    await made(environments, wanting("tinyone == 2.0", "tinyone"))
    assert len(whole(tmp_path)) == 1
    await made(environments, wanting("tinyone<2"))
    assert len(whole(tmp_path)) == 2


async def test_what_was_resolved_stays_until_it_is_too_old(opened, index, tmp_path):
    code = wanting("tinyone")
    assert (await opened().resolve(code)).packages == {"tinyone": "2.0"}
    index.add(*wheel("tinyone", "3.0"))
    assert (await opened().resolve(code)).packages == {"tinyone": "2.0"}
    [kept] = (tmp_path / "home" / "environments" / "locks").iterdir()
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "made_s": 5}))
    assert (await opened().resolve(code)).packages == {"tinyone": "2.0"}
    (tmp_path / "home" / "environments" / "cache").rename(tmp_path / "gone")  # uv remembers pages for a while
    assert (await opened(package_lock_age_s=60).resolve(code)).packages == {"tinyone": "3.0"}


async def test_a_lock_that_was_recorded_is_built_as_it_was(opened, index):
    code = wanting("tinyone")
    hashes = (await opened().resolve(wanting("tinyone<2"))).lock
    old = Environment(*_here(), {"tinyone": "1.0"}, hashes)
    built = await opened().build(old, code, print)
    assert python(built, "import tinyone; print(tinyone.version)") == "1.0"


def _here():
    return local.PYTHON, local.PLATFORM


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"made_s": 1, "lock": "--index-url x"}'])
async def test_a_kept_lock_that_cannot_be_read_is_resolved_anew(opened, index, tmp_path, damage):
    await opened().resolve(wanting("tinyone"))
    [kept] = (tmp_path / "home" / "environments" / "locks").iterdir()
    kept.write_text(damage)
    assert (await opened().resolve(wanting("tinyone"))).packages == {"tinyone": "2.0"}


# ---------------------------------------------------------------------- many at once, and ends


async def test_many_at_once_resolve_and_build_once(opened, index, tmp_path, monkeypatch):
    begun, usual = [], tool.Tool.run

    async def run(self, argv, *rest):
        begun.append(next(word for word in argv if word in ("venv", "compile", "install", "compileall")))
        await usual(self, argv, *rest)

    monkeypatch.setattr(tool.Tool, "run", run)
    one, other, logs = opened(), opened(), [[] for _ in range(6)]
    code = wanting("tinytwo")
    built = await asyncio.gather(*(made((one, other)[n % 2], code, log) for n, log in enumerate(logs)))
    assert len({b.python for b in built}) == len(whole(tmp_path)) == 1
    assert sorted(begun) == ["compile", "compile", "compileall", "install", "venv"]  # of two hubs
    assert not list((tmp_path / "home" / "environments").glob("*.aside"))


BUILDER = """
import asyncio, sys
from pathlib import Path
from tallystick.core.pipeline.spec import Function
from tallystick.ports.tile import Place
from tallystick.tiles.environments import local
from tallystick.tiles.sandbox import process

async def main(home):
    place = Place(home, {}, {"process_sandbox": process.open_tile(Place(home))})
    environments, code = local.open_tile(place), Function("it", "", ("tinytwo",))
    await environments.build(await environments.resolve(code), code, lambda line: print(line, flush=True))

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_a_builder_that_is_killed_leaves_nothing_that_counts(opened, index, tmp_path):
    environment = await opened().resolve(wanting("tinytwo"))
    (tmp_path / "home" / "environments" / "cache").rename(tmp_path / "gone")
    index.gate.clear()
    index.reached.clear()
    builder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BUILDER, str(tmp_path / "home")),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(local.__file__).parents[3])},
    )
    assert (
        await asyncio.wait_for(builder.stdout.readline(), DEADLINE_S)
        == b"building its environment: 2 packages\n"
    )
    assert await asyncio.to_thread(index.reached.wait, DEADLINE_S)
    assert list((tmp_path / "home" / "environments").glob("*.aside"))
    builder.send_signal(signal.SIGKILL)
    await builder.wait()
    assert whole(tmp_path) != []  # only the one aside
    index.gate.set()
    built = await opened().build(environment, wanting("tinytwo"), print)
    assert python(built, "import tinyone; print(tinyone.version)") == "1.0"
    assert not list((tmp_path / "home" / "environments").glob("*.aside"))


def test_what_a_killed_builder_left_is_swept_and_what_is_being_built_is_not(tmp_path):
    folders = Folders(tmp_path)
    (tmp_path / "dead.aside" / "x").mkdir(parents=True)

    async def look():
        async with folders.making("alive"):
            Folders(tmp_path)
            assert sorted(p.name for p in tmp_path.glob("*.aside")) == ["alive.aside"]

    asyncio.run(look())
    assert (tmp_path / "alive").is_dir()


async def test_cancelling_ends_the_building(opened, index, tmp_path):
    environments = opened()
    index.gate.clear()
    index.reached.clear()
    task = asyncio.create_task(environments.resolve(wanting("tinyone")))
    assert await asyncio.to_thread(index.reached.wait, DEADLINE_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    index.gate.set()
    assert not list((tmp_path / "home" / "environments").glob("resolving-*"))
    assert (await environments.resolve(wanting("tinyone"))).packages == {"tinyone": "2.0"}


async def test_it_may_not_take_for_ever(opened, index):
    index.gate.clear()
    with pytest.raises(TookTooLong, match="not done after 1 s"):
        await opened(package_seconds_max=1).resolve(wanting("tinyone"))


# ---------------------------------------------------------------------- what a package cannot do


async def test_a_source_s_setup_is_never_run(opened, index, tmp_path):
    mark = tmp_path / "it-ran"
    index.add(*source("evil", "1.0", f"open({str(mark)!r}, 'w')\n"))
    index.add(*source("tinyone", "9.0", f"open({str(mark)!r}, 'w')\n"))
    with pytest.raises(NotSupported, match="evil") as wrong:
        await opened().resolve(wanting("evil"))
    assert "only wheels" in wrong.value.hint
    assert (await opened().resolve(wanting("tinyone"))).packages == {"tinyone": "2.0"}
    assert not mark.exists()


async def test_nothing_of_a_wheel_is_run_while_it_is_built(opened, index, tmp_path):
    mark = tmp_path / "it-ran"
    evil = f"import pathlib; pathlib.Path({str(mark)!r}).touch()\n"
    index.add(*wheel("evil", "1.0", {"evil.pth": evil, "sitecustomize.py": evil, "evil.py": evil}))
    await made(opened(), wanting("evil"))
    await made(opened(), wanting("evil"))
    assert not mark.exists()


async def test_a_file_that_is_another_one_now_is_not_taken(opened, index, tmp_path):
    environment = await opened().resolve(wanting("tinyone"))
    (tmp_path / "home" / "environments" / "cache").rename(tmp_path / "gone")
    index.add(*wheel("tinyone", "2.0", {"tinyone.py": "version = 'another'\n"}))
    with pytest.raises(NotSupported, match=r"(?i)hash"):
        await opened().build(environment, wanting("tinyone"), print)
    assert whole(tmp_path) == []


# ---------------------------------------------------------------------- what cannot be had


async def test_what_is_nowhere_is_named(opened, index):
    with pytest.raises(NotSupported, match="no-such-thing") as wrong:
        await opened().resolve(wanting("no-such-thing"))
    assert wrong.value.where == "it"
    assert "\n" not in str(wrong.value)


async def test_what_contradicts_itself_is_named(opened, index):
    with pytest.raises(NotSupported, match=r"cannot be resolved.*tinyone"):
        await opened().resolve(wanting("tinytwo", "tinyone>=2"))


async def test_an_index_that_is_not_there_is_unavailable(opened, index, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(Unavailable, match="cannot be resolved"):
        await opened().resolve(wanting("tinyone"))


async def test_another_python_s_environment_is_refused(opened, index):
    other = Environment("CPython 2.7.18", local.PLATFORM, {}, "tinyone==1.0 --hash=sha256:" + "0" * 64)
    with pytest.raises(NotSupported, match=r"CPython 2\.7"):
        await opened().build(other, wanting("tinyone"), print)


@pytest.mark.parametrize(
    "lock",
    [
        "--index-url http://127.0.0.1:9/",
        "tinyone==1.0",
        "tinyone>=1 --hash=sha256:" + "0" * 64,
        "tinyone @ file:///x --hash=sha256:" + "0" * 64,
        "-r /etc/passwd",
        "tinyone==1.0 --hash=md5:" + "0" * 32,
        "tinyone==1.0 --hash=sha256:" + "0" * 64 + "\x0c--index-url=x",
    ],
)
async def test_a_lock_holds_nothing_but_packages(opened, index, lock):
    with pytest.raises(NotSupported, match="a lock cannot hold"):
        await opened().build(Environment(*_here(), {}, lock), wanting("tinyone"), print)
    assert index.asked == []


async def test_a_full_disk_is_said(opened, index, tmp_path, monkeypatch):
    environment = await opened().resolve(wanting("tinyone"))
    fake = tmp_path / "uv"
    fake.write_text(
        "#!/bin/sh\necho 'error: failed to copy: No space left on device (os error 28)' >&2\nexit 2\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(local, "find_uv", lambda: str(fake))
    with pytest.raises(Unavailable, match="the disk is full"):
        await opened().build(environment, wanting("tinyone"), print)
    fake.write_text("#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(Failed, match="ended by signal 9"):
        await opened().build(environment, wanting("tinyone"), print)
    assert whole(tmp_path) == []


def test_without_uv_the_command_that_brings_it_is_named(opened, monkeypatch):
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setattr(tool.shutil, "which", lambda _: None)
    with pytest.raises(MissingTile) as wrong:
        opened().check(wanting("tinyone"))
    assert wrong.value.hint == "pip install 'tallystick[environments]'"


@pytest.mark.parametrize(
    "options", [{"package_lock_age_s": -1}, {"package_seconds_max": 0}, {"package_memory_mib": "1"}]
)
def test_options_are_whole_numbers(opened, options):
    with pytest.raises(BadInput, match=next(iter(options))):
        opened(**options)


def test_it_stands_on_a_sandbox(tmp_path):
    with pytest.raises(Unavailable, match="sandbox"):
        local.open_tile(Place(tmp_path))
