"""Which branch runs: If, Elif and Else with each comparison, one inside another, and OneOf after them."""

from functools import partial
from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

component = partial(dsl.component, base_image="python:3.11", install_kfp_package=False)


@component
def say(text: str) -> str:
    """Say it, so that the log shows which branch ran."""
    print(f"said: {text}")
    return text


@component
def count(words: list) -> int:
    """A number that only the run knows."""
    return len(words)


@component
def write(text: str, data: Output[Dataset]):
    """Make a file."""
    with open(data.path, "w") as file:
        file.write(text)
    data.metadata["text"] = text


@component
def read(data: Input[Artifact]) -> str:
    """Read a file."""
    with open(data.path) as file:
        return file.read()


@dsl.pipeline(name="one-of-words")
def one_of_words(word: str, number: int) -> str:
    """One word, whichever branch said it, and a step that takes it."""
    with dsl.If(word == "a"):
        first = say(text="first")
    with dsl.Elif(number > 2):
        second = say(text="second")
    with dsl.Else():
        third = say(text="third")
    return say(text=dsl.OneOf(first.output, second.output, third.output)).output


class Chosen(NamedTuple):
    """One word and one file, whichever branch made them."""

    word: str
    data: Dataset
    read: str


@dsl.pipeline(name="one-of")
def one_of(word: str, number: int) -> Chosen:
    """Three branches; each makes a word and a file."""
    with dsl.If(word == "a"):
        first, first_data = say(text="first"), write(text="first file")
    with dsl.Elif(number > 2):
        second, second_data = say(text="second"), write(text="second file")
    with dsl.Else():
        third, third_data = say(text="third"), write(text="third file")
    data = dsl.OneOf(first_data.outputs["data"], second_data.outputs["data"], third_data.outputs["data"])
    return Chosen(dsl.OneOf(first.output, second.output, third.output), data, read(data=data).output)


@dsl.pipeline(name="comparisons")
def comparisons(number: int, share: float, word: str, flag: bool):
    """Each comparison with each type that has one."""
    with dsl.If(number == 3):
        say(text="number == 3")
    with dsl.If(number != 3):
        say(text="number != 3")
    with dsl.If(number < 4):
        say(text="number < 4")
    with dsl.If(number >= 3):
        say(text="number >= 3")
    with dsl.If(share > 0.5):
        say(text="share > 0.5")
    with dsl.If(share <= 0.25):
        say(text="share <= 0.25")
    with dsl.If(word < "b"):
        say(text="word < b")
    with dsl.If(word == ""):
        say(text="word is empty")
    with dsl.If(flag == True):  # noqa: E712  reason: it makes a condition of it
        say(text="flag")


@dsl.pipeline(name="nested-branches")
def nested_branches(words: list, word: str):
    """A condition on what a step gave, another inside, and a step after both."""
    many = count(words=words)
    with dsl.If(many.output > 1):
        said = say(text="many")
        with dsl.If(word == "a"):
            say(text="a").after(said)
        with dsl.Else():
            say(text="not a")
    with dsl.Else():
        say(text="few")


CASES = [
    {
        "pipeline": "one_of_words",
        "params": {"word": "a", "number": 9},
        "outputs": {"Output": "first"},
        "said": ["first", "first"],
    },
    {
        "pipeline": "one_of_words",
        "params": {"word": "b", "number": 3},
        "outputs": {"Output": "second"},
        "said": ["second", "second"],
    },
    {
        "pipeline": "one_of_words",
        "params": {"word": "b", "number": 2},
        "outputs": {"Output": "third"},
        "said": ["third", "third"],
    },
    {
        "pipeline": "one_of",
        "params": {"word": "a", "number": 9},
        "said": ["first"],
        "outputs": {
            "word": "first",
            "data": {"text": "first file", "metadata": {"text": "first file"}},
            "read": "first file",
        },
        "local": "kfp.local cannot choose among artifacts",
    },
    {
        "pipeline": "one_of",
        "params": {"word": "b", "number": 3},
        "said": ["second"],
        "outputs": {
            "word": "second",
            "data": {"text": "second file", "metadata": {"text": "second file"}},
            "read": "second file",
        },
        "local": "kfp.local cannot choose among artifacts",
    },
    {
        "pipeline": "one_of",
        "params": {"word": "b", "number": 2},
        "said": ["third"],
        "outputs": {
            "word": "third",
            "data": {"text": "third file", "metadata": {"text": "third file"}},
            "read": "third file",
        },
        "local": "kfp.local cannot choose among artifacts",
    },
    {
        "pipeline": "comparisons",
        "params": {"number": 3, "share": 0.75, "word": "a", "flag": True},
        "said": ["flag", "number < 4", "number == 3", "number >= 3", "share > 0.5", "word < b"],
    },
    {
        "pipeline": "comparisons",
        "params": {"number": 5, "share": 0.25, "word": "", "flag": False},
        "said": ["number != 3", "number >= 3", "share <= 0.25", "word < b", "word is empty"],
    },
    {"pipeline": "nested_branches", "params": {"words": ["x", "y"], "word": "a"}, "said": ["a", "many"]},
    {"pipeline": "nested_branches", "params": {"words": ["x", "y"], "word": "c"}, "said": ["many", "not a"]},
    {"pipeline": "nested_branches", "params": {"words": ["x"], "word": "a"}, "said": ["few"]},
]
