"""Consent: whose word it is that a table's rows may be used, on record with the snapshot that holds them."""

from __future__ import annotations

from dataclasses import replace

from tallystick.core.data import Consent, Snapshot, TableRef
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.names import check_name
from tallystick.hub.house import House
from tallystick.hub.house.rows import check_exists

__all__ = ["consent", "withdraw_consent"]

OWNER_CHARS_MAX = 200
USES_MAX = 20


async def consent(house: House, ref: TableRef, use: str, owner: str) -> Snapshot:
    """Record that ``owner`` allows the rows of a snapshot for ``use``; the newest one where none is named.

    It covers the rows that are in that snapshot. Rows that come later make another snapshot, about which
    nobody has said anything yet.
    """
    check_name("use", use)
    if not 0 < len(owner) <= OWNER_CHARS_MAX or not owner.isprintable():
        raise BadInput("say who allows it, in 1 to 200 characters", where="owner")
    return await _told(house, ref, use, owner)


async def withdraw_consent(house: House, ref: TableRef, use: str) -> Snapshot:
    """Take it back; NotFound where nobody gave it. What was made and judged meanwhile is judged anew."""
    return await _told(house, ref, use, "")


async def _told(house: House, ref: TableRef, use: str, owner: str) -> Snapshot:
    found = await check_exists(house, ref)
    async with house.lock("data", found.table):
        now = await house.get("data", found.key, Snapshot)
        others = tuple(c for c in now.consents if c.use != use)
        if not owner and len(others) == len(now.consents):
            raise NotFound(f"nobody allowed {use}", where=now.key)
        if len(others) >= USES_MAX:
            raise BadInput(f"over {USES_MAX} uses", where=now.key)
        given = (Consent(use, owner, house.clock.now_ms()),) if owner else ()
        told = replace(now, consents=(*others, *given))
        event = "consented" if owner else "consent withdrawn"
        await house.tell("data", now.key, event, told, f"{use}: {owner or 'nobody any more'}")
    return told
