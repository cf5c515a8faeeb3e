"""Other runners of steps, each at the setting that is usual for a laptop, with the same addition as a step.

None of them reads Kubeflow's pipelines: the works are written again in the words of each.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["PEERS"]

Way = Callable[[str, int], Any]
Works = Callable[[Way], None]


def prefect(folder: Path, works: Works) -> None:
    """Tasks of a flow, in its own process, with Prefect's temporary server beside it."""
    os.environ.update(
        PREFECT_HOME=str(folder / "prefect"),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_LOGGING_LEVEL="ERROR",
        DO_NOT_TRACK="1",
    )
    from prefect import flow, task

    @task
    def add(n: int) -> int:
        return n + 1

    @flow
    def chain(count: int) -> int:
        n = 0
        for _ in range(count):
            n = add(n)
        return n

    @flow
    def fan(count: int) -> list[int]:
        return [one.result() for one in [add.submit(n) for n in range(count)]]

    def way(kind: str, count: int) -> None:
        (fan if kind == "fan" else chain)(count)

    works(way)


def dagster(folder: Path, works: Works) -> None:
    """Ops of a job, all in one process: its multiprocess executor takes a second or more a step."""
    home = folder / "dagster"
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    os.environ.update(DAGSTER_HOME=str(home), DAGSTER_DISABLE_TELEMETRY="1")
    import logging

    from dagster import DagsterInstance, job, op

    logging.getLogger("dagster").setLevel(logging.ERROR)

    @op
    def first() -> int:
        return 0

    @op
    def add(n: int) -> int:
        return n + 1

    def made(kind: str, count: int) -> Any:
        @job(name=f"{kind}_{count}", config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}})
        def work() -> None:
            n = first()
            for number in range(count - 1):
                last = add.alias(f"add_{number}")(n)
                n = n if kind == "fan" else last

        return work

    jobs: dict[tuple[str, int], Any] = {}
    instance = DagsterInstance.get()

    def way(kind: str, count: int) -> None:
        work = jobs.setdefault((kind, count), None) or made(kind, count)
        jobs[kind, count] = work
        if not work.execute_in_process(instance=instance).success:
            raise RuntimeError("dagster's job did not succeed")

    works(way)


def ray(folder: Path, works: Works) -> None:
    """Raw tasks: warm worker processes, no record, nothing durable."""
    (folder / "ray").mkdir(parents=True, exist_ok=True)
    os.environ.update(RAY_TMPDIR=str(folder), RAY_USAGE_STATS_ENABLED="0")
    import ray as library

    library.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    @library.remote
    def add(n: int) -> int:
        return n + 1

    def way(kind: str, count: int) -> None:
        if kind == "fan":
            library.get([add.remote(n) for n in range(count)])
            return
        n = add.remote(0)
        for _ in range(count - 1):
            n = add.remote(n)
        library.get(n)

    try:
        works(way)
    finally:
        library.shutdown()


def metaflow(folder: Path, works: Works) -> None:
    """A flow of so many steps, each a process of its own, its data in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("METAFLOW_")}
    environment = {
        **clean,
        "METAFLOW_USER": "bench",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(folder),
        "USERNAME": "bench",
    }

    def way(kind: str, count: int) -> None:
        file = folder / f"{kind}{count}.py"
        file.write_text(_fan_flow(count) if kind == "fan" else _chain_flow(count))
        command = [
            sys.executable,
            "-W",
            "ignore",
            str(file),
            "--quiet",
            "run",
            "--max-workers",
            str(os.cpu_count()),
        ]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-300:])

    works(way)


_HEAD = "from metaflow import FlowSpec, step\n\n\nclass Work(FlowSpec):\n"
_TAIL = "\n\nif __name__ == '__main__':\n    Work()\n"


def _step(name: str, body: str) -> str:
    return f"    @step\n    def {name}(self{', inputs' if name == 'join' else ''}):\n        {body}\n\n"


def _chain_flow(count: int) -> str:
    """``start`` and ``end`` are steps as well, of the ``count``."""
    count = max(2, count)
    names = ["start", *(f"s{n}" for n in range(count - 2)), "end"]
    steps = [_step("start", f"self.n = 1; self.next(self.{names[1]})")]
    steps += [
        _step(name, f"self.n += 1; self.next(self.{names[place + 2]})")
        for place, name in enumerate(names[1:-1])
    ]
    return _HEAD + "".join(steps) + _step("end", "self.n += 1") + _TAIL


def _fan_flow(count: int) -> str:
    steps = _step("start", f"self.all = list(range({count})); self.next(self.add, foreach='all')")
    steps += _step("add", "self.n = self.input + 1; self.next(self.join)")
    steps += _step("join", "self.sum = sum(i.n for i in inputs); self.next(self.end)")
    return _HEAD + steps + _step("end", "pass") + _TAIL


PEERS: dict[str, Callable[[Path, Works], None]] = {
    "prefect": prefect,
    "dagster": dagster,
    "metaflow": metaflow,
    "ray": ray,
}
