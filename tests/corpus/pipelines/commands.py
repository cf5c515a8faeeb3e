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
]
