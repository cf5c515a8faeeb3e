#!/usr/bin/env python3
"""One way to run steps, as a process of its own: reads a work a line, runs it, says how long it took.

``python ways.py WAY FOLDER``. A work is ``one``, ``chain N``, ``fan N`` or ``heavy N``, for a hub also
``wide N``, ``loop N`` or ``again N``; the answer is ``{"seconds": ...}``, and more where a way knows more.
Each step is the same KFP component (with peers: the same addition); its parameter goes in, and its output is
read back.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

HEAD = "\nimport kfp\nfrom kfp import dsl\nfrom kfp.dsl import *\nfrom typing import *\n\n"
ADD = HEAD + "def add(n: int) -> int:\n    return n + 1\n"
HEAVY = HEAD + "def add(n: int) -> int:\n    import pandas, sklearn.linear_model\n    return n + 1\n"
HEAVY_MODULES = (
    *("numpy", "pandas", "sklearn.ensemble", "sklearn.linear_model", "sklearn.metrics"),
    *("sklearn.model_selection", "sklearn.pipeline", "sklearn.preprocessing", "sklearn.datasets"),
)
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

Way = Callable[[str, int], Any]
"""Carries out a work; where it knows better how long that took, or more than that, it says so."""


def tallystick(sandbox_name: str, folder: Path, works: Callable[[Way], None]) -> None:
    """Our executor alone, on a sandbox: no ledger, no artifacts."""
    from importlib import import_module

    from tallystick.core.pipeline.spec import Component, Function, Param, ParamType
    from tallystick.ports.executor import Job
    from tallystick.ports.tile import Place
    from tallystick.tiles.bases import local as bases
    from tallystick.tiles.executor import local

    scratch = folder / "scratch"
    scratch.mkdir()
    sandbox = import_module(f"tallystick.tiles.sandbox.{sandbox_name}").open_tile(Place(folder))
    parts = {"sandbox": sandbox, "bases": bases.open_tile(Place(folder))}
    executor = local.open_tile(Place(folder, parts=parts))
    number = ParamType.INTEGER
    made = {
        kind: Component(
            "add",
            Function("add", source),
            params=(Param("n", number),),
            out_params=(Param("Output", number),),
        )
        for kind, source in (("add", ADD), ("heavy", HEAVY))
    }

    async def step(kind: str, name: str, n: int) -> int:
        done = await executor.run(Job(f"bench/{name}", made[kind], scratch / name, {"n": n}), lambda _: None)
        if done.error or done.params["Output"] != n + 1:
            raise RuntimeError(f"{done}")
        return n + 1

    async def run(kind: str, count: int) -> None:
        if kind == "fan":
            await asyncio.gather(*(step("add", f"{time.monotonic_ns()}-{n}", n) for n in range(count)))
            return
        n = 0
        while n < count:
            n = await step("heavy" if kind == "heavy" else "add", f"{time.monotonic_ns()}", n)

    with asyncio.Runner() as runner:

        def way(kind: str, count: int) -> None:
            runner.run(run(kind, count))

        works(way)
        runner.run(sandbox.close())


def component(source: str, folder: str, n: int) -> None:
    """The component in this very process, by KFP's own executor, as our steps and kfp.local's run it."""
    from kfp.dsl.executor import Executor

    space: dict[str, Any] = {"__name__": "ephemeral_component"}
    sys.modules["ephemeral_component"] = type(sys)("ephemeral_component")
    exec(compile(source, "component.py", "exec", dont_inherit=True), space)  # noqa: S102  reason: our own
    said = {
        "inputs": {"parameterValues": {"n": n}, "artifacts": {}},
        "outputs": {
            "parameters": {"Output": {"outputFile": f"{folder}/Output"}},
            "artifacts": {},
            "outputFile": f"{folder}/output.json",
        },
    }
    Executor(executor_input=said, function_to_execute=space["add"]).execute()


def value(folder: str) -> int:
    """The output parameter, read back."""
    return int(json.loads(Path(folder, "output.json").read_bytes())["parameterValues"]["Output"])


def bare_fork(
    folder: Path,
    works: Callable[[Way], None],
    begins: Callable[[], None] = lambda: None,
    ends: Callable[[], None] = lambda: None,
) -> None:
    """os.fork for each step, and no more: no wall, no limits, no log, nobody who looks after it.

    ``begins`` is called in each step's process, ``ends`` after its end, before another may follow from it.
    """
    import importlib

    importlib.import_module("kfp.dsl.executor")
    made = iter(range(1 << 40))

    def begin(source: str, n: int) -> tuple[int, str]:
        own = f"{folder}/{next(made)}"
        Path(own).mkdir()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                begins()
                component(source, own, n)
                status = 0
            finally:
                os._exit(status)
        return pid, own

    def end(pid: int, own: str) -> int:
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError(own)
        ends()
        return value(own)

    def way(kind: str, count: int) -> None:
        source = HEAVY if kind == "heavy" else ADD
        if kind == "heavy":
            for module in HEAVY_MODULES:
                importlib.import_module(module)
        if kind == "fan":
            for one in [begin(source, n) for n in range(count)]:
                end(*one)
            return
        n = 0
        while n < count:
            n = end(*begin(source, n))

    works(way)


def least(folder: Path, works: Callable[[Way], None]) -> None:
    """A bare fork with the least that our promises take: namespaces of its own for each step, and a commit.

    Two rows are on disk after each step before another begins. Nobody sees to what a step leaves behind, and
    there is no namespace of processes, no mount of its own, no limit, no log, no record, no server.
    """
    import sqlite3

    from tallystick.crew.steps.kernel import Space, unshare

    journal = sqlite3.connect(folder / "journal.db", isolation_level=None)
    for line in ("journal_mode = WAL", "synchronous = FULL"):
        journal.execute(f"PRAGMA {line}")
    journal.execute("CREATE TABLE journal (seq INTEGER PRIMARY KEY, event TEXT NOT NULL) STRICT")

    def apart() -> None:
        unshare(Space.USERS | Space.MOUNTS | Space.NETWORK | Space.IPC | Space.NAMES)

    def kept() -> None:
        journal.execute("BEGIN IMMEDIATE")
        journal.executemany("INSERT INTO journal (event) VALUES (?)", [("x" * 400,), ("x" * 400,)])
        journal.execute("COMMIT")

    bare_fork(folder, works, apart, kept)


def in_pool(source: str, own: str, n: int) -> int:
    """A step in a worker of the pool."""
    Path(own).mkdir()
    component(source, own, n)
    return value(own)


def process_pool(folder: Path, works: Callable[[Way], None]) -> None:
    """A warm pool of one process a core: steps share its processes, and all that earlier steps left there."""
    made = iter(range(1 << 40))
    with ProcessPoolExecutor(os.cpu_count()) as pool:

        def way(kind: str, count: int) -> None:
            source = HEAVY if kind == "heavy" else ADD
            if kind == "fan":
                asked = [pool.submit(in_pool, source, f"{folder}/{next(made)}", n) for n in range(count)]
                for one in asked:
                    one.result()
                return
            n = 0
            while n < count:
                n = pool.submit(in_pool, source, f"{folder}/{next(made)}", n).result()

        works(way)


def serve(way: Way) -> None:
    """Works from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a step's own words are no answer
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        kind, _, count = line.strip().partition(" ")
        began = time.perf_counter()
        said = way("chain" if kind == "one" else kind, int(count or 1)) or {}
        answer = {"seconds": time.perf_counter() - began, **said}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Run the way that was asked for."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    os.environ.update(ONE_THREAD)
    os.environ["_KFP_RUNTIME"] = "false" if name.startswith("kfp.local") else "true"
    folder.mkdir(parents=True)
    try:
        if name in ("bubblewrap", "process"):
            tallystick(name, folder, serve)
        elif name.startswith("hub-"):
            from hub import hub

            hub(name.removeprefix("hub-"), folder, ADD, HEAVY, serve)
        elif name.startswith("kfp.local"):
            from kfp_local import kfp_local

            kfp_local(folder, serve, usual=name == "kfp.local-usual")
        else:
            from peers import PEERS

            {"fork": bare_fork, "least": least, "pool": process_pool, **PEERS}[name](folder, serve)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
