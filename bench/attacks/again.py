"""Judging a model anew, and again after nothing changed: whole commands, as a person types them.

The demo's model, in a hub that was started anew after the demo. ``--again`` probes all anew; without it what
is known of the same files and rows is recalled, weighed and signed. Prints one line of JSON: seconds of each,
and of ``tally --version``, which is what any command takes to start.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))
from _services import BIN, SERVICES, TALLY, running

TALLY_PROGRAM = str(BIN / "tally")


def timed(*words: str) -> tuple[float, str]:
    """Wall seconds of one ``tally`` command and what it said; 3 is the status of a model that is refused."""
    began = time.perf_counter()
    done = subprocess.run([TALLY_PROGRAM, *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode not in (0, 3):
        raise RuntimeError(f"tally {' '.join(words)}: {done.stderr.strip()[-400:]}")
    return seconds, done.stdout


def judged(hub: str, model: str, *more: str) -> tuple[float, dict[str, Any]]:
    """Seconds of ``tally judge``, and the verdict."""
    seconds, said = timed("--url", hub, "judge", model, "--json", *more)
    return seconds, json.loads(said)


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """The demo's home, its hub started anew; then judged ``rounds`` times again, and once from nothing."""
    timed("--home", str(folder / "home"), "demo", "--stop")
    database = f"sqlite:///{folder}/home/mlflow.db"
    with running(SERVICES[TALLY], database, folder) as hub:
        models = json.loads(timed("--url", hub.url, "models", "--json")[1])
        model = f"{models[0]['name']}@{models[0]['version']}"
        first_s, _ = judged(hub.url, model)
        again = [judged(hub.url, model) for _ in range(rounds)]
        anew_s, verdict = judged(hub.url, model, "--again")
        start_s = min(timed("--version")[0] for _ in range(rounds))
    same = all(v["findings"] == verdict["findings"] for _, v in again)
    seconds = sorted(s for s, _ in again)
    return {
        "model": model, "anew_s": anew_s, "first_s": first_s, "again_s": seconds[len(seconds) // 2],
        "most_s": seconds[-1], "start_s": start_s, "same": same, "rounds": rounds,
    }  # fmt: skip


def main() -> None:
    """Read the order, measure, say."""
    order = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    with tempfile.TemporaryDirectory(prefix="tally-bench-") as folder:
        print(json.dumps(measure(Path(folder), order["rounds"])))


if __name__ == "__main__":
    main()
