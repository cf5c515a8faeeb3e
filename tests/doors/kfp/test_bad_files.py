"""No file makes the reader fall over: limits, what is no YAML, what is no pipeline, damage of any kind."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.core.errors import BadInput, NotSupported, TallyError, TooLarge
from tallystick.doors.kfp.document import BYTES_MAX, DEPTH_MAX, VALUES_MAX
from tallystick.doors.kfp.reader import KNOWN_BYTES_MAX, read_pipeline
from tests.doors.kfp.corpus import READ, load, path_of


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("", BadInput, "empty"),
        ("a: [1", BadInput, "not YAML"),
        ("a:\n\t- b", BadInput, "line 2"),
        ("just words", BadInput, "expected a mapping"),
        ("a: 1", BadInput, "no compiled pipeline"),
        ("a: 1\nb: 2\na: 3\n", BadInput, "line 3: the key 'a' stands here twice"),
        ("a: &x [1]\nb: *x", NotSupported, "alias *x"),
        ("a: !!python/object/apply:os.system ['true']", BadInput, "tag"),
        ("a: !!int x", BadInput, "not a value of its type"),
        ("a: !!set {x}", BadInput, "tag"),
        ("? [a]\n: 1", BadInput, "key must be text"),
        ("a: 1\n---\nb: 1\n---\nc: 1", BadInput, "at most two documents"),
        ("apiVersion: argoproj.io/v1alpha1", NotSupported, "kfp 1 or Argo"),
        ("implementation: {}", NotSupported, "one component"),
        ("[" * 200_000, TooLarge, f"deeper than {DEPTH_MAX}"),
        ("a: [" + "1," * VALUES_MAX + "]", TooLarge, "values"),
        ("#" * (BYTES_MAX + 1), TooLarge, "10 MiB"),
        (b"a: \xff", BadInput, "UTF-8"),
        ("a: \ud800", BadInput, "UTF-8"),
        ("a: \x00", BadInput, "not YAML"),
        ("a: " + "9" * 5000, BadInput, "not a value of its type"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_file_that_is_no_pipeline(text: str | bytes, kind: type[BadInput], words: str) -> None:
    with pytest.raises(kind) as wrong:
        read_pipeline(text)
    assert words in str(wrong.value)


def test_a_component_that_multiplies_is_stopped() -> None:
    tasks = {f"t{i}": {"componentRef": {"name": "c0"}} for i in range(10)}
    spec = load("nested") | {
        "root": {"dag": {"tasks": tasks}},
        "components": {
            f"c{depth}": {
                "dag": {"tasks": {f"t{i}": {"componentRef": {"name": f"c{depth + 1}"}} for i in range(10)}}
            }
            for depth in range(12)
        }
        | {"c12": {"dag": {}}},
    }
    with pytest.raises(TooLarge, match="more than 10000 tasks"):
        read_pipeline(yaml.safe_dump(spec))


VALID = [[*yaml.safe_load_all(path.read_bytes())] for path in READ]
ODD: list[Any] = [
    None, 0, -1, 1.5, 1e300, True, "", "x", "../x", "one", "2.1.0", "3s", [], {}, [1], ["x"], [None],
    {"x": 1}, {"name": "comp-one"}, {"constant": [1]}, [[[]]], "[" * 3000, 10**30, "{{$.x}}", "{{$}}",
    "{{$.pipeline_job_name}}", '{"Concat": ["a"]}', "{{$.inputs.parameters['x']}}",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid pipeline with some keys or elements dropped, replaced, renamed or copied elsewhere."""
    spec = copy.deepcopy(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 3))):
        place = spec
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            below = place[key]
            if isinstance(below, dict | list) and below and draw(st.integers(0, 5)):
                place = below
                continue
            how = draw(st.sampled_from(["drop", "odd", "rename", "swap"]))
            if how == "drop":
                del place[key]
            elif how == "rename" and isinstance(place, dict):
                place[
                    draw(st.sampled_from(["x", "name", "constant", "dag", "raw", "condition", "metadata"]))
                ] = place.pop(key)
            elif how == "swap":
                place[key] = copy.deepcopy(place[draw(st.sampled_from(keys))])
            else:
                place[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
            break
    return spec


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_no_mutation_raises_anything_but_our_errors(documents: Any) -> None:
    with suppress(TallyError):
        text = yaml.dump_all(documents, Dumper=yaml.CSafeDumper)
        assert read_pipeline(text).digest.startswith("sha256:")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_to_the_text_raises_anything_but_our_errors(data: st.DataObject) -> None:
    raw = path_of("commands").read_bytes()
    at = data.draw(st.integers(0, len(raw)))
    length = data.draw(st.integers(0, 200))
    damaged = raw[:at] + data.draw(st.binary(max_size=20)) + raw[at + length :]
    with suppress(TallyError):
        read_pipeline(damaged)


# Below these the author's own values; and their own names in these.
VALUES = ("constant", "defaultValue", "metadata", "pvcSpecPatch")
NAMES = ("components", "executors")


def mappings(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every mapping in which each key means something to us."""
    if not isinstance(value, dict | list) or (path and path[-1] in VALUES):
        return []
    parts = enumerate(value) if isinstance(value, list) else value.items()
    below = [found for key, part in parts for found in mappings(part, (*path, key))]
    return below if isinstance(value, list) or (path and path[-1] in NAMES) else [path, *below]


WAYS = [(documents, mappings(documents)) for documents in VALID]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_unknown_field_is_passed_over(data: st.DataObject) -> None:
    documents, ways = data.draw(st.sampled_from(WAYS))
    way = data.draw(st.sampled_from(ways))
    changed = place = copy.deepcopy(documents)
    for key in way:
        place = place[key]
    place["surprise"] = {"x": 1}
    with pytest.raises(BadInput, match="line ") as wrong:
        read_pipeline(yaml.dump_all(changed, Dumper=yaml.CSafeDumper))
    assert "surprise" in str(wrong.value) or "'x'" in wrong.value.what or "outputs" in wrong.value.what


def test_what_was_read_once_is_read_no_other_way_later():
    text = READ[0].read_bytes()
    first = read_pipeline(text)
    assert read_pipeline(bytes(bytearray(text))) == read_pipeline(text.decode()) == first
    longer = text + b"\n#" + b" " * KNOWN_BYTES_MAX
    assert read_pipeline(longer) == first
    for _ in range(2):
        with pytest.raises(BadInput, match="not YAML"):
            read_pipeline(text + b"\na: [1")
