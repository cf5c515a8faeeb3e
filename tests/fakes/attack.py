"""An attack for tests: it tries every point of a grid around a sample. Fit for two or three features.

Beside it offers of every sort of trouble, which only a policy that names them gets.
"""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path

import numpy as np

from tallystick.core.errors import BadInput, Failed, NotSupported
from tallystick.evidence.figures import Figure
from tallystick.evidence.probe import Probe, ProbeState, Threat
from tallystick.ports.models.attack import Case, Found, Needs, Offer, Progress
from tallystick.ports.tile import Place

__all__ = ["FakeAttack", "Trouble", "as_installed", "open_tile"]

STEPS = (-1.0, -0.5, 0.0, 0.5, 1.0)


class FakeAttack:
    """Honest within its grid: what it finds is adversarial, and it is exact for linear models."""

    def offers(self) -> tuple[Offer, ...]:
        return (Offer("grid", Threat.EVASION, 1, "every point of a grid"),)

    def versions(self) -> dict[str, str]:
        return {"fake": "1"}

    def run(self, name: str, case: Case, progress: Progress) -> Found:
        if name != "grid":
            raise BadInput(f"no probe {name!r}", where="attack")
        grid = np.array(list(itertools.product(STEPS, repeat=case.x.shape[1])))
        if len(grid) * len(case.budget.eps) > case.budget.queries_max:
            raise NotSupported("too few queries for the grid")
        distance, adversarial = case.distance.copy(), case.adversarial.copy()
        for sample, row in enumerate(case.attacked):
            progress(sample / len(case.attacked), "grid")
            for eps in case.budget.eps if distance[sample] > 0 else ():
                if distance[sample] <= eps:
                    break
                points = np.clip(case.x[row] + eps * grid, case.domain.low, case.domain.high)
                points = points.astype(np.float32)
                wrong = np.flatnonzero(case.victim.scores(points).argmax(axis=1) != case.y[row])
                far = np.abs(points[wrong].astype(np.float64) - case.x[row]).max(axis=1)
                if len(far) and far.min() < distance[sample]:
                    distance[sample] = far.min()
                    adversarial[sample] = points[wrong[far.argmin()]]
        progress(1.0, "done")
        settings = {"steps": list(STEPS)}
        return Found(
            Probe("grid", Threat.EVASION, library="fake 1", settings=settings), distance, adversarial
        )


class Trouble(FakeAttack):
    """The grid, and beside it what may go wrong in somebody's tile, each by its name.

    ``kill`` ends its own process the first time: as long as there is a file ``kill`` in the folder of
    ``TROUBLE``.
    """

    def offers(self) -> tuple[Offer, ...]:
        named = ("raises", "lies", "far", "breaks", "kill", "silent", "late")
        more = tuple(Offer(n, Threat.EVASION, 1, n, usual=False) for n in named)
        needy = (
            Offer("white", Threat.EVASION, 1, "white", Needs(gradients=True), usual=False),
            Offer("trained", Threat.INFERENCE, 1, "trained", Needs(train=True), usual=False),
            Offer("figures", Threat.CORRUPTION, 1, "figures", usual=False),
            Offer("proof", Threat.CERTIFICATE, 1, "proof", usual=False),
        )
        return (*super().offers(), *more, *needy)

    def run(self, name: str, case: Case, progress: Progress) -> Found:
        probe = Probe(name, Threat.EVASION, library="fake 1")
        if name == "raises":
            raise ZeroDivisionError("division by zero")
        if name == "breaks":
            raise Failed("it broke off", where="attack")
        if name == "kill" and (Path(os.environ["TROUBLE"]) / "kill").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "silent":
            return Found(Probe("silent", Threat.EVASION, ProbeState.NOT_APPLICABLE, "it has nothing to say"))
        if name == "lies":  # rows that turn nothing, at a distance of nothing
            distance = np.where(case.distance > 0, 1e-9, 0.0)
            return Found(probe, distance, case.x[case.attacked].copy())
        if name == "far":  # rows that turn, but lie outside of the domain
            rows = np.full_like(case.adversarial, case.domain.high + 5)
            return Found(probe, np.where(case.distance > 0, 0.01, 0.0), rows)
        if name == "trained":
            assert case.train is not None
            figure = Figure("membership_advantage", 0.0, 0.0, 0.0, len(case.train[0]))
            return Found(Probe(name, Threat.INFERENCE, library="fake 1", figures=(figure,)))
        if name == "figures":
            figure = Figure("corruption_accuracy", 0.5, 0.4, 0.6, 10)
            return Found(Probe(name, Threat.CORRUPTION, library="fake 1", figures=(figure,)))
        if name == "proof":
            figure = Figure("certified_accuracy", 0.5, 0.4, 0.6, 10, case.budget.eps[0])
            return Found(Probe(name, Threat.CERTIFICATE, library="fake 1", figures=(figure,)))
        found = super().run("grid", case, progress)
        return Found(Probe(name, Threat.EVASION, library="fake 1"), found.distance, found.adversarial)


def open_tile(place: Place) -> Trouble:
    return Trouble()


def as_installed(
    folder: Path, tiles: str = "trouble = tests.fakes.attack:open_tile", version: str = "1"
) -> Path:
    """A package of somebody's with these attack tiles, as if it were installed in ``folder``."""
    info = folder / f"somebodys-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: somebodys\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[tallystick.attack]\n{tiles}\n")
    return folder
