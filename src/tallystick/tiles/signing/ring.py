"""Key rings: where keys are. In the home's folder ``keys``, or in memory with what somebody handed over."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tallystick.core.errors import Conflict, Damaged, NotFound, NotSupported, Refused, TallyError, Unavailable
from tallystick.core.names import check_name
from tallystick.tiles.signing.keys import ED25519, P256, PEM_BYTES_MAX, made, private_pem, read_private

if TYPE_CHECKING:
    from tallystick.tiles.signing.keys import Private

__all__ = ["FolderRing", "HandedRing", "Ring"]

FILES = {ED25519: "own.pem", P256: "own-model.pem"}
"""The two private keys: for envelopes, and for models as OpenSSF's model signing wants them."""

TRUSTED_MAX = 1000
_STAMP = re.compile(r"^Trusted-Ms: (\d{1,15})$", re.MULTILINE)


class Ring(Protocol):
    """Own keys by kind, and the texts of trusted ones by name."""

    def own(self, kind: str, *, make: bool) -> Private | None:
        """The own key of a kind, made where there is none and it is wanted."""
        ...

    def trusted(self) -> Iterator[tuple[str, str, int]]:
        """Name, PEM text, and when it was trusted, by name."""
        ...

    def keep(self, name: str, pem: str, at_ms: int) -> None:
        """Keep a trusted key; durable on return. Conflict where the name is there."""
        ...

    def drop(self, name: str) -> None:
        """Forget a trusted key, durably; NotFound where there is none."""
        ...


@dataclass
class HandedRing:
    """What was handed over: nothing is read or written anywhere."""

    texts: Sequence[tuple[str, str]] = ()
    private: str = ""

    def own(self, kind: str, *, make: bool) -> Private | None:
        """The key that was handed over, which has to do for envelopes and models alike."""
        if not self.private and make:
            raise NotSupported("there is no key to sign with here", where="key")
        return read_private(self.private) if self.private else None

    def trusted(self) -> Iterator[tuple[str, str, int]]:
        """As handed over."""
        for name, text in self.texts:
            yield name, text, 0

    def keep(self, name: str, pem: str, at_ms: int) -> None:
        """NotSupported: there is no place for it."""
        raise NotSupported("this key ring cannot be changed", where=name)

    def drop(self, name: str) -> None:
        """NotSupported: there is no place that it could be taken from."""
        raise NotSupported("this key ring cannot be changed", where=name)


@dataclass
class FolderRing:
    """The folder ``keys`` of a home. It and the private keys are their owner's alone (0700, 0600).

    Every file comes whole: it is written aside, synced, and given its name only where nobody has it, so that
    two hubs that begin at once end with one key.
    """

    folder: Path
    _found: dict[str, Private] = field(default_factory=dict, repr=False)

    def own(self, kind: str, *, make: bool) -> Private | None:
        """Read once and kept in memory; Refused where others may read its file, Damaged for no key."""
        if kind not in self._found:
            path = self.folder / FILES[kind]
            if make and not os.path.lexists(path):
                with contextlib.suppress(FileExistsError):  # another was quicker: then that one is the key
                    self._write(path, private_pem(made(kind)))
            if (text := _secret(path)) is None:
                return None
            try:
                self._found[kind] = read_private(text, str(path))
            except TallyError as wrong:
                hint = (
                    "restore it from a backup; a new one is made when it is gone, and nobody trusts that yet"
                )
                raise Damaged(wrong.what, where=str(path), hint=hint) from None
        return self._found[kind]

    def trusted(self) -> Iterator[tuple[str, str, int]]:
        """The files ``NAME.pem``, those that a person put there included."""
        folder = self.folder / "trusted"
        try:
            names = sorted(p.name for p in folder.iterdir() if p.name.endswith(".pem") and p.name[0] != ".")
        except FileNotFoundError:
            return
        except OSError as wrong:
            raise Unavailable(f"cannot be read: {wrong.strerror}", where=str(folder)) from wrong
        for name in names[:TRUSTED_MAX]:
            text = _plain(folder / name)
            stamp = _STAMP.search(text)
            yield name.removesuffix(".pem"), text, int(stamp[1]) if stamp else 0

    def keep(self, name: str, pem: str, at_ms: int) -> None:
        """As PEM, with the time as a line before it."""
        path = self.folder / "trusted" / f"{check_name('key', name)}.pem"
        try:
            self._write(path, f"Trusted-Ms: {at_ms}\n{pem}".encode())
        except FileExistsError:
            raise Conflict("a key of this name is trusted already", where=name, hint=_REMOVE + name) from None

    def drop(self, name: str) -> None:
        """Its file goes."""
        path = self.folder / "trusted" / f"{check_name('key', name)}.pem"
        try:
            path.unlink()
            _sync(path.parent)
        except FileNotFoundError:
            raise NotFound(f"no trusted key {name!r}", where="keys", hint="tally trust list") from None
        except OSError as wrong:
            raise Unavailable(f"cannot be removed: {wrong.strerror}", where=str(path)) from wrong

    def _write(self, path: Path, content: bytes) -> None:
        """A new file, whole and durable; FileExistsError where there is one of that name."""
        aside = path.parent / f".{path.name}.{secrets.token_hex(8)}"
        try:
            for folder in (self.folder, path.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123  it is a descriptor: Path.open takes none
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            os.link(aside, path)
            _sync(path.parent)
            _sync(self.folder)
        except FileExistsError:
            raise
        except OSError as wrong:
            raise Unavailable(f"cannot be written: {wrong.strerror}", where=str(path)) from wrong
        finally:
            with contextlib.suppress(OSError):
                aside.unlink()


_REMOVE = "tally trust remove "


def _secret(path: Path) -> str | None:
    """A private key's text; None where there is no file. Refused where anybody else may read or write it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as wrong:
        raise Unavailable(f"cannot be read: {wrong.strerror}", where=str(path)) from wrong
    with open(descriptor, encoding="ascii", errors="replace") as file:  # noqa: PTH123  as above
        about = os.fstat(descriptor)
        if stat.S_IMODE(about.st_mode) & 0o077 or not stat.S_ISREG(about.st_mode):
            hint = f"chmod 600 {path}; make a new one if anybody may have copied it"
            raise Refused("others may read this private key", where=str(path), hint=hint)
        return file.read(PEM_BYTES_MAX)


def _plain(path: Path) -> str:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.read(PEM_BYTES_MAX + 1)
    except OSError as wrong:
        raise Unavailable(f"cannot be read: {wrong.strerror}", where=str(path)) from wrong


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
