"""The environments of components: what is kept of them, and removing what nobody uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from tallystick.core.errors import BadInput, NotSupported
from tallystick.doors.api.wire import answer, flag, json_body

__all__ = ["Room", "routes"]

NUMBER_MAX = 2**62


@runtime_checkable
class Room(Protocol):
    """Environments that say what they keep, and let go of it. A tile that keeps nothing need not."""

    async def kept(self) -> Mapping[str, Any]:
        """``environments``, each with ``name``, ``size_bytes``, ``used_ms`` and whether it is ``in_use``."""
        ...

    async def prune(
        self, bytes_max: int | None = None, unused_s: float | None = None, *, dry_run: bool = False
    ) -> Mapping[str, Any]:
        """Remove what is not in use; what is kept then, and in ``removed`` what went, or would."""
        ...


class _Environments:
    def __init__(self, room: object) -> None:
        self._room = room

    @property
    def room(self) -> Room:
        """NotSupported where environments are kept by somebody else."""
        if isinstance(self._room, Room):
            return self._room
        raise NotSupported("these environments are not kept by the hub", where="environments")

    async def kept(self, _: Request) -> Any:
        return await self.room.kept()

    async def prune(self, request: Request) -> Any:
        body = await json_body(request)
        if strange := sorted(body.keys() - {"bytes_max", "unused_s", "dry_run"}):
            raise BadInput(f"there is no field {strange[0][:100]!r}", where="body")
        bytes_max, unused_s = (_number(body, name) for name in ("bytes_max", "unused_s"))
        return await self.room.prune(bytes_max, unused_s, dry_run=flag(body, "dry_run"))


def _number(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is not None and (type(value) is not int or not 0 <= value <= NUMBER_MAX):
        raise BadInput(f"{name!r} must be a whole number, 0 or more", where="body")
    return value


def routes(room: object) -> list[BaseRoute]:
    """``/api/tally/environments``; ``room`` is the tile that keeps them, if it is a :class:`Room`."""
    environments, at = _Environments(room), "/api/tally/environments"
    return [
        Route(at, answer(environments.kept), methods=["GET"]),
        Route(f"{at}/prune", answer(environments.prune), methods=["POST"]),
    ]
