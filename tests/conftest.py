"""What holds for every test, whoever runs them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.fakes.mlflow.schema import sqlite_schema, with_record

__all__ = ["sqlite_schema", "with_record"]  # fixtures

# What a script has put in the background inherits that Ctrl-C is ignored, and hands it on to what it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests run on every core already. Threads that numpy, scikit-learn or torch start beside them wait for each
# other and spin as they wait: fitting all of scikit-learn's estimators took 21 seconds of CPU, and not 3.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

LONG = (
    "journeys/test_demo", "journeys/test_gate", "differential/test_native", "wiring/test_bring",
    "replay/test_tracking_crash", "harden/test_journey", "tiles/executor/test_bad",
    "doors/test_console_browser", "corpus/test_corpus", "journeys/test_database", "journeys/test_tune",
    "tiles/ray/test_cluster", "tiles/tracking/test_tracking_faults", "tiles/catalogue/test_proof",
    "doors/mlflow/test_client", "doors/kubeflow/test_client", "tiles/test_registry_child",
    "journeys/test_reproduce", "client/test_process", "tiles/tracking_reads/test_apart",
    "tiles/tracking/test_tracking_crash", "client/test_real_hub", "journeys/test_resume",
    "journeys/test_up", "tiles/catalogue/test_worker", "tiles/ray/test_own", "tiles/runtime/test_gradients",
    "doors/console/test_live", "journeys/test_mlflow_ui", "journeys/test_bad_input",
    "tiles/executor/test_steps", "crew/test_judge", "wiring/test_database", "judging/test_judge_killed",
    "crew/judging/test_twinned", "doors/mlflow/artifacts/test_routes", "tiles/executor/test_workers",
    "tiles/executor/test_commands", "crew/pull/test_pull", "crew/pull/test_twin", "doors/mlflow/test_gate",
    "doors/mlflow/test_relay", "doors/mlflow/test_hostile_clients", "test_floors",
    "tiles/tracking/test_tracking", "doors/mlflow/test_steps", "crew/test_remote", "journeys/test_cli",
    "tiles/catalogue/test_rows", "client/test_metrics", "tiles/executor/test_executor",
    "crew/test_mlflow_places", "crew/test_judge_code", "journeys/test_kubeflow", "wiring/test_tuning",
    "doors/oip/test_door", "tiles/executor/test_zygote", "harden/test_steps", "corpus/test_honest",
    "judging/test_kinds", "judging/test_endpoint_live", "tiles/ray/test_at_once",
    "crew/judging/test_hostile_twin", "crew/judging/test_machine_twin", "harden/test_masks",
)  # fmt: skip
"""The files that take more than some ten seconds, the longest first. A name that is gone does no harm."""

TOGETHER = ("tests/differential/", "tests/doors/oip/", "tests/tiles/tracking_reads/")
"""Folders in which the tests of several files share servers that take seconds to start."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One more than there are cores: a quarter of the time, a test waits for what it has started."""
    said = "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ
    return None if said else len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker has a file's tests all, and all of a folder's in TOGETHER: what they share is started once."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByPlace(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return next((folder for folder in TOGETHER if file.startswith(folder)), file)

    return ByPlace(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files, the long ones come first: none is left alone at the end."""
    if hasattr(config, "workerinput"):
        here = Path(__file__).parent
        order = {here / f"{name}.py": place for place, name in enumerate(LONG)}
        items.sort(key=lambda item: order.get(item.path, len(LONG)))


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The hub's own loop: what it makes of pipes, sockets and being cancelled is not asyncio's."""
    return {"uvloop": uvloop.new_event_loop}
