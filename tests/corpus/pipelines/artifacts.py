"""Files and folders between steps: each kind of artifact, metadata, lists, and those that are returned."""

from functools import partial
from typing import List, NamedTuple, Optional

from kfp import dsl
from kfp.dsl import (
    HTML,
    ClassificationMetrics,
    Dataset,
    Input,
    InputPath,
    Markdown,
    Metrics,
    Model,
    Output,
    OutputPath,
)

component = partial(dsl.component, base_image="python:3.11", install_kfp_package=False)


@component
def make(data: Output[Dataset], model: Output[Model], text: str = "hello") -> int:
    """A file, a folder, and a value."""
    import os

    with open(data.path, "w") as file:
        file.write(text)
    data.metadata["rows"] = 3
    data.metadata["nested"] = {"a": [1, 2.5, "x", None, True]}
    os.makedirs(os.path.join(model.path, "inner"))
    for name in ("a.txt", "inner/b.txt"):
        with open(os.path.join(model.path, name), "w") as file:
            file.write(f"{name} of {text}")
    model.framework = "none"
    return len(text)


@component
def look(data: Input[Dataset], model: Input[Model]) -> str:
    """What the next step sees of them."""
    import os

    with open(data.path) as file:
        text = file.read()
    files = sorted(
        os.path.relpath(os.path.join(folder, name), model.path)
        for folder, _, names in os.walk(model.path)
        for name in names
    )
    kinds = f"{type(data).__name__} {type(model).__name__}"
    return f"{text} {data.metadata['rows']} {files} {model.metadata['framework']} {kinds}"


@component
def measure(
    scores: Output[Metrics],
    classes: Output[ClassificationMetrics],
    page: Output[HTML],
    text: Output[Markdown],
):
    """Everything that a console can show."""
    scores.log_metric("accuracy", 0.875)
    scores.log_metric("rows", 12)
    classes.log_confusion_matrix(["cat", "dog"], [[5, 1], [2, 7]])
    classes.log_roc_curve([0.0, 0.5, 1.0], [0.0, 0.75, 1.0], [1.0, 0.5, 0.0])
    with open(page.path, "w") as file:
        file.write("<h1>page</h1>")
    with open(text.path, "w") as file:
        file.write("# text")


@component
def returned(text: str) -> Dataset:
    """An artifact as a return value."""
    data = dsl.Dataset(uri=dsl.get_uri(), metadata={"text": text})
    with open(data.path, "w") as file:
        file.write(text)
    return data


@component
def several_returned(text: str) -> NamedTuple("Out", data=Dataset, model=Model, words=int):
    """Several, and a value with them."""
    import collections

    data, model = (
        dsl.Dataset(uri=dsl.get_uri("data")),
        dsl.Model(uri=dsl.get_uri("model"), metadata={"of": text}),
    )
    for one in (data, model):
        with open(one.path, "w") as file:
            file.write(f"{type(one).__name__} {text}")
    return collections.namedtuple("Out", "data model words")(data, model, len(text.split()))


@component
def read_given(data: Dataset) -> str:
    """An artifact as a plain argument."""
    with open(data.path) as file:
        return f"{file.read()} {data.metadata}"


@component
def paths(source: InputPath("Dataset"), target: OutputPath("Dataset")):
    """By path alone, as kfp 1 had it."""
    with open(source) as file, open(target, "w") as copy:
        copy.write(file.read().upper())


@component
def maybe(data: Optional[Input[Dataset]] = None) -> str:
    """An artifact that need not be there."""
    return "nothing" if data is None else open(data.path).read()


@component
def elsewhere(data: Output[Dataset]):
    """Written to a place of its own choice."""
    import os
    import tempfile

    folder = tempfile.mkdtemp(dir="/tmp")
    data.custom_path = os.path.join(folder, "mine.txt")
    with open(data.custom_path, "w") as file:
        file.write("mine")


@component
def join(data: Input[List[Dataset]]) -> str:
    """All of them, with their metadata."""
    return " ".join(f"{open(one.path).read()}{one.metadata.get('text')}" for one in data)


class Made(NamedTuple):
    """What came out, as it is and as the next step sees it."""

    data: Dataset
    model: Model
    size: int
    seen: str


class Measured(NamedTuple):
    """All kinds of pages and figures."""

    scores: Metrics
    classes: ClassificationMetrics
    page: HTML
    text: Markdown


