"""Texts that are made as the run goes: f-strings of inputs and outputs, and facts of the run."""

from functools import partial
from typing import NamedTuple

from kfp import dsl

component = partial(dsl.component, base_image="python:3.11", install_kfp_package=False)


@component
def same(text: str) -> str:
    """As it came."""
    return text


@component
def number(value: int) -> int:
    """As it came."""
    return value


@component
def values(many: list, named: dict) -> str:
    """As JSON."""
    import json

    return json.dumps([many, named], sort_keys=True)


class Texts(NamedTuple):
    """Each made in another way."""

    plain: str
    mixed: str
    of_types: str
    within: str
    looped: list


@dsl.pipeline(name="made-texts")
def made_texts(word: str, count: int, share: float, flag: bool) -> Texts:
    """Inputs of the pipeline and outputs of steps within texts, lists and mappings."""
    first = same(text=f"<{word}>")
    second = same(text=f"{first.output}/{number(value=count).output}/{word}")
    types = same(text=f"{count} {share} {flag}")
    within = values(many=[word, f"{word}!"], named={"key": first.output})
    with dsl.ParallelFor(["a", "b"]) as item:
        looped = same(text=f"{word}-{item}")
    return Texts(first.output, second.output, types.output, within.output, dsl.Collected(looped.output))


@dsl.pipeline(name="plain-texts")
def plain_texts(word: str) -> str:
    """Texts alone."""
    first = same(text=f"<{word}>")
    return same(text=f"{word}/{first.output}/{word}!").output


@dsl.pipeline(name="facts-of-the-run")
def facts_of_the_run() -> str:
    """The pipeline's name is what its job is called by; the task's is its own."""
    return same(text=f"{dsl.PIPELINE_TASK_NAME_PLACEHOLDER}").output


CASES = [
    {
        "pipeline": "made_texts",
        "params": {"word": "w", "count": 3, "share": 0.5, "flag": True},
        "outputs": {
            "plain": "<w>",
            "mixed": "<w>/3/w",
            "of_types": "3 0.5 true",
            "within": '[["w", "w!"], {"key": "<w>"}]',
            "looped": ["w-a", "w-b"],
        },
        "local": "kfp.local writes whole numbers within texts as floats",
    },
    {"pipeline": "plain_texts", "params": {"word": "w"}, "outputs": {"Output": "w/<w>/w!"}},
    {"pipeline": "facts_of_the_run", "params": {}, "outputs": {"Output": "same"}},
]
