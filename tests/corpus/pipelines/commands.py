"""Commands of containers, with placeholders: they run where a person allowed it."""

from typing import NamedTuple, Optional

from kfp import dsl
from kfp.dsl import Artifact, Input, Output, OutputPath


@dsl.container_component
def shell(text: str, number: int, data: Output[Artifact], count: OutputPath(int), note: Optional[str] = None):
    """A shell writes a file and a value."""
    return dsl.ContainerSpec(
        image="alpine",
        command=[
            "sh",
            "-c",
            'mkdir -p "$(dirname "$1")" "$(dirname "$2")"; printf "%s" "$0" > "$1"; printf 7 > "$2"',
        ],
        args=[
            dsl.ConcatPlaceholder(
                [
                    text,
                    "/",
                    number,
                    dsl.IfPresentPlaceholder("note", dsl.ConcatPlaceholder([" and ", note]), " alone"),
                ]
            ),
            data.path,
            count,
        ],
    )


@dsl.container_component
def echo(data: Input[Artifact], words: list, named: dict):
    """Print what it is given."""
    return dsl.ContainerSpec(
        image="alpine", command=["sh", "-c", 'echo "said: $(cat "$0") $1 $2"'], args=[data.path, words, named]
    )


@dsl.container_component
def compare(one: str, other: str):
    """What busybox's shell knows, and Debian's does not."""
    return dsl.ContainerSpec(
        image="ghcr.io/containerd/busybox",
        command=["sh", "-ec", 'set -o pipefail; [[ "$0" == "$1" ]] && echo "said: $0 is $1"'],
        args=[one, other],
    )


@dsl.pipeline(name="shell-of-image")
def shell_of_image():
    """Two that are equal."""
    compare(one="a", other="a")


class Made(NamedTuple):
    """What the shell wrote."""

    data: Artifact
    count: int


@dsl.pipeline(name="commands")
def commands(note: str) -> Made:
    """One with an optional input, one without."""
    first = shell(text="a b", number=3, note=note)
    second = shell(text="c", number=4)
    echo(data=second.outputs["data"], words=["x", "y z"], named={"k": "v"})
    return Made(first.outputs["data"], first.outputs["count"])


CASES = [
    {
        "pipeline": "commands",
        "params": {"note": "noted"},
        "commands": True,
        "outputs": {"data": {"text": "a b/3 and noted", "metadata": {}}, "count": 7},
        "said": ['c/4 alone ["x","y z"] {"k":"v"}'],
        "local": "kfp.local's SubprocessRunner refuses containers",
    },
    {
        "pipeline": "shell_of_image",
        "params": {},
        "commands": True,
        "said": ["a is a"],
        "local": "kfp.local's SubprocessRunner refuses containers",
    },
]
