"""Runs steps on the machines of a Ray cluster; Ray chooses each step's machine by what the step asks for.

On its machine a step is run by the executor of one machine, which this tile also stands on here: it says what
can be run at all. What speaks with Ray is a process of its own, the driver.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput, MissingTile, NotSupported, Unavailable
from tallystick.core.facts import from_json, to_json
from tallystick.core.pipeline.spec import Component, Resources
from tallystick.core.values import Environment
from tallystick.core.wall import Wall
from tallystick.ports.executor import Executor, Job, Outcome, OutputFile
from tallystick.ports.sandbox import Sandbox
from tallystick.ports.tile import Place
from tallystick.tiles.ray.driver import Driver
from tallystick.tiles.ray.fit import Ask, Node, check_fits

__all__ = ["RayExecutor", "open_tile"]

READY_S_MAX = 180.0
"""How long it may take to start or join a cluster: 5 to 15 s on a quiet machine."""
FOLDER_BYTES_MAX = 38
"""Of Ray's folder: it adds names of 67 bytes, and a unix socket's path has 107."""
OPTIONS: Mapping[str, int | float | str | bool] = {
    "ray_address": "",
    "ray_cpus": 0,
    "ray_step_cpus": 1.0,
    "ray_tries": 3,
    "ray_cache_mib": 4096,
    "ray_object_store_mib": 256,
    "ray_same_files": True,
    "ray_steps_at_once": 256,
}
"""The options with their defaults.

