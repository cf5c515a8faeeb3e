"""The second document: what is told to Kubernetes is honoured, means nothing here, or is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.core.errors import BadInput, NotSupported
from tests.doors.kfp.corpus import by_name, component, load, read_edited


def kubernetes(said: Any, config: Any = None) -> Any:
    """A platform document with settings for the step ``say``."""
    platform: dict[str, Any] = {"deploymentSpec": {"executors": {"exec-say": said}}}
    if config is not None:
        platform["pipelineConfig"] = config
    return {"platforms": {"kubernetes": platform}}


def read_with(document: Any) -> Any:
    return read_edited(load("ignore-upstream"), document)


@pytest.mark.parametrize(("said", "seconds"), [("20", 20), (20, 20), (0, 0), ("0", 0)])
def test_a_time_limit(said: Any, seconds: int) -> None:
    tasks = by_name(read_with(kubernetes({"activeDeadlineSeconds": said})).root)
    assert component(tasks["say"]).timeout_s == seconds
    assert component(tasks["say-2"]).timeout_s == 0


@pytest.mark.parametrize("said", ["2m", -1, 1.5, True, "9" * 30, [1]], ids=str)
def test_a_time_limit_that_is_none(said: Any) -> None:
    with pytest.raises(
        BadInput, match=r"task say, line \d+, .*activeDeadlineSeconds: expected a whole number"
    ):
        read_with(kubernetes({"activeDeadlineSeconds": said}))


def test_what_a_step_reads_of_its_own_pod() -> None:
    said = {
        "podMetadata": {"labels": {"a": "red", "example.com/b": ""}, "annotations": {"a": "two words"}},
        "fieldPathAsEnv": [
            {"name": "A", "fieldPath": "metadata.labels['a']"},
            {"name": "B", "fieldPath": "metadata.labels['example.com/b']"},
            {"name": "NOTE", "fieldPath": 'metadata.annotations["a"]'},
            {"name": "NOBODY", "fieldPath": "metadata.annotations['nobody']"},
        ],
    }
    env = component(by_name(read_with(kubernetes(said)).root)["say"]).env
    assert env == {"A": "red", "B": "", "NOTE": "two words", "NOBODY": ""}


@pytest.mark.parametrize(
    "said",
    [
        {"nodeSelector": {"labels": {"a": "b"}}},
        {"nodeSelector": {"nodeSelectorJson": {"componentInputParameter": "where"}}},
        {"tolerations": [{"key": "a", "operator": "Exists"}]},
        {"nodeAffinity": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]},
        {"podAffinity": [{"topologyKey": "zone"}]},
        {"podMetadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}},
        {"imagePullSecret": [{"secretName": "a"}], "imagePullPolicy": "Always"},
        {"enabledSharedMemory": {"volumeName": "shm", "size": "1Gi"}},
        {
            "secretAsEnv": [
                {"secretName": "a", "optional": True, "keyToEnv": [{"secretKey": "k", "envVar": "E"}]}
            ]
        },
        {"configMapAsVolume": [{"configMapName": "a", "mountPath": "/a", "optional": True}]},
        {"pvcMount": [], "secretAsEnv": None, "securityContext": {}},
        {},
    ],
    ids="+".join,
)
def test_what_means_nothing_here(said: Any) -> None:
    assert read_with(kubernetes(said)).root == read_with(kubernetes({})).root


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"secretAsEnv": [{"secretName": "a"}]}, "a secret of Kubernetes (use_secret_as_env)"),
        ({"secretAsVolume": [{"secretName": "a", "optional": False}]}, "use_secret_as_volume"),
        ({"configMapAsEnv": [{"optional": True}, {}]}, "a config map of Kubernetes"),
        ({"configMapAsVolume": [{"mountPath": "/a"}]}, "use_config_map_as_volume"),
        ({"pvcMount": [{"mountPath": "/a", "constant": "b"}]}, "a volume of Kubernetes (mount_pvc)"),
        ({"genericEphemeralVolume": [{"volumeName": "a"}]}, "add_ephemeral_volume"),
        ({"emptyDirMounts": [{"volumeName": "a"}]}, "empty_dir_mount"),
        ({"fieldPathAsEnv": [{"name": "A", "fieldPath": "metadata.name"}]}, "a fact of a pod"),
        ({"fieldPathAsEnv": [{"name": "A", "fieldPath": "metadata.labels['x/y']"}]}, "a fact of a pod"),
        ({"securityContext": {"runAsUser": 0}}, "a user or group to run as"),
        ({"initContainers": [{"name": "a", "image": "b"}]}, "a container that runs before the step"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_what_a_step_would_miss(said: Any, words: str) -> None:
    with pytest.raises(NotSupported) as refused:
        read_with(kubernetes(said))
    assert words in refused.value.what
    assert refused.value.where.startswith("task say, line ")


@pytest.mark.parametrize(
    ("document", "kind", "words"),
    [
        (kubernetes({"priority": 1}), BadInput, "unknown field 'priority'"),
        (kubernetes({"fieldPathAsEnv": [{"name": "A=B", "fieldPath": "metadata.labels['a']"}]}), BadInput,
         "cannot be set"),
        (kubernetes({"fieldPathAsEnv": [{"name": "A", "path": "metadata.labels['a']"}]}), BadInput,
         "unknown field 'path'"),
        (kubernetes({"secretAsEnv": {"a": "b"}}), BadInput, "expected a list"),
        (kubernetes({"secretAsEnv": [{"optional": "yes"}]}), BadInput, "expected true or false"),
        ({"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-x": {}}}}}}, BadInput,
         "no executor 'exec-x'"),
        ({"platforms": {"vertex": {"a": 1}}}, NotSupported, "the platform 'vertex'"),
        ({"platforms": {"kubernetes": {"config": {"a": 1}}}}, NotSupported, "a setting of the whole"),
        ({"platform": {}}, BadInput, "unknown field 'platform'"),
        (kubernetes({}, {"activeDeadlineSeconds": 5}), NotSupported, "a time limit of the whole run"),
        (kubernetes({}, {"resourceTtlOnSuccess": "soon"}), BadInput, "expected a whole number"),
        (kubernetes({}, {"semaphore": 1}), BadInput, "unknown field 'semaphore'"),
        (kubernetes({}, {"workspace": {}}), BadInput, "'size' is missing"),
        (kubernetes({}, {"workspace": {"size": "large"}}), BadInput, "'large' is not a quantity"),
        (kubernetes({}, {"workspace": {"size": "1Gi", "speed": 1}}), BadInput, "unknown field 'speed'"),
    ],
    ids=lambda value: str(value)[-60:] if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_cannot_be_said(document: Any, kind: type[BadInput], words: str) -> None:
    with pytest.raises(kind) as wrong:
        read_with(document)
    assert words in wrong.value.what
    assert type(wrong.value) is kind
    assert "line " in wrong.value.where


def test_a_workspace() -> None:
    config = {
        "workspace": {"size": "10Gi", "kubernetes": {"pvcSpecPatch": {"storageClassName": "fast"}}},
        "resourceTtlOnCompletion": 60, "resourceTtlOnFailure": 1.0, "activeDeadlineSeconds": 0,
    }  # fmt: skip
    assert read_with(kubernetes({}, config)).workspace_bytes == 10 * 2**30
    assert read_with({"platforms": {"kubernetes": {}}}).workspace_bytes == 0
