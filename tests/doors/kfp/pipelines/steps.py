"""Small pipelines about what a single step is and asks for. compile.py writes the YAML."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output, OutputPath

IMAGE = "python:3.11"


@dsl.component(base_image=IMAGE)
def say(text: str = "a") -> str:
    """Say it again."""
    return text


@dsl.component(base_image=IMAGE)
def read(data: Input[Dataset]) -> str:
    """Read an artifact."""
    return data.uri


@dsl.component(
    base_image=IMAGE,
    packages_to_install=["numpy"],
    pip_index_urls=["https://one.invalid/simple", "https://two.invalid/simple"],
    pip_trusted_hosts=["one.invalid"],
)
def indexed() -> str:
    """Take packages from an index of one's own."""
    return "x"


@dsl.component(base_image="tensorflow/tensorflow:2.19.0")
def elsewhere() -> str:
    """Run in an image of one's own."""
    return "x"


@dsl.component(base_image=IMAGE, target_image="registry.invalid/built:1")
def built() -> str:
    """Have its source in its image."""
    return "x"


@dsl.container_component
def train(
    data: Input[Dataset],
    model: Output[Model],
    scores: Output[Metrics],
    length: OutputPath(int),
    eps: float,
    note: str = "",
):
    """Run a command with everything that kfp can put into one."""
    return dsl.ContainerSpec(
        image="registry.invalid/trainer:2",
        command=["train", data.path, dsl.ConcatPlaceholder(["--eps=", eps, ";", data.uri])],
        args=[
            f"{model.path}/{dsl.PIPELINE_TASK_NAME_PLACEHOLDER}",
            model.uri,
            scores.metadata,
            data.metadata["rows"],
            length,
            dsl.IfPresentPlaceholder(input_name="note", then=["--note", note], else_=["--silent"]),
            dsl.IfPresentPlaceholder(input_name="note", then=dsl.ConcatPlaceholder(["--said=", note])),
            dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            dsl.PIPELINE_TASK_EXECUTOR_OUTPUT_PATH_PLACEHOLDER,
            dsl.PIPELINE_ROOT_PLACEHOLDER,
        ],
    )


@dsl.pipeline(name="commands")
def commands(eps: float = 0.1):
    data = dsl.importer(artifact_uri="tally://tables/t", artifact_class=Dataset).output
    train(data=data, eps=eps)
    train(data=data, eps=0.5, note="by hand")
    elsewhere()
    built()


@dsl.pipeline(name="settings")
def settings():
    say().set_retry(num_retries=2)
    say().set_retry(num_retries=3, backoff_duration="3s", backoff_factor=1.5, backoff_max_duration="1 minute")
    say().set_env_variable("NAME", "value").set_env_variable("EMPTY", "")
    say().set_cpu_limit("1500m").set_cpu_request("0.5").set_memory_limit("4Gi").set_memory_request("100M")
    say().set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(2)
    say().set_caching_options(enable_caching=True, cache_key="mine")
    say().set_caching_options(enable_caching=False)
    indexed()


@dsl.pipeline(name="metadata")
def metadata(uri: str = "tally://tables/digits", who: str = "me"):
    imported = dsl.importer(
        artifact_uri=uri,
        artifact_class=Dataset,
        metadata={"by": who, f"{who}-rows": [1, 2.5, f"about {uri}"], "fixed": {"a": True}},
    )
    read(data=imported.output)
    read(data=dsl.importer(artifact_uri=f"{uri}@s1", artifact_class=Dataset).output)


@dsl.pipeline(
    name="workspace",
    pipeline_root="s3://bucket/root",
    pipeline_config=dsl.PipelineConfig(
        workspace=dsl.WorkspaceConfig(size="2Gi"), ttl_seconds_after_finished=60
    ),
)
def workspace():
    say(text=f"{dsl.WORKSPACE_PATH_PLACEHOLDER}/file")
    data = dsl.importer(artifact_uri="tally://tables/t", artifact_class=Dataset, download_to_workspace=True)
    read(data=data.output)


@dsl.pipeline(name="handed-in")
def handed_in(data: Input[Dataset], other_data: Input[Dataset]):
    read(data=data).set_display_name("input-data")
    read(data=other_data)


@dsl.component(base_image="python:3.11")
def read_if_any(data: Input[Dataset] = None):
    assert data is None or data.path


@dsl.pipeline
def within(data: Input[Dataset] = None):
    read_if_any(data=data)


@dsl.pipeline(name="perhaps-handed-in")
def perhaps_handed_in(
    loose: Input[Dataset] = None,
    nested: Input[Dataset] = None,
    branch: Input[Dataset] = None,
    needed: Input[Dataset] = None,
    sure: bool = False,
):
    read_if_any(data=loose)
    within(data=nested)
    read(data=needed)
    with dsl.If(sure == True):  # noqa: E712  reason: kfp makes a condition of it
        read(data=branch)


@dsl.pipeline(name="dynamic-limit")
def dynamic_limit(cpus: str = "2", gpu: str = "nvidia.com/gpu", gpus: str = "1"):
    memory = say(text="1Gi")
    task = say().set_cpu_limit(cpus).set_memory_limit(memory.output)
    task.set_accelerator_type(gpu).set_accelerator_limit(gpus)


PIPELINES = (commands, settings, metadata, workspace, handed_in, perhaps_handed_in, dynamic_limit)
