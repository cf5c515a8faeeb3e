"""Whole runs through a hub of its own: a pipeline goes in by HTTP, as `tally run` sends it.

Every event of a run is in its journal, durably, before anything follows from it; outputs and logs are stored,
and MLflow is told. The time is from the request until the hub's own clock says that the run ended.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["hub"]

LOOK_S = 0.1
"""Between two looks at whether a run has ended. The hub says when that was, and is not to be kept from it."""
START_S = 120.0
PROGRAM = """program_path=$(mktemp -d)

printf "%s" "$0" > "$program_path/ephemeral_component.py"
_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --component_module_path \
"$program_path/ephemeral_component.py" "$@"
"""
"""What the kfp SDK lets a container run."""
WIDE = 20
"""Steps of each of the chains that stand side by side in a large pipeline."""


def hub(
    sandbox: str, folder: Path, add: str, heavy: str, works: Callable[[Callable[[str, int], Any]], None]
) -> None:
    """The hub of this tree with its usual settings, on an empty home."""
    home, log = folder / "home", folder / "hub.log"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TALLY_", "MLFLOW_"))}
    command = [
        sys.executable,
        "-m",
        "tallystick",
        "up",
        "--home",
        str(home),
        "--port",
        "0",
        "--sandbox",
        sandbox,
    ]
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=clean)
    try:
        url = _answering(process, home, log)

        def way(kind: str, count: int) -> dict[str, float]:
            source = heavy if kind == "heavy" else add
            spec = json.dumps(pipeline(kind, count, source))
            if kind == "again":
                _run(url, spec)
            _forget_peak(process.pid)
            return {"seconds": _run(url, spec), "mib": _peak_mib(process.pid)}

        works(way)
    finally:
        process.terminate()
        process.wait(60)


def _answering(process: subprocess.Popen[bytes], home: Path, log: Path) -> str:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            url = str(json.loads((home / "hub.json").read_text())["url"])
            _asked(f"{url}/api/tally/status")
        except (OSError, ValueError):
            time.sleep(0.05)
        else:
            return url
    raise RuntimeError(f"the hub did not start: {log.read_text('utf-8', 'replace')[-500:]}")


def _asked(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310  reason: ours
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310  reason: ours
            return json.load(answer)
    except urllib.error.HTTPError as wrong:
        raise RuntimeError(f"{wrong.code}: {wrong.read()[:500]!r}") from wrong


def _run(url: str, spec: str) -> float:
    """Seconds until the run ended; RuntimeError where it did not succeed."""
    began = time.time()
    key = _asked(f"{url}/api/tally/runs", {"spec": spec, "filename": "bench.yaml", "params": {}})["key"]
    while True:
        fact = _asked(f"{url}/api/tally/log?noun=run&key={key}&limit=1")[0]["state"]
        if fact["state"] == "succeeded":
            return float(fact["ended_ms"]) / 1000 - began
        if fact["state"] in ("failed", "cancelled"):
            raise RuntimeError(f"{key}: {fact['error']}")
        time.sleep(LOOK_S)


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): the peak is counted from here


def _peak_mib(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


# --------------------------------------------------------------------------------------------- the pipelines


def pipeline(kind: str, count: int, source: str) -> dict[str, Any]:
    """PipelineSpec 2.1 for a work, as the kfp SDK writes it (JSON is YAML)."""
    number = {"parameters": {"n": {"parameterType": "NUMBER_INTEGER"}}}
    out = {"parameters": {"Output": {"parameterType": "NUMBER_INTEGER"}}}
    components = {
        "comp-add": {"executorLabel": "exec-add", "inputDefinitions": number, "outputDefinitions": out}
    }
    if kind == "loop":
        item = {"componentInputParameter": "n"}
        inner = {"dag": {"tasks": {"add": _task("add", item, False)}}, "inputDefinitions": number}
        components["comp-loop"] = inner
        items = {"items": {"raw": json.dumps(list(range(count)))}, "itemInput": "n"}
        tasks = {
            "loop": {
                "componentRef": {"name": "comp-loop"},
                "taskInfo": {"name": "loop"},
                "parameterIterator": items,
            }
        }
    else:
        length = 1 if kind == "fan" else WIDE if kind == "wide" else count
        tasks = {f"add-{n}": _nth(n, length, kind == "again") for n in range(count)}
    command = ["sh", "-ec", PROGRAM, source]
    container = {"image": "python:3.11", "command": command, "args": _ARGS}
    return {
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "pipelineInfo": {"name": "bench"},
        "components": components,
        "deploymentSpec": {"executors": {"exec-add": {"container": container}}},
        "root": {"dag": {"tasks": tasks}},
    }


_ARGS = ["--executor_input", "{{$}}", "--function_to_execute", "add"]


def _nth(number: int, length: int, cached: bool) -> dict[str, Any]:
    """The task of that number in chains of ``length``."""
    if number % length == 0:
        return _task(f"add-{number}", {"runtimeValue": {"constant": number}}, cached)
    before = f"add-{number - 1}"
    given = {"taskOutputParameter": {"outputParameterKey": "Output", "producerTask": before}}
    return {**_task(f"add-{number}", given, cached), "dependentTasks": [before]}


def _task(name: str, given: dict[str, Any], cached: bool) -> dict[str, Any]:
    return {
        "componentRef": {"name": "comp-add"},
        "taskInfo": {"name": name},
        "cachingOptions": {"enableCache": True} if cached else {},
        "inputs": {"parameters": {"n": given}},
    }
