"""Loading: who vouches for a model's code, asked anew each time that anything is about to load it."""

from __future__ import annotations

import json

from tallystick.core.errors import Refused
from tallystick.core.facts import from_json
from tallystick.core.model import ModelVersion
from tallystick.evidence.supply import Inspected
from tallystick.hub.house import House
from tallystick.hub.house.specs import spec_of
from tallystick.hub.vouched import vouched_by

__all__ = ["check_loadable", "how_to_vouch", "inspected_of", "vouched"]


async def vouched(house: House, digest: str, run_key: str) -> str:
    """Who vouches for the folder ``digest``: the run of this hub that put it out, or a trusted key's name.

    Empty where nobody does. ``run_key`` is the origin that the hub itself wrote down, never what files say.
    """
    if run_key:
        return f"run {run_key}"
    key = await vouched_by(house, digest)
    return f"key {key.name}" if key else ""


async def check_loadable(house: House, model: ModelVersion) -> None:
    """Refused unless the model's files are data, or code that somebody vouches for at this moment.

    With ``house.unsigned_code`` code is let through, as it is loaded behind a wall.
    """
    if model.standing == "data":
        return
    if model.standing == "code":
        if house.unsigned_code or await vouched(house, model.digest, model.origin.run):
            return
        raise Refused(
            f"its files can run code, and no trusted key vouches for them: {said_of(model)}",
            where=model.key,
            hint=how_to_vouch(model.key),
        )
    raise Refused("nobody has looked at its files yet", where=model.key, hint=f"tally judge {model.key}")


def said_of(model: ModelVersion) -> str:
    """The worst of what was found in its files, in a few words."""
    return "; ".join(model.files[:3]) or "nothing more is known"


def how_to_vouch(name: str) -> str:
    """The next step for a model whose code nobody vouches for."""
    return (
        f"once you know where it is from: tally sign {name}; or save it as ONNX or skops, which run no code"
    )


async def inspected_of(house: House, model: ModelVersion) -> Inspected | None:
    """All that was found in its files; None where nobody looked."""
    if not model.inspection:
        return None
    return from_json(Inspected, json.loads(await spec_of(house, model.inspection)), model.key)
