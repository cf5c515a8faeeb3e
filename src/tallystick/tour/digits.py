"""The demo's data: the UCI handwritten digits, as tables and as requests.

Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
1998; the 1,797 images of 8x8 that scikit-learn bundles. Pixel values are scaled from 0..16 to 0..1.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tallystick.core.errors import Failed, MissingTile

if TYPE_CHECKING:
    import numpy as np

__all__ = ["COLUMNS", "Digits", "Images", "load_digits", "score", "shift_right", "write_csv"]

SEED = 7
FIRST_ROWS = 1000
POOL_ROWS = 300
LABELLED_ROWS = 200
BATCH_ROWS = 32
COLUMNS = [f"p{i:02d}" for i in range(64)]


@dataclass(frozen=True)
class Images:
    """``pixels`` float32 (n, 64) in 0..1, ``labels`` int64 (n,)."""

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, end: int | None = None) -> Images:
        """The images from ``start`` up to ``end``."""
        return Images(self.pixels[start:end], self.labels[start:end])


@dataclass(frozen=True)
class Digits:
    """``first`` and ``second`` become the table's snapshots; ``pool`` is what production sees later."""

    first: Images
    second: Images
    pool: Images


def load_digits() -> Digits:
    """The digits in a fixed random order, in three parts."""
    try:
        import numpy
        from sklearn import datasets
    except ImportError as missing:
        raise _lacking(missing) from missing
    found: Any = datasets.load_digits()
    order = numpy.random.default_rng(SEED).permutation(len(found.target))
    whole = Images((found.data[order] / 16).astype(numpy.float32), found.target[order].astype(numpy.int64))
    last = len(whole) - POOL_ROWS
    return Digits(whole.part(0, FIRST_ROWS), whole.part(FIRST_ROWS, last), whole.part(last))


def _lacking(missing: ImportError) -> MissingTile:
    what = f"the demo needs the Python package {missing.name}"
    return MissingTile(what, hint="pip install 'tallystick[all]'")


def shift_right(images: Images) -> Images:
    """The images as a camera sees them that was knocked aside: one pixel to the right, blank on the left."""
    import numpy

    squares = images.pixels.reshape(-1, 8, 8)
    moved = numpy.zeros_like(squares)
    moved[:, :, 1:] = squares[:, :, :-1]
    return Images(moved.reshape(-1, 64), images.labels)


def write_csv(path: Path, images: Images) -> Path:
    """A CSV with columns ``p00`` to ``p63`` and ``label``."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "label"])
        for pixels, label in zip(images.pixels, images.labels, strict=True):
            writer.writerow([*(float(p) for p in pixels), int(label)])
    return path


def read_parquet(content: bytes) -> Images:
    """Images from a Parquet file with the table's columns."""
    import numpy
    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(content))
    pixels = numpy.column_stack([table[c].to_numpy() for c in COLUMNS]).astype(numpy.float32)
    return Images(pixels, table["label"].to_numpy().astype(numpy.int64))


def score(url: str, endpoint: str, images: Images) -> int:
    """Send the images with Triton's own client, in batches; how many it labelled rightly."""
    try:
        from tritonclient import http as triton
        from tritonclient.utils import InferenceServerException
    except ImportError as missing:
        raise _lacking(missing) from missing
    client = triton.InferenceServerClient(urlsplit(url).netloc)
    right = 0
    try:
        for start in range(0, len(images), BATCH_ROWS):
            batch = images.part(start, start + BATCH_ROWS)
            tensor = triton.InferInput("pixels", list(batch.pixels.shape), "FP32")
            tensor.set_data_from_numpy(batch.pixels)
            answer = client.infer(endpoint, [tensor])
            right += int((answer.as_numpy("label").reshape(-1) == batch.labels).sum())
    except InferenceServerException as wrong:
        raise Failed(f"the endpoint said: {wrong}", where=f"endpoint {endpoint}") from wrong
    finally:
        client.close()
    return right
