"""What a step is told and given: environment variables, limits, the cache, names for eyes."""

from functools import partial
from typing import NamedTuple

from kfp import dsl

component = partial(dsl.component, base_image="python:3.11", install_kfp_package=False)


@component
def environment(name: str) -> str:
    """A variable of the step's environment."""
    import os

    return os.environ.get(name, "none")


@component
def random() -> str:
    """Another each time."""
    import uuid

    return uuid.uuid4().hex


@component
def same(a: str, b: str) -> bool:
    """Whether they are."""
    return a == b


class Seen(NamedTuple):
    """What two steps saw."""

    set: str
    unset: str


@dsl.pipeline(name="variables", display_name="Variables", description="What a step is told.")
def variables() -> Seen:
    """One has the variable, the other has not."""
    with_it = (
        environment(name="CORPUS_WORD").set_env_variable("CORPUS_WORD", "a b=c").set_display_name("With it")
    )
    return Seen(with_it.output, environment(name="CORPUS_WORD").output)


@dsl.pipeline(name="limits")
def limits() -> str:
    """Amounts that a laptop has."""
    task = environment(name="NOTHING_OF_THE_KIND")
    task.set_cpu_request("100m").set_cpu_limit("1").set_memory_request("64Mi").set_memory_limit("1Gi")
    return task.output


@dsl.pipeline(name="not-cached")
def not_cached() -> bool:
    """Two equal steps of which neither may come from the cache."""
    first = random().set_caching_options(False)
    second = random().set_caching_options(False).after(first)
    return same(a=first.output, b=second.output).output


@dsl.pipeline(name="cached")
def cached() -> bool:
    """Two equal steps, one after the other: the second has what the first gave."""
    first = random()
    second = random().after(first)
    return same(a=first.output, b=second.output).output


CASES = [
    {"pipeline": "variables", "params": {}, "outputs": {"set": "a b=c", "unset": "none"}},
    {"pipeline": "limits", "params": {}, "outputs": {"Output": "none"}},
    {"pipeline": "not_cached", "params": {}, "outputs": {"Output": False}},
    {
        "pipeline": "cached",
        "params": {},
        "cache": True,
        "outputs": {"Output": True},
        "local": "kfp.local has no cache unless one is asked for",
    },
]
