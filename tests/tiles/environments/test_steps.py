"""Steps in environments of their own: what they find there, and what they cannot reach through it."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from tallystick.core.errors import NotSupported, Refused
from tallystick.core.pipeline.spec import Function, Param, ParamType
from tallystick.ports.executor import Job
from tallystick.tiles.executor import local
from tests.fakes.steps import place_on, step
from tests.tiles.conftest import WALLS
from tests.tiles.environments.index import wheel

STRUCT = {"returns": "dict", "out_params": (Param("Output", ParamType.STRUCT),)}


@pytest.fixture(params=WALLS)
def wall(request, open_sandbox, tmp_path):
    return open_sandbox(request.param, tmp_path / "home")


@pytest.fixture
def executor(wall, opened, tmp_path):
    (tmp_path / "home" / "scratch").mkdir(parents=True)
    return local.open_tile(place_on(wall, tmp_path / "home", environments=opened()))


def needing(what, *packages, **fields):
    return replace(what, code=replace(what.code, packages=packages, **fields))


async def run(executor, tmp_path, what, log=None, **fields):
    executor.check(what)
    environment = await executor.environment(what)
    workdir = tmp_path / "home" / "scratch" / uuid.uuid4().hex
    job = Job("run/it", what, workdir, environment=environment, **fields)
    return await executor.run(job, (log if log is not None else []).append)


@pytest.mark.parametrize("env", [{}, {"PYTHONHASHSEED": "0"}])
async def test_a_step_has_its_packages_and_none_of_the_hub_s(executor, index, tmp_path, env):
    body = (
        "import importlib, subprocess, sys, tinyone\n"
        "def there(name):\n"
        "    try: return bool(importlib.import_module(name))\n"
        "    except ImportError: return False\n"
        "code = 'import tinyone; print(tinyone.version)'\n"
        "told = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip()\n"
        "return {'version': tinyone.version, 'hub': there('httpx') or there('numpy'), 'path': sys.path,\n"
        "        'kfp': sys.modules['kfp'].__file__, 'told': told, 'prefix': sys.prefix}"
    )
    what, log = replace(needing(step(body, **STRUCT), "tinyone<2"), env=env), []
    for _ in range(2):
        done = await run(executor, tmp_path, what, log)
        assert done.error == ""
        seen = done.params["Output"]
        assert (seen["version"], seen["told"], seen["hub"]) == ("1.0", "1.0", False)
        assert seen["prefix"].startswith(str(tmp_path / "home" / "environments"))
        assert seen["path"][-1] == str(tmp_path / "home" / "environments" / "runtime")
        assert seen["kfp"].startswith(seen["path"][-1])
    assert log == ["building its environment: 1 package", "its environment is built"]
    assert executor.manner.startswith("each step is forked")


async def test_an_environment_s_own_kfp_wins(executor, index, tmp_path):
    runtime = (
        "class Executor:\n"
        "    def __init__(self, executor_input, function_to_execute): self.run = function_to_execute\n"
        "    def execute(self): print('its own'); self.run()\n"
    )
    files = {
        "kfp/__init__.py": "",
        "kfp/dsl/__init__.py": "Input = Output = None\n",
        "kfp/dsl/executor.py": runtime,
    }
    index.add(*wheel("kfpish", "1.0", files))
    log = []
    assert (await run(executor, tmp_path, needing(step("print('ran')"), "kfpish"), log)).error == ""
    assert log[-2:] == ["its own", "ran"]


async def test_two_environments_side_by_side(executor, index, tmp_path):
    what = step("import tinyone\nreturn {'version': tinyone.version}", **STRUCT)
    for version in ("1.0", "2.0", "1.0"):
        done = await run(executor, tmp_path, needing(what, f"tinyone=={version}"))
        assert done.params["Output"] == {"version": version}
    plain = step(
        "import importlib.util\nassert importlib.util.find_spec('tinyone') is None\nimport packaging"
    )
    assert (await run(executor, tmp_path, plain)).error == ""


async def test_what_is_installed_beside_the_hub_is_taken_from_there(executor, index, tmp_path):
    done = await run(executor, tmp_path, needing(step("import packaging"), "packaging"))
    assert done.error == ""
    assert index.asked == []
    assert (await executor.environment(needing(step("pass"), "packaging"))).lock == ""
    own = needing(step("pass"), "packaging", index_urls=("https://own.invalid/simple",))
    with pytest.raises(Refused, match=r"own\.invalid"):
        executor.check(own)


async def test_without_a_builder_the_extra_is_named(wall, tmp_path):
    executor = local.open_tile(place_on(wall, tmp_path))
    for what in (
        needing(step("pass"), "tinyone"),
        needing(step("pass"), "packaging", index_urls=("https://own.invalid",)),
    ):
        with pytest.raises(NotSupported) as wrong:
            executor.check(what)
        assert "tallystick[environments]" in wrong.value.hint
        with pytest.raises(NotSupported):
            await executor.environment(what)


@pytest.mark.parametrize("package", ["-r x", "tinyone @ file:///x.whl", "tinyone\n--index-url=x"])
async def test_what_is_no_package_is_refused_before_anything_runs(executor, package):
    with pytest.raises(NotSupported):
        executor.check(needing(step("pass"), package))


EVIL = """
import os, sys
try:
    seen = sorted(os.listdir({scratch!r}))
