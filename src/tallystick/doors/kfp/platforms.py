"""The second document, platformSpec: what the pipeline's author tells one kind of platform about its steps.

Of Kubernetes' settings the time limit concerns what a step does on any machine, and so does what a step reads
of its own pod's labels and annotations. The others choose or describe pods, which do not exist here, or bring
in something of a cluster that a step would miss.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tallystick.doors.kfp.definitions import check_variable
from tallystick.doors.kfp.node import Node
from tallystick.doors.kfp.resources import read_quantity

__all__ = ["Settings", "env_of", "read_settings", "timeout_of"]

# Each with the reason why it changes nothing for a step on another kind of machine.
_HARMLESS = {
    "nodeSelector": "chooses among a cluster's nodes",
    "tolerations": "chooses among a cluster's nodes",
    "nodeAffinity": "chooses among a cluster's nodes",
    "podAffinity": "chooses among a cluster's nodes",
    "podMetadata": "describes the pod to other parts of the cluster",
    "imagePullSecret": "no image is pulled",
    "imagePullPolicy": "no image is pulled",
    "enabledSharedMemory": "a pod has little shared memory of its own; a process has the machine's",
}
# What a step would miss: lists, each of an entry; an entry that is optional may be absent in a cluster too.
_MAYBE_OPTIONAL = {
    "secretAsEnv": "a secret of Kubernetes (use_secret_as_env)",
    "secretAsVolume": "a secret of Kubernetes (use_secret_as_volume)",
    "configMapAsEnv": "a config map of Kubernetes (use_config_map_as_env)",
    "configMapAsVolume": "a config map of Kubernetes (use_config_map_as_volume)",
}
_REFUSED = {
    "pvcMount": "a volume of Kubernetes (mount_pvc)",
    "genericEphemeralVolume": "a volume of Kubernetes (add_ephemeral_volume)",
    "emptyDirMounts": "a volume of Kubernetes (empty_dir_mount)",
    "securityContext": "a user or group to run as (set_security_context)",
    "initContainers": "a container that runs before the step (add_init_container)",
}
_KNOWN = frozenset({"activeDeadlineSeconds", "fieldPathAsEnv", *_HARMLESS, *_MAYBE_OPTIONAL})
_POD = frozenset({"labels", "annotations"})
_OWN = re.compile(r"""metadata\.(labels|annotations)\[(['"])([^'"]+)\2\]""")
_TTL = frozenset({"resourceTtlOnCompletion", "resourceTtlOnSuccess", "resourceTtlOnFailure"})


@dataclass(frozen=True, slots=True)
class Settings:
    """What a platform document says: nodes by executor, and the size of the workspace in bytes, or 0."""

    executors: Mapping[str, Node] = field(default_factory=dict)
    workspace_bytes: int = 0


def read_settings(node: Node | None, executors: Mapping[str, Node]) -> Settings:
    """The platform document of a pipeline with these executors."""
    platforms = node.fields(frozenset({"platforms"})).get("platforms") if node else None
    found: dict[str, Node] = {}
    workspace = 0
    for name, platform in (platforms.mapping() if platforms else {}).items():
        if platform.empty:
            continue
        if name != "kubernetes":
            raise platform.refuse(f"the platform {name[:40]!r}")
        fields = platform.fields(
            frozenset({"deploymentSpec", "platform", "pipelineConfig"}),
            {"config": "a setting of the whole pipeline for Kubernetes"},
        )
        workspace = _read_config(fields.get("pipelineConfig"))
        deployment = fields.get("deploymentSpec")
        said = deployment.fields(frozenset({"executors"})).get("executors") if deployment else None
        found = said.mapping() if said else {}
    for label, settings in found.items():
        if label not in executors:
            raise settings.wrong(f"there is no executor {label[:80]!r}")
    return Settings(found, workspace)


def timeout_of(settings: Node | None) -> int:
    """The seconds that a step may take, 0 for any; NotSupported for a setting that it would miss."""
    if settings is None:
        return 0
    fields = settings.fields(_KNOWN, _REFUSED)
    for name, what in _MAYBE_OPTIONAL.items():
        for entry in fields[name].items() if name in fields else []:
            optional = entry.mapping().get("optional")
            if optional is None or optional.value is None or not optional.flag():
                raise entry.refuse(what)
    return fields["activeDeadlineSeconds"].whole() if "activeDeadlineSeconds" in fields else 0


def env_of(settings: Node | None) -> dict[str, str]:
    """What a step reads of its pod's labels and annotations, by the name of the variable.

    Those that the author gave the pod are as given, and others of the author's are empty, as in a cluster.
    NotSupported for one with a prefix (``argoproj.io/...``), which the cluster's own parts set, and for any
    other fact of a pod.
    """
    fields = settings.fields(_KNOWN, _REFUSED) if settings else {}
    given = fields["podMetadata"].fields(_POD) if "podMetadata" in fields else {}
    found: dict[str, str] = {}
    for entry in fields["fieldPathAsEnv"].items() if "fieldPathAsEnv" in fields else []:
        entry.fields(frozenset({"name", "fieldPath"}))
        own = _OWN.fullmatch(entry.need("fieldPath").text())
        said = given[own[1]].mapping() if own and own[1] in given else {}
        if own is None or (own[3] not in said and "/" in own[3]):
            raise entry.refuse("a fact of a pod (use_field_path_as_env)")
        name, value = entry.need("name").text(), said[own[3]].string() if own[3] in said else ""
        check_variable(name, value, entry)
        found[name] = value
    return found


def _read_config(node: Node | None) -> int:
    """``pipelineConfig``: the workspace's size in bytes. How long a cluster keeps pods is its own affair."""
    if node is None:
        return 0
    fields = node.fields(_TTL | {"workspace", "activeDeadlineSeconds"})
    for name in _TTL & {*fields}:
        fields[name].whole()
    deadline = fields.get("activeDeadlineSeconds")
    if deadline is not None and deadline.whole():
        raise deadline.refuse("a time limit of the whole run (active_deadline_seconds)")
    if "workspace" not in fields:
        return 0
    workspace = fields["workspace"]
    volume = workspace.fields(frozenset({"size", "kubernetes"})).get("kubernetes")
    if volume is not None:  # what kind of volume it is to be in a cluster
        volume.fields(frozenset({"pvcSpecPatch"}))
    size = workspace.need("size")
    return int(read_quantity(size, size.text()))
