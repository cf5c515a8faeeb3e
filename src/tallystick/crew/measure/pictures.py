"""Pictures for examples: rows that are images, and what was changed in them, as PNG files.

A pixel of the file is a feature; whoever shows it makes it larger.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tallystick.evidence.domain import Domain, DomainKind

__all__ = ["magnified", "picture_shape", "write_picture"]

SIDE_MIN = 4
"""A square of 2 or 3 features a side is a table of numbers rather than an image."""

SIDE_MAX = 1024
CHANNELS = (1, 3)
"""Gray and RGB: of other images nobody can say how they look."""


def picture_shape(domain: Domain, features: int) -> tuple[int, int, int] | None:
    """(height, width, channels) of a row that can be shown; None for any other.

    Rows of an image domain have its shape. Vectors whose features make a square are shown as gray images.
    """
    if domain.kind is DomainKind.VECTOR:
        side = math.isqrt(features)
        return (side, side, 1) if side * side == features and SIDE_MIN <= side <= SIDE_MAX else None
    if domain.kind is not DomainKind.IMAGE:
        return None
    shape = domain.shape if len(domain.shape) == 3 else (*domain.shape, 1)
    if len(domain.shape) == 3 and domain.channels_first:
        shape = (shape[1], shape[2], shape[0])
    fits = shape[2] in CHANNELS and max(shape[:2]) <= SIDE_MAX
    return (shape[0], shape[1], shape[2]) if fits else None


def magnified(domain: Domain, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The change alone, scaled so that the largest is black or white and none is middle gray."""
    change = after.astype(np.float64) - before
    most = np.abs(change).max()
    share = 0.5 + change / (2 * most or 1.0)
    return np.asarray(domain.low + share * (domain.high - domain.low))


def write_picture(domain: Domain, row: np.ndarray, shape: tuple[int, int, int], path: Path) -> None:
    """A row (features,) in the domain's range as 8-bit gray or RGB: ``low`` is black."""
    from PIL import Image

    share = (row.astype(np.float64) - domain.low) / (domain.high - domain.low)
    pixels = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    if domain.kind is DomainKind.IMAGE and domain.channels_first and len(domain.shape) == 3:
        pixels = pixels.reshape(shape[2], shape[0], shape[1]).transpose(1, 2, 0)
    else:
        pixels = pixels.reshape(shape)
    Image.fromarray(pixels[:, :, 0] if shape[2] == 1 else pixels).save(path, format="PNG")
