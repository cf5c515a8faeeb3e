"""Small pipelines about what runs when, and with what. compile.py writes the YAML."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

IMAGE = "python:3.11"


@dsl.component(base_image=IMAGE)
def say(text: str = "a") -> str:
    """Say it again."""
    return text


@dsl.component(base_image=IMAGE)
def make(data: Output[Dataset], text: str = ""):
    """Make an artifact."""
    data.metadata["text"] = text


@dsl.component(base_image=IMAGE)
def read(data: Input[Artifact]) -> str:
    """Read an artifact."""
    return data.uri


@dsl.component(base_image=IMAGE)
def report(status: dsl.PipelineTaskFinalStatus, text: str = ""):
    """Say how it ended."""
    _ = (status.state, text)


@dsl.component(base_image=IMAGE)
def keep(many: list, named: dict):
    """Take values with texts in them."""
    _ = (many, named)


class Chosen(NamedTuple):
    word: str
    data: Dataset


@dsl.pipeline(name="conditions")
def conditions(word: str = "a", number: int = 3) -> Chosen:
    with dsl.If(word == "a"):
        first, first_data = say(text="first"), make(text="first")
    with dsl.Elif(number > 2):
        second, second_data = say(text="second"), make(text="second")
    with dsl.Else():
        third, third_data = say(text="third"), make(text="third")
    return Chosen(
        word=dsl.OneOf(first.output, second.output, third.output),
        data=dsl.OneOf(first_data.outputs["data"], second_data.outputs["data"], third_data.outputs["data"]),
    )


@dsl.pipeline(name="exit-handler")
def exit_handler(word: str = "a"):
    with dsl.ExitHandler(report(text=word), name="guarded"):
        say(text=word)


@dsl.pipeline(name="ignore-upstream")
def ignore_upstream():
    say(text=say().output).ignore_upstream_failure()


@dsl.pipeline(name="texts")
def texts(word: str = "a", number: int = 3):
    said = say(text=f"{word} and {number}")
    say(text=f"{dsl.PIPELINE_JOB_NAME_PLACEHOLDER}: {said.output}")
    say(text=dsl.PIPELINE_TASK_ID_PLACEHOLDER)
    keep(many=[1, f"{word}!", {"at": dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER}], named={"k": said.output})
    with dsl.ParallelFor([dsl.PIPELINE_JOB_ID_PLACEHOLDER, "b"]) as item:
        say(text=f"<{item}>")


@dsl.pipeline(name="several-graph")
def several() -> list[Dataset]:
    with dsl.ParallelFor(["a", "b"]) as text:
        made = make(text=text)
    return dsl.Collected(made.outputs["data"])


@dsl.pipeline(name="artifact-loop")
def artifact_loop():
    with dsl.ParallelFor(several().output, parallelism=3) as data:
        read(data=data)


PIPELINES = (conditions, exit_handler, ignore_upstream, texts, artifact_loop)
