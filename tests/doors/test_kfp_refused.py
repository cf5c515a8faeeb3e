"""What cannot be honoured is refused before anything runs, and no file makes the reader fall over."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.core.errors import BadInput, NotSupported, TallyError, TooLarge
from tallystick.doors.kfp.command import read_command
from tallystick.doors.kfp.document import BYTES_MAX, DEPTH_MAX, VALUES_MAX
from tallystick.doors.kfp.reader import read_pipeline

HERE = Path(__file__).with_name("pipelines")
SUPPORTED = sorted((HERE / "supported").glob("*.yaml"))

# Each refused file with the task that the message must name and words from the construct.
REFUSED = {
    "accelerator": ("say", "set_accelerator_limit"),
    "artifact-loop": ("for-loop-1", "artifactIterator"),
    "condition": ("condition-1", "dsl.If"),
    "container": ("echo", "container command"),
    "environment": ("say", "set_env_variable"),
    "exit-handler": ("say", "dsl.ExitHandler"),
    "final-status": ("report", "final status"),
    "ignore-upstream": ("say-2", "ignore_upstream_failure"),
    "image": ("elsewhere", "tensorflow/tensorflow:2.19.0"),
    "importer-metadata": ("importer", "metadata"),
    "index": ("indexed", "pip_index_urls"),
    "input-artifact": ("", "artifact as input of the pipeline"),
    "placeholder": ("say", "placeholder"),
    "retry": ("say", "set_retry"),
    "text-of-parameters": ("say", "pipelinechannel--word"),
}


@pytest.mark.parametrize("path", sorted((HERE / "refused").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_construct_is_refused_by_its_name(path: Path) -> None:
    task, words = REFUSED[path.stem]
    with pytest.raises(NotSupported) as refused:
        read_pipeline(path.read_bytes())
    assert words in refused.value.what
    assert refused.value.where.startswith(f"task {task}, line " if task else "line ")


def load(name: str) -> Any:
    return yaml.safe_load((HERE / "supported" / f"{name}.yaml").read_bytes())


def task_of(spec: Any, name: str) -> Any:
    return spec["root"]["dag"]["tasks"][name]


def parameter(spec: Any) -> Any:
    return spec["root"]["inputDefinitions"]["parameters"]["x"]


def args(spec: Any) -> Any:
    return spec["deploymentSpec"]["executors"]["exec-fit"]["container"]["args"]


Change = Callable[[Any], object]
# Edits by hand of valid pipelines: which one, the change, the kind of error, and words from its message.
EDITS: dict[str, tuple[str, Change, type[BadInput], str]] = {
    "cache key": (
        "imported", lambda s: task_of(s, "read")["cachingOptions"].update(cacheKey="k"),
        NotSupported, "cache key",
    ),
    "one of": (
        "collected",
        lambda s: s["root"]["dag"]["outputs"]["parameters"].update(Output={"valueFromOneof": {"x": 1}}),
        NotSupported, "dsl.OneOf",
    ),
    "allowed values": (
        "nested", lambda s: parameter(s).update(literals=[1]),
        NotSupported, "allowed values",
    ),
    "custom job": (
        "nested", lambda s: s["deploymentSpec"]["executors"].update({"exec-fit": {"customJob": {"a": 1}}}),
        NotSupported, "custom job",
    ),
    "pipeline root": (
        "nested", lambda s: s.update(defaultPipelineRoot="s3://bucket"), NotSupported, "pipeline_root"
    ),
    "newer schema": ("nested", lambda s: s.update(schemaVersion="3.0.0"), NotSupported, "'3.0.0'"),
    "schema of kfp 1": ("nested", lambda s: s.update(schemaVersion="2.0.0"), NotSupported, "'2.0.0'"),
    "one component in a loop": (
        "nested",
        lambda s: task_of(s, "fit").update(
            parameterIterator={"itemInput": "kind", "items": {"raw": '["a"]'}}, inputs={}
        ),
        NotSupported, "loop around a single component",
    ),
    "unknown field": (
        "nested", lambda s: task_of(s, "fit").update(priority=1), BadInput, "unknown field 'priority'"
    ),
    "no such component": (
        "nested", lambda s: task_of(s, "fit")["componentRef"].update(name="x"), BadInput, "no component 'x'"
    ),
    "no such executor": (
        "nested", lambda s: s["components"]["comp-fit"].update(executorLabel="x"), BadInput, "no executor 'x'"
    ),
    "no such task": (
        "nested", lambda s: task_of(s, "fit").update(dependentTasks=["x"]), BadInput, "task 'x'"
    ),
    "no such output": (
        "imported",
        lambda s: task_of(s, "read")["inputs"]["artifacts"]["data"]["taskOutputArtifact"].update(
            outputArtifactKey="x"
        ),
        BadInput, "no such output 'x'",
    ),
    "no such input": (
        "optional",
        lambda s: task_of(s, "maybe-2")["inputs"]["parameters"]["note"].update(componentInputParameter="x"),
        BadInput, "no parameter 'x'",
    ),
    "itself before itself": (
        "nested", lambda s: task_of(s, "fit").update(dependentTasks=["fit"]), BadInput, "wait for each other"
    ),
    "no value": ("nested", lambda s: task_of(s, "fit").pop("inputs"), BadInput, "has no value"),
    "half a number": (
        "nested", lambda s: parameter(s).update(defaultValue=1.5),
        BadInput, "NUMBER_INTEGER was declared, got 1.5",
    ),
    "no number": (
        "nested", lambda s: parameter(s).update(defaultValue=float("nan")),
        BadInput, "not a number",
    ),
    "another type": (
        "nested", lambda s: parameter(s).update(parameterType="FLOAT"),
        BadInput, "'FLOAT'",
    ),
    "a name that leads out": (
        "nested",
        lambda s: s["root"]["dag"].update(tasks={"../x": s["root"]["dag"]["tasks"].pop("fit")}),
        BadInput, "'../x'",
    ),
    "an output that leads out": (
        "collected",
        lambda s: s["components"]["comp-best"]["outputDefinitions"]["parameters"].update(
            {"../../x": {"parameterType": "STRING"}}
        ),
        BadInput, "'../../x'",
    ),
    "two URIs": (
        "imported",
        lambda s: task_of(s, "importer-2")["inputs"]["parameters"]["uri"].update(
            runtimeValue={"constant": "x"}
        ),
        BadInput, "another",
    ),
    "a graph in itself": (
        "nested",
        lambda s: s["components"]["comp-inner-graph"]["dag"]["tasks"]["one"].update(
            componentRef={"name": "comp-inner-graph"}
        ),
        TooLarge, "nested deeper than 20",
    ),
    "a function that is none": (
        "nested",
        lambda s: args(s).__setitem__(3, "os.system"),
        NotSupported, "'os.system'",
    ),
    "items that are no list": (
        "loops",
        lambda s: task_of(s, "for-loop-2")["parameterIterator"]["items"].update(raw='{"a": 1}'),
        BadInput, "not a list",
    ),
    "items with a placeholder": (
        "loops",
        lambda s: task_of(s, "for-loop-2")["parameterIterator"]["items"].update(raw='["{{$.x}}"]'),
        NotSupported, "placeholder",
    ),
    "a limit below nothing": (
        "loops", lambda s: task_of(s, "for-loop-2")["iteratorPolicy"].update(parallelismLimit=-1),
        BadInput, "0 or more",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_by_hand(name: str) -> None:
    pipeline, change, kind, words = EDITS[name]
    spec = load(pipeline)
    change(spec)
    with pytest.raises(kind) as wrong:
        read_pipeline(yaml.safe_dump(spec))
    assert words in str(wrong.value)
    assert type(wrong.value) is kind


def test_an_expression_that_picks_anything_but_a_field() -> None:
    text = (HERE / "supported/loops.yaml").read_text()
    assert '["a"]' in text
    with pytest.raises(NotSupported, match=r"the expression .* is not supported"):
        read_pipeline(text.replace('parseJson(string_value)["a"]', "size(string_value)"))


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        (
            {"deploymentSpec": {"executors": {"exec-fit": {"secretAsEnv": [{"secretName": "s"}]}}}},
            "secretAsEnv",
        ),
        ({"pipelineConfig": {"workspace": {"size": "1Gi"}}}, "whole pipeline"),
    ],
)
def test_the_platform_document(platform: Any, words: str) -> None:
    spec = load("nested")
    with pytest.raises(NotSupported, match=words) as refused:
        read_pipeline(yaml.safe_dump_all([spec, {"platforms": {"kubernetes": platform}}]))
    assert refused.value.where.startswith("task fit" if "deploymentSpec" in platform else "line")
    read_pipeline(yaml.safe_dump_all([spec, {"platforms": {"kubernetes": {}}}]))


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


class TestCommands:
    """The shapes that several versions of the SDK wrote."""

    RUN = (
        'program_path=$(mktemp -d)\n\nprintf "%s" "$0" > "$program_path/ephemeral_component.py"\n'
        "{0}python3 -m kfp.{1}.executor_main --component_module_path "
        '"$program_path/ephemeral_component.py" "$@"\n'
    )
    ARGS = ("--executor_input", "{{$}}", "--function_to_execute", "f")
    CHECK = (
        '\nif ! [ -x "$(command -v pip)" ]; then\n    python3 -m ensurepip || '
        "python3 -m ensurepip --user || apt-get install python3-pip\nfi\n\nPIP_DISABLE_PIP_VERSION_CHECK=1 "
    )
    PIP = "python3 -m pip install --quiet --no-warn-script-location"
    VENV = (
        '\nexport PIP_DISABLE_PIP_VERSION_CHECK=1\ntmp=$(mktemp -d)\n'
        'python3 -m venv "$tmp/venv" --system-site-packages\n. "$tmp/venv/bin/activate"\n '
    )  # fmt: skip
    KFP = "'kfp==2.9.0' '--no-deps' 'typing-extensions>=3.7.4,<5; python_version<\"3.9\"'"

    @pytest.mark.parametrize(
        ("installs", "packages"),
        [
            (f"{PIP} 'numpy' 'kfp==2.0.1'", ("numpy",)),  # 2.0
            (f"{PIP} {KFP}  &&  {PIP} 'numpy>=2' 'pandas'", ("numpy>=2", "pandas")),  # 2.4 to 2.11
            (f"{PIP} 'numpy'  &&  {PIP} {KFP}", ("numpy",)),  # from 2.13
            (f"{PIP} 'numpy'  &&  {VENV}{PIP} {KFP}", ("numpy",)),  # use_venv=True
            (f"{PIP} {KFP}", ()),
            (f"{PIP} \"x; extra == 'y'\"", ("x; extra == 'y'",)),
            (f"{PIP} 'kfp-kubernetes==2.0'", ("kfp-kubernetes==2.0",)),
        ],
    )
    def test_packages(self, installs: str, packages: tuple[str, ...]) -> None:
        prepare = f'{self.CHECK}{installs} && "$0" "$@"\n'
        run = self.RUN.format("_KFP_RUNTIME=true ", "dsl")
        found = read_command(["sh", "-c", prepare, "sh", "-ec", run, "def f(): pass"], self.ARGS)
        assert (found.name, found.source, found.packages) == ("f", "def f(): pass", packages)

    def test_nothing_to_install(self) -> None:
        run = self.RUN.format("", "components")
        assert read_command(["sh", "-ec", run, "def f(): pass"], self.ARGS).packages == ()

    @pytest.mark.parametrize(
        "installs",
        [
            f"{PIP} 'numpy'; rm -rf /",
            f"{PIP} 'numpy' && curl example.invalid",
            f"{PIP} '--editable'",
            f"{PIP} numpy",
            f"{PIP} --index-url https://index.invalid 'numpy'",
            "echo",
        ],
    )
    def test_anything_else_is_refused(self, installs: str) -> None:
        prepare = f'{self.CHECK}{installs} && "$0" "$@"\n'
        run = self.RUN.format("_KFP_RUNTIME=true ", "dsl")
        with pytest.raises(NotSupported):
            read_command(["sh", "-c", prepare, "sh", "-ec", run, "def f(): pass"], self.ARGS)
        with pytest.raises(NotSupported):
            read_command(["sh", "-ec", run + installs, "def f(): pass"], self.ARGS)
        with pytest.raises(NotSupported):
            read_command(["sh", "-ec", run, "def f(): pass"], [*self.ARGS, "--more"])


VALID = [(path.stem, yaml.safe_load(path.read_bytes())) for path in SUPPORTED]
ODD: list[Any] = [
    None, 0, -1, 1.5, 1e300, True, "", "x", "../x", "one", "{{$.x}}", "2.1.0", [], {}, [1], ["x"], [None],
    {"x": 1}, {"name": "comp-one"}, {"constant": [1]}, [[[]]], "[" * 3000, 10**30,
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid pipeline with some keys or elements dropped, replaced, renamed or copied elsewhere."""
    spec = copy.deepcopy(draw(st.sampled_from(VALID))[1])
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
                place[draw(st.sampled_from(["x", "name", "constant", "dag", "raw", "condition"]))] = (
                    place.pop(key)
                )
            elif how == "swap":
                place[key] = copy.deepcopy(place[draw(st.sampled_from(keys))])
            else:
                place[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
            break
    return spec


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_no_mutation_raises_anything_but_our_errors(spec: Any) -> None:
    with suppress(TallyError):
        assert read_pipeline(yaml.dump(spec, Dumper=yaml.CSafeDumper)).digest.startswith("sha256:")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_to_the_text_raises_anything_but_our_errors(data: st.DataObject) -> None:
    raw = (HERE / "supported/imported.yaml").read_bytes()
    at = data.draw(st.integers(0, len(raw)))
    length = data.draw(st.integers(0, 200))
    damaged = raw[:at] + data.draw(st.binary(max_size=20)) + raw[at + length :]
    with suppress(TallyError):
        read_pipeline(damaged)