``ray_address`` is ``auto`` or ``host:port`` of a cluster that this machine is a node of; without one a
cluster of this machine alone is started, with ``ray_cpus`` CPUs (0: all of them). A step that names no CPUs
takes ``ray_step_cpus`` of a node. A step whose node is lost is run on ``ray_tries`` nodes at most.
``ray_cache_mib`` bounds the inputs that a node keeps; ``ray_same_files`` False copies files even to a node
that sees this machine's own. ``ray_steps_at_once`` are handed to the cluster at once, whether they run there
or wait for their place: each has a folder and a door of the hub's.
"""
_MIB_WITHOUT_LIMIT = 1 << 40
_PROCESSES = 1 << 20


class RayExecutor:
    """Steps on a Ray cluster. ``here`` is the executor of one machine, ``sandbox`` the wall of a driver."""

    def __init__(self, place: Place, options: Mapping[str, Any]) -> None:
        self._place = place
        self._options = options
        self._here: Executor = place.parts["executor"]
        self._sandbox: Sandbox = place.parts["process_sandbox"]
        self._wall = place.parts["sandbox"].strength()
        self._folder: Path | None = None
        self._driver: Driver | None = None
        self._starting: asyncio.Task[Driver] | None = None
        self._closed = False

    @property
    def manner(self) -> str:
        """See the port."""
        where = self._options["ray_address"] or "of this machine alone"
        nodes = self._driver.nodes if self._driver and not self._driver.ended else ()
        many = f", {len(nodes)} node{'s' * (len(nodes) != 1)}" if nodes else ", which is not connected yet"
        return f"each step on a node of the Ray cluster {where}{many}, in the sandbox {self._wall.name} there"

    @property
    def steps_at_once(self) -> int:
        """See the port: Ray places each by what it asks for, whatever this machine has."""
        return int(self._options["ray_steps_at_once"])

    @property
    def pid(self) -> int:
        """The driver's process, 0 when there is none."""
        return self._driver.pid if self._driver and not self._driver.ended else 0

    def check(self, component: Component, *, commands: bool = False) -> None:
        """NotSupported, with what it asks for and the largest node, when no node could ever hold it.

        Of a cluster that is not known yet, nothing is said: :meth:`environment` and :meth:`run` will.
        """
        self._here.check(replace(component, resources=Resources()), commands=commands)
        ask = self._ask(component)
        if ask.gpus and self._wall.hides_files:
            raise NotSupported(
                f"it asks for {ask}, and the sandbox {self._wall.name} shows no GPU to a step",
                where=component.name,
                hint="where the code is your own, set sandbox = process",
            )
        if (nodes := self._nodes()) is not None:
            check_fits(ask, nodes, component.name)
        else:
            with contextlib.suppress(RuntimeError):  # without a loop there is no hub to get ready for
                asyncio.get_running_loop()
                self._start()

    async def environment(self, component: Component) -> Environment:
        """What the step would run on: this machine's, or on a cluster that was joined, its node's own."""
        ask = self._ask(component)
        if not self._options["ray_address"]:
            return await self._here.environment(replace(component, resources=Resources()))
        driver = await self._ready()
        check_fits(ask, driver.nodes, component.name)
        answer = await driver.ask({"environment": to_json(component), "wants": to_json(ask)})
        return from_json(Environment, answer["environment"])

    async def run(self, job: Job, on_log: Callable[[str], None]) -> Outcome:
        """Run a step on the node that Ray chooses; Unavailable when the driver ends meanwhile.

        NotSupported for a step that shares a folder with others: they may be on other machines.
        """
        if job.shared:
            what = "the workspace that its steps share is on one machine, and Ray has several"
            raise NotSupported(what, where=job.key, hint="run it without --on ray")
        ask = self._ask(job.component)
        driver = await self._ready()
        check_fits(ask, driver.nodes, job.component.name)
        path = str(await job.door.path()) if job.door else ""
        said = {**to_json(replace(job, door=None, kept=None)), "hub_socket": path}
        question = {"job": said, "wants": to_json(ask), "words": str(ask)}
        if job.kept:
            await job.kept.wait()
        said = (await driver.ask(question, on_log))["outcome"]
        files = {
            name: OutputFile(Path(file["path"]), file["schema"], file["metadata"])
            for name, file in said["artifacts"].items()
        }
        return Outcome(said["params"], files, said["error"])

    async def close(self) -> None:
        """End the driver, with every step and a cluster of our own, and leave no folder; twice is fine."""
        self._closed = True
        if self._starting:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        if self._driver:
            await self._driver.close()
        await self._sweep()

    # -------------------------------------------------------------------------------- what is known

    def _ask(self, component: Component) -> Ask:
        return Ask.of(component, float(self._options["ray_step_cpus"]))

    def _nodes(self) -> Sequence[Node] | None:
        if self._driver and not self._driver.ended:
            return self._driver.nodes
        return None if self._options["ray_address"] else [self._this_machine()]

    def _this_machine(self) -> Node:
        """What a cluster of this machine alone will have; Ray keeps some of the memory for itself."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        cards = sum(1 for file in Path("/dev").glob("nvidia*") if file.name[6:].isdigit())
        return Node("this machine", self._cpus(), memory, cards)

    def _cpus(self) -> int:
        return int(self._options["ray_cpus"]) or len(os.sched_getaffinity(0))

    # ----------------------------------------------------------------------------------- the driver

    async def _ready(self) -> Driver:
        if self._closed:
            raise Unavailable("the hub is closing", where="executor/ray")
        if self._driver and not self._driver.ended:
            return self._driver
        return await asyncio.shield(self._start())

    def _start(self) -> asyncio.Task[Driver]:
        if self._starting is None:
            self._starting = asyncio.create_task(self._started())
            self._starting.add_done_callback(self._settled)
        return self._starting

    def _settled(self, task: asyncio.Task[Driver]) -> None:
        self._starting = None
        if not task.cancelled() and task.exception() is None:
            self._driver = task.result()

    async def _started(self) -> Driver:
        await self._sweep()
        folder = self._folder = await asyncio.to_thread(_make_folder, self._place.home)
        driver = Driver(await self._sandbox.spawn(_COMMAND, self._driver_wall(folder)))
        try:
            async with asyncio.timeout(READY_S_MAX):
                await driver.begin(self._order(folder))
        except BaseException as wrong:
            await driver.close()
            await self._sweep()
            if isinstance(wrong, TimeoutError):
                raise Unavailable(f"no cluster after {READY_S_MAX:g} s", where="executor/ray") from wrong
            raise
        return driver

    def _order(self, folder: Path) -> dict[str, Any]:
        roots = self._place.options.get("step_folders") or (
            self._place.home / "scratch",
            self._place.home / "run",
        )
        return {
            **self._options,
            "folder": str(folder),
            "home": str(self._place.home),
            "roots": [str(Path(root).resolve()) for root in roots],
            "sandbox": self._wall.name,
            "ray_cpus": self._cpus(),
            "options": {**_for_nodes(self._place.options), "step_folders": []},
        }

    def _driver_wall(self, folder: Path) -> Wall:
        joins = bool(self._options["ray_address"])
        passed_on = {name: value for name, value in os.environ.items() if name.startswith("RAY_") and joins}
        env = {
            **passed_on,
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONUNBUFFERED": "1",
        }
        token = Path.home() / ".ray" / "auth_token"  # where `ray start` has put it: HOME is another folder
        if joins and token.is_file() and not passed_on.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
            env["RAY_AUTH_TOKEN_PATH"] = str(token)
        if not joins:  # on loopback alone, and for nobody else on this machine
            env |= {
                "TMPDIR": str(folder),
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": secrets.token_hex(32),
            }
        return Wall(
            workdir=str(folder),
            writable=(str(folder),),
            env=env,
            cpu_seconds=0,
            memory_mib=_MIB_WITHOUT_LIMIT,
            file_mib=_MIB_WITHOUT_LIMIT,
            open_files=65536,
            processes=_PROCESSES,
            network=True,
        )

    async def _sweep(self) -> None:
        """Remove what a driver that is gone has left."""
        for folder in {_folder_of(self._place.home), self._folder} - {None}:
            await asyncio.to_thread(_remove, folder)


_COMMAND = [sys.executable, "-P", "-m", "tallystick.crew.ray.driver"]


def _folder_of(home: Path) -> Path:
    """In the home where its path is short enough, or else in the folder for temporary files."""
    own = home.absolute() / "run" / "ray"
    if len(os.fsencode(own)) <= FOLDER_BYTES_MAX:
        return own
    name = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"tally-{name}"


def _make_folder(home: Path) -> Path:
    """An empty folder of this user's alone; Unavailable where somebody else has one of that name."""
    folder = _folder_of(home)
    if len(os.fsencode(folder)) > FOLDER_BYTES_MAX:
        raise BadInput(
            f"Ray's folder may have a path of {FOLDER_BYTES_MAX} bytes",
            where=str(folder),
            hint="choose a home with a shorter path",
        )
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    except OSError as wrong:
        raise Unavailable(f"Ray's folder cannot be made: {wrong.strerror}", where=str(folder)) from wrong
    return folder


