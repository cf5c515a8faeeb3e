#!/usr/bin/env python3
"""Inspecting a large model, beside only reading it (`cat`) and only hashing it (`sha256sum`), in turn.

Makes models of the given size: one ONNX file, ONNX with its tensors beside it, safetensors, a torch state
dict, and a pickle with one large array. Each is read by each peer in every round, from a
warm page cache and (with --cold, as root) from the disk. Prints medians of MB/s, the ratio to sha256sum,
which the inspection contains, and the most memory that the inspection's process had (ru_maxrss); starting
Python and the tile takes what is shown first.

    python bench/scan.py [--mib N] [--rounds N] [--cold] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

MIB = 2**20
SCAN = """
import resource, sys
from pathlib import Path
from tallystick.ports.tile import Place
from tallystick.tiles.inspection.strict import open_tile
tile = open_tile(Place(Path("."), {"inspection_advisors": False}))
found = tile.inspect(Path(sys.argv[1]), lambda share, text: None)
print(found.standing, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
RANDOM = os.urandom(MIB)


@dataclass(frozen=True)
class Sample:
    """One reading of one model: seconds, and the peak of its memory in MiB (0 where it was not measured)."""

    model: str
    reader: str
    cold: bool
    seconds: float
    size: int
    peak_mib: int = 0
    said: str = ""


def numbers(file: object, mib: int) -> None:
    """Write ``mib`` MiB that do not compress."""
    for n in range(mib):
        file.write(RANDOM[n % 4096 :] + RANDOM[: n % 4096])


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def onnx(folder: Path, mib: int, parts: int = 4) -> None:
    """One ONNX file of identity operators on large tensors; each of its tensors is a share of it."""
    size = mib * MIB // parts
    head = [b"\x08" + _varint(size // 4) + b"\x10\x01" + _field(8, b"t%d" % n) for n in range(parts)]
    tensors = [len(h) + 1 + len(_varint(size)) + size for h in head]
    nodes = b"".join(
        _field(1, _field(1, b"t%d" % n) + _field(2, b"y%d" % n) + _field(4, b"Identity"))
        for n in range(parts)
    )
    total = len(nodes) + sum(1 + len(_varint(t)) + t for t in tensors)
    with (folder / "model.onnx").open("wb") as file:
        file.write(b"\x08\x09" + _field(8, b"\x10\x12") + b"\x3a" + _varint(total) + nodes)
        for h, tensor in zip(head, tensors, strict=True):
            file.write(b"\x2a" + _varint(tensor) + h + b"\x4a" + _varint(size))
            numbers(file, size // MIB)


def onnx_beside(folder: Path, mib: int) -> None:
    """A small ONNX file, and its tensor in a file of its own."""
    said = _field(1, b"location") + _field(2, b"weights.bin")
    tensor = (
        b"\x08" + _varint(mib * MIB // 4) + b"\x10\x01" + _field(8, b"t") + _field(13, said) + b"\x70\x01"
    )
    node = _field(1, _field(1, b"t") + _field(2, b"y") + _field(4, b"Identity"))
    (folder / "model.onnx").write_bytes(
        b"\x08\x09" + _field(8, b"\x10\x12") + _field(7, node + _field(5, tensor))
    )
    with (folder / "weights.bin").open("wb") as file:
        numbers(file, mib)


def safetensors(folder: Path, mib: int) -> None:
    """One safetensors file."""
    size = mib * MIB
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        numbers(file, mib)


def torch(folder: Path, mib: int) -> None:
    """A state dict as torch.save has it, of four tensors."""
    size = mib * MIB // 4
    tensors = b"".join(_torch_tensor(n, size // 4) for n in range(4))
    with zipfile.ZipFile(folder / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}(" + tensors + b"u.")
        archive.writestr("archive/version", b"3\n")
        for n in range(4):
            with archive.open(f"archive/data/{n}", "w", force_zip64=True) as file:
                numbers(file, size // MIB)


def _torch_tensor(n: int, count: int) -> bytes:
    def text(said: str) -> bytes:
        return b"X" + struct.pack("<I", len(said)) + said.encode()

    number = b"J" + struct.pack("<i", count)
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(str(n)) + text("cpu") + number + b"tQ"
    shape = number + b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)R"
    return text(f"w{n}") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + shape + b"tR"


def pickled(folder: Path, mib: int) -> None:
    """A pickle of one array's bytes."""
    head = pickle.dumps({"w": b"?"}, protocol=4)
    at = head.index(b"C\x01?")
    with (folder / "model.pkl").open("wb") as file:
        file.write(b"\x80\x04" + head[11:at] + b"\x8e" + struct.pack("<Q", mib * MIB))
        numbers(file, mib)
        file.write(head[at + 3 :])


MODELS: dict[str, Callable[[Path, int], None]] = {
    "onnx": onnx,
    "onnx, tensors beside it": onnx_beside,
    "safetensors": safetensors,
    "torch state dict": torch,
    "pickle": pickled,
}


def read(reader: str, folder: Path, name: str, cold: bool) -> Sample:
    """Have ``reader`` read all of the model."""
    files = sorted(str(p) for p in folder.iterdir())
    argv = {
        "inspection": [sys.executable, "-c", SCAN, str(folder)],
        "sha256sum": ["sha256sum", *files],
        "cat": ["cat", *files],
    }[reader]
    if cold:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("1")
    began = time.perf_counter()
    ended = subprocess.run(
        argv, stdout=subprocess.PIPE if reader != "cat" else subprocess.DEVNULL, check=True
    )
    seconds = time.perf_counter() - began
    size = sum(Path(f).stat().st_size for f in files)
    said = ended.stdout.decode().split() if reader == "inspection" else ["", "0"]
    return Sample(name, reader, cold, seconds, size, int(said[1]), said[0])


def show(samples: list[Sample]) -> None:
    """A line for each model: MB/s of each reader, ratios, memory."""
    for cold in sorted({s.cold for s in samples}):
        for name in MODELS:
            mine = [s for s in samples if s.model == name and s.cold is cold]
            if not mine:
                continue
            rates = {
                r: statistics.median(s.size / 1e6 / s.seconds for s in mine if s.reader == r) for r in READERS
            }
            peak = max(s.peak_mib for s in mine)
            words = "  ".join(f"{r} {rate:>6,.0f} MB/s" for r, rate in rates.items())
            ratio = rates["inspection"] / rates["sha256sum"]
            said = mine[0].said or next(s.said for s in mine if s.said)
            where = "disk" if cold else "cache"
            print(f"{name:24} {where:6} {words}  {ratio:.2f}x sha256sum  {peak} MiB  {said}")


READERS = ("inspection", "sha256sum", "cat")


def main() -> None:
    """Make the models, read them in turn, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(dir=".") as home:
        empty = Path(home) / "empty"
        empty.mkdir()
        print(f"an empty folder: {read('inspection', empty, 'empty', cold=False).peak_mib} MiB")
        for name, make in MODELS.items():
            folder = Path(home) / "model"
            folder.mkdir()
            make(folder, asked.mib)
            for _ in range(asked.rounds):
                for cold in (False, True) if asked.cold else (False,):
                    samples += [read(reader, folder, name, cold) for reader in READERS]
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    show(samples)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(s) for s in samples], indent=1))


if __name__ == "__main__":
    main()
