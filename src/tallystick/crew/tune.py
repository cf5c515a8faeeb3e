"""The errand ``tune``: a tuner in a process of its own, asked again and again until nobody asks any more.

Order: ``tuner`` (a tile's name). It says ``ready`` once it can be asked. Then each line of standard input is
a question: ``study``, ``count`` (of its trials), ``trials`` (those that are new or changed since the last
question), and ``number`` where it is about a trial under way.

The answer is another ``ready``: ``values``, the next trial's in the order of the space (for a choice the
place among its values), null when there is none; or ``worse``, whether the trial is to be pruned.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.facts import from_json
from tallystick.core.study import Dimension, Kind, Study, Trial
from tallystick.crew.desk import Desk, attend
from tallystick.crew.serve import QUIET
from tallystick.ports.runs.tuner import Tuner
from tallystick.ports.tile import Place
from tallystick.wiring.tiles import open_tile

__all__ = ["main"]


def main(desk: Desk) -> Mapping[str, Any]:
    """Answer until standard input ends; the tuner's own errors end it at once."""
    os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})
    if "tuner" not in desk.order:
        raise BadInput("the order lacks 'tuner'", where="crew/tune")
    tuner: Tuner = open_tile("tuner", str(desk.order["tuner"]), Place(Path.cwd()))
    trials: list[Trial] = []
    desk.ready()
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            said = json.loads(line)
            del trials[said["count"] :]
            for told in said["trials"]:
                trial = from_json(Trial, told)
                trials[trial.number : trial.number + 1] = [trial]
            study = from_json(Study, said["study"])
            if "number" in said:
                desk.ready(worse=runner.run(tuner.worse(study, trials, said["number"])))
            else:
                desk.ready(values=_values(study.space, runner.run(tuner.ask(study, trials))))
    return {"trials": len(trials)}


def _values(space: Sequence[Dimension], params: Mapping[str, Any] | None) -> list[Any] | None:
    """Numbers only, as a line of the hub's has its limits."""
    if params is None:
        return None
    return [_plain(one, params[one.name]) for one in space]


def _plain(one: Dimension, value: Any) -> float | int:
    if one.kind is Kind.CHOICE:
        return one.values.index(value)
    return int(value) if one.kind is Kind.INT else float(value)


if __name__ == "__main__":
    attend(main)
