"""What passes from step to step: every type, defaults, optional inputs, several outputs, files for values."""

from functools import partial
from typing import List, NamedTuple, Optional

from kfp import dsl
from kfp.dsl import OutputPath

component = partial(dsl.component, base_image="python:3.11", install_kfp_package=False)


@component
def echo(text: str, number: int, share: float, flag: bool, many: list, named: dict) -> NamedTuple(
    "Out", text=str, number=int, share=float, flag=bool, many=list, named=dict, types=str
):
    """Everything as it came, and of what type that was."""
    import collections

    out = collections.namedtuple("Out", "text number share flag many named types")
    values = (text, number, share, flag, many, named)
    return out(*values, " ".join(type(value).__name__ for value in values))


@component
def types_in(many: list, named: dict) -> str:
    """The types of what is in them."""
    return " ".join(type(value).__name__ for value in [*many, *named.values()])


@component
def with_defaults(
    text: str = "default", number: int = 7, maybe: Optional[str] = None, more: dict = {"a": 1}
) -> str:
    """What it got."""
    return f"{text} {number} {maybe} {more}"


@component
def to_files(
    count: OutputPath(int), words: OutputPath(List[str]), flag: OutputPath(bool), text: OutputPath(str)
):
    """Values written to files, as kfp has it."""
    import json

    for path, value in ((count, "42"), (words, json.dumps(["a", "b"])), (flag, "true"), (text, "a\nb ")):
        with open(path, "w") as file:
            file.write(value)


@component
def strings(text: str) -> str:
    """Its length and itself."""
    return f"{len(text)} {text!r}"


class Everything(NamedTuple):
    """One of each type."""

    text: str
    number: int
    share: float
    flag: bool
    many: list
    named: dict
    types: str


@dsl.pipeline(name="every-type")
def every_type(text: str, number: int, share: float, flag: bool, many: list, named: dict) -> Everything:
    """Through two steps."""
    first = echo(text=text, number=number, share=share, flag=flag, many=many, named=named)
    second = echo(
        **{name: first.outputs[name] for name in ("text", "number", "share", "flag", "many", "named")}
    )
    return Everything(**second.outputs)


@dsl.pipeline(name="whole-numbers")
def whole_numbers(many: list, named: dict) -> str:
    """Whole numbers within lists and mappings."""
    return types_in(many=many, named=named).output


class Given(NamedTuple):
    """What four steps got."""

    nothing: str
    some: str
    passed: str
    absent: str


@dsl.pipeline(name="optional")
def optional(text: str = "of the pipeline", maybe: Optional[str] = None) -> Given:
    """Inputs that are given, and inputs that are not."""
    return Given(
        with_defaults().output,
        with_defaults(text="given", number=1, maybe="there", more={}).output,
        with_defaults(text=text).output,
        with_defaults(maybe=maybe).output,
    )


class FromFiles(NamedTuple):
    """Read from the files that a step wrote."""

    count: int
    words: List[str]
    flag: bool
    text: str


@dsl.pipeline(name="values-in-files")
def values_in_files() -> FromFiles:
    """Each by its type."""
    return FromFiles(**to_files().outputs)


class Texts(NamedTuple):
    """Texts that look like something else."""

    empty: str
    json: str
    unicode: str
    lines: str
    braces: str


@dsl.pipeline(name="strange-texts")
def strange_texts() -> Texts:
    """None of them is changed on the way."""
    return Texts(
        strings(text="").output,
        strings(text='{"a": 1}').output,
        strings(text="naïve — 数 \u2028").output,
        strings(text="a\n b\t").output,
        strings(text="{{no}} ${HOME} $(id) `id`").output,
    )


CASES = [
    {
        "pipeline": "every_type",
        "params": {
            "text": "t",
            "number": -3,
            "share": 0.5,
            "flag": True,
            "many": ["a", 1.5, [True]],
            "named": {"k": {"l": "m"}},
        },
        "outputs": {
            "text": "t",
            "number": -3,
            "share": 0.5,
            "flag": True,
            "many": ["a", 1.5, [True]],
            "named": {"k": {"l": "m"}},
            "types": "str int float bool list dict",
        },
    },
    {
        "pipeline": "every_type",
        "params": {"text": "", "number": 0, "share": 2.0, "flag": False, "many": [], "named": {}},
        "outputs": {
            "text": "",
            "number": 0,
            "share": 2.0,
            "flag": False,
            "many": [],
            "named": {},
            "types": "str int float bool list dict",
        },
    },
    {
        "pipeline": "whole_numbers",
        "params": {"many": [None, "x"], "named": {"a": None}},
        "outputs": {"Output": "NoneType str NoneType"},
        "local": "kfp.local refuses null within lists and mappings",
    },
    {
        "pipeline": "whole_numbers",
        "params": {"many": [1, 2.5, True], "named": {"a": 3}},
        "outputs": {"Output": "int float bool int"},
        "local": "kfp.local makes floats of whole numbers within lists and mappings",
    },
    {
        "pipeline": "optional",
        "params": {},
        "outputs": {
            "nothing": "default 7 None {'a': 1}",
            "some": "given 1 there {}",
            "passed": "of the pipeline 7 None {'a': 1}",
            "absent": "default 7 None {'a': 1}",
        },
        "local": "kfp.local makes floats of whole numbers within the default of a mapping",
    },
    {
        "pipeline": "optional",
        "params": {"text": "x", "maybe": "y"},
        "outputs": {
            "nothing": "default 7 None {'a': 1}",
            "some": "given 1 there {}",
            "passed": "x 7 None {'a': 1}",
            "absent": "default 7 y {'a': 1}",
        },
        "local": "kfp.local makes floats of whole numbers within the default of a mapping",
    },
    {
        "pipeline": "values_in_files",
        "params": {},
        "outputs": {"count": 42, "words": ["a", "b"], "flag": True, "text": "a\nb "},
    },
    {
        "pipeline": "strange_texts",
        "params": {},
        "outputs": {
            "empty": "0 ''",
            "json": "8 '{\"a\": 1}'",
            "unicode": "11 'naïve — 数 \\u2028'",
            "lines": "5 'a\\n b\\t'",
            "braces": "25 '{{no}} ${HOME} $(id) `id`'",
        },
    },
]
