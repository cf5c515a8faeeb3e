"""Formats that hold numbers: npy, safetensors, Parquet, and images; each read as far as its description."""

from __future__ import annotations

import ast
import base64
import binascii
import itertools
import json
import math
import re
import struct
from collections.abc import Mapping

from tallystick.evidence.files.found import Found, No, Unlike
from tallystick.evidence.files.source import Source, Window
from tallystick.evidence.files.streams import pickled

__all__ = ["image", "npy", "parquet", "safetensors"]

HEADER_BYTES_MAX = 16 * 1024 * 1024
FOOTER_BYTES_MAX = 64 * 1024 * 1024
DTYPE_BYTES: Mapping[str, float] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "C64": 8, "F64": 8, "I64": 8, "U64": 8, "F4": 0.5,
    "F6_E2M3": 0.75,
    "F6_E3M2": 0.75, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1,
}  # fmt: skip
_DESCR = re.compile(r"[<>|=]?([?biufcmMSUV])([0-9]{1,9})(\[[A-Za-z0-9]{1,8}\])?", re.ASCII)


def npy(source: Source) -> Found:
    """A numpy array; one of objects holds a pickle, which is walked."""
    head = source.read_at(0, 12)
    wide = head[6:7] in (b"\x02", b"\x03")
    size = int.from_bytes(head[8:12] if wide else head[8:10], "little")
    at = (12 if wide else 10) + size
    if head[6:8] not in (b"\x01\0", b"\x02\0", b"\x03\0") or size > 1024 * 1024 or at > source.size:
        raise No("npy", "its header is damaged")
    try:
        said = ast.literal_eval(
            source.read_at(at - size, size).decode("utf-8" if head[6] == 3 else "latin-1")
        )
        descr, shape = said["descr"], said["shape"]
        exact = said.keys() == {"descr", "fortran_order", "shape"} and isinstance(said["fortran_order"], bool)
        if not exact or not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError
        width = _width(descr)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise No("npy", "its header is damaged") from None
    if width < 0:
        try:
            found, _ = pickled(Window(source, at, source.size - at))
        except No as wrong:
            raise No("npy", f"an array of objects, that is, a pickle: {wrong.why}", wrong.names) from None
        return Found("npy", found.standing, "an array of objects, that is, a pickle", found.names)
    if at + math.prod(shape) * width != source.size:
        raise No("npy", "it is not as long as its header says")
    return Found("npy")


def _width(descr: object) -> int:
    """Bytes of one item, -1 where there are objects in it; ValueError for what numpy does not write."""
    if isinstance(descr, str):
        if descr.lstrip("<>|=") in ("O", "O8", "O4"):
            return -1
        found = _DESCR.fullmatch(descr)
        if found is None:
            raise ValueError
        return int(found[2]) * (4 if found[1] == "U" else 1)
    if not isinstance(descr, list):
        raise ValueError
    widths = []
    for item in descr:
        if not isinstance(item, tuple) or len(item) not in (2, 3):
            raise ValueError
        times = item[2] if len(item) == 3 else ()
        times = (times,) if isinstance(times, int) else times
        widths.append((_width(item[1]), math.prod(times)))
    return -1 if any(w < 0 for w, _ in widths) else sum(w * n for w, n in widths)


def safetensors(source: Source) -> Found:
    """Hugging Face's format: a length, a JSON header, and tensors side by side without gap or overlap."""
    size = int.from_bytes(source.read_at(0, 8), "little")
    if source.size < 10 or size > 100_000_000 or 8 + size > source.size or source.read_at(8, 1) != b"{":
        raise Unlike
    if size > HEADER_BYTES_MAX:
        raise No("safetensors", f"its header is over {HEADER_BYTES_MAX} bytes")
    try:
        said = json.loads(source.read_at(8, size), object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise Unlike from None
    except (ValueError, RecursionError) as wrong:
        raise No("safetensors", f"its header is no JSON: {str(wrong)[:100]}") from None
    spans = [_span(name, item) for name, item in said.items() if name != "__metadata__"]
    spans.sort()
    ends = [0, *(end for _, end in spans)]
    if any(start != end for (start, _), end in zip(spans, ends, strict=False)):
        raise No("safetensors", "its tensors overlap, or something lies between them")
    if 8 + size + ends[-1] != source.size:
        raise No("safetensors", "it is not as long as its header says")
    meta = said.get("__metadata__", {})
    if not isinstance(meta, dict) or not all(isinstance(v, str) for v in meta.values()):
        raise No("safetensors", "its metadata is no text")
    return Found("safetensors")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _span(name: str, item: object) -> tuple[int, int]:
    """Where one tensor lies, as its dtype and shape want it."""
    wrong = No("safetensors", f"its tensor {name[:100]!r} is described in no way that the format knows")
    if not isinstance(item, dict) or item.keys() != {"dtype", "shape", "data_offsets"}:
        raise wrong
    shape, offsets, width = item["shape"], item["data_offsets"], DTYPE_BYTES.get(str(item["dtype"]))
    numbers = isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2
    if width is None or not numbers or not all(type(n) is int and 0 <= n < 2**62 for n in (*shape, *offsets)):
        raise wrong
    if offsets[1] - offsets[0] != math.prod(shape) * width:
        raise wrong
    return offsets[0], offsets[1]


def parquet(source: Source) -> Found:
    """Apache Parquet: its footer lies where it should, and names no extension type that Arrow unpickles."""
    tail = source.read_at(source.size - 8, 8)
    size = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or source.size < 12 or size + 12 > source.size or size > FOOTER_BYTES_MAX:
        raise No("parquet", "it has no footer at its end")
    footer = source.read_at(source.size - 8 - size, size)
    texts = [footer]
    for found in re.finditer(rb"[A-Za-z0-9+/]{64,}={0,2}", footer):
        with_pad = found[0].rstrip(b"=")
        for cut in range(4):  # what stands before it in the footer may belong to the same alphabet
            text = with_pad[cut:]
            try:
                texts.append(base64.b64decode(text + b"=" * (-len(text) % 4)))
            except binascii.Error:
                continue
    if any(b"arrow.py_extension_type" in text for text in texts):
        raise No("parquet", "it has a column of an extension type that Arrow would unpickle")
    return Found("parquet")


def image(source: Source) -> Found:
    """PNG, JPEG or GIF; it ends where the format says that it ends."""
    head = source.read_at(0, 8)
    if head == b"\x89PNG\r\n\x1a\n":
        return _png(source)
    kind, end = ("jpeg", b"\xff\xd9") if head[:2] == b"\xff\xd8" else ("gif", b";")
    if source.read_at(source.size - len(end), len(end)) != end:
        raise No(kind, "it does not end where an image ends")
    return Found(kind)


def _png(source: Source) -> Found:
    at = 8
    for _ in itertools.count():
        head = source.read_at(at, 8)
        if len(head) < 8:
            raise No("png", "it breaks off")
        (size,) = struct.unpack(">I", head[:4])
        at += 12 + size
        if head[4:] == b"IEND":
            break
    if at != source.size:
        raise No("png", "it has something behind its end")
    return Found("png")
