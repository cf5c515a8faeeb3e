"""A folder that all steps of a run share."""

from functools import partial

from kfp import dsl

component = partial(dsl.component, base_image="python:3.11", install_kfp_package=False)


@component
def leave(folder: str, text: str):
    """Leave a file there."""
    import os

    with open(os.path.join(folder, "note.txt"), "a") as file:
        file.write(text)


@component
def take(folder: str) -> str:
    """Take what is there."""
    import os

    with open(os.path.join(folder, "note.txt")) as file:
        return file.read()


@dsl.pipeline(
    name="shared-folder", pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="10Mi"))
)
def shared_folder() -> str:
    """Two leave something, one after the other; a third takes it."""
    first = leave(folder=dsl.WORKSPACE_PATH_PLACEHOLDER, text="one ").set_caching_options(False)
    second = leave(folder=dsl.WORKSPACE_PATH_PLACEHOLDER, text="two").set_caching_options(False).after(first)
    return take(folder=dsl.WORKSPACE_PATH_PLACEHOLDER).set_caching_options(False).after(second).output


@component
def fill(folder: str, mib: int) -> str:
    """Write so much there."""
    import os

    with open(os.path.join(folder, "large"), "wb") as file:
        file.write(os.urandom(mib << 20))
    return "full"


@dsl.pipeline(
    name="full-folder", pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="10Mi"))
)
def full_folder(mib: int) -> str:
    """It fills it."""
    return fill(folder=dsl.WORKSPACE_PATH_PLACEHOLDER, mib=mib).output


CASES = [
    {"pipeline": "full_folder", "params": {"mib": 9}, "outputs": {"Output": "full"}},
    {
        "pipeline": "full_folder",
        "params": {"mib": 11},
        "state": "failed",
        "local": "kfp.local does not look at a workspace's size",
    },
    {
        "pipeline": "shared_folder",
        "params": {},
        "outputs": {"Output": "one two"},
    },
]