except OSError:
    seen = ['hidden']
open('/tmp/{mark}', 'a').write(str(len(seen)) + ',')
"""


async def test_behind_bubblewrap_a_package_sees_no_more_than_its_step(index, open_sandbox, tmp_path, opened):
    """What runs as Python starts, and a package in place of a known one, run in the step and nowhere else."""
    wall = open_sandbox("bubblewrap", tmp_path / "home")
    scratch, mark = tmp_path / "home" / "scratch", uuid.uuid4().hex
    (scratch / "somebody-else-s").mkdir(parents=True)
    executor = local.open_tile(place_on(wall, tmp_path / "home", environments=opened()))
    evil = EVIL.format(scratch=str(scratch), mark=mark)
    files = {
        "numpy/__init__.py": evil,
        "evil.pth": "import evil_start\n",
        "evil_start.py": evil,
        "pandas.py": evil,
    }
    files["evil-1.0.data/data/pyvenv.cfg"] = "home = /nonexistent\n"
    index.add(*wheel("evil", "1.0", files))
    body = f"import numpy, pandas\nreturn {{'seen': open('/tmp/{mark}').read()}}"
    what = needing(step(body, **STRUCT), "evil")
    for _ in range(2):
        done = await run(executor, tmp_path, what)
        assert done.error == ""
        assert done.params["Output"] == {"seen": "1,1,1,"}  # its own folder, each time in a new /tmp
    assert executor.manner.endswith("put behind a fence of its own")


async def test_a_package_cannot_take_the_place_of_the_environment_s_python(executor, index, tmp_path):
    for number, name in enumerate(("python", "python3")):
        index.add(*wheel(f"evil{number}", "1.0", {f"evil{number}-1.0.data/data/bin/{name}": "#!/bin/sh\n"}))
        with pytest.raises(NotSupported, match="cannot be built"):
            await run(executor, tmp_path, needing(step("pass"), f"evil{number}"))


async def test_behind_bubblewrap_an_environment_cannot_be_written(index, open_sandbox, tmp_path, opened):
    wall = open_sandbox("bubblewrap", tmp_path / "home")
    (tmp_path / "home" / "scratch").mkdir(parents=True)
    executor = local.open_tile(place_on(wall, tmp_path / "home", environments=opened()))
    body = (
        "import os, tinyone, sys\n"
        "def writable(path):\n"
        "    try: open(path, 'a').close(); return True\n"
        "    except OSError: return False\n"
        "home = os.path.dirname(sys.prefix)\n"
        "return {'own': writable(tinyone.__file__), 'runtime': writable(home + '/runtime/x'),\n"
        "        'there': sorted(name for name in os.listdir(home) if len(name) != 40)}"
    )
    done = await run(executor, tmp_path, needing(step(body, **STRUCT), "tinyone"))
    assert done.params["Output"] == {"own": False, "runtime": False, "there": ["runtime"]}


async def test_a_function_without_packages_is_the_hub_s(executor):
    component = replace(step("pass"), code=Function("it", ""))
    assert (await executor.environment(component)).packages["packaging"]


async def test_behind_bubblewrap_a_package_s_start_finds_no_way_to_the_zygote(
    index, open_sandbox, tmp_path, opened
):
    """Of what its process has from the keeper, only where it says what is wrong is open by then."""
    wall = open_sandbox("bubblewrap", tmp_path / "home")
    (tmp_path / "home" / "scratch").mkdir(parents=True)
    executor = local.open_tile(place_on(wall, tmp_path / "home", environments=opened()))
    spy = (
        "import os; os.environ['THERE'] = ' '.join(os.readlink(f.path) for f in os.scandir('/proc/self/fd'))"
    )
    index.add(*wheel("spying", "1.0", {"spying.pth": f"{spy}\n"}))
    what = needing(step("import os\nreturn {'there': os.environ['THERE'].split()}", **STRUCT), "spying")
    done = await run(executor, tmp_path, what)
    assert done.error == ""
    kinds = [name.partition(":")[0] for name in done.params["Output"]["there"]]
    assert [kinds.count(kind) for kind in ("pipe", "socket", "pid", "/proc")] == [2, 1, 0, 0]
