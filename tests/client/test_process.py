"""What becomes of points when a process ends, forks or starts others, and when the hub is killed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.client.keeper import COLUMNS, Keeper

Program = Callable[..., "subprocess.Popen[str]"]
PATIENCE_S = 120
CALM = {"TALLY_CLIENT_FLUSH_MS": "3600000"}
A, B, C = "a" * 32, "b" * 32, "c" * 32


def ended(process: subprocess.Popen[str], status: int = 0) -> str:
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == status, said
    return said


def steps(keeper: Keeper, run: str) -> list[int]:
    return [step for *_, step in keeper.points(run)]


def test_the_end_of_the_process_flushes(keeper: Keeper, program: Program) -> None:
    source = f"""
import mlflow
client = mlflow.MlflowClient()
for step in range(1000): client.log_metric("{A}", "m", 1.0, step=step)
"""
    ended(program(source, **CALM))
    assert steps(keeper, A) == list(range(1000))


def test_an_active_run_is_ended_with_all_it_logged(keeper: Keeper, program: Program) -> None:
    source = """
import mlflow
mlflow.start_run()
for step in range(10): mlflow.log_metric("m", 1.0, step=step, synchronous=step % 2 == 0)
raise SystemExit(3)
"""
    ended(program(source, **CALM), status=3)
    (run,) = keeper.runs.values()
    assert run["points_at_end"] == 10


def test_what_cannot_be_sent_at_the_end_is_said(keeper: Keeper, program: Program) -> None:
    keeper.refused[A] = (404, "RESOURCE_DOES_NOT_EXIST")
    source = f"""
import mlflow
mlflow.MlflowClient().log_metric("{A}", "m", 1.0)
mlflow.MlflowClient().log_metric("{B}", "m", 1.0)
"""
    said = ended(program(source, **CALM))
    assert re.search(rf"1 metric point\(s\) of run {A} were refused", said)
    assert steps(keeper, B) == [0]


def test_a_child_by_fork_begins_with_nothing_and_logs_for_itself(keeper: Keeper, program: Program) -> None:
    source = f"""
import mlflow, os, sys, tallystick.client
client = mlflow.MlflowClient()
for step in range(500): client.log_metric("{A}", "m", 1.0, step=step)
child = os.fork()
if child == 0:
    for step in range(300): client.log_metric("{B}", "m", 1.0, step=step)
    tallystick.client.flush()
    for step in range(300, 400): client.log_metric("{B}", "m", 1.0, step=step)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
for step in range(500, 600): client.log_metric("{A}", "m", 1.0, step=step)
"""
    ended(program(source, PYTHONWARNINGS="ignore", **CALM))
    assert steps(keeper, B) == list(range(400))
    assert steps(keeper, A) == list(range(600))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_workers_flush_at_their_end(keeper: Keeper, program: Program, tmp_path: Path, way: str) -> None:
    file = tmp_path / "work.py"
    file.write_text(f"""
import multiprocessing, sys, mlflow
def work(run):
    for step in range(200): mlflow.MlflowClient().log_metric(run, "m", 1.0, step=step)
if __name__ == "__main__":
    for step in range(100): mlflow.MlflowClient().log_metric("{A}", "m", 1.0, step=step)
    context = multiprocessing.get_context("{way}")
    children = [context.Process(target=work, args=(run,)) for run in ("{B}", "{C}")]
    for child in children: child.start()
    for child in children: child.join()
    sys.exit(sum(child.exitcode for child in children))
""")
    ended(program(file, PYTHONWARNINGS="ignore", **CALM))
    assert steps(keeper, A) == list(range(100))
    assert steps(keeper, B) == list(range(200))
    assert steps(keeper, C) == list(range(200))


@pytest.mark.slow
def test_ctrl_c_ends_a_wait_for_a_hub_that_is_away(program: Program) -> None:
    source = f"""
import mlflow, tallystick.client
mlflow.MlflowClient().log_metric("{A}", "m", 1.0)
try:
    print("flushing", flush=True)
    tallystick.client.flush()
