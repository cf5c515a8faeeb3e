#!/usr/bin/env python3
"""MLflow's own REST tests, against stock and then against the hub: what stock passes, the hub must pass.

    python tests/conformance/run.py MLFLOW_SRC [--only EXPR] [--jobs N] [--json FILE] [--stock FILE]

MLFLOW_SRC is a source tree of MLflow, of the installed version or the nearest there is; only its ``tests``
folder is taken, copied to a folder of its own so that the installed MLflow is the one that is tested.
Nothing of it is kept. The exit status says whether the hub passed all that stock passed and that applies.
"""

# ruff: noqa: T201  # it speaks to a terminal, as the tools do
from __future__ import annotations

import argparse
import fnmatch
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
FILES = (
    "tests/tracking/test_rest_tracking.py",
    "tests/tracking/test_tracking.py",
    "tests/tracking/test_model_registry.py",
    "tests/tracking/test_mlflow_artifacts.py",
    "tests/tracking/test_client_webhooks.py",
    "tests/store/model_registry/test_rest_store_webhooks.py",
    "tests/tracing/test_otel_logging.py",
    "tests/tracing/test_otel_loading.py",
)
"""The files whose tests go through a server: one that they start, or that the plugin starts for them."""

Outcomes = dict[str, tuple[str, str]]


def applies(test: str, excluded: dict[str, str]) -> str:
    """Why a test cannot apply to the hub; empty when it does."""
    return next((why for pattern, why in excluded.items() if fnmatch.fnmatchcase(test, pattern)), "")


def read_excluded(file: Path) -> dict[str, str]:
    """``PATTERN: reason`` lines; square brackets in a pattern mean themselves."""
    lines = [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    pairs = (re.split(r":\s+", line, maxsplit=1) for line in lines)
    return {pattern.replace("[", "[[]"): why for pattern, why in pairs}


def stage(source: Path, folder: Path) -> None:
    """A copy of the tests alone: beside MLflow's sources they would import those."""
    shutil.copytree(source / "tests", folder / "tests", symlinks=True)
    shutil.copy(source / "pyproject.toml", folder)


def add_wants(folder: Path) -> None:
    """What these tests import beyond MLflow's own dependencies, beside the copy and nowhere else."""
    command = [str(BIN / "uv"), "pip", "install", "--quiet", "--python", sys.executable]
    wants = f"opentelemetry-exporter-otlp-proto-http=={importlib.metadata.version('opentelemetry-proto')}"
    done = subprocess.run([*command, "--target", folder / "wants", wants], check=False)
    if done.returncode:
        print("the OTLP exporter does not install: the files that import it count as not run")


def version_of(source: Path) -> str:
    """What the source tree says of itself."""
    found = re.search(r'^VERSION = "(.+)"', (source / "mlflow/version.py").read_text("utf-8"), re.MULTILINE)
    return found[1] if found else "unknown"


def run(folder: Path, hub: str, only: str, jobs: int, tests: tuple[str, ...] = ()) -> Outcomes:
    """The tests' outcomes, each with why; ``jobs`` processes share them. ``tests``: not all, but these."""
    command = [sys.executable, "-m", "pytest", "-p", "mlflow_plugin", "-p", "no:cacheprovider", "-q"]
    command += [
        "--no-showlocals",
        "--continue-on-collection-errors",
        "--durations=0",
        "--color=no",
        "-o",
        "asyncio_mode=auto",
    ]
    command += ["-k", only] if only else []
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "TALLY_", "PYTEST_"))}
    going = []
    for share in range(jobs):
        place = Path(tempfile.mkdtemp(dir=folder))
        environment = kept | {
            "PATH": f"{BIN}:{kept['PATH']}",
            "PYTHONPATH": f"{HERE}:{folder}:{folder / 'wants'}",
            "CONFORMANCE_HUB": hub,
            "CONFORMANCE_OUTCOMES": str(place / "outcomes.json"),
            "CONFORMANCE_SHARE": f"{share}/{jobs}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_MODEL_CATALOG_URI": folder.as_uri(),  # not the internet
            "DO_NOT_TRACK": "true",
        }
        log = (place / "pytest.log").open("wb")
        there = [f for f in FILES if (folder / f).exists()]
        process = subprocess.Popen(
            [*command, *(tests or there)], cwd=folder, env=environment, stdout=log, stderr=log
        )
        going.append((process, place))
    outcomes: Outcomes = {}
    for process, place in going:
        process.wait()
        file = place / "outcomes.json"
        if not file.exists():
            sys.exit((place / "pytest.log").read_text("utf-8", "replace")[-4000:])
        outcomes |= {test: (what, why) for test, (what, why) in json.loads(file.read_text("utf-8")).items()}
    return outcomes


