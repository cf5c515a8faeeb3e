"""Images: noise, blur, brightness, contrast, JPEG, pixels, as Hendrycks and Dietterich (ICLR 2019) chose.

Small images take the severities of their CIFAR-10-C, others those of their ImageNet-C. Work is in float32,
images from 0 to 1 as (n, height, width, channels).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["IMAGES", "Spoil"]

Spoil = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""Images (or rows), the strength, a source of chance; spoilt ones of the same shape."""

SMALL_PIXELS = 64
"""Up to this height, the severities made for 32 by 32."""


class Kind(NamedTuple):
    """A corruption with its strengths, weak to strong, for small and for large images."""

    spoil: Spoil
    small: Sequence[float]
    large: Sequence[float]

    def strengths(self, height: int) -> Sequence[float]:
        """Those for images of this height in pixels."""
        return self.small if height <= SMALL_PIXELS else self.large


def _gaussian_noise(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    noisy: np.ndarray = x + chance.normal(0.0, strength, x.shape).astype(np.float32)
    return noisy


def _shot_noise(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    """Photons counted: the lower ``strength``, the fewer there are."""
    counted: np.ndarray = chance.poisson(np.clip(x, 0, 1) * strength).astype(np.float32) / np.float32(
        strength
    )
    return counted


def _impulse_noise(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    hit = chance.random(x.shape) < strength
    return np.where(hit, (chance.random(x.shape) < 0.5).astype(np.float32), x)


def _blur(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    blurred: np.ndarray = gaussian_filter(x, (0, strength, strength, 0), mode="nearest")
    return blurred


def _brightness(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    return x + np.float32(strength)


def _contrast(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    middle = x.mean(axis=(1, 2), keepdims=True)
    flat: np.ndarray = (x - middle) * np.float32(strength) + middle
    return flat


def _jpeg(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    from PIL import Image

    spoilt = np.empty_like(x)
    for at, image in enumerate(x):
        colour = image.shape[-1] == 3
        for channels in [slice(None)] if colour else range(image.shape[-1]):
            pixels = np.rint(np.clip(image[..., channels], 0, 1) * 255).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=int(strength))
            spoilt[at, ..., channels] = np.asarray(Image.open(file), np.float32) / 255
    return spoilt


def _pixelate(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    """Fewer pixels: each is the one that stands at its place in a picture ``strength`` as high."""
    lengths = [max(1, int(n * strength)) for n in x.shape[1:3]]
    rows, columns = (
        (np.floor((np.arange(n) + 0.5) * few / n) + 0.5) * n / few
        for n, few in zip(x.shape[1:3], lengths, strict=True)
    )
    at = np.clip(rows.astype(int), 0, x.shape[1] - 1), np.clip(columns.astype(int), 0, x.shape[2] - 1)
    taken: np.ndarray = x[:, at[0]][:, :, at[1]]
    return taken


IMAGES: Mapping[str, Kind] = {
    "gaussian noise": Kind(_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot noise": Kind(_shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse noise": Kind(_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "blur": Kind(_blur, (0.4, 0.6, 0.7, 0.8, 1.0), (1, 2, 3, 4, 6)),
    "brightness": Kind(_brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Kind(_contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "JPEG": Kind(_jpeg, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
    "pixelate": Kind(_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
}
