"""Serve the house: all doors behind one guard on one port."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from tallystick import __version__
from tallystick.core.errors import BadInput, Conflict, Refused, TallyError, Unavailable
from tallystick.core.pipeline.spec import Pipeline
from tallystick.doors.api import artifacts, compare, environments, schedules, studies
from tallystick.doors.api.app import api_routes
from tallystick.doors.console import View, console_missing, console_routes
from tallystick.doors.kfp.reader import read_pipeline
from tallystick.doors.kubeflow.app import kubeflow_routes
from tallystick.doors.oip.app import oip_routes
from tallystick.doors.oip.lines import Lines
from tallystick.hub.house import House
from tallystick.judging.judge import expired_now
from tallystick.routines.sides import compare_runs
from tallystick.settings import Settings
from tallystick.wiring.database.opened import Database, open_database
from tallystick.wiring.database.upgrade import Talk
from tallystick.wiring.guard import Guard
from tallystick.wiring.hands import VerbHands, pipeline_of
from tallystick.wiring.home import Home, open_home
from tallystick.wiring.house import Built, build
from tallystick.wiring.mlflow import say_outside
from tallystick.wiring.protocol import BoundedHttp
from tallystick.wiring.stepdoor import step_doors
from tallystick.wiring.tuning import TrialHands

__all__ = ["serve"]

MIB = 2**20
GRACE_S = 5
CONNECTIONS_MAX = 2000
SEND_BYTES = 256 * 1024
"""What the system holds of an answer that is on its way, doubled by itself; its own limit is 4 MiB."""
GARBAGE_OBJECTS = 20_000
"""Made and not yet gone before Python looks for cycles; at its own 700 it would search every long answer."""
_OTHER_FILES = 512
"""Open files that are no connections from outside: databases, artifacts, lines to processes."""


def serve(settings: Settings, talk: Talk) -> None:
    """Run a hub until SIGINT or SIGTERM; ``talk`` is told, in plain words, what a person should know."""
    os.umask(0o077)
    _check_loopback(settings.host)
    home = open_home(Path(settings.home))
    try:
        listener = _listen(settings.host, settings.port)
        with listener, contextlib.closing(open_database(settings, home.path, talk)) as database:
            say_outside(settings, home.path, database, talk.said)
            uvloop.run(_serve(settings, home, database, listener, talk.said))
    finally:
        home.close()


def _check_loopback(host: str) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise BadInput(f"{host!r} is not an address", where="host", hint="use 127.0.0.1") from None
    if not loopback:
        raise Refused(
            f"listening on {host} without authentication is refused: whoever reaches it could run code",
            where="host",
            hint="until authentication comes, listen on 127.0.0.1 and reach it through an SSH tunnel",
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP, as asyncio switches Nagle off for such alone: an answer in two parts would take 40 ms longer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Each connection has it from here: thousands of slow readers must fit.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
    try:
        listener.bind((host, port))
    except OSError as wrong:
        listener.close()
        if wrong.errno == errno.EADDRINUSE:
            raise Conflict(
                f"port {port} is in use by another program",
                where=f"{host}:{port}",
                hint=f"tally up --port {port + 1}",
            ) from wrong
        raise Unavailable(f"cannot listen: {wrong.strerror}", where=f"{host}:{port}") from wrong
    return listener


@dataclass
class _Doors:
    front: ASGIApp
    lines: Lines


def _doors(settings: Settings, built: Built, home: Path, port: int, url: str) -> _Doors:
    house = built.house

    async def pipelines(spec_digest: str) -> Pipeline | None:
        try:
            return (await pipeline_of(house, spec_digest))[0]
        except TallyError:
            return None

    strength = str(house.sandbox.strength())
    facts: dict[str, Any] = {
        "version": __version__,
        "url": url,
        "home": str(home),
        "pid": os.getpid(),
        "sandbox": strength,
        "executors": partial(_manners, house),
        "policy": house.policy.name,
        "policy_digest": house.policy.digest,
        "label": settings.label,
        "upload_bytes_max": settings.upload_mib_max * MIB,
        **built.mlflow.facts(home),
    }
    view = View(
        house.ledger,
        house.journal,
        house.traffic,
        house.artifacts,
        house.clock,
        strength,
        pipelines,
        compare=partial(compare_runs, house, built.pipeline),
        following=built.calendar.following,
        expired=partial(expired_now, house),
    )
    seals = built.mlflow.seals(house)
    if built.mlflow.child:  # only MLflow's own tile has a server for MLflow's door
        house.step_door = step_doors(built.mlflow.child, home / "run", built.mlflow.lane, seals)
    lines = Lines()
    routes = [
        *_tallys(settings, built, facts),
        *kubeflow_routes(house, read_pipeline, built.calendar),
        *oip_routes(
            house.routes, house.traffic, house.clock, body_bytes_max=settings.infer_mib_max * MIB, lines=lines
        ),
        *console_routes(view),
        *built.mlflow.routes(house, seals),
    ]
    names = {
        "127.0.0.1",
        "localhost",
        "[::1]",
        f"[{settings.host}]" if ":" in settings.host else settings.host,
    }
    app = Starlette(routes=routes, exception_handlers={404: console_missing(view)})
    front = built.mlflow.front(app)
    return _Doors(Guard(front, [f"{n}:{port}" for n in names]), lines)


async def _manners(house: House) -> dict[str, str]:
    """How each executor has its steps done, as that is now; first the one of runs that name none."""
    own = {name: each for name, each in house.executors.items() if each is house.executor}
    return {name: each.manner for name, each in {**own, **house.executors}.items()}


def _tallys(settings: Settings, built: Built, facts: dict[str, Any]) -> list[BaseRoute]:
    """The routes of tallystick's own API."""
    house, read = built.house, read_pipeline
    return [
        *api_routes(house, VerbHands(house, settings.label), read, facts),
        *artifacts.routes(house, int(facts["upload_bytes_max"])),
        *compare.routes(house, read),
        *environments.routes(built.environments),
        *schedules.routes(house, read, built.calendar),
        *studies.routes(house, TrialHands(house, built.mlflow.tracking), read),
    ]