def owed(stock: Outcomes, hub: Outcomes, excluded: dict[str, str]) -> list[str]:
    """What stock passed, what applies, and what the hub did not pass."""
    passed = [test for test, (what, _) in stock.items() if what == "passed" and not applies(test, excluded)]
    return [test for test in passed if hub.get(test, ("missing", ""))[0] != "passed"]


def compare(stock: Outcomes, hub: Outcomes, excluded: dict[str, str]) -> int:
    """Print the summary and each difference; how many tests the hub still owes."""
    passed = [test for test, (what, _) in stock.items() if what == "passed"]
    apart = {test: why for test in passed if (why := applies(test, excluded))}
    missing = owed(stock, hub, excluded)
    asked = len(passed) - len(apart)
    print(
        f"stock: {len(passed)} passed, {sum(what == 'skipped' for what, _ in stock.values())} skipped, ",
        end="",
    )
    print(f"of {len(stock)}; what stock does not pass is asked of nobody")
    for reason in sorted(set(apart.values())):
        print(f"  {list(apart.values()).count(reason):4} of them cannot apply: {reason}")
    print(f"hub:   {asked - len(missing)} passed of the {asked} that stock passes and that apply")
    for test in missing:
        what, why = hub.get(test, ("missing", "it was not run"))
        print(f"  {what}: {test}\n      {' '.join(why.split())[:300]}")
    more = [t for t in apart if hub.get(t, ("", ""))[0] == "passed"]
    print(f"  {len(more)} of those that cannot apply passed all the same")
    return len(missing)


def main() -> None:
    """Run both, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--only", default="", help="an expression for pytest's -k")
    parser.add_argument("--jobs", type=int, default=2, help="processes that share the tests")
    parser.add_argument("--json", type=Path, help="write both lists of outcomes here")
    parser.add_argument("--stock", type=Path, help="a file that --json wrote: do not run stock again")
    chosen = parser.parse_args()
    installed, excluded = importlib.metadata.version("mlflow"), read_excluded(HERE / "excluded.txt")
    print(f"MLflow {installed} is installed; its tests are those of {version_of(chosen.source)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tally-conformance-") as name:
        folder = Path(name)
        stage(chosen.source, folder)
        add_wants(folder)
        if chosen.stock:
            stock = json.loads(chosen.stock.read_text("utf-8"))["stock"]
        else:
            stock = run(folder, "", chosen.only, chosen.jobs)
        tally = str(BIN / "tally")
        hub = run(folder, tally, chosen.only, chosen.jobs)
        if again := owed(stock, hub, excluded):
            # Some wait only seconds for what MLflow's own server, which the hub starts when needed, answers.
            print(f"once more, one after the other: {', '.join(again)}", flush=True)
            hub |= run(folder, tally, "", 1, tuple(again))
    if chosen.json:
        both = {"installed": installed, "stock": stock, "hub": hub}
        chosen.json.write_text(json.dumps(both, indent=1) + "\n", "utf-8")
    sys.exit(1 if compare(stock, hub, excluded) else 0)


if __name__ == "__main__":
    main()