except KeyboardInterrupt:
    print("ending", flush=True)
"""
    process = program(source, "tally://127.0.0.1:9")
    assert process.stdout is not None
    assert process.stdout.readline() == "flushing\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "ending\n"
    assert "wait for the hub; Ctrl-C ends without them" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert "1 metric point(s) were not sent" in ended(process)


def test_a_hub_that_is_away_at_the_end_is_said(program: Program) -> None:
    source = f"""
import mlflow
mlflow.MlflowClient().log_metric("{A}", "m", 1.0)
"""
    said = ended(program(source, "tally://127.0.0.1:9", TALLY_CLIENT_RETRY_S="0"))
    assert "the hub does not take metrics" in said
    assert "1 point(s) wait in this process" in said


@pytest.fixture
def hubs(tmp_path: Path) -> Iterator[Callable[[int], tuple[subprocess.Popen[str], int]]]:
    """Keepers in processes of their own, all on one file."""
    started = []

    def start(port: int) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("keeper.py"), str(port), tmp_path / "kept"],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def test_a_hub_killed_again_and_again_has_each_point_once(
    hubs: Callable[[int], tuple[subprocess.Popen[str], int]], program: Program, tmp_path: Path
) -> None:
    hub, port = hubs(0)
    source = f"""
import mlflow, sys, tallystick.client
client = mlflow.MlflowClient()
for part in range(5):
    for step in range(part * 2000, part * 2000 + 2000): client.log_metric("{A}", "m", 1.0, step=step)
    print(part, flush=True)
    sys.stdin.readline()
tallystick.client.flush()
print("flushed", flush=True)
sys.stdin.readline()
"""
    process = program(
        source, f"tally://127.0.0.1:{port}", TALLY_CLIENT_FLUSH_MS="1", TALLY_CLIENT_BUFFER_POINTS="500"
    )
    assert process.stdout is not None
    assert process.stdin is not None
    for _ in range(5):
        assert process.stdout.readline().strip().isdigit()
        process.stdin.write("on\n")
        process.stdin.flush()
        hub.kill()
        hub.communicate(timeout=PATIENCE_S)
        hub, _ = hubs(port)
    assert process.stdout.readline() == "flushed\n"
    # Killed: what flush returned from is on the disk, and needs nobody any more.
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    kept = Keeper(tmp_path / "kept")
    assert sorted(steps(kept, A)) == list(range(10_000))
    assert steps(kept, A) == sorted(steps(kept, A))


def test_a_process_that_is_killed_keeps_what_it_flushed(keeper: Keeper, program: Program) -> None:
    source = f"""
import mlflow, os, signal, tallystick.client
client = mlflow.MlflowClient()
for step in range(100): client.log_metric("{A}", "m", 1.0, step=step)
tallystick.client.flush()
client.log_metric("{A}", "m", 1.0, step=100)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended(program(source, **CALM), status=-signal.SIGKILL)
    assert steps(keeper, A) == list(range(100))
    assert len(keeper.calls(COLUMNS)) == 1


def test_importing_mlflow_starts_nothing(program: Program, keeper: Keeper) -> None:
    source = """
import sys, threading, mlflow
assert "tallystick.client.store" in sys.modules
ours = {name.split(".")[1] for name in sys.modules if name.startswith("tallystick.")}
assert ours == {"client"}, ours
assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
mlflow.MlflowClient()
assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
"""
    ended(program(source))
    assert keeper.asked == []


@pytest.mark.parametrize(
    "first",
    ["tallystick.client", "tallystick.client.buffer", "tallystick.client.store", "tallystick.client.beside"],
)
def test_ours_may_be_imported_first(program: Program, keeper: Keeper, first: str) -> None:
    source = f"""
import {first}
tallystick.client.flush()
import mlflow
mlflow.MlflowClient().log_metric("{A}", "m", 1.0)
tallystick.client.flush()
"""
    ended(program(source, PYTHONWARNINGS="error:Failure:UserWarning"))
    assert steps(keeper, A) == [0]
