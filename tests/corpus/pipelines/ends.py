"""How things end: exit handlers with the final status, failures passed over, retries, time limits."""

from functools import partial

from kfp import dsl

component = partial(dsl.component, base_image="python:3.11", install_kfp_package=False)


@component
def say(text: str) -> str:
    """Say it."""
    print(f"said: {text}")
    return text


@component
def fail(text: str) -> str:
    """Fail, once that is said."""
    print(f"said: {text}")
    raise ValueError(text)


@component
def may_fail(fails: bool) -> str:
    """Fail where that is asked for."""
    if fails:
        raise ValueError("it was asked for")
    return "made"


@component
def report(status: dsl.PipelineTaskFinalStatus, text: str = "nothing"):
    """Say how it ended."""
    print(f"said: {status.pipeline_task_name} {status.state} {bool(status.error_message)} {text}")


@component
def try_it() -> str:
    """Fail always."""
    print("said: tried")
    raise ValueError("always")


@component
def wait(seconds: int) -> str:
    """Wait."""
    import time

    time.sleep(seconds)
    return "waited"


@dsl.pipeline(name="exit-handler")
def exit_handler(fails: bool):
    """The handler runs however it ended, and is told."""
    with dsl.ExitHandler(report(text="handled"), name="guarded"):
        made = may_fail(fails=fails)
        say(text=f"after {made.output}")


@dsl.pipeline(name="two-exit-handlers")
def two_exit_handlers():
    """One fails, the other does not; both handlers run."""
    with dsl.ExitHandler(report(text="one"), name="first"):
        fail(text="one")
    with dsl.ExitHandler(report(text="two"), name="second"):
        say(text="two")


@dsl.pipeline(name="ignored")
def ignored():
    """A failure upstream is passed over where that is said, and nowhere else."""
    failed = fail(text="failed")
    say(text="regardless").after(failed).ignore_upstream_failure()
    say(text="never").after(failed)


@dsl.pipeline(name="retried")
def retried():
    """Three tries; whoever fails in all of them has failed."""
    try_it().set_retry(num_retries=2, backoff_duration="0s")


@dsl.pipeline(name="too-long")
def too_long():
    """One second is what it may take."""
    wait(seconds=20)


PLATFORMS = {
    # What kfp-kubernetes' set_timeout(task, seconds=1) writes.
    "too_long": {
        "platforms": {
            "kubernetes": {"deploymentSpec": {"executors": {"exec-wait": {"activeDeadlineSeconds": "1"}}}}
        }
    },
}

CASES = [
    {
        "pipeline": "exit_handler",
        "params": {"fails": False},
        "said": ["after made", "exit-handler-1 SUCCEEDED False handled"],
    },
    {
        "pipeline": "exit_handler",
        "params": {"fails": True},
        "state": "failed",
        "said": ["exit-handler-1 FAILED True handled"],
    },
    {
        "pipeline": "two_exit_handlers",
        "params": {},
        "state": "failed",
        "said": ["exit-handler-1 FAILED True one", "exit-handler-2 SUCCEEDED False two", "one", "two"],
    },
    {"pipeline": "ignored", "params": {}, "state": "failed", "said": ["failed", "regardless"]},
    {"pipeline": "retried", "params": {}, "state": "failed", "said": ["tried", "tried", "tried"]},
    {
        "pipeline": "too_long",
        "params": {},
        "state": "failed",
        "local": "kfp.local passes over time limits: there the step waits its time and succeeds",
    },
]
