"""The executors: the proof, and what only processes can be asked to do."""

from __future__ import annotations

import importlib.metadata

import pytest

from tallystick.core.errors import BadInput, MissingTile, NotSupported, TallyError, Unavailable
from tallystick.core.pipeline.spec import Command, Function, Param, ParamType, Slot
from tallystick.ports.executor import InputFile, Job
from tallystick.ports.tile import Place
from tallystick.proofs.executor import ExecutorProof
from tallystick.proofs.executor_steps import STEPS, component
from tallystick.tiles.executor import local
from tallystick.tiles.sandbox import bubblewrap, process
from tests.fakes.executor import FakeExecutor
from tests.fakes.steps import opened, outcome, step


class TestFake(ExecutorProof):
    async def open(self, home):
        return FakeExecutor(STEPS)


class _Local(ExecutorProof):
    wall, zygotes = process, 2

    async def open(self, home):
        self.sandbox = self.wall.open_tile(Place(home))
        return opened(self.sandbox, home.parent, step_zygotes=self.zygotes)

    async def close(self):
        await self.sandbox.close()


class TestForkedInBubblewrap(_Local):
    wall = bubblewrap


class TestForkedInProcess(_Local):
    wall = process


class TestAloneInBubblewrap(_Local):
    wall, zygotes = bubblewrap, 0


class TestAloneInProcess(_Local):
    wall, zygotes = process, 0


# ---------------------------------------------------------------------- KFP's other forms


async def test_a_named_tuple_comes_out(sandbox, tmp_path):
    what = step(
        "return (3, [1, 2, 0.5], {'a': 1})",
        returns="NamedTuple('Out', [('count', int), ('items', list), ('fields', dict)])",
        out_params=(
            Param("count", ParamType.INTEGER),
            Param("items", ParamType.LIST),
            Param("fields", ParamType.STRUCT),
        ),
    )
    done = await outcome(opened(sandbox, tmp_path), tmp_path, what)
    assert done.params == {"count": 3, "items": [1, 2, 0.5], "fields": {"a": 1}}
    assert [type(v) for v in done.params["items"]] == [int, int, float]


async def test_paths_in_and_out(sandbox, tmp_path):
    (tmp_path / "in").write_text("12")
    what = step(
        "open(count, 'w').write(open(given).read())\n"
        "open(flag, 'w').write('True')\nopen(name, 'w').write(' a ')\nopen(made, 'w').write('x')",
        arguments="given: InputPath('Dataset'), count: OutputPath(int), flag: OutputPath(bool), "
        "name: OutputPath(str), made: OutputPath('Model')",
        artifacts=(Slot("given", "system.Dataset"),),
        out_params=(
            Param("count", ParamType.INTEGER),
            Param("flag", ParamType.BOOLEAN),
            Param("name", ParamType.STRING),
        ),
        out_artifacts=(Slot("made", "system.Model"),),
    )
    given = {"given": (InputFile(tmp_path / "in", "system.Dataset"),)}
    done = await outcome(opened(sandbox, tmp_path), tmp_path, what, artifacts=given)
    assert done.params == {"count": 12, "flag": True, "name": " a "}
    assert done.artifacts["made"].path.read_text() == "x"


async def test_a_returned_artifact_and_get_uri(sandbox, tmp_path):
    what = step(
        "uri = dsl.get_uri('elsewhere')\nopen(uri, 'w').write('y')\n"
        "return Dataset(uri=uri, metadata={'k': 'v'})",
        returns="Dataset",
        out_artifacts=(Slot("Output", "system.Dataset"),),
    )
    done = await outcome(opened(sandbox, tmp_path), tmp_path, what)
    assert done.error == ""
    assert (done.artifacts["Output"].path.read_text(), done.artifacts["Output"].metadata) == ("y", {"k": "v"})


@pytest.mark.parametrize("where", ["'/etc/hostname'", "'s3://bucket/x'", "made.path + '/../../../..'"])
async def test_an_output_elsewhere_is_refused(sandbox, tmp_path, where):
    what = step(
        f"made.uri = {where}",
        arguments="made: Output[Dataset]",
        out_artifacts=(Slot("made", "system.Dataset"),),
    )
    done = await outcome(opened(sandbox, tmp_path), tmp_path, what)
    assert "output 'made'" in done.error


