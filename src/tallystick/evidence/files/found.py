"""What examining one thing comes to: a finding, or a refusal."""

from __future__ import annotations

from dataclasses import dataclass

from tallystick.evidence.supply import Standing

__all__ = ["Found", "No", "Unlike"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a thing is: ``kind`` by its content, what may be done with it, and why where it is not data."""

    kind: str
    standing: Standing = Standing.DATA
    why: str = ""
    names: tuple[str, ...] = ()


class No(Exception):
    """It is refused: what it is, or seems to be, and why."""

    def __init__(self, kind: str, why: str, names: tuple[str, ...] = ()) -> None:
        self.kind, self.why, self.names = kind, why, names
        super().__init__(f"{kind}: {why}")


class Unlike(Exception):
    """It is not of the kind that was asked for; perhaps of another."""
