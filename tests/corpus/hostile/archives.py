"""Hostile archives: what they hold, and what readers of them see differently."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tests.corpus.hostile.case import hostile, write
from tests.corpus.hostile.opcodes import COMMAND, call, name, stream, text
from tests.corpus.hostile.pickles import Hostile

EVIL = stream(call(name("os", "system"), text(COMMAND)))
HARMLESS = b"\x80\x02}."


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for member, data in members:
            archive.writestr(member, data)
    return made.getvalue()


def torch_zip(data: bytes, *more: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """As torch.save has it: torch.load takes it."""
    members = [("archive/data.pkl", data), ("archive/version", b"3\n"), ("archive/byteorder", b"little")]
    return zipped(*members, *more, method=method)


def central(data: bytes, member: str) -> int:
    """Where the directory's entry for a member begins."""
    at = data.index(b"PK\x01\x02")
    while data[at + 46 : at + 46 + len(member)] != member.encode():
        at = data.index(b"PK\x01\x02", at + 4)
    return at


@hostile("torch", "model.pt")
def torch_archive(folder: Path) -> None:
    write(folder / "model.pt", torch_zip(EVIL))


@hostile("torch", "model.pt")
def torch_archive_packed(folder: Path) -> None:
    write(folder / "model.pt", torch_zip(EVIL, method=zipfile.ZIP_DEFLATED))


