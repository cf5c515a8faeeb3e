"""Steps on a Ray cluster of three nodes and more, one of which is killed: Ray's own, on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid

import pytest
import pytest_asyncio

from tallystick.core.errors import NotSupported, Unavailable
from tallystick.core.pipeline.spec import Resources, Slot
from tallystick.crew.ray.door import SocketDoor
from tallystick.ports.executor import InputFile, Job
from tallystick.proofs.executor import ExecutorProof
from tallystick.proofs.sandbox import marked
from tallystick.tiles.sandbox import process
from tests.fakes.steps import outcome, step
from tests.tiles.ray.parts import STRING, Opened, cluster_of, where

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
DEADLINE_S = 60
HOLD = """
import pathlib, time
print('begun', flush=True)
while not pathlib.Path(go).exists(): time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def cluster():
    with cluster_of("one 1 0", "two 2 2", "four 4 0") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("r")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(cluster, folder):
    """On the cluster, as if no node saw the hub's files."""
    opened = Opened(folder, ray_address=cluster.address, ray_same_files=False)
    yield opened
    await opened.close()
    async with asyncio.timeout(DEADLINE_S):
        while cluster.keepers():  # noqa: ASYNC110  other processes' ends set no event here
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def in_place(cluster, tmp_path_factory):
    everywhere = [str(tmp_path_factory.getbasetemp())]
    opened = Opened(tmp_path_factory.mktemp("i"), ray_address=cluster.address, step_folders=everywhere)
    yield opened
    await opened.close()


class Log(list):
    """Lines, and a way to wait for one of them."""

    def append(self, line):
        super().append(line)
        for words, seen in getattr(self, "waiting", ()):
            if words in line:
                seen.set()

    async def has(self, words):
        self.waiting = [*getattr(self, "waiting", ()), (words, seen := asyncio.Event())]
        if not any(words in line for line in self):
            async with asyncio.timeout(DEADLINE_S):
                await seen.wait()


async def ran(opened, folder, what, log=None, **fields):
    async with asyncio.timeout(DEADLINE_S):
        return await outcome(opened.executor, folder, what, log if log is not None else [], **fields)


class TestProof(ExecutorProof):
    @pytest_asyncio.fixture(loop_scope="module")
    async def executor(self, opened):
        return opened.executor


class TestProofInPlace(ExecutorProof):
    """On nodes that see the hub's own files, as they all do here."""

    @pytest_asyncio.fixture(loop_scope="module")
    async def executor(self, in_place):
        return in_place.executor


async def test_a_step_goes_where_there_is_what_it_asks_for(opened, folder):
    steps = [where(4), where(2)]
    told = await asyncio.gather(*(ran(opened, folder, one) for one in steps))
    assert [one.error for one in told] == ["", ""]
    assert told[0].params["Output"] == "four"
    assert told[1].params["Output"] in ("two", "four")


@pytest.mark.parametrize(
    ("resources", "asked"),
    [
        (Resources(cpus=5), "5 CPUs"),
        (Resources(gpus=3), "3 GPUs"),
        (Resources(memory_bytes=2**50), "GiB of memory"),
        (Resources(cpus=4, workers=2), "2 workers with 4 CPUs each"),
    ],
)
async def test_what_no_node_could_ever_have_is_refused(opened, folder, resources, asked):
    await ran(opened, folder, where())
    with pytest.raises(NotSupported, match=asked) as refused:
        opened.executor.check(where(resources=resources))
    if not resources.gpus:
        assert "four, has 4 CPUs" in str(refused.value)
        with pytest.raises(NotSupported, match=asked):
            await ran(opened, folder, where(resources=resources))