@pytest.mark.parametrize(
    "written",
    [
        "[]",
        "{",
        "[" * 100_000,
        '{"artifacts": {"made": {"artifacts": [7]}}}',
        '{"artifacts": {"made": {"artifacts": [{"uri": "/\\u0000"}]}}}',
        '{"artifacts": {"made": {"artifacts": [{"metadata": [7]}]}}}',
        '{"artifacts": {"made": {"artifacts": [{"metadata": {"x": NaN}}]}}}',
    ],
)
async def test_a_forged_output_is_an_error_and_no_more(sandbox, tmp_path, written):
    what = step(
        "import os\nopen(made.path, 'w')\n"
        f"open('out/executor_output.json', 'w').write({written!r})\nos._exit(0)",
        arguments="made: Output[Dataset]",
        out_artifacts=(Slot("made", "system.Dataset"),),
    )
    assert (await outcome(opened(sandbox, tmp_path), tmp_path, what)).error


async def test_an_output_file_that_is_a_link_is_not_followed(sandbox, tmp_path):
    (tmp_path / "secret").write_text('{"parameterValues": {"Output": "secret"}}')
    what = step(
        f"import os\nos.symlink({str(tmp_path / 'secret')!r}, 'out/executor_output.json')\nos._exit(0)",
        returns="str",
        out_params=(Param("Output", ParamType.STRING),),
    )
    done = await outcome(opened(sandbox, tmp_path), tmp_path, what)
    assert (done.params, "link out of" in done.error) == ({}, True)


async def test_a_folder_that_is_a_link_now_gets_no_file(sandbox, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    body = (
        f"import os\nos.rmdir('out/artifacts')\nos.symlink({str(tmp_path / 'elsewhere')!r}, 'out/artifacts')"
    )
    what = step(body, arguments="made: Output[Metrics]", out_artifacts=(Slot("made", "system.Metrics"),))
    done = await outcome(opened(sandbox, tmp_path), tmp_path, what)
    assert "link out of" in done.error
    assert list((tmp_path / "elsewhere").iterdir()) == []


# ---------------------------------------------------------------------- before it runs


@pytest.mark.parametrize(
    "changed",
    [
        {"code": Function("a b", "...")},
        {"code": Command("image", ("sh",))},
        {"params": (Param("../x", ParamType.STRING),)},
        {"out_params": (Param("../x", ParamType.STRING),)},
        {"out_artifacts": (Slot("x/../../y"),)},
        {"artifacts": (Slot("x" * 101),)},
        {"out_artifacts": (Slot("many", is_list=True),)},
    ],
)
async def test_shapes_that_cannot_be_run(open_sandbox, tmp_path, changed):
    sandbox = open_sandbox("process")
    executor, what = opened(sandbox, tmp_path), component("speak", **changed)
    with pytest.raises(NotSupported):
        executor.check(what)
    with pytest.raises(NotSupported):
        await outcome(executor, tmp_path, what)


async def test_a_folder_in_use_is_refused(sandbox, tmp_path):
    (tmp_path / "work" / "tmp").mkdir(parents=True)
    with pytest.raises(BadInput, match="run/it"):
        await opened(sandbox, tmp_path).run(Job("run/it", step("pass"), tmp_path / "work"), print)


async def test_an_input_that_is_gone_is_an_error(open_sandbox, tmp_path):
    sandbox = open_sandbox("bubblewrap")
    given = {"given": (InputFile(tmp_path / "gone", "system.Dataset"),)}
    with pytest.raises(TallyError, match="gone"):
        await outcome(opened(sandbox, tmp_path), tmp_path, component("read"), artifacts=given)


@pytest.mark.parametrize("value", [0, -1, "2", True, 1.5])
def test_options_are_whole_numbers(tmp_path, value):
    with pytest.raises(BadInput, match="step_threads"):
        opened(process.open_tile(Place(tmp_path)), tmp_path, step_threads=value)
    if value:
        with pytest.raises(BadInput, match="at least 0"):
            opened(process.open_tile(Place(tmp_path)), tmp_path, step_zygotes=value)


def test_without_a_sandbox_or_kfp(tmp_path, monkeypatch):
    with pytest.raises(Unavailable, match="sandbox"):
        local.open_tile(Place(tmp_path))
    with pytest.raises(Unavailable, match="bases"):
        local.open_tile(Place(tmp_path, parts={"sandbox": process.open_tile(Place(tmp_path))}))
    monkeypatch.setattr(local, "version", _absent)
    with pytest.raises(MissingTile, match="pip install --no-deps kfp"):
        opened(process.open_tile(Place(tmp_path)), tmp_path)


def _absent(name):
    raise importlib.metadata.PackageNotFoundError(name)