@hostile("torch", "model.pt")
def torch_state_dict_with_a_hook(folder: Path) -> None:
    """A plain tensor, but for the last of its arguments, which is made by a call."""
    storage = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x01tQ"
    hooks = call(name("os", "system"), text(COMMAND))
    tensor = (
        name("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + storage
        + b"K\0K\x01\x85K\x01\x85\x89"
        + hooks
        + b"tR"
    )
    write(folder / "model.pt", torch_zip(stream(tensor), ("archive/data/0", bytes(4))))


@hostile("torch", "model.pt")
def torch_archive_in_bytes(folder: Path) -> None:
    """A storage as torch once pickled it: bytes that are loaded once more, by torch.load."""
    inner = torch_zip(EVIL)
    data = b"B" + struct.pack("<I", len(inner)) + inner
    write(
        folder / "model.pt", torch_zip(stream(call(name("torch.storage", "_load_from_bytes"), data), proto=3))
    )


@hostile("torch", "model.pt")
def torch_by_a_type_of_its_own(folder: Path) -> None:
    """torch's own way to rebuild a tensor of another type calls what it is handed."""
    args = name("os", "system") + name("torch", "Tensor") + b"(" + text(COMMAND) + b"t}"
    write(
        folder / "model.pt",
        torch_zip(stream(name("torch._tensor", "_rebuild_from_type_v2") + b"(" + args + b"tR")),
    )


@hostile("torch", "model.pt")
def torch_legacy(folder: Path) -> None:
    from tallystick.evidence.files.streams import TORCH_MAGIC

    info = stream(b"}")
    write(folder / "model.pt", TORCH_MAGIC + b"\x80\x02M\xe9\x03." + info + EVIL + stream(b"]"))


@hostile()
def torch_encrypted_by_flag(folder: Path) -> None:
    """Marked as encrypted: a scanner gives up; torch did not look at the mark before 2.8."""
    data = bytearray(torch_zip(EVIL))
    data[6] |= 1
    data[central(bytes(data), "archive/data.pkl") + 8] |= 1
    write(folder / "model.pt", bytes(data))


@hostile("torch", "model.pt")
def torch_wrong_checksum(folder: Path) -> None:
    """A scanner stops at the checksum; torch does not look at it."""
    data = bytearray(torch_zip(EVIL))
    at = central(bytes(data), "archive/data.pkl") + 16
    data[at : at + 4] = b"\1\2\3\4"
    data[14:18] = b"\1\2\3\4"
    write(folder / "model.pt", bytes(data))


@hostile("torch", "model.pt")
def torch_other_name_where_it_lies(folder: Path) -> None:
    data = bytearray(torch_zip(EVIL))
    data[30 : 30 + len("archive/data.pkl")] = b"archive/data.txt"
    write(folder / "model.pt", bytes(data))


@hostile("torch", "model.pt")
def torch_two_members_of_one_name(folder: Path) -> None:
    """Readers differ in which of the two they take."""
    members = [("archive/data.pkl", EVIL), ("archive/data.pk1", EVIL), ("archive/version", b"3\n")]
    data = zipped(*members).replace(b"archive/data.pk1", b"archive/data.pkl")
    write(folder / "model.pt", data)


@hostile()
def torch_behind_a_gap(folder: Path) -> None:
    """Something stands before the archive, which a reader from the end never sees."""
    made = io.BytesIO(torch_zip(EVIL))
    write(folder / "model.pt", _shifted(made.getvalue(), b"\x93NUMPY" + bytes(58)))


def _shifted(data: bytes, before: bytes) -> bytes:
    """An archive behind something else, with its offsets put right."""
    made = io.BytesIO(before)
    made.seek(0, io.SEEK_END)
    with zipfile.ZipFile(made, "a") as archive, zipfile.ZipFile(io.BytesIO(data)) as old:
        for info in old.infolist():
            archive.writestr(info.filename, old.read(info))
    return made.getvalue()


@hostile("pickle-then-zip", "model.pt")
def pickle_before_a_torch_archive(folder: Path) -> None:
    """A harmless pickle in front, a hostile archive behind, which readers of ZIP find from the end."""
    write(folder / "model.pt", _shifted(torch_zip(EVIL), HARMLESS))


@hostile("python-zip", "logo.png")
def program_behind_an_image(folder: Path) -> None:
    """An image to whoever looks at it, a program to Python."""
    chunk = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    image = b"\x89PNG\r\n\x1a\n" + chunk
    write(folder / "logo.png", _shifted(zipped(("__main__.py", b"open('ran', 'w').close()")), image))


@hostile("numpy-zip", "model.npz")
def array_in_a_zip_stored(folder: Path) -> None:
    np.savez(folder / "model.npz", weights=np.zeros(3), b=np.array([Hostile()], object))


@hostile()
def nested_to_the_end(folder: Path) -> None:
    """A pickle in an array in a zip in gzip in a tar."""
    made = io.BytesIO()
    np.save(made, np.array([Hostile()], object), allow_pickle=True)
    packed = gzip.compress(zipped(("a.npy", made.getvalue()), method=zipfile.ZIP_DEFLATED))
    outer = io.BytesIO()
    with tarfile.open(fileobj=outer, mode="w") as archive:
        info = tarfile.TarInfo("weights.gz")
        info.size = len(packed)
        archive.addfile(info, io.BytesIO(packed))
    write(folder / "model.tar", outer.getvalue())


@hostile()
def nested_without_end(folder: Path) -> None:
    data = EVIL
    for _ in range(12):
        data = zipped(("next.zip", data), method=zipfile.ZIP_DEFLATED)
    write(folder / "model.zip", data)


@hostile()
def bomb_in_a_zip(folder: Path) -> None:
    write(folder / "model.npz", zipped(("a.npy", bytes(200 * 2**20)), method=zipfile.ZIP_DEFLATED))


@hostile()
def bomb_in_gzip(folder: Path) -> None:
    write(folder / "model.pkl", gzip.compress(bytes(200 * 2**20)))


@hostile()
def bomb_of_overlaps(folder: Path) -> None:
    """Two entries of the directory share one member's bytes, so that it unpacks twice as large as it is."""
    data = bytearray(zipped(("a.bin", b"x" * 100), ("b.bin", b"y" * 100)))
    at = central(bytes(data), "b.bin") + 42
    data[at : at + 4] = bytes(4)
    write(folder / "model.zip", bytes(data))


@hostile()
def path_out_of_a_zip(folder: Path) -> None:
    write(folder / "model.zip", zipped(("../../etc/cron.d/job", b"* * * * * root true\n")))


@hostile()
def absolute_path_in_a_zip(folder: Path) -> None:
    write(folder / "model.zip", zipped(("/etc/cron.d/job", b"* * * * * root true\n")))


@hostile()
def link_in_a_zip(folder: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        info = zipfile.ZipInfo("data")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc")
    write(folder / "model.zip", made.getvalue())


def _tar(kind: bytes, member: str, target: str = "") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        info = tarfile.TarInfo(member)
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return made.getvalue()


@hostile()
def link_in_a_tar(folder: Path) -> None:
    write(folder / "model.tar", _tar(tarfile.SYMTYPE, "data", "/etc"))


@hostile()
def device_in_a_tar(folder: Path) -> None:
    write(folder / "model.tar.gz", gzip.compress(_tar(tarfile.BLKTYPE, "disk")))


@hostile()
def path_out_of_a_tar(folder: Path) -> None:
    write(folder / "model.tar", _tar(tarfile.REGTYPE, "../../job"))