def _connections_max() -> int:
    """How many connections there may be: as many as can be held while as many again are being let in.

    The system's limit of open files is raised for that as far as this process may.
    """
    wanted = 2 * CONNECTIONS_MAX + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    files = wanted if soft == resource.RLIM_INFINITY else soft
    return max(16, min(CONNECTIONS_MAX, (files - _OTHER_FILES) // 2))


class _Server(uvicorn.Server):
    """A server that leaves the signals to us, as more than it must end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: ASGIApp, **where: Any) -> _Server:
    connections = _connections_max()
    config = uvicorn.Config(
        app,
        http=BoundedHttp,
        ws="none",
        limit_concurrency=connections,
        backlog=connections,
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        **where,
    )
    return _Server(config)


async def _serve(
    settings: Settings,
    home: Home,
    database: Database,
    listener: socket.socket,
    said: Callable[[str], None],
) -> None:
    port = int(listener.getsockname()[1])
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{port}"
    built = build(settings, home.path, database)
    doors = _doors(settings, built, home.path, port, url)
    server = _server(doors.front)
    _on_signals(server)
    gc.freeze()  # what is here by now stays: it is looked through no more
    gc.set_threshold(GARBAGE_OBJECTS, 10, 10)
    try:
        await built.begin()
        home.announce(url)
        _greet(settings, built, url, home.path, said)
        await server.serve(sockets=[listener])
        said("ending: waiting for what runs to stop")
    finally:
        doors.lines.close()
        await built.close()


def _on_signals(server: _Server) -> None:
    def end() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)


def _greet(settings: Settings, built: Built, url: str, home: Path, said: Callable[[str], None]) -> None:
    said(f"tallystick {__version__} answers at {url}")
    said(f"  state      {home}")
    said(f"  sandbox    {built.house.sandbox.strength()}")
    said(f"  MLflow     {url}/mlflow/")
    said(f"  its record {built.mlflow.database.address}")
    said(f"  clients    mlflow.set_tracking_uri({url!r})")
    said(f"  or, faster mlflow.set_tracking_uri({url.replace('http', 'tally', 1)!r})")
    said("Ctrl-C ends it.")
    if settings.sandbox == "auto" and "bubblewrap" not in built.sandboxes:
        said(
            "warning: bubblewrap does not work here, so steps and models are confined less"
            " (apt-get install bubblewrap)"
        )