class Returned(NamedTuple):
    """Artifacts that were returned, and read again."""

    one: Dataset
    data: Dataset
    model: Model
    words: int
    seen: str


class Others(NamedTuple):
    """Other ways to read and write."""

    copied: Dataset
    absent: str
    present: str


@dsl.pipeline(name="files-and-folders")
def files_and_folders() -> Made:
    """From one step to the next, and out."""
    made = make()
    seen = look(data=made.outputs["data"], model=made.outputs["model"])
    return Made(made.outputs["data"], made.outputs["model"], made.outputs["Output"], seen.output)


@dsl.pipeline(name="figures-and-pages")
def figures_and_pages() -> Measured:
    """Metrics, a matrix, a curve and two pages."""
    return Measured(**measure().outputs)


@dsl.pipeline(name="returned-artifacts")
def returned_artifacts() -> Returned:
    """As kfp calls pythonic artifacts."""
    one, more = returned(text="one"), several_returned(text="two words")
    seen = read_given(data=one.output)
    return Returned(
        one.output, more.outputs["data"], more.outputs["model"], more.outputs["words"], seen.output
    )


@dsl.pipeline(name="by-path")
def by_path() -> Others:
    """By path, and not at all."""
    one = returned(text="one")
    return Others(paths(source=one.output).outputs["target"], maybe().output, maybe(data=one.output).output)


@dsl.pipeline(name="own-place")
def own_place() -> Dataset:
    """A path that the step chose."""
    return elsewhere().outputs["data"]


@dsl.pipeline(name="a-list-of-artifacts")
def a_list_of_artifacts() -> str:
    """From the turns of a loop, each with its metadata, in the order of the items."""
    with dsl.ParallelFor(["b", "a"]) as text:
        one = returned(text=text)
    return join(data=dsl.Collected(one.output)).output


CASES = [
    {
        "pipeline": "files_and_folders",
        "params": {},
        "outputs": {
            "data": {"text": "hello", "metadata": {"rows": 3, "nested": {"a": [1, 2.5, "x", None, True]}}},
            "model": {
                "files": {"a.txt": "a.txt of hello", "inner/b.txt": "inner/b.txt of hello"},
                "metadata": {"framework": "none"},
            },
            "size": 5,
            "seen": "hello 3 ['a.txt', 'inner/b.txt'] none Dataset Model",
        },
        "local": "kfp.local makes floats of whole numbers in metadata",
    },
    {
        "pipeline": "figures_and_pages",
        "params": {},
        "outputs": {
            "scores": {"metadata": {"accuracy": 0.875, "rows": 12}},
            "classes": {
                "metadata": {
                    "confusionMatrix": {
                        "annotationSpecs": [{"displayName": "cat"}, {"displayName": "dog"}],
                        "rows": [{"row": [5, 1]}, {"row": [2, 7]}],
                    },
                    "confidenceMetrics": [
                        {"confidenceThreshold": 1.0, "falsePositiveRate": 0.0, "recall": 0.0},
                        {"confidenceThreshold": 0.5, "falsePositiveRate": 0.5, "recall": 0.75},
                        {"confidenceThreshold": 0.0, "falsePositiveRate": 1.0, "recall": 1.0},
                    ],
                }
            },
            "page": {"text": "<h1>page</h1>", "metadata": {}},
            "text": {"text": "# text", "metadata": {}},
        },
        "local": "kfp.local makes floats of whole numbers in metadata",
    },
    {
        "pipeline": "returned_artifacts",
        "params": {},
        "outputs": {
            "one": {"text": "one", "metadata": {"text": "one"}},
            "data": {"text": "Dataset two words", "metadata": {}},
            "model": {"text": "Model two words", "metadata": {"of": "two words"}},
            "words": 2,
            "seen": "one {'text': 'one'}",
        },
    },
    {
        "pipeline": "by_path",
        "params": {},
        "outputs": {"copied": {"text": "ONE", "metadata": {}}, "absent": "nothing", "present": "one"},
    },
    {
        "pipeline": "own_place",
        "params": {},
        "outputs": {"Output": {"text": "mine", "metadata": {}}},
        "local": "kfp.local forgets custom_path: the artifact is then where nothing was written",
    },
    {"pipeline": "a_list_of_artifacts", "params": {}, "outputs": {"Output": "bb aa"}},
]
