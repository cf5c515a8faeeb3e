"""Small pipelines, one for each thing that is refused before it runs. compile.py writes the YAML."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

IMAGE = "python:3.11"


@dsl.component(base_image=IMAGE)
def say(text: str = "a") -> str:
    """Say it again."""
    return text


@dsl.component(base_image=IMAGE)
def report(status: dsl.PipelineTaskFinalStatus):
    """Say how it ended."""
    _ = status.state


@dsl.component(base_image="tensorflow/tensorflow:2.19.0")
def elsewhere() -> str:
    """Run in an image of one's own."""
    return "x"


@dsl.component(
    base_image=IMAGE, packages_to_install=["numpy"], pip_index_urls=["https://index.invalid/simple"]
)
def indexed() -> str:
    """Take packages from an index of one's own."""
    return "x"


@dsl.component(base_image=IMAGE)
def read(data: Input[Artifact]) -> str:
    """Read an artifact."""
    return data.uri


@dsl.component(base_image=IMAGE)
def make(data: Output[Dataset]):
    """Make an artifact."""
    data.metadata["k"] = "v"


@dsl.container_component
def echo(text: str):
    """Run a command."""
    return dsl.ContainerSpec(image="alpine", command=["echo"], args=[text])


@dsl.pipeline(name="condition")
def condition(word: str = "a"):
    with dsl.If(word == "a"):
        say()


@dsl.pipeline(name="exit-handler")
def exit_handler():
    with dsl.ExitHandler(say(text="the end")):
        say()


@dsl.pipeline(name="ignore-upstream")
def ignore_upstream():
    say(text=say().output).ignore_upstream_failure()


@dsl.pipeline(name="final-status")
def final_status():
    with dsl.ExitHandler(report()):
        say()


@dsl.pipeline(name="container")
def container():
    echo(text="hello")


@dsl.pipeline(name="retry")
def retry():
    say().set_retry(num_retries=2)


@dsl.pipeline(name="environment")
def environment():
    say().set_env_variable("NAME", "value")


@dsl.pipeline(name="accelerator")
def accelerator():
    say().set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1)


@dsl.pipeline(name="placeholder")
def placeholder():
    say(text=dsl.PIPELINE_JOB_NAME_PLACEHOLDER)


@dsl.pipeline(name="text-of-parameters")
def text_of_parameters(word: str = "a"):
    say(text=f"word: {word}")


@dsl.pipeline(name="image")
def image():
    elsewhere()


@dsl.pipeline(name="index")
def index():
    indexed()


@dsl.pipeline(name="importer-metadata")
def importer_metadata():
    read(data=dsl.importer("tally://tables/t", Dataset, metadata={"k": "v"}).output)


@dsl.pipeline(name="inner-graph")
def several() -> list[Dataset]:
    with dsl.ParallelFor(["a", "b"]):
        made = make()
    return dsl.Collected(made.outputs["data"])


@dsl.pipeline(name="artifact-loop")
def artifact_loop():
    with dsl.ParallelFor(several().output) as data:
        read(data=data)


@dsl.pipeline(name="input-artifact")
def input_artifact(data: Input[Dataset]):
    read(data=data)


PIPELINES = (
    condition, exit_handler, ignore_upstream, final_status, container, retry, environment, accelerator,
    placeholder, text_of_parameters, image, index, importer_metadata, artifact_loop, input_artifact,
)  # fmt: skip
