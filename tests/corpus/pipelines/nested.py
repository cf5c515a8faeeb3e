"""Pipelines as steps of pipelines: their inputs, defaults and outputs, in loops and branches, and twice."""

from functools import partial
from typing import NamedTuple, Optional

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

component = partial(dsl.component, base_image="python:3.11", install_kfp_package=False)


@component
def add(a: int, b: int = 1) -> int:
    """Their sum."""
    return a + b


@component
def sum_of(sums: list) -> int:
    """Their sum."""
    return sum(sums)


@component
def say(text: str = "of the component"):
    """Say it."""
    print(f"said: {text}")


@component
def write(number: int, data: Output[Dataset]):
    """Make a file."""
    with open(data.path, "w") as file:
        file.write(str(number))


@component
def read(data: Input[Dataset]) -> str:
    """Read a file."""
    with open(data.path) as file:
        return file.read()


class Sums(NamedTuple):
    """A number, and a file that holds it."""

    total: int
    data: Dataset


@dsl.pipeline(name="inner")
def inner(a: int, b: int = 10, note: Optional[str] = None) -> Sums:
    """Two steps with an input, a default and an optional input."""
    total = add(a=a, b=b)
    say(text=note)
    return Sums(total.output, write(number=total.output).outputs["data"])


@dsl.pipeline(name="middle")
def middle(a: int) -> Sums:
    """A pipeline with a pipeline in it."""
    first = inner(a=a, note="from the middle")
    return Sums(**inner(a=first.outputs["total"], b=100).outputs)


class Three(NamedTuple):
    """From three levels."""

    total: int
    data: Dataset
    read: str


@dsl.pipeline(name="three-levels")
def three_levels(a: int = 5) -> Three:
    """Outputs come up through two levels, and go down again."""
    made = middle(a=a)
    again = middle(a=made.outputs["total"]).set_display_name("once more")
    return Three(again.outputs["total"], made.outputs["data"], read(data=made.outputs["data"]).output)


@dsl.pipeline(name="inner-with-all")
def inner_with_all(a: int, note: str = "by default") -> Sums:
    """As inner, and nothing may be absent."""
    total = add(a=a, b=2)
    say(text=note)
    return Sums(total.output, write(number=total.output).outputs["data"])


@dsl.pipeline(name="two-levels")
def two_levels(a: int = 5) -> Three:
    """Outputs come up, and go down again."""
    made = inner_with_all(a=a)
    again = inner_with_all(a=made.outputs["total"], note="given")
    return Three(again.outputs["total"], made.outputs["data"], read(data=again.outputs["data"]).output)


@dsl.pipeline(name="in-loops-and-branches")
def in_loops_and_branches(numbers: list) -> int:
    """A pipeline in each turn of a loop, and one in a branch."""
    with dsl.ParallelFor(numbers) as number:
        one = inner(a=number, note="looped")
        with dsl.If(one.outputs["total"] > 12):
            inner(a=0, b=0, note="large")
    last = add(a=sum_of(sums=dsl.Collected(one.outputs["total"])).output)
    return last.output


@dsl.pipeline(name="the-same-in-parallel")
def the_same_in_parallel():
    """One component many times, with an order that no value gives."""
    first = say(text="first")
    second = say(text="second").after(first)
    say(text="third").after(first, second)
    say()


CASES = [
    {
        "pipeline": "two_levels",
        "params": {},
        "outputs": {"total": 9, "data": {"text": "7", "metadata": {}}, "read": "9"},
        "said": ["by default", "given"],
    },
    {
        "pipeline": "three_levels",
        "params": {},
        "outputs": {"total": 225, "data": {"text": "115", "metadata": {}}, "read": "115"},
        "said": ["from the middle", "from the middle", "of the component", "of the component"],
        "local": "kfp.local cannot leave out an optional input of a pipeline within a pipeline",
    },
    {
        "pipeline": "in_loops_and_branches",
        "params": {"numbers": [1, 2, 3]},
        "outputs": {"Output": 37},
        "said": ["large", "looped", "looped", "looped"],
        "local": "kfp.local makes floats of whole numbers within lists and mappings",
    },
    {
        "pipeline": "the_same_in_parallel",
        "params": {},
        "said": ["first", "of the component", "second", "third"],
    },
]
