"""A plugin for pytest, loaded into MLflow's own tests: servers become hubs, outcomes are written down.

MLflow's tests put a server up in two ways: as a thread over stores that ``initialize_backend_stores`` was
given (``ServerThread``), and as a process (``_launch_server``). With CONFORMANCE_HUB, a path to
``tally``, both start ``tally up`` on the database that the test wants, with a home of its own. Without it
they are left as they are, which gives the list to compare with. The tests themselves stay MLflow's.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HUB = os.environ.get("CONFORMANCE_HUB", "")
UNGATED = Path(__file__).with_name("ungated.toml")
OUTCOMES = os.environ.get("CONFORMANCE_OUTCOMES", "")
SHARE, SHARES = (int(n) for n in os.environ.get("CONFORMANCE_SHARE", "0/1").split("/"))
THROUGH = ("tests/tracking/test_tracking.py",)
START_S = 60.0
PART_S = 90
"""A test whose setting up, call or tearing down takes longer is ended, and has failed."""

_wanted = {"database": "", "root": ""}
_seen: dict[str, tuple[str, str]] = {}


class Hub:
    """``tally up`` on a database, in place of MLflow's ``ServerThread``: same arguments, same use."""

    def __init__(self, app: object, port: int, artifact_store: str = "") -> None:
        """``app`` is MLflow's own application, which is not needed here."""
        self.artifact_store = artifact_store
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.database, self.root = _wanted["database"], _wanted["root"]

    def __enter__(self) -> str:
        self.home = Path(tempfile.mkdtemp(prefix="tally-conformance-"))
        command = [HUB, "up", "--home", str(self.home), "--port", str(self.port), "--database", self.database]
        command += ["--policy", str(UNGATED)]
        command += ["--artifact-store", self.artifact_store] if self.artifact_store else []
        roots = _roots(self.database, self.root)
        command += ["--artifact-roots", ",".join(roots)] if roots else []
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "CONFORMANCE_"))}
        self.log = (self.home / "hub.log").open("wb")
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, env=environment, start_new_session=True
        )
        began = time.monotonic()
        while not _answers(f"{self.url}/api/tally/status"):
            if self.process.poll() is not None or time.monotonic() - began > START_S:
                told = (self.home / "hub.log").read_text("utf-8", "replace")[-2000:]
                self.__exit__(None, None, None)
                raise RuntimeError(f"tally up did not answer: {told}")
            time.sleep(0.02)
        return self.url

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.home, ignore_errors=True)


def _folder(root: str) -> str:
    return root.removeprefix("file://") if root.startswith("file:") else ""


def _roots(database: str, root: str) -> list[str]:
    """Where a test's experiments keep artifacts: the hub shows only what it is told to, stock everything."""
    if not database.startswith("sqlite:///"):
        return [root] if root else []
    with contextlib.closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as record:
        found = record.execute("SELECT artifact_location FROM experiments").fetchall()
    folders = {
        where.removeprefix("file://") for (where,) in found if where and where.startswith(("/", "file:"))
    }
    return sorted({*folders, root} - {""})


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  reason: ours
        return bool(answer.status == 200)
    return False


@contextlib.contextmanager
def _launch_server(
    host: str, port: int, backend_store_uri: str, default_artifact_root: str, artifacts_destination: str
) -> Iterator[Any]:
    """In place of the one in MLflow's test_mlflow_artifacts.py."""
    _wanted.update(database=backend_store_uri, root="")
    with Hub(None, port, artifacts_destination) as hub:
        yield hub