def _remove(folder: Path | None) -> None:
    """Remove a folder that is this user's; links and others' are let be."""
    if folder is None:
        return
    with contextlib.suppress(OSError):
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)


def _for_nodes(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that concern steps: the others, a database's password among them, stay here."""
    return {name: value for name, value in options.items() if name.startswith(("step_", "package_"))}


def open_tile(place: Place) -> RayExecutor:
    """The executor; ``OPTIONS`` says which options there are.

    It stands on ``place.parts`` of three names: ``executor``, that of this machine, ``sandbox``, which steps
    are to be behind on every node, and ``process_sandbox``, for the driver.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingTile(
            "it needs the Python package ray",
            where="executor/ray",
            hint="pip install 'tallystick[ray]'",
        )
    for part in ("executor", "sandbox", "process_sandbox"):
        if part not in place.parts:
            raise Unavailable(f"it stands on the part {part!r}, and got none", where="executor/ray")
    options = {name: place.options.get(name, default) for name, default in OPTIONS.items()}
    for name, value in options.items():
        _check_option(name, value)
    return RayExecutor(place, options)


def _check_option(name: str, value: Any) -> None:
    default = OPTIONS[name]
    if isinstance(default, str | bool):
        if not isinstance(value, type(default)):
            raise BadInput(f"{value!r} is not a {type(default).__name__}", where=f"option {name}")
    elif isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise BadInput(f"{value!r} is not a number of at least 0", where=f"option {name}")
    if name == "ray_steps_at_once" and (value < 1 or value != int(value)):
        raise BadInput(f"{value!r} is not a whole number of at least 1", where=f"option {name}")
    if name == "ray_address" and "://" in str(value):
        raise BadInput(
            f"{value!r} is an address for Ray's client",
            where=f"option {name}",
            hint="make this machine a node of the cluster (ray start --address=HEAD:6379 --num-cpus=0)"
            " and say 'auto'",
        )
