"""How each result reaches the hub: a JSON file, its arrays and pictures beside it, told once they are whole.

So a judgement that is cancelled, or killed, loses no more than the probe that it was at. Arrays hold the
state after an evasion probe, of all of them together: the next judgement goes on from the last that it knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from tallystick.core.errors import Damaged
from tallystick.core.facts import to_json
from tallystick.crew.desk import Desk
from tallystick.crew.judging.base import Base
from tallystick.evidence.probe import NOTES_MAX, Probe

__all__ = ["Parts", "load_state"]


class Parts:
    """Writes numbered parts into ``folder``, which is the hub's to read, and tells of each.

    ``waited`` says what an endpoint had us wait for so far, which the probe that waited bears as a note.
    """

    def __init__(self, folder: Path, desk: Desk) -> None:
        self.folder, self._desk, self._count = folder, desk, 0
        self.waited: Callable[[], str] = str
        self._told = ""

    def mark(self) -> str:
        """A name that begins the names of the files of the next part."""
        return f"{self._count:03d}"

    def _noted(self, probe: Probe) -> Probe:
        said = self.waited()
        if said == self._told:
            return probe
        self._told = said
        return replace(probe, notes=(*probe.notes[: NOTES_MAX - 1], f"{said}, by the end of this"))

    def tell_base(self, base: Base) -> None:
        """The engine's own probe."""
        self._tell(
            {"probe": to_json(self._noted(base.probe)), "base": to_json({**_fields(base), "probe": None})}
        )

    def tell_probe(
        self,
        probe: Probe,
        robust: tuple[int, ...] = (),
        state: tuple[np.ndarray, np.ndarray] | None = None,
        denied: str = "",
    ) -> None:
        """A probe; of evasion with how many rows withstand at each eps, distances and adversarials, and why
        the model's twin is not believed from there on.
        """
        said: dict[str, Any] = {"probe": to_json(self._noted(probe)), "robust": list(robust)}
        if state is not None:
            said["arrays"] = f"{self.mark()}.npz"
            _save(self.folder / said["arrays"], *state, denied)
        self._tell(said)

    def _tell(self, said: Mapping[str, Any]) -> None:
        name = f"{self.mark()}.json"
        waiting = self.folder / f"{name}.part"
        waiting.write_text(json.dumps(said, allow_nan=False))
        waiting.replace(self.folder / name)
        self._count += 1
        self._desk.part(name)


def _fields(base: Base) -> dict[str, Any]:
    return {name: getattr(base, name) for name in base.__dataclass_fields__}


def _save(path: Path, distance: np.ndarray, adversarial: np.ndarray, denied: str = "") -> None:
    """Only rows that there are: most samples have none, or have it far down the list."""
    text = adversarial.dtype == object
    there = np.array([bool(t) for t in adversarial], bool) if text else np.isfinite(adversarial).all(axis=1)
    rows = adversarial[there].astype(str) if text else adversarial[there]
    with path.open("wb") as file:
        np.savez(file, distance=distance, places=np.flatnonzero(there), rows=rows, denied=denied)


def load_state(path: Path, empty: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Distances (m,) and adversarials as :class:`~tallystick.ports.models.attack.Case` has them, and why the
    model's twin is not believed after this probe; empty where it is.

    ``empty`` is that of before any probe. Damaged where the file is none, or of other rows.
    """
    made = empty.copy()
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            distance, places, rows = file["distance"], file["places"], file["rows"]
            denied = str(file["denied"]) if "denied" in file.files else ""
        made[places] = rows.astype(object) if empty.dtype == object else rows
    except (OSError, EOFError, ValueError, KeyError, IndexError, BadZipFile) as wrong:
        raise Damaged(f"what a probe found cannot be read: {str(wrong)[:200]}", where=path.name) from None
    if distance.shape != (len(empty),) or np.isnan(distance).any():
        raise Damaged("what a probe found is of other rows", where=path.name)
    return distance, made, denied
