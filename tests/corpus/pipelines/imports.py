"""Importers: data that is there already, with metadata that the run makes."""

from functools import partial
from typing import NamedTuple, Optional

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

component = partial(dsl.component, base_image="python:3.11", install_kfp_package=False)


@component
def read(data: Input[Dataset]) -> str:
    """Whether it is there, and what is said of it."""
    import os

    return f"{os.path.getsize(data.path) > 0} {data.metadata.get('of')} {data.metadata.get('by')}"


@component
def table(name: str) -> str:
    """Where it is, as only the run knows."""
    return "tally://tables/" + name


class Read(NamedTuple):
    """What was imported, in three ways."""

    given: str
    made: str
    text: str


@dsl.pipeline(name="imported")
def imported(uri: str, name: str, who: str = "me") -> Read:
    """One by a parameter, one by what a step says, one by a text that is put together as the run goes."""
    given = dsl.importer(artifact_uri=uri, artifact_class=Dataset, metadata={"of": "given", "by": who})
    made = dsl.importer(artifact_uri=table(name=name).output, artifact_class=Dataset, metadata={"of": "made"})
    text = dsl.importer(artifact_uri=f"tally://tables/{name}", artifact_class=Dataset)
    return Read(read(data=given.output).output, read(data=made.output).output, read(data=text.output).output)


@component
def write(text: str, data: Output[Dataset]):
    """A file with this text."""
    data.metadata["of"] = "made"
    with open(data.path, "w", encoding="utf-8") as file:
        file.write(text)


@component
def where(data: Input[Dataset]) -> str:
    """Where it is."""
    return data.uri


@component
def text_of(data: Input[Dataset]) -> str:
    """What is in it, and what is said of it."""
    with open(data.path, encoding="utf-8") as file:
        return f"{file.read()} {data.metadata.get('of')} {data.metadata.get('by')}"


@dsl.pipeline(name="made-for-others")
def made_for_others(text: str) -> Dataset:
    """An output that another run imports."""
    return write(text=text).outputs["data"]


@dsl.pipeline(name="handed-in")
def handed_in(data: Input[Dataset]) -> str:
    """An artifact that the pipeline is given."""
    return text_of(data=data).output


@component
def text_if_any(data: Optional[Input[Dataset]] = None) -> str:
    """What is in it, where there is one."""
    if data is None:
        return "nothing"
    with open(data.path, encoding="utf-8") as file:
        return file.read()


@dsl.pipeline
def within(data: Optional[Input[Dataset]] = None) -> str:
    """A graph of its own, which may be given one."""
    return text_if_any(data=data).output


class Perhaps(NamedTuple):
    """What steps saw of each."""

    data: str
    other: str


@dsl.pipeline(name="perhaps-handed-in")
def perhaps_handed_in(
    data: Optional[Input[Dataset]] = None, other: Optional[Input[Dataset]] = None, sure: bool = False
) -> Perhaps:
    """Artifacts that the pipeline may be given, or not."""
    with dsl.If(sure == True):  # noqa: E712  reason: kfp makes a condition of it
        text_of(data=data)
    return Perhaps(text_if_any(data=data).output, within(data=other).output)


@dsl.pipeline(name="imported-output")
def imported_output(uri: str) -> str:
    """What another run put out."""
    return text_of(
        data=dsl.importer(artifact_uri=uri, artifact_class=Dataset, metadata={"by": "me"}).output
    ).output


@dsl.pipeline(name="imported-by-place")
def imported_by_place() -> str:
    """By what a step says of where its input is."""
    found = where(data=write(text="placed").outputs["data"]).output
    return text_of(
        data=dsl.importer(artifact_uri=found, artifact_class=Dataset, metadata={"of": "place"}).output
    ).output


@dsl.pipeline(name="imported-file")
def imported_file(uri: str) -> str:
    """A file of this machine."""
    return read(data=dsl.importer(artifact_uri=uri, artifact_class=Dataset).output).output


CASES = [
    {
        "pipeline": "imported",
        "params": {"uri": "tally://tables/digits", "name": "digits"},
        "outputs": {"given": "True given me", "made": "True made None", "text": "True None None"},
        "local": "kfp.local knows no tables",
    },
    {
        # A pipeline is somebody's file: it may not have the hub read whatever the hub's user can read.
        "pipeline": "imported_file",
        "params": {"uri": "{FILES}/rows.csv"},
        "state": "refused",
        "local": "kfp.local imports any file of this machine",
    },
    {
        "pipeline": "made_for_others",
        "params": {"text": "kept"},
        "outputs": {"Output": {"text": "kept", "metadata": {"of": "made"}}},
    },
    {
        "pipeline": "handed_in",
        "params": {"data": "tally://runs/{RUN}/Output"},
        "outputs": {"Output": "kept made None"},
        "local": "kfp.local takes no artifact as input of a pipeline",
    },
    {
        "pipeline": "perhaps_handed_in",
        "params": {},
        "outputs": {"data": "nothing", "other": "nothing"},
        "local": "kfp.local does not find an input that nobody gave: 'Parent pipeline input ... not found'",
    },
    {
        "pipeline": "perhaps_handed_in",
        "params": {"data": "tally://runs/{RUN}/Output", "sure": True},
        "outputs": {"data": "kept", "other": "nothing"},
        "local": "kfp.local takes no artifact as input of a pipeline",
    },
    {
        # An output of a step is there as well, by its path in the run.
        "pipeline": "perhaps_handed_in",
        "params": {"data": "tally://runs/{RUN}/Output", "other": "tally://runs/{RUN}/write/data"},
        "outputs": {"data": "kept", "other": "kept"},
        "local": "kfp.local takes no artifact as input of a pipeline",
    },
    {
        # Only the branch that was taken lacks it, so that nobody can know before.
        "pipeline": "perhaps_handed_in",
        "params": {"sure": True},
        "state": "failed",
    },
    {
        "pipeline": "imported_output",
        "params": {"uri": "tally://runs/{RUN}/Output"},
        "outputs": {"Output": "kept made me"},
        "local": "kfp.local knows no runs",
    },
    {
        "pipeline": "imported_output",
        "params": {"uri": "tally://runs/{RUN}/nothing"},
        "state": "refused",
        "local": "kfp.local knows no runs",
    },
    {"pipeline": "imported_by_place", "params": {}, "outputs": {"Output": "placed place None"}},
]