async def test_what_is_taken_now_is_waited_for_and_the_log_says_so(opened, folder):
    go, log, late = folder / uuid.uuid4().hex, Log(), Log()
    go.parent.mkdir(exist_ok=True)
    hold = where(4, "print('begun', flush=True)\nimport time\ntime.sleep(4)")
    first = asyncio.create_task(ran(opened, folder, hold, log))
    await log.has("begun")
    second = asyncio.create_task(ran(opened, folder, where(4), late))
    await late.has("waits for a node with 4 CPUs")
    assert not first.done()
    assert (await first).params == (await second).params == {"Output": "four"}


async def test_cancelling_ends_the_whole_tree_on_its_node(opened, folder):
    marker, log = f"mark-{uuid.uuid4().hex}", Log()
    body = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', {marker!r}], start_new_session=True)
print('begun', flush=True)
time.sleep(600)
"""
    running = asyncio.create_task(ran(opened, folder, where(2, body), log))
    await log.has("begun")
    assert marked(marker)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not marked(marker)
    assert (await ran(opened, folder, where(4))).params == {"Output": "four"}  # its share is free again


async def test_a_step_that_still_waits_can_be_cancelled(opened, folder):
    log, late = Log(), Log()
    hold = asyncio.create_task(
        ran(opened, folder, where(4, "print('begun', flush=True)\nimport time\ntime.sleep(600)"), log)
    )
    await log.has("begun")
    waits = asyncio.create_task(ran(opened, folder, where(4, "print('never')"), late))
    await late.has("waits for a node")
    for task in (waits, hold):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert "never" not in late
    assert (await ran(opened, folder, where(4))).params == {"Output": "four"}


async def test_equal_inputs_are_sent_to_a_node_once(opened, cluster, folder):
    given = folder / uuid.uuid4().hex
    (given / "deep").mkdir(parents=True)
    (given / "deep" / "large").write_bytes(os.urandom(1 << 20) * 12)
    (given / "link").symlink_to("deep/large")
    body = "import hashlib, pathlib\nseen = hashlib.sha256(pathlib.Path(given.path, 'link').read_bytes())\n"
    what = step(
        f"{body}return seen.hexdigest()",
        **STRING,
        arguments="given: Input[Dataset]",
        artifacts=(Slot("given", "system.Dataset"),),
        resources=Resources(cpus=4),
    )
    files = {"given": (InputFile(given, "system.Dataset"),)}
    before = {path for keeper in cluster.keepers() for path in (keeper / "c").glob("*")}
    first = await ran(opened, folder, what, artifacts=files)
    kept = {path for keeper in cluster.keepers() for path in (keeper / "c").glob("*")} - before
    times = {path: path.stat().st_mtime_ns for path in kept}
    second = await ran(opened, folder, what, artifacts=files)
    assert first.error == second.error == ""
    assert first.params == second.params
    assert len(kept) == 1
    assert times == {path: path.stat().st_mtime_ns for path in kept}


async def test_a_step_on_another_machine_reaches_the_hub(opened, folder):
    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (length, body[::-1]))
        writer.close()

    body = """
import os, urllib.request
sent = bytes(range(256)) * 4096
with urllib.request.urlopen(os.environ['MLFLOW_TRACKING_URI'] + '/x', sent) as answer:
    assert answer.read() == sent[::-1]
"""
    door = folder / "d"
    async with await asyncio.start_unix_server(answer, str(door)):
        many = [ran(opened, folder, where(0, body), door=SocketDoor(door)) for _ in range(3)]
        told = await asyncio.gather(*many)
    assert [one.error for one in told] == [""] * 3


async def test_a_step_sees_the_gpus_that_ray_gave_it(cluster, folder):
    opened = Opened(folder / "gpus", wall=process, ray_address=cluster.address)
    body = "import os\nreturn os.environ['TALLY_NODE'] + ' ' + os.environ['CUDA_VISIBLE_DEVICES']"
    try:
        told = await ran(opened, folder / "gpus", step(body, **STRING, resources=Resources(gpus=2)))
        assert (told.error, told.params) == ("", {"Output": "two 0,1"})
    finally:
        await opened.close()


async def test_behind_a_wall_that_shows_no_gpu_none_is_given(opened):
    if opened.sandbox.strength().hides_files:
        with pytest.raises(NotSupported, match="shows no GPU"):
            opened.executor.check(where(resources=Resources(gpus=1)))


async def test_a_dead_node_s_step_is_run_on_one_that_joined_later(opened, cluster, folder):
    log, workdir = Log(), folder / uuid.uuid4().hex
    body = """
