"""Container commands, run with the programs of this machine where somebody asked for it."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from dataclasses import replace

import pytest

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.pipeline.spec import Command, Component, Param, ParamType, Resources, Slot
from tallystick.crew.ray.door import SocketDoor
from tallystick.ports.executor import InputFile, Job
from tallystick.ports.tile import Place
from tallystick.proofs.sandbox import TREE, marked
from tallystick.tiles.executor.command import argv_of
from tallystick.tiles.sandbox import process
from tests.fakes.steps import opened, outcome

IMAGE = "registry.invalid/some/image:1"
ARGUMENT = "{{$.inputs.parameters['%s']}}"
GIVEN = {
    "inputs": {
        "parameterValues": {"text": "a 'b' $c", "whole": 3, "real": 2.0, "half": 0.5, "yes": True,
                            "none": None, "items": [1, {"k": "ä"}],
                            "trick": "{{$.inputs.parameters['text']}}"},
        "artifacts": {
            "one": {"artifacts": [{"name": "one", "uri": "/in/one", "metadata": {"k": "v", "n": 2}}]},
            "many": {"artifacts": [{"name": "many", "uri": "/in/1", "metadata": {}},
                                   {"name": "many", "uri": "/in/2", "metadata": {}}]},
            "empty": {"artifacts": []},
        },
    },
    "outputs": {
        "parameters": {"out": {"outputFile": "/out/params/out"}},
        "artifacts": {"made": {"artifacts": [{"name": "made", "uri": "/out/made", "metadata": {}}]}},
        "outputFile": "/out/executor_output.json",
    },
}  # fmt: skip


def command(*words, args=(), **fields):
    return Component("it", Command(IMAGE, words, args), **fields)


def shell(script, *args, **fields):
    return command("sh", "-ec", script, "it", args=args, **fields)


async def run(executor, tmp_path, what, log=None, **fields):
    executor.check(what, commands=True)
    return await outcome(executor, tmp_path, what, log, commands=True, **fields)


# ---------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("plain $HOME `id`", ["plain $HOME `id`"]),
        (ARGUMENT % "text", ["a 'b' $c"]),
        ("--x=" + ARGUMENT % "whole", ["--x=3"]),
        (ARGUMENT % "real" + "," + ARGUMENT % "half" + "," + ARGUMENT % "yes", ["2,0.5,true"]),
        ('{{$.inputs.parameters["items"]}}', ['[1,{"k":"ä"}]']),
        (ARGUMENT % "none", [""]),
        (ARGUMENT % "trick", ["{{$.inputs.parameters['text']}}"]),  # what was put in is not looked at again
        ("{{$.inputs.artifacts['one'].path}}:{{$.inputs.artifacts['one'].uri}}", ["/in/one:/in/one"]),
        ("{{$.inputs.artifacts['one'].metadata['k']}}", ["v"]),
        ("{{$.inputs.artifacts['one'].metadata['n']}}", ["2"]),
        ("{{$.inputs.artifacts['one'].metadata}}", ['{"k":"v","n":2}']),
        ("{{$.outputs.parameters['out'].output_file}}", ["/out/params/out"]),
        ("{{$.outputs.artifacts['made'].path}}", ["/out/made"]),
        ("{{$.outputs.output_file}}", ["/out/executor_output.json"]),
        ("{{$.outputMetadataUri}}", ["/out/executor_output.json"]),
        ("run {{$.pipeline_job_name}}", ["run nightly"]),
        ("{{$other}} {{ x }}", ["{{$other}} {{ x }}"]),
        ({"Concat": ["a", ARGUMENT % "whole", {"Concat": ["b", "c"]}]}, ["a3bc"]),
        ({"IfPresent": {"InputName": "whole", "Then": ["-w", ARGUMENT % "whole"], "Else": "n"}}, ["-w", "3"]),
        ({"IfPresent": {"InputName": "none", "Then": "yes", "Else": ["n", "o"]}}, ["n", "o"]),
        ({"IfPresent": {"InputName": "one", "Then": "yes"}}, ["yes"]),
        ({"IfPresent": {"InputName": "empty", "Then": "yes"}}, []),
        ({"Concat": ["a", {"IfPresent": {"InputName": "gone", "Then": "b"}}]}, ["a"]),
    ],
)  # fmt: skip
def test_words(word, words):
    told = argv_of(Command(IMAGE, ("x", word)), GIVEN, {"pipeline_job_name": "nightly"})
    assert told == ["x", *words]


def test_the_whole_input_and_lists_are_json():
    said = argv_of(Command(IMAGE, ("x", "{{$}}", "{{$.inputs.artifacts['many']}}")), GIVEN, {})
    assert json.loads(said[1]) == GIVEN
    assert [one["uri"] for one in json.loads(said[2])] == ["/in/1", "/in/2"]


@pytest.mark.parametrize(
    "word", ["{{$.no_such_fact}}", "{{$.inputs.artifacts['gone'].path}}", "{{$.inputs.what['x']}}", "a\0b"]
)
def test_words_with_nothing_to_put_in(word):
    with pytest.raises(BadInput):
        argv_of(Command(IMAGE, ("x", word)), GIVEN, {})


# ---------------------------------------------------------------------- runs


async def test_only_where_somebody_asked_for_it(executor, tmp_path):
    with pytest.raises(NotSupported, match=r"registry\.invalid") as wrong:
        executor.check(shell("true"))
    assert (wrong.value.where, "--allow-commands" in wrong.value.hint) == ("it", True)
    with pytest.raises(NotSupported):
        await outcome(executor, tmp_path, shell("touch ran"))
    assert list(tmp_path.glob("work-*")) == []


@pytest.mark.parametrize("words", [((), ()), ((), ("--x",))])
def test_what_only_the_image_knows_is_refused(tmp_path, words):
    executor = opened(process.open_tile(Place(tmp_path)), tmp_path)
    with pytest.raises(NotSupported, match="not known here"):
        executor.check(command(*words[0], args=words[1]), commands=True)


async def test_inputs_go_in_and_outputs_come_out(executor, tmp_path):
    (tmp_path / "given").write_text("given text")
    script = (
        'echo "$1 $TALLY_OWN"; echo an error >&2\n'
        'printf %s "$2" > "$3"; printf 7 > "$4"\ncat "$5" > "$6"\n'
        'printf \'{"artifacts": {"made": {"artifacts": [{"metadata": {"rows": 2}}]}}}\' > "$7"'
    )
    what = shell(
        script,
        *(ARGUMENT % "text", {"Concat": ["<", ARGUMENT % "whole", ">"]}),
        *("{{$.outputs.parameters['said'].output_file}}", "{{$.outputs.parameters['count'].output_file}}"),
        *("{{$.inputs.artifacts['given'].path}}", "{{$.outputs.artifacts['made'].path}}"),
        "{{$.outputs.output_file}}",
        params=(Param("text", ParamType.STRING), Param("whole", ParamType.INTEGER)),
        artifacts=(Slot("given", "system.Dataset"),),
        out_params=(Param("said", ParamType.STRING), Param("count", ParamType.INTEGER)),
        out_artifacts=(Slot("made", "system.Model"),),
        env={"TALLY_OWN": "own"},
    )
    log, given = [], {"given": (InputFile(tmp_path / "given", "system.Dataset"),)}
    params = {"text": "it's; rm -rf /", "whole": 3}
    done = await run(executor, tmp_path, what, log, params=params, artifacts=given)
    assert done.error == ""
    assert done.params == {"said": "<3>", "count": 7}
    assert done.artifacts["made"].path.read_text() == "given text"
    assert done.artifacts["made"].metadata == {"rows": 2}
    assert log == ["it's; rm -rf / own", "an error"]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo last words; exit 9", "ended with status 9: last words"),
        ("echo bye; kill -SEGV $$", "ended by SIGSEGV: bye"),
        ("kill -KILL $$", "killed by SIGKILL"),
        ("true", "output 'said' was not written"),
        ("exit 127", "ended with status 127: it printed nothing"),
    ],
)
async def test_how_it_failed_is_said(executor, tmp_path, script, error):
    done = await run(executor, tmp_path, shell(script, out_params=(Param("said", ParamType.STRING),)))
    assert done.error.startswith(error)


async def test_a_program_that_is_not_here_is_named(executor, tmp_path):
    done = await run(executor, tmp_path, command("no-such-program-of-anybody", "x"))
    assert "no-such-program-of-anybody: No such file or directory" in done.error
    assert IMAGE in done.error


async def test_limits_hold_for_it(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path, step_cpu_seconds=1)
    assert "CPU seconds" in (await run(executor, tmp_path, shell("while :; do :; done"))).error
    what = replace(
        command(sys.executable, "-c", "bytearray(1 << 30)"), resources=Resources(memory_bytes=300 << 20)
    )
    assert (await run(executor, tmp_path, what)).error == "ended with status 1: MemoryError"
    what = replace(shell("sleep 600"), timeout_s=1)
    assert (await run(executor, tmp_path, what)).error == "killed: it was not done after 1 s"


async def test_cancelling_ends_the_whole_tree(executor, tmp_path):
    marker, begun = uuid.uuid4().hex, asyncio.Event()
    what = command(sys.executable, "-c", TREE.format(then="time.sleep(600)"), marker)
    job = Job("run/it", what, tmp_path / "work", commands=True)
    task = asyncio.create_task(executor.run(job, lambda _: begun.set()))
    await asyncio.wait_for(begun.wait(), 20)
    assert marked(marker)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert marked(marker) == []


async def test_a_command_may_leave_politely(executor, tmp_path):
    begun = asyncio.Event()
    what = shell("trap 'touch left; exit 0' TERM; echo on; while :; do sleep 0.05; done")
    job = Job("run/it", what, tmp_path / "work", commands=True)
    task = asyncio.create_task(executor.run(job, lambda _: begun.set()))
    await asyncio.wait_for(begun.wait(), 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (tmp_path / "work" / "left").exists()


async def test_workers_of_a_command(executor, tmp_path):
    what = shell(
        'echo "$RANK of $WORLD_SIZE"; printf "$RANK" > "$1"',
        "{{$.outputs.parameters['rank'].output_file}}",
        out_params=(Param("rank", ParamType.INTEGER),),
    )
    log = []
    done = await run(executor, tmp_path, replace(what, resources=Resources(workers=2)), log)
    assert (done.error, done.params) == ("", {"rank": 0})
    assert sorted(log) == ["[rank 0] 0 of 2", "[rank 1] 1 of 2"]
    failing = replace(shell('test "$RANK" = 0 || exit 5; sleep 600'), resources=Resources(workers=2))
    assert (await run(executor, tmp_path, failing)).error == "rank 1: ended with status 5: it printed nothing"


async def test_the_hub_is_reached_from_a_command(executor, tmp_path):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
        await writer.drain()
        writer.close()

    path, log = tmp_path / "hub.sock", []
    code = (
        "import os, urllib.request as r; print(r.urlopen(os.environ['MLFLOW_TRACKING_URI']).read().decode())"
    )
    async with await asyncio.start_unix_server(answer, path):
        done = await run(executor, tmp_path, command(sys.executable, "-c", code), log, door=SocketDoor(path))
    assert (done.error, log) == ("", ["hello"])
