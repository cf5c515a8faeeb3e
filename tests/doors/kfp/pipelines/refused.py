"""Small pipelines, one for each thing that is refused before it runs. compile.py writes the YAML."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input

IMAGE = "python:3.11"


@dsl.component(base_image=IMAGE)
def say(text: str = "a") -> str:
    """Say it again."""
    return text


@dsl.component(base_image=IMAGE)
def read(data: Input[Artifact]) -> str:
    """Read an artifact."""
    return data.uri


@dsl.component(base_image=IMAGE)
def configured(config: dsl.TaskConfig) -> str:
    """Ask what Kubernetes would have done."""
    return str(config)


@dsl.pipeline(name="accelerator")
def accelerator():
    say().set_accelerator_type("cloud-tpus.google.com/v3").set_accelerator_limit(1)


@dsl.pipeline(name="dynamic-limit")
def dynamic_limit(cpus: str = "2"):
    say().set_cpu_limit(cpus)


@dsl.pipeline(name="inner-graph")
def inner() -> str:
    return say().output


@dsl.pipeline(name="graph-retry")
def graph_retry():
    inner().set_retry(num_retries=2)


@dsl.pipeline(name="input-artifact")
def input_artifact(data: Input[Dataset]):
    read(data=data)


@dsl.pipeline(name="run-deadline", pipeline_config=dsl.PipelineConfig(active_deadline_seconds=60))
def run_deadline():
    say()


@dsl.pipeline(name="task-config")
def task_config():
    configured()


PIPELINES = (accelerator, dynamic_limit, graph_retry, input_artifact, run_deadline, task_config)
