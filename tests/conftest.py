"""What holds for every test, whoever runs them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import uvloop

# What a script has put in the background inherits that Ctrl-C is ignored, and hands it on to what it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONG = (
    "journeys/test_demo", "journeys/test_gate", "harden/test_journey", "tiles/executor/test_bad",
    "wiring/test_bring", "doors/test_console_browser",
    "replay/test_tracking_crash", "corpus/test_corpus", "journeys/test_database", "journeys/test_tune",
    "tiles/catalogue/test_proof", "tiles/ray/test_cluster", "doors/kubeflow/test_client",
    "tiles/test_registry_child", "journeys/test_reproduce", "client/test_process", "journeys/test_resume",
    "journeys/test_up", "tiles/catalogue/test_worker", "doors/console/test_live",
    "differential/test_corners", "journeys/test_mlflow_ui", "tiles/executor/test_steps",
    "differential/test_native", "wiring/test_database", "doors/mlflow/artifacts/test_routes",
    "tiles/executor/test_workers", "tiles/executor/test_commands", "journeys/test_bad_input",
    "tiles/tracking_reads/test_apart", "client/test_metrics", "crew/test_mlflow_places",
    "crew/test_judge_code", "client/test_real_hub", "tiles/test_attack", "tiles/executor/test_executor",
    "journeys/test_kubeflow", "wiring/test_tuning", "doors/mlflow/test_client",
)  # fmt: skip
"""The files that take more than 15 seconds, the longest first. A name that is gone does no harm."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One more than there are cores: a quarter of the time, a test waits for what it has started."""
    said = "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ
    return None if said else len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files, the long ones come first: none is left alone at the end."""
    if hasattr(config, "workerinput"):
        here = Path(__file__).parent
        order = {here / f"{name}.py": place for place, name in enumerate(LONG)}
        items.sort(key=lambda item: order.get(item.path, len(LONG)))


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The hub's own loop: what it makes of pipes, sockets and being cancelled is not asyncio's."""
    return {"uvloop": uvloop.new_event_loop}
