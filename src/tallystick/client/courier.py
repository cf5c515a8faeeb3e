"""One chunk of points to the hub, until it is there or can never be: tried again, split, refused."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from tallystick.client.post import NotNow, Refused, TooLong
from tallystick.client.wire import BODY_MAX, Row, by_run, by_workspace, encode, halves, weigh

__all__ = ["Courier"]

_PAUSE_FIRST_S = 0.1
_PAUSE_MAX_S = 5.0
_NAMED = 5
"""So many runs are named in one error; the others are counted."""


@dataclass(slots=True)
class _Loss:
    """Points of one run that the hub refused."""

    code: str
    why: str
    points: int


class Courier:
    """Delivers in one thread; what went wrong is kept here until a caller is told.

    ``send(body, workspace)`` makes one request, ``pause(seconds)`` waits between two tries, and ``changed()``
    is called whenever somebody who waits may want to look again.
    """

    def __init__(
        self,
        send: Callable[[bytes, str | None], None],
        retry_s: float,
        pause: Callable[[float], None],
        changed: Callable[[], None],
    ) -> None:
        self._send = send
        self._retry_s = retry_s
        self._pause = pause
        self._changed = changed
        self._losses: dict[str, _Loss] = {}
        self._mind = threading.Lock()  # for losses, stuck and alarm, which change together
        self.alarm = False
        """Whether :meth:`complain` may have something to say."""
        self.tries = 0
        """Tries that failed, since the beginning."""
        self.stuck = ""
        """Why nothing is taken, once that has gone on for too long; empty as soon as something is."""

    def deliver(self, rows: Sequence[Row]) -> None:
        """Return when each of ``rows`` is durable, or refused for good and noted."""
        for workspace, some in by_workspace(rows).items():
            self._deliver(some, workspace)

    def complain(self, run_id: str | None, waiting: int) -> None:
        """Raise what went wrong, if anything: with the hub, or with ``run_id``; None stands for any run.

        A refusal is told once. ``waiting`` is how many points still wait, for the message.
        """
        if self.stuck:
            raise MlflowException(
                f"the hub does not take metrics: {self.stuck}. {waiting:,} point(s) wait in this process; "
                "they are sent as soon as the hub takes them, and lost if the process ends before",
                TEMPORARILY_UNAVAILABLE,
            )
        with self._mind:
            told = [run_id] if run_id is not None else list(self._losses)
            losses = {run: loss for run in told if (loss := self._losses.pop(run, None))}
            self.alarm = bool(self._losses or self.stuck)
        if losses:
            raise _as_error(losses)

    def lose(self, rows: Sequence[Row], code: str, why: str) -> None:
        """Note that ``rows`` will never be taken."""
        with self._mind:
            for run, some in by_run(rows).items():
                known = self._losses.setdefault(run, _Loss(code, why, 0))
                known.points += weigh(some)
            self.alarm = True
        self._changed()

    def _deliver(self, rows: Sequence[Row], workspace: str | None) -> None:
        body = encode(uuid.uuid4().hex, rows)
        try:
            if len(body) > BODY_MAX:
                raise TooLong(f"a request of {len(body)} bytes")
            self._insist(body, workspace)
        except TooLong as why:
            parts = halves(rows)
            if not parts:
                self.lose(rows, "INVALID_PARAMETER_VALUE", str(why))
            for part in parts:
                self._deliver(part, workspace)
        except Refused as why:
            self._narrow(rows, workspace, why)

    def _narrow(self, rows: Sequence[Row], workspace: str | None, why: Refused) -> None:
        """Find whose rows were refused: those of the other runs go again, in batches of their own."""
        runs = list(by_run(rows).values())
        if len(runs) == 1:
            self.lose(rows, why.code, str(why))
            return
        half = len(runs) // 2
        for some in (runs[:half], runs[half:]):
            self._deliver([row for run in some for row in run], workspace)

    def _insist(self, body: bytes, workspace: str | None) -> None:
        """Send one batch, under one id, until the hub answers for good."""
        began, pause = time.monotonic(), _PAUSE_FIRST_S
        while True:
            try:
                self._send(body, workspace)
            except NotNow as why:
                self._note(why, time.monotonic() - began)
                self._pause(max(pause, why.after_s))
                pause = min(2 * pause, _PAUSE_MAX_S)
            except (Refused, TooLong):
                self._is_back()
                raise
            else:
                self._is_back()
                return

    def _note(self, why: NotNow, gone_s: float) -> None:
        self.tries += 1
        if why.plain or gone_s >= self._retry_s:
            with self._mind:
                self.stuck = f"{why} (tried again for {gone_s:.0f} s)"
                self.alarm = True
        self._changed()

    def _is_back(self) -> None:
        if self.stuck:
            with self._mind:
                self.stuck = ""
                self.alarm = bool(self._losses)
            self._changed()


def _as_error(losses: dict[str, _Loss]) -> MlflowException:
    said = [
        f"{loss.points:,} metric point(s) of run {run} were refused by the hub and are lost: {loss.why}"
        for run, loss in list(losses.items())[:_NAMED]
    ]
    if len(losses) > _NAMED:
        said.append(f"and those of {len(losses) - _NAMED} more runs")
    first = next(iter(losses.values()))
    return RestException({"error_code": first.code, "message": "; ".join(said)})
