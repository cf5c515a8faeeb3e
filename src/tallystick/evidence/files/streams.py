"""Files of pickles: streams one after another, torch's old format, and what only seems to be none."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from tallystick.evidence.files.found import Found, No
from tallystick.evidence.files.joblib_arrays import Global
from tallystick.evidence.files.pickles import Broken, Walk
from tallystick.evidence.files.source import Cursor, Source
from tallystick.evidence.supply import Standing

__all__ = ["TORCH_MAGIC", "acts_as_pickle", "pickled", "storages"]

STREAMS_MAX = 10_000
TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
WHY = "a pickle: it names only what is on the list, and still has the libraries that it names run code"
ITEM_BYTES: Mapping[str, int] = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1,
    "Bool": 1, "ComplexFloat": 8, "ComplexDouble": 16, "Untyped": 1,
}  # fmt: skip


def pickled(source: Source, torch: bool = False) -> tuple[Found, list[Any]]:
    """Walk all the streams; No where one does what it may not, breaks, or is followed by something else.

    With it the persistent ids that were asked for, which are torch's.
    """
    if source.read_at(0, len(TORCH_MAGIC)) == TORCH_MAGIC:
        return _old_torch(source), []
    read, names, ids = Cursor(source), dict[str, None](), []
    for count in range(STREAMS_MAX):
        walk = _walked(read, names, torch, count)
        ids += walk.ids
        if not read.left:
            return Found("pickle", Standing.CODE, WHY, tuple(names)), ids
    raise No("pickle", f"it is over {STREAMS_MAX} pickles in a row")


def _walked(read: Cursor, names: dict[str, None], torch: bool, count: int) -> Walk:
    start, size = read.at, read.left
    walk = Walk(read, torch=torch, names=names)
    try:
        return walk.run()
    except Broken as wrong:
        if count:
            why = f"{size} bytes after its end (at {start}) are no pickle"
            raise No("pickle", why, tuple(names)) from None
        acts = " after it has acted" if walk.acts else ""
        raise No("pickle", f"it breaks{acts}: {wrong}", tuple(names)) from None


def _old_torch(source: Source) -> Found:
    """torch.save before 1.6: five pickles, then each storage: its length, its bytes."""
    read, names = Cursor(source), dict[str, None]()
    walks = [_walked(read, names, True, count) for count in range(5)]
    sizes = storages([said for walk in walks for said in walk.ids])
    while read.left:
        (count,) = struct.unpack("<q", read.take(8)) if read.left >= 8 else (-1,)
        width = next((w for n, w in sizes.values() if n == count), 0)
        at = [key for key, (n, _) in sizes.items() if n == count]
        if count < 0 or not at or count * width > read.left:
            raise No("torch", "it has bytes after its end that are no storage of its own", tuple(names))
        sizes.pop(at[0])
        read.skip(count * width)
    if sizes:
        raise No("torch", "it lacks storages that it names", tuple(names))
    return Found("torch", Standing.CODE, WHY, tuple(names))


def storages(ids: list[Any]) -> dict[str, tuple[int, int]]:
    """By key, how many items each storage that was asked for has, and bytes of one; No for other ids."""
    found: dict[str, tuple[int, int]] = {}
    for said in ids:
        if isinstance(said, tuple) and said and said[0] == "module":
            continue  # a class with its source as text, which torch only compares
        known = isinstance(said, tuple) and len(said) >= 5 and said[0] == "storage"
        if not known or not isinstance(said[1], Global) or not isinstance(said[2], str):
            raise No("torch", "it asks for a persistent id that is no storage")
        width = ITEM_BYTES.get(said[1].name.rpartition(".")[2].removesuffix("Storage"))
        if width is None or type(said[4]) is not int or not 0 <= said[4] < 2**48:
            raise No("torch", "it asks for a storage of an unknown kind or size")
        if found.setdefault(said[2], (said[4], width)) != (said[4], width):
            raise No("torch", "it asks for one storage in two sizes")
    return found


def acts_as_pickle(source: Source) -> bool:
    """Whether something that is to be of another kind would, read as a pickle, call or import something."""
    walk = Walk(Cursor(source), torch=True, probing=True)
    try:
        return walk.run().acts
    except Broken:
        return walk.acts and bool(walk.names)
