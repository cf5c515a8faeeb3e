"""Examining one thing: what it is by its first bytes, whom to ask, and what it must not be besides."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tallystick.evidence.files import zips
from tallystick.evidence.files.found import Found, No, Unlike
from tallystick.evidence.files.packed import COMPRESSED, UNREAD, Packing, is_tar, tar_members
from tallystick.evidence.files.source import Source, digest_of, unpacked
from tallystick.evidence.files.streams import acts_as_pickle, pickled, storages
from tallystick.evidence.supply import Looked, Standing
from tallystick.tiles.inspection.arrays import image, npy, parquet, safetensors
from tallystick.tiles.inspection.hdf5 import hdf5
from tallystick.tiles.inspection.mlmodel import KERAS, PICKLE_MODULES, mlmodel
from tallystick.tiles.inspection.onnx_model import onnx_model
from tallystick.tiles.inspection.texts import is_text, text
from tallystick.tiles.inspection.ubjson import ubjson

__all__ = ["Inquiry"]

DEPTH_MAX = 4
THINGS_MAX = 100_000
UNPACKED_BYTES_MAX = 32 * 1024**3
EXECUTABLES = (
    (b"\x7fELF", "elf"), (b"\xfe\xed\xfa\xce", "mach-o"), (b"\xfe\xed\xfa\xcf", "mach-o"),
    (b"\xce\xfa\xed\xfe", "mach-o"), (b"\xcf\xfa\xed\xfe", "mach-o"), (b"\xca\xfe\xba\xbe", "mach-o or java"),
    (b"\0asm", "webassembly"), (b"dex\n", "dex"), (b"\xd0\xcf\x11\xe0", "ole"), (b"%PDF", "pdf"),
    (b"<?php", "script"),
)  # fmt: skip
MARKED: tuple[tuple[tuple[bytes, ...], Callable[[Source], Found]], ...] = (
    ((b"\x93NUMPY",), npy),
    ((b"\x89HDF\r\n\x1a\n",), hdf5),
    ((b"PAR1",), parquet),
    ((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8"), image),
)
"""Formats that begin with a mark of their own, and who reads them."""

TOO_DEEP = f"it is packed over {DEPTH_MAX} times"


@dataclass(slots=True)
class Raw:
    """Bytes that nothing is known of until another file says that they are its numbers."""

    path: str
    size: int
    digest: str


@dataclass(slots=True)
class Inquiry:
    """What was found so far, and how much there was to unpack."""

    looked: list[Looked] = field(default_factory=list)
    raw: list[Raw] = field(default_factory=list)
    outside: set[str] = field(default_factory=set)
    unpacked: int = 0

    def allowance(self, count: int) -> None:
        """Count bytes that were unpacked; No where all together become too much."""
        self.unpacked += count
        if self.unpacked > UNPACKED_BYTES_MAX:
            raise No("bomb", f"all together unpacks to over {UNPACKED_BYTES_MAX} bytes")

    def look(self, path: str, source: Source) -> None:
        """A file: its digest is taken beside, as that and the reading of it wait for the same disk."""
        with ThreadPoolExecutor(1) as beside:
            self._examine(path, source, beside.submit(digest_of, source), 0)

    def _examine(self, path: str, source: Source, digest: Future[str] | str, depth: int) -> Found | None:
        """Find out what one thing is, and its members, and note it; None where it is raw for now."""
        try:
            if depth > DEPTH_MAX or len(self.looked) > THINGS_MAX:
                raise No("archive", TOO_DEEP)
            found = self._found(path, source, depth)
        except No as wrong:
            found = Found(wrong.kind, Standing.REFUSED, wrong.why, wrong.names)
        except Exception as wrong:  # noqa: BLE001  reason: hostile bytes; what raises is not made out, so refused
            why = f"it cannot be made out: {type(wrong).__name__}: {str(wrong)[:200]}"
            found = Found("unknown", Standing.REFUSED, why)
        said = digest if isinstance(digest, str) else digest.result()
        if found is None:
            self.raw.append(Raw(path, source.size, said))
        else:
            self._note(path, found, said, source.size)
        return found

    def _note(self, path: str, found: Found, digest: str, size: int) -> None:
        why, names = found.why[:1000], found.names[:200]
        self.looked.append(Looked(path, found.kind, found.standing, digest, size, why, names))

    def _found(self, path: str, source: Source, depth: int) -> Found | None:
        """By content. None for raw bytes, which only another file can account for."""
        head = source.read_at(0, 64)
        name = posixpath.basename(path.rpartition("!")[2])
        if not source.size:
            return Found("empty")
        refuse_executables(head, source)
        if head[:1] == b"\x80" and head[1:2] <= b"\x05" and (found := _pickle(source)) is not None:
            _alone(source, found.kind)
            return found
        unpack = self._archive(path, head, source, depth)
        if unpack is not None:
            return unpack
        found = self._plain(path, name, head, source)
        _alone(source, found.kind if found else "data")
        if acts_as_pickle(source):
            raise No(found.kind if found else "unknown", "read as a pickle, it would run something")
        return found

    def _archive(self, path: str, head: bytes, source: Source, depth: int) -> Found | None:
        """What packs other things; None for what does not."""
        if head[:4] in (b"PK\x03\x04", zips.DIRECTORY_END, b"PK\x07\x08"):
            return self._zip(path, source, depth)
        for packing in COMPRESSED:
            if head.startswith(packing.magics) and not (packing.kind == "lzma" and head[3:5] == b"\0\0"):
                return self._packed(path, source, packing, depth)
        if head[:1] != b"\x80" and is_tar(source):
            return self._tar(path, source, depth)
        return None

    def _plain(self, path: str, name: str, head: bytes, source: Source) -> Found | None:
        """What is no archive and no pickle of protocol 2 or later."""
        if name == "MLmodel":
            return mlmodel(source)
        for magics, reader in MARKED:
            if head.startswith(magics):
                return reader(source)
        for read in (safetensors, ubjson):
            try:
                return read(source)
            except Unlike:
                continue
        if is_text(source):
            return _text(name, source, inside="!" in path)
        try:
            found, outside = onnx_model(source)
        except Unlike:
            return None
        folder = posixpath.dirname(path)
        self.outside |= {posixpath.join(folder, location) for location in outside}
        return found

    # --------------------------------------------------------------------------------------------- archives

    def _packed(self, path: str, source: Source, packing: Packing, depth: int) -> Found:
        inner, digest, _ = unpacked(lambda: packing.parts(source), source.size, self.allowance)
        self._examine(f"{path}!", inner, digest, depth + 1)
        self.settle(f"{path}!", set())
        return Found(packing.kind)

    def _tar(self, path: str, source: Source, depth: int) -> Found:
        for name, member in tar_members(source):
            self._examine(f"{path}!{name}", member, digest_of(member), depth + 1)
        self.settle(f"{path}!", set())
        return Found("tar")

    def _zip(self, path: str, source: Source, depth: int) -> Found:
        members = zips.members(source)
        torch = next((m.name.removesuffix("data.pkl") for m in members if m.name.endswith("/data.pkl")), None)
        known: set[str] = set()
        for member in members:
            inner, digest, crc = self._member(member)
            if crc != member.crc:
                raise No("zip", f"{member.name[:200]!r} has another checksum than the archive says")
            where = f"{path}!{member.name}"
            if torch is not None and member.name == f"{torch}data.pkl":
                known |= self._torch(path, inner, digest, (where, torch, members))
            elif torch is None or not member.name.startswith(f"{torch}data/"):
                self._examine(where, inner, digest, depth + 1)
            else:
                self.raw.append(Raw(where, inner.size, digest))
        if torch is None:
            known = _exported(path, members)
        self.settle(f"{path}!", known)
        return Found(_kind_of({m.name for m in members}, torch))

    def _member(self, member: zips.Member) -> tuple[Source, str, int]:
        if member.packed:
            return unpacked(lambda: zips.inflated(member), member.raw.size, self.allowance)
        _, digest, crc = unpacked(lambda: iter_chunks(member.raw), member.raw.size, _uncounted)
        return member.raw, digest, crc

    def _torch(
        self, path: str, inner: Source, digest: str, about: tuple[str, str, list[zips.Member]]
    ) -> set[str]:
        """The pickle of a torch archive; the members that it names as storages, where their size is right."""
        where, root, members = about
        try:
            found, ids = pickled(inner, torch=True)
            sizes = storages(ids)
        except No as wrong:
            self._note(where, Found("pickle", Standing.REFUSED, wrong.why, wrong.names), digest, inner.size)
            return {f"{path}!{m.name}" for m in members if m.name.startswith(f"{root}data/")}
        self._note(where, found, digest, inner.size)
        by_name = {m.name: m.size for m in members}
        names = {f"{root}data/{key}": count * width for key, (count, width) in sizes.items()}
        return {f"{path}!{name}" for name, size in names.items() if by_name.get(name) == size}

    def settle(self, prefix: str, known: set[str]) -> None:
        """Decide of the raw things below ``prefix``: numbers where the archive says so, else refused."""
        mine = [raw for raw in self.raw if raw.path.startswith(prefix)]
        self.raw = [raw for raw in self.raw if not raw.path.startswith(prefix)]
        for raw in mine:
            self._decide(raw, raw.path in known)

    def finish(self) -> None:
        """Decide of raw files: tensors where an ONNX model says that it keeps them there, else refused."""
        for raw in self.raw:
            self._decide(raw, raw.path in self.outside)
        self.raw = []

    def _decide(self, raw: Raw, known: bool) -> None:
        why = "" if known else "it is binary, and nothing says what it is"
        found = Found("tensor" if known else "unknown", Standing.DATA if known else Standing.REFUSED, why)
        self._note(raw.path, found, raw.digest, raw.size)


def _pickle(source: Source) -> Found | None:
    """A pickle of protocol 2 or later; None where it only begins like one and comes to nothing at once."""
    try:
        return pickled(source)[0]
    except No as wrong:
        if wrong.why.startswith("it breaks:") and not wrong.names and not acts_as_pickle(source):
            return None
        raise


def _text(name: str, source: Source, inside: bool) -> Found:
    found = text(source, name, inside)
    if name == "pickle_module_info.txt" and source.read_at(0, 100).decode() not in PICKLE_MODULES:
        raise No("text", "it has MLflow import another module to unpickle with")
    if name == "keras_module.txt" and source.read_at(0, 100).decode() not in KERAS:
        raise No("text", "it has MLflow import another module as Keras")
    return found


def iter_chunks(source: Source) -> Any:
    """All of a source in order."""
    return source.chunks()


def _uncounted(count: int) -> None:
    """What was not packed takes no more room than it lies there with."""


def _exported(path: str, members: list[zips.Member]) -> set[str]:
    """The weights of a program that torch exported: they lie beside the list of them."""
    lists = {m.name for m in members if m.name.endswith("/data/weights/model_weights_config.json")}
    roots = {name.removesuffix("model_weights_config.json") for name in lists}
    return {f"{path}!{m.name}" for m in members if any(m.name.startswith(f"{root}weight_") for root in roots)}


def _kind_of(names: set[str], torch: str | None) -> str:
    if torch is not None:
        return "torch"
    if "schema.json" in names:
        return "skops"
    if {"config.json", "metadata.json"} <= names:
        return "keras"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "zip"


def _alone(source: Source, kind: str) -> None:
    """No where the end of something that is no archive would be read as one."""
    if zips.has_appended_zip(source):
        raise No(kind, "a ZIP archive is appended to it: which of the two it is depends on who reads it")


def refuse_executables(head: bytes, source: Source) -> None:
    """No for what a machine or an interpreter would run, whatever it is called."""
    for magic, kind in EXECUTABLES:
        if head.startswith(magic):
            raise No(kind, "it is a program for a machine, or a document that carries one")
    if head[:2] == b"MZ":
        at = int.from_bytes(head[60:64], "little")
        if source.read_at(at, 4) == b"PE\0\0" or source.size < 1024 * 1024:
            raise No("pe", "it is a program for a machine")
    if head[2:4] == b"\r\n" and 3000 < int.from_bytes(head[:2], "little") < 4200:
        raise No("pyc", "it is compiled Python")
    for magic, kind in UNREAD:
        if head.startswith(magic):
            raise No(kind, f"it is packed by {kind}, which is not looked into")
