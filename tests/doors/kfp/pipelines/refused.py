"""Small pipelines, one for each thing that is refused before it runs. compile.py writes the YAML."""

from kfp import dsl
from kfp.dsl import Artifact, Input

IMAGE = "python:3.11"


@dsl.component(base_image=IMAGE)
def say(text: str = "a") -> str:
    """Say it again."""
    return text


@dsl.component(base_image=IMAGE)
def read(data: Input[list[Artifact]]) -> str:
    """Read artifacts."""
    return data[0].uri


@dsl.component(base_image=IMAGE)
def configured(config: dsl.TaskConfig) -> str:
    """Ask what Kubernetes would have done."""
    return str(config)


@dsl.pipeline(name="accelerator")
def accelerator():
    say().set_accelerator_type("cloud-tpus.google.com/v3").set_accelerator_limit(1)


@dsl.pipeline(name="inner-graph")
def inner() -> str:
    return say().output


@dsl.pipeline(name="graph-retry")
def graph_retry():
    inner().set_retry(num_retries=2)


@dsl.pipeline(name="input-artifacts")
def input_artifacts(data: Input[list[Artifact]]):
    read(data=data)


@dsl.pipeline(name="run-deadline", pipeline_config=dsl.PipelineConfig(active_deadline_seconds=60))
def run_deadline():
    say()


@dsl.pipeline(name="task-config")
def task_config():
    configured()


PIPELINES = (accelerator, graph_retry, input_artifacts, run_deadline, task_config)