def _kill_tree(pid: int) -> None:
    """In place of MLflow's own, which wants psutil."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    with contextlib.suppress(OSError):
        for child in children.read_text().split():
            _kill_tree(int(child))
        os.kill(pid, signal.SIGTERM)


def _quiet_fastapi() -> None:
    """Keep stock's server, which runs in the test's own process, from tracing its own requests.

    FastAPI does so by itself since it knows OpenTelemetry, with whatever exporter is set: here the test's,
    which sends to this very server, which traces that, and so on for ever.
    """
    with contextlib.suppress(ImportError):
        telemetry = importlib.import_module("fastapi.telemetry._asgi")
        for member in vars(telemetry).values():
            if isinstance(member, type) and "enabled" in vars(member):
                member.enabled = lambda _: False  # type: ignore[attr-defined]  # FastAPI's own class


def _through_a_server(use_tracking_uri: Any) -> Any:
    """For files in THROUGH: not straight to the database, which MLflow's tests do, but over a server."""

    @contextlib.contextmanager
    def use(uri: str) -> Iterator[None]:
        if not any(file in os.environ.get("PYTEST_CURRENT_TEST", "") for file in THROUGH):
            with use_tracking_uri(uri):
                yield
            return
        handlers = importlib.import_module("mlflow.server.handlers")
        servers = importlib.import_module("tests.tracking.integration_test_utils")
        handlers._tracking_store = handlers._model_registry_store = None
        handlers.initialize_backend_stores(uri, default_artifact_root="mlflow-artifacts:/")
        app = importlib.import_module("mlflow.server.fastapi_app").app
        helpers = importlib.import_module("tests.helper_functions")
        with servers.ServerThread(app, helpers.get_safe_port()) as url, use_tracking_uri(url):
            yield

    return use


def pytest_configure(config: pytest.Config) -> None:
    """Take the places of what starts servers, before the test modules take them from there."""
    helpers = importlib.import_module("tests.helper_functions")
    if importlib.util.find_spec("psutil") is None:
        helpers.kill_process_tree = _kill_tree
    tests = importlib.import_module("tests.conftest")
    tests._use_tracking_uri = _through_a_server(tests._use_tracking_uri)
    if not HUB:
        _quiet_fastapi()
        return
    servers = importlib.import_module("tests.tracking.integration_test_utils")
    handlers = importlib.import_module("mlflow.server.handlers")
    initialize = handlers.initialize_backend_stores

    def remember(uri: str, *given: Any, default_artifact_root: str = "", **more: Any) -> None:
        _wanted.update(database=uri, root=_folder(default_artifact_root))
        initialize(uri, *given, default_artifact_root=default_artifact_root, **more)

    handlers.initialize_backend_stores = remember
    servers.ServerThread = Hub


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep this process's share, and take the place of a module's own ``_launch_server``."""
    items[:] = [i for i in items if zlib.crc32(i.nodeid.encode()) % SHARES == SHARE]
    for module in {i.module for i in items if isinstance(i, pytest.Function)}:
        if HUB and hasattr(module, "_launch_server"):
            module._launch_server = _launch_server


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    def late(*_: object) -> None:
        pytest.fail(f"took more than {PART_S} s")  # no Exception: nobody on the way catches it and goes on

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PART_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    """Bound its time."""
    with _bounded():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Bound its time."""
    with _bounded():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Bound its time."""
    with _bounded():
        return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember the worst of a test's three parts, and why."""
    if report.outcome == "rerun":
        return
    outcome = "error" if report.failed and report.when != "call" else report.outcome
    worst = _seen.get(report.nodeid, ("passed", ""))
    if outcome != "passed" or report.nodeid not in _seen:
        why = "" if outcome == "passed" else _why(report)
        _seen[report.nodeid] = (outcome, why) if worst[0] == "passed" else worst


def _why(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else report.longrepr[-1] if isinstance(report.longrepr, tuple) else ""
    return (text or str(report.longrepr))[:1500]


def pytest_sessionfinish() -> None:
    """Write the outcomes where they were asked for."""
    if OUTCOMES:
        Path(OUTCOMES).write_text(json.dumps(_seen, indent=1, sort_keys=True) + "\n", "utf-8")
    sys.stdout.flush()
