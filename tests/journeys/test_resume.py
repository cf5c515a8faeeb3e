"""A hub is killed in the middle of a run, and the next one on its home takes the run up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.journeys.conftest import RunningHub, start_hub, wait_until

pytestmark = pytest.mark.journey

PIPELINE = str(Path(__file__).parent / "pipelines" / "slow.yaml")
FIRST, SECOND = "exit-handler-1/first", "exit-handler-1/second"
NEVER, OTHER = (f"exit-handler-1/condition-branches-2/condition-{n}" for n in (3, 4))


def seen(hub: RunningHub, key: str) -> dict[str, Any]:
    """What `tally show run` prints; a process for each look would take more than the run itself."""
    return dict(hub.get(f"/api/tally/nouns/run/{key}").json())


def steps_of(hub: RunningHub, key: str) -> dict[str, Any]:
    return {step["path"]: step for step in seen(hub, key)["steps"]}


def running(hub: RunningHub) -> str:
    """A run whose second step is running."""
    key = str(hub.json("run", PIPELINE, "--no-wait")["key"])
    assert wait_until(lambda: steps_of(hub, key).get(SECOND, {}).get("state") == "running")
    return key


def ended(hub: RunningHub, key: str) -> dict[str, Any]:
    def over() -> bool:
        return seen(hub, key)["state"] in ("succeeded", "failed", "cancelled")

    assert wait_until(over)
    return dict(hub.json("show", "run", key))


@pytest.mark.slow
@pytest.mark.parametrize("cancelled", [False, True])
def test_a_run_outlives_its_hub(hub: RunningHub, cancelled: bool) -> None:
    key = running(hub)
    before = steps_of(hub, key)
    hub.kill()
    again = start_hub(hub.home)
    try:
        if cancelled:
            # At once: a command takes longer to start, on a busy machine, than there is left to cancel.
            httpx.post(f"{again.url}/api/tally/runs/{key}/cancel", timeout=60).raise_for_status()
        run = ended(again, key)
        steps = {step["path"]: step for step in run["steps"]}
        assert run["state"] == ("cancelled" if cancelled else "succeeded")
        assert steps[FIRST] == before[FIRST], "it is not run again"
        assert steps[NEVER]["state"] == "skipped"
        assert steps["clean"]["state"] == "succeeded"
        said = again.tally("logs", key, "clean").stdout
        assert said.strip() == f"cleaned after {'CANCELLED' if cancelled else 'SUCCEEDED'}"
        if not cancelled:
            assert (steps[SECOND]["outputs"]["params"], steps[SECOND]["attempt"]) == ({"Output": 8}, 1)
            assert steps[f"{OTHER}/first-3"]["state"] in ("succeeded", "cached")
        facts = again.get(f"/api/tally/log?noun=run&key={key}").json()
        assert "resumed" in [fact["event"] for fact in facts]
        assert len(facts) <= 5, "no fact for each step"
    finally:
        again.end()


def test_a_hub_that_is_stopped_leaves_the_run_to_the_next(hub: RunningHub) -> None:
    key = running(hub)
    status, said = hub.end()
    assert status == 0, said
    assert "Traceback" not in said
    again = start_hub(hub.home)
    try:
        assert ended(again, key)["state"] == "succeeded"
    finally:
        again.end()
