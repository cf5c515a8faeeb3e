"""What runs once for each item: lists, fields of items, artifacts, loops in loops, and what they collect."""

from functools import partial
from typing import List, NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

component = partial(dsl.component, base_image="python:3.11", install_kfp_package=False)


@component
def double(number: int) -> int:
    """Twice as much."""
    return 2 * number


@component
def label(name: str, size: str, flag: str = "no") -> str:
    """Fields of one item."""
    return f"{name}-{size}-{flag}"


@component
def numbers(most: int) -> list:
    """A list that only the run knows."""
    return list(range(most))


@component
def records() -> list:
    """A list of mappings that only the run knows."""
    return [{"word": "x", "size": 1}, {"word": "y", "size": 2}]


@component
def total(numbers: list) -> int:
    """All of them together."""
    return sum(numbers)


@component
def join(words: list) -> str:
    """All of them, in their order."""
    return ",".join(words)


@component
def write(text: str, data: Output[Dataset]):
    """Make a file."""
    with open(data.path, "w") as file:
        file.write(text)


@component
def read(data: Input[Dataset]) -> str:
    """Read a file."""
    with open(data.path) as file:
        return file.read()


@component
def read_all(data: Input[List[Dataset]]) -> str:
    """Read files, in their order."""
    words = []
    for one in data:
        with open(one.path) as file:
            words.append(file.read())
    return " ".join(words)


@component
def say(text: str, more: str = "", only: str = ""):
    """Say it."""
    print(f"said: {only}{text}{more}")


@dsl.pipeline(name="over-a-list")
def over_a_list(words: List[str]) -> str:
    """Over a parameter, with a step after all turns."""
    with dsl.ParallelFor(words, parallelism=2) as word:
        made = label(name=word, size="1")
    return join(words=dsl.Collected(made.output)).output


@dsl.pipeline(name="over-what-a-step-gave")
def over_what_a_step_gave(most: int = 4) -> int:
    """Two steps in each turn, one after the other."""
    with dsl.ParallelFor(numbers(most=most).output) as number:
        twice = double(number=number)
        again = double(number=twice.output)
    return total(numbers=dsl.Collected(again.output)).output


@dsl.pipeline(name="over-fields")
def over_fields() -> str:
    """Over mappings that stand in the file."""
    with dsl.ParallelFor(
        [{"word": "a", "size": 1, "flag": True}, {"word": "b", "size": 2, "flag": False}]
    ) as item:
        made = label(name=item.word, size=item.size, flag=item.flag)
    return join(words=dsl.Collected(made.output)).output


@dsl.pipeline(name="over-fields-of-a-step")
def over_fields_of_a_step() -> str:
    """Over mappings that a step gave."""
    with dsl.ParallelFor(records().output) as item:
        made = label(name=item.word, size=item.size)
    return join(words=dsl.Collected(made.output)).output


@dsl.pipeline(name="loops-in-loops")
def loops_in_loops(outer: List[str]):
    """Each pair once; a condition inside. (A text of both items is more than the SDK can compile.)"""
    with dsl.ParallelFor(outer) as first:
        with dsl.ParallelFor(["1", "2"]) as second:
            say(text=first, more=second)
            with dsl.If(second == "2"):
                say(text=first, more=second, only="only ")


@dsl.pipeline(name="over-an-item")
def over_an_item():
    """The items are lists themselves."""
    with dsl.ParallelFor([{"inner": ["a", "b"]}, {"inner": ["c"]}]) as item:
        with dsl.ParallelFor(item.inner) as word:
            say(text=word)


@dsl.pipeline(name="none-at-all")
def none_at_all() -> int:
    """No item, no turn; what is collected is an empty list."""
    with dsl.ParallelFor(numbers(most=0).output) as number:
        twice = double(number=number)
    return total(numbers=dsl.Collected(twice.output)).output


@dsl.pipeline(name="several")
def several(words: list) -> List[Dataset]:
    """A file for each word."""
    with dsl.ParallelFor(words) as word:
        made = write(text=word)
    return dsl.Collected(made.outputs["data"])


class Files(NamedTuple):
    """All files, what stands in them, and each read by a step of its own."""

    files: List[Dataset]
    together: str
    words: str


@dsl.pipeline(name="over-artifacts")
def over_artifacts() -> Files:
    """A pipeline as a step gives a list of files, and a loop goes over it."""
    files = several(words=["x", "y", "z"])
    with dsl.ParallelFor(files.output, parallelism=1) as file:
        one = read(data=file)
    return Files(
        files.output, read_all(data=files.output).output, join(words=dsl.Collected(one.output)).output
    )


CASES = [
    {
        "pipeline": "over_a_list",
        "params": {"words": ["c", "a", "b"]},
        "outputs": {"Output": "c-1-no,a-1-no,b-1-no"},
    },
    {
        "pipeline": "over_what_a_step_gave",
        "params": {},
        "outputs": {"Output": 24},
        "local": "kfp.local makes floats of whole numbers within lists and mappings",
    },
    {
        # A field of an item is a STRING to the compiler, and what is no text then comes as its JSON.
        "pipeline": "over_fields",
        "params": {},
        "outputs": {"Output": "a-1-true,b-2-false"},
        "local": "kfp.local makes floats of whole numbers within lists and mappings",
    },
    {
        "pipeline": "over_fields_of_a_step",
        "params": {},
        "outputs": {"Output": "x-1-no,y-2-no"},
        "local": "kfp.local makes floats of whole numbers within lists and mappings",
    },
    {
        "pipeline": "loops_in_loops",
        "params": {"outer": ["a", "b"]},
        "said": ["a1", "a2", "b1", "b2", "only a2", "only b2"],
        "local": "kfp.local does not find the outer item within the inner loop",
    },
    {
        "pipeline": "over_an_item",
        "params": {},
        "said": ["a", "b", "c"],
        "local": "kfp.local does not find the outer item within the inner loop",
    },
    {
        "pipeline": "none_at_all",
        "params": {},
        "outputs": {"Output": 0},
        "local": "kfp.local finds no outputs of a loop without a turn; in Kubeflow they are empty lists",
    },
    {
        "pipeline": "over_artifacts",
        "params": {},
        "outputs": {
            "files": [
                {"text": "x", "metadata": {}},
                {"text": "y", "metadata": {}},
                {"text": "z", "metadata": {}},
            ],
            "together": "x y z",
            "words": "x,y,z",
        },
    },
]
