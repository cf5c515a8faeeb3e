"""Small pipelines, one for each thing that the reader honours. compile.py writes the YAML beside them."""
# ruff: noqa: B006, PLR0917, UP045  (kfp writes defaults down and calls nothing; it reads Optional only)

from typing import NamedTuple, Optional

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

IMAGE = "python:3.11"
PANDAS = "pandas[parquet]==2.3.3; python_version>'3'"


@dsl.component(base_image=IMAGE)
def one(x: int) -> int:
    """Add one."""
    return x + 1


@dsl.component(
    base_image=IMAGE, packages_to_install=["numpy>=2", "pandas[parquet]==2.3.3; python_version>'3'"]
)
def packed(
    text: str,
    whole: int,
    real: float,
    yes: bool,
    many: list,
    named: dict,
    model: Output[Model],
    plain: str = "as said",
):
    """One parameter of each type."""
    _ = (text, whole, real, yes, many, named, plain, model)


@dsl.component(base_image=IMAGE)
def fit(kind: str, model: Output[Model]) -> float:
    """Make a model."""
    model.metadata["kind"] = kind
    return 1.0


@dsl.component(base_image=IMAGE)
def best(models: Input[list[Model]], scores: list[float]) -> str:
    """Take what all iterations made."""
    return str(len(models) + len(scores))


@dsl.component(base_image=IMAGE)
def maybe(note: Optional[str] = None, word: str = "none", data: Optional[Input[Dataset]] = None):
    """Take what may not be there."""
    _ = (note, word, data)


@dsl.component(base_image=IMAGE)
def listing() -> list:
    """Make a list to loop over."""
    return [{"a": 1}, {"a": 2}]


@dsl.component(base_image=IMAGE)
def read(data: Input[Dataset]) -> str:
    """Read what was imported."""
    return data.uri


@dsl.pipeline(name="constants", description="A constant of each type.")
def constants(
    whole: int = 3, real: float = 2.0, many: list = [1, 2.5, {"deep": 4}], named: dict = {"k": [1]}
):
    packed(text="a", whole=7, real=3.0, yes=True, many=[1, 2.5, [3]], named={"n": 1, "r": 0.5})
    packed(text="b", whole=whole, real=real, yes=False, many=many, named=named, plain="other")


@dsl.pipeline(name="imported")
def imported(uri: str = "tally://tables/digits"):
    read(data=dsl.importer(artifact_uri=uri, artifact_class=Dataset).output)
    again = dsl.importer(artifact_uri="tally://tables/other@s1", artifact_class=Dataset, reimport=True)
    read(data=again.output)


@dsl.pipeline(name="loops")
def loops(kinds: list = ["x", "y"], rows: list = [{"n": 1, "inner": [1, 2]}]):
    with dsl.ParallelFor([1, 2, 3], parallelism=2) as number:
        one(x=number)
    with dsl.ParallelFor(kinds) as kind:
        fit(kind=kind)
    with dsl.ParallelFor(rows) as row:
        one(x=row.n)
        with dsl.ParallelFor(row.inner) as number:
            one(x=number)
    made = listing()
    with dsl.ParallelFor(made.output) as row:
        one(x=row.a)


@dsl.pipeline(name="collected")
def collected(kinds: list = ["x", "y"]) -> str:
    with dsl.ParallelFor(kinds) as kind:
        fitted = fit(kind=kind)
    return best(
        models=dsl.Collected(fitted.outputs["model"]), scores=dsl.Collected(fitted.outputs["Output"])
    ).output


@dsl.pipeline(name="inner-graph")
def inner(x: int, word: str = "default", note: Optional[str] = None) -> int:
    maybe(note=note, word=word)
    return one(x=x).output


class Outputs(NamedTuple):
    number: int
    model: Model


@dsl.pipeline(name="nested")
def nested(x: int = 1) -> Outputs:
    first = inner(x=x)
    second = inner(x=first.output, word="said", note="noted")
    fitted = fit(kind="z").after(second)
    return Outputs(number=second.output, model=fitted.outputs["model"])


@dsl.pipeline(name="optional")
def optional(note: Optional[str] = None):
    maybe()
    maybe(note=note).set_caching_options(False)
    maybe(word="w", data=dsl.importer(artifact_uri="tally://tables/t", artifact_class=Dataset).output)
    one(x=1).set_display_name("Shown as this")


PIPELINES = (constants, imported, loops, collected, nested, optional)
