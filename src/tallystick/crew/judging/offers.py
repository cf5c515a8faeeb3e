"""The installed probes: what every attack tile offers, and which tiles do not open."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tallystick import __version__
from tallystick.core.errors import Failed, MissingTile, TallyError
from tallystick.evidence.probe import Threat
from tallystick.evidence.threats import Listed, ThreatList
from tallystick.ports.models.attack import Attack, Offer
from tallystick.ports.tile import Place
from tallystick.wiring.tiles import known_tiles, open_tile

__all__ = ["list_threats", "open_attacks"]

ENGINE_LIBRARIES = ("numpy", "onnxruntime")
WHY_CHARS_MAX = 300


def open_attacks(home: Path) -> tuple[dict[str, Attack], dict[str, str]]:
    """All attack tiles that open, by name, and for each of the others why it does not."""
    opened: dict[str, Attack] = {}
    absent: dict[str, str] = {}
    for name in known_tiles("attack"):
        try:
            opened[name] = open_tile("attack", name, Place(home))
        except MissingTile as wrong:
            absent[name] = f"{wrong.what} ({wrong.hint})"[:WHY_CHARS_MAX]
        except TallyError as wrong:
            absent[name] = str(wrong)[:WHY_CHARS_MAX]
        except Exception as wrong:  # noqa: BLE001  reason: a stranger's tile at the process's edge; the rest still judge
            traceback.print_exc()
            absent[name] = f"{type(wrong).__name__}: {wrong!s}"[:WHY_CHARS_MAX]
    return opened, absent


def list_threats(attacks: Mapping[str, Attack], absent: Mapping[str, str]) -> ThreatList:
    """What they offer, tile by tile; Failed, naming the tile, where what it says is no list of offers."""
    listed: list[Listed] = []
    for tile, attack in attacks.items():
        try:
            libraries = dict(attack.versions())
            listed += [_listed(tile, offer, libraries) for offer in attack.offers()]
        except TallyError:
            raise
        except Exception as wrong:
            text = f"it does not say what it offers: {type(wrong).__name__}: {str(wrong)[:WHY_CHARS_MAX]}"
            raise Failed(text, where=f"tile attack/{tile}") from wrong
    return ThreatList(tuple(listed), dict(absent), _engine())


def _listed(tile: str, offer: Offer, libraries: Mapping[str, str]) -> Listed:
    return Listed(
        tile=tile,
        name=offer.name,
        threat=offer.threat,
        version=offer.version,
        about=offer.about,
        weight=max(float(offer.weight), 1e-3),
        usual=offer.usual,
        train=offer.needs.train or offer.threat is Threat.POISONING,  # a trigger is told from them, if known
        gradients=offer.needs.gradients,
        itself=offer.needs.itself,
        libraries=libraries,
    )


def _engine() -> dict[str, str]:
    found = {"tallystick": __version__}
    for package in ENGINE_LIBRARIES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a build of its own name, or not needed here
            continue
    return found
