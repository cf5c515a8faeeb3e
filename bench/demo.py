#!/usr/bin/env python3
"""How long `tally demo` takes on an empty home, and a second time on the same one.

Wall and CPU seconds of the whole process tree, and the seconds of each chapter. There is no peer that
does the whole of it, so there is no ratio but that of the second time to the first.

    python bench/demo.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from _services import BIN


def demo(folder: Path) -> dict[str, Any]:
    """One `tally demo`: its own figures, with wall and CPU seconds as seen from outside."""
    file = folder / "figures.json"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    command = [str(BIN / "tally"), "--home", str(folder / "home"), "demo", "--stop", "--json", str(file)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    chapters = json.loads(file.read_text("utf-8"))["seconds"]
    return {"wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2), "chapters_s": chapters}


def main() -> None:
    """Run the demo twice, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tally-bench-") as folder:
        first, second = demo(Path(folder)), demo(Path(folder))
    for name, figures in (("first", first), ("second", second)):
        print(
            f"{name:7} {figures['wall_s']:7.1f} s wall  {figures['cpu_s']:7.1f} s CPU (that was waited for)"
        )
        print("        " + ", ".join(f"{k} {v:.1f}" for k, v in figures["chapters_s"].items()))
    print(f"the second time takes {second['wall_s'] / first['wall_s']:.2f} of the first")
    if chosen.json:
        chosen.json.write_text(json.dumps({"first": first, "second": second}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
