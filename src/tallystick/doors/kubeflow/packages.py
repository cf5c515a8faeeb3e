"""Uploads: the file in a multipart body, and the one YAML in a package. All of it is a stranger's."""

from __future__ import annotations

import asyncio
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from email.message import Message
from typing import IO, Self

from starlette.requests import Request

from tallystick.core.errors import BadInput, TooLarge
from tallystick.doors.kubeflow.answer import read_body

__all__ = ["SPEC_BYTES_MAX", "unpack", "uploaded"]

SPEC_BYTES_MAX = 10 * 1024 * 1024
TAR_BYTES_MAX = 2 * SPEC_BYTES_MAX
MEMBERS_MAX = 20
HEAD_BYTES_MAX = 8192
LONG_HEAD_BYTES_MAX = 1024
"""Of what stands before an entry of a tar, a long name for one: tarfile takes the square of its length."""
FIELD = "uploadfile"


async def uploaded(request: Request) -> bytes:
    """The pipeline's YAML in an upload; BadInput where there is none, TooLarge over 10 MiB."""
    told = Message()
    told["content-type"] = request.headers.get("content-type", "")
    boundary = told.get_boundary("")
    if told.get_content_type() != "multipart/form-data" or not 1 <= len(boundary) <= 70:
        raise BadInput("an upload is multipart/form-data", where="body")
    name, content = _part(await read_body(request), boundary.encode("ascii", "replace"))
    return await asyncio.to_thread(unpack, name, content)


def _part(body: bytes, boundary: bytes) -> tuple[str, bytes]:
    """File name and content of the field ``uploadfile``."""
    line = b"--" + boundary
    pieces = (b"\r\n" + body).split(b"\r\n" + line)
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        raise BadInput("the upload is cut off, or no multipart body", where="body")
    for piece in pieces[1:-1]:
        head, found, content = piece.partition(b"\r\n\r\n")
        if not found or len(head) > HEAD_BYTES_MAX:
            raise BadInput("a part of the upload has no head", where="body")
        told = Message()
        for one in head.split(b"\r\n"):
            name, _, value = one.decode("utf-8", "replace").partition(":")
            if name.strip().lower() == "content-disposition":
                told["content-disposition"] = value.strip()
        if told.get_param("name", header="content-disposition") == FIELD:
            return str(told.get_filename("") or ""), content
    raise BadInput(f"the upload has no field {FIELD!r}", where="body")


def unpack(name: str, content: bytes) -> bytes:
    """The YAML: the file itself, or the only one in a .zip or .tar.gz.

    What it is shows in its content; its name only says so in messages. BadInput for a package of several
    files, or of something else than a plain file beside the archive's top; TooLarge for a bomb.
    """
    try:
        if content.startswith(b"PK\x03\x04"):
            return _from_zip(content)
        if content.startswith(b"\x1f\x8b"):
            return _from_tar(content)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, lzma.LZMAError) as wrong:
        raise BadInput(f"the package is damaged: {wrong}", where=_shown(name)) from None
    except (NotImplementedError, RuntimeError, ValueError, struct.error) as wrong:
        raise BadInput(f"the package cannot be read: {wrong}", where=_shown(name)) from None
    if len(content) > SPEC_BYTES_MAX:
        raise _too_large()
    return content


def _from_zip(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as package:
        entries = package.infolist()
        only = _only([e.filename for e in entries])
        entry = entries[only]
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # Of other methods zipfile unpacks all that it has read, however little was asked for.
            raise BadInput("the package is neither stored nor deflated", where=_shown(entry.filename))
        kind = entry.external_attr >> 16 & 0o170000
        if entry.is_dir() or kind not in (0, 0o100000) or entry.flag_bits & 1:
            raise BadInput("the package holds something else than a plain file", where=_shown(entry.filename))
        with package.open(entry) as file:
            return _bounded(file)


class _Entry(tarfile.TarInfo):
    """An entry of which no long head is read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type not in tarfile.SUPPORTED_TYPES and found.size > LONG_HEAD_BYTES_MAX:
            raise BadInput("a head in the package is too long", where=_shown(found.name))
        return found


def _from_tar(content: bytes) -> bytes:
    plain = zlib.decompressobj(wbits=31)
    unpacked = plain.decompress(content, TAR_BYTES_MAX)
    if plain.unconsumed_tail:
        raise _too_large()
    if not plain.eof:
        raise BadInput("the package is cut off", where="package")
    with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:", tarinfo=_Entry) as package:
        entries: list[tarfile.TarInfo] = []
        while len(entries) <= MEMBERS_MAX and (entry := package.next()):
            entries.append(entry)
        entry = entries[_only([e.name for e in entries])]
        file = package.extractfile(entry) if entry.isreg() and not entry.issparse() else None
        if file is None:
            raise BadInput("the package holds something else than a plain file", where=_shown(entry.name))
        with file:
            return _bounded(file)


def _only(names: list[str]) -> int:
    """Which entry it is. There is one alone, and BadInput says what else there is."""
    if not names or len(names) > MEMBERS_MAX:
        raise BadInput(f"the package holds {'nothing' if not names else 'too many files'}", where="package")
    for name in names:
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
            raise BadInput("a file of the package lies outside of it", where=_shown(name))
    if len(names) > 1:
        shown = ", ".join(_shown(name) for name in names[:5])
        raise BadInput(
            f"the package holds {len(names)} files: {shown}", where="package", hint="leave one YAML in it"
        )
    if not names[0].endswith((".yaml", ".yml")):
        raise BadInput("the package holds no YAML", where=_shown(names[0]))
    return 0


def _bounded(file: IO[bytes]) -> bytes:
    found = file.read(SPEC_BYTES_MAX + 1)
    if len(found) > SPEC_BYTES_MAX:
        raise _too_large()
    return found


def _too_large() -> TooLarge:
    return TooLarge(f"the pipeline is larger than {SPEC_BYTES_MAX // 1024 // 1024} MiB", where="package")


def _shown(name: str) -> str:
    return ascii(name[:100]) if name else "upload"
