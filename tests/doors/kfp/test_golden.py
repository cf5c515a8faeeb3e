"""The pipelines that Kubeflow's own tests compile, wherever its source lies: ``KFP_SRC=DIR`` says where.

None of them is here: they are read from there, and what is not read is reported with its reason.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.facts import to_json
from tallystick.core.names import canonical_json
from tallystick.core.pipeline.order import task_order
from tallystick.doors.kfp.reader import read_pipeline

KFP_SRC = os.environ.get("KFP_SRC", "")
# What nothing but a cluster can honour.
REASONS = re.compile(
    r"(a volume|a secret|a config map) of Kubernetes|a fact of a pod|a user or group to run as"
)


@pytest.mark.slow
@pytest.mark.skipif(not KFP_SRC, reason="KFP_SRC is not set: the folder of kubeflow/pipelines' source")
def test_all_golden_pipelines_are_read_but_for_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    read, broken = 0, []
    refused = defaultdict[str, list[str]](list)
    for path in sorted(Path(KFP_SRC).rglob("*.yaml")):
        raw = path.read_bytes()
        if b"\npipelineInfo:" not in raw or b"argoproj.io" in raw:  # compiled by others, for others
            continue
        try:
            pipeline = read_pipeline(raw)
        except NotSupported as reason:
            refused[reason.what].append(path.name)
        except BadInput as wrong:
            broken.append(f"{path.parent.name}/{path.name}: {wrong}")
        else:
            read += 1
            assert canonical_json(to_json(pipeline))
            assert len(task_order(pipeline.root)) == len(pipeline.root.tasks)
    with capsys.disabled():
        print(f"\n{read} read, {sum(map(len, refused.values()))} refused, {len(broken)} broken:")  # noqa: T201 (the report is what this test is run for)
        for what, names in sorted(refused.items()):
            print(f"  {len(names)} {what}: {', '.join(names)}")  # noqa: T201 (as above)
    assert read > 100
    assert all(line.startswith("invalid/") for line in broken), broken
    assert [what for what in refused if not REASONS.match(what)] == []
