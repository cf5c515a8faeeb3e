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


@component
def amount(text: str) -> str:
    """What a step is to have."""
    return text


@component
def room(mib: int) -> bool:
    """Whether there is so much memory for it."""
    try:
        return len(bytearray(mib << 20)) > 0
    except MemoryError:
        return False


class Rooms(NamedTuple):
    """Which of two had room."""

    little: bool
    much: bool


@dsl.pipeline(name="told-limits")
def told_limits(little: str, much: str) -> Rooms:
    """One limit is a parameter, the other is what a step says."""
    return Rooms(
        room(mib=600).set_memory_limit(little).output,
        room(mib=600).set_memory_limit(amount(text=much).output).output,
    )


@dsl.pipeline(name="gpus")
def gpus(count: str = "1") -> str:
    """It asks for what a laptop has not, in both ways."""
    environment(name="NOTHING_OF_THE_KIND").set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(
        count
    )
    task = environment(name="NOTHING_OF_THE_KIND")
    return task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1).output


@dsl.pipeline(name="told-gpus")
def told_gpus(count: str = "1"):
    """It asks for as many as a parameter says."""
    environment(name="NOTHING_OF_THE_KIND").set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(
        count
    )


class Told(NamedTuple):
    """What a step read of its own pod."""

    label: str
    note: str
    absent: str


@dsl.pipeline(name="pod-facts")
def pod_facts() -> Told:
    """The label and the annotation that the step's author gave it, and one that nobody did."""
    return Told(
        environment(name="LABEL").output, environment(name="NOTE").output, environment(name="ABSENT").output
    )


def pod():
    """What kfp-kubernetes writes for a step that reads of its pod."""
    return {
        "podMetadata": {"labels": {"team": "red"}, "annotations": {"example.com/note": "two words"}},
        "fieldPathAsEnv": [
            {"name": "LABEL", "fieldPath": "metadata.labels['team']"},
            {"name": "NOTE", "fieldPath": "metadata.annotations['example.com/note']"},
            {"name": "ABSENT", "fieldPath": "metadata.labels['nobody-gave-it']"},
        ],
    }


PLATFORMS = {
    "pod_facts": {
        "platforms": {
            "kubernetes": {
                "deploymentSpec": {"executors": {f"exec-environment{n}": pod() for n in ("", "-2", "-3")}}
            }
        }
    }
}

CASES = [
    {"pipeline": "variables", "params": {}, "outputs": {"set": "a b=c", "unset": "none"}},
    {"pipeline": "limits", "params": {}, "outputs": {"Output": "none"}},
    {
        "pipeline": "told_limits",
        "params": {"little": "512Mi", "much": "2Gi"},
        "outputs": {"little": False, "much": True},
        "local": "kfp.local passes over limits",
    },
    {"pipeline": "gpus", "params": {}, "state": "refused", "local": "kfp.local passes over GPUs"},
    {"pipeline": "gpus", "params": {}, "no_gpus": True, "outputs": {"Output": "none"}},
    {
        "pipeline": "told_gpus",
        "params": {"count": "2"},
        "state": "refused",
        "local": "kfp.local passes over GPUs",
    },
    {"pipeline": "told_gpus", "params": {"count": "0"}},
    {
        "pipeline": "pod_facts",
        "params": {},
        "outputs": {"label": "red", "note": "two words", "absent": ""},
        "local": "kfp.local passes over what a pod would be told",
    },
    {"pipeline": "not_cached", "params": {}, "outputs": {"Output": False}},
    {
        "pipeline": "cached",
        "params": {},
        "cache": True,
        "outputs": {"Output": True},
        "local": "kfp.local has no cache unless one is asked for",
    },
]