import os, time
print('begun on', os.environ['TALLY_NODE'], flush=True)
with open(made.path, 'w') as file: file.write(os.environ['TALLY_NODE'])
if os.environ['TALLY_NODE'] == 'four': time.sleep(600)
return os.environ['TALLY_NODE']
"""
    what = step(
        body,
        **STRING,
        arguments="made: Output[Dataset]",
        out_artifacts=(Slot("made", "system.Dataset"),),
        resources=Resources(cpus=3),
    )
    job = Job("run/it", what, workdir)
    running = asyncio.create_task(opened.executor.run(job, log.append))
    await log.has("begun on four")
    await asyncio.to_thread(cluster.tell, "kill four")
    await log.has("its node died: four")
    await asyncio.to_thread(cluster.tell, "add late 4 0")
    async with asyncio.timeout(DEADLINE_S):
        told = await running
    assert (told.error, told.params) == ("", {"Output": "late"})
    assert told.artifacts["made"].path.read_text() == "late"
    assert "[its node died; again on late]" in log
    assert log.index("begun on late") > log.index("[its node died; again on late]")
    assert [path.name for path in workdir.iterdir()] == ["2"]


async def test_workers_on_several_nodes_meet(opened, cluster, folder):
    await asyncio.to_thread(cluster.tell, "add more 4 0")
    body = """
import os, socket
rank, place = int(os.environ['RANK']), (os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']))
assert os.environ['WORLD_SIZE'] == '2'
if rank == 0:
    with socket.create_server(place) as server:
        peer = server.accept()[0]
        return os.environ['TALLY_NODE'] + ' and ' + peer.recv(100).decode()
for _ in range(1000):
    try:
        with socket.create_connection(place) as peer: peer.sendall(os.environ['TALLY_NODE'].encode())
        break
    except ConnectionRefusedError:
        import time
        time.sleep(0.02)
return 'not this one'
"""
    async with asyncio.timeout(DEADLINE_S):
        while sum(node.cpus == 4 for node in opened.executor._driver.nodes) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    what = step(body, **STRING, resources=Resources(cpus=4, workers=2))
    told = await ran(opened, folder, what)
    assert told.error == ""
    assert sorted(told.params["Output"].split(" and ")) == ["late", "more"]


async def test_workers_that_fit_on_one_node_run_there_together(opened, folder):
    body = (
        "import os\nreturn ' '.join([os.environ['TALLY_NODE'], os.environ['WORLD_SIZE'], os.environ['RANK']])"
    )
    told = await ran(opened, folder, step(body, **STRING, resources=Resources(cpus=2, workers=2)))
    assert told.error == ""
    assert told.params["Output"] in ("late 2 0", "more 2 0")


async def test_one_worker_s_failure_ends_all(opened, folder):
    marker = f"mark-{uuid.uuid4().hex}"
    body = f"""
import os, subprocess, sys
if os.environ['RANK'] == '1': raise ValueError('the second one')
subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)', {marker!r}])
"""
    told = await ran(opened, folder, step(body, resources=Resources(cpus=4, workers=2)))
    assert told.error == "worker 1 of 2: ValueError: the second one"
    assert not marked(marker)


async def test_a_killed_driver_is_said_and_replaced(opened, folder):
    log = Log()
    body = "print('begun', flush=True)\nimport time\ntime.sleep(600)"
    running = asyncio.create_task(ran(opened, folder, where(1, body), log))
    await log.has("begun")
    os.kill(opened.executor.pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="process that speaks with Ray was ended by signal 9"):
        await running
    assert (await ran(opened, folder, where())).error == ""
