"""An artifact store in memory: what hub tests stand on. It passes the same proof as the real ones."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from tallystick.core.errors import BadInput, Conflict, Damaged, NotFound
from tallystick.core.names import canonical_json, check_digest, digest_of
from tallystick.evidence.papers.tree import Member
from tallystick.ports.artifacts import Blob

__all__ = ["MARK", "MemoryArtifacts"]

MARK = b"\x00tallystick folder 1\n"


class MemoryArtifacts:
    """Bytes by digest in ``blobs``; ``path_of`` writes them below ``folder``, which the test provides."""

    def __init__(self, folder: Path) -> None:
        self.blobs: dict[str, bytes] = {}
        self._folder = folder

    async def put_file(self, path: Path) -> Blob:
        content = _read(path)
        return Blob(self._keep(content), len(content))

    async def put_folder(self, path: Path) -> Blob:
        return self._put_folder(path)

    async def path_of(self, digest: str) -> Path:
        return self._path_of(digest)

    async def members(self, digest: str) -> tuple[Member, ...]:
        content = self._get(digest)
        if not content.startswith(MARK):
            raise BadInput("it is a file", where=digest)
        return tuple(Member(*row) for row in self._rows(content))

    async def unpack(self, digest: str, dest: Path) -> None:
        self._unpack(digest, dest)

    async def has(self, digest: str) -> bool:
        content = self.blobs.get(check_digest(digest))
        if content is None or not content.startswith(MARK):
            return content is not None
        return all(inner in self.blobs for _, inner, _ in self._rows(content))

    def _put_folder(self, path: Path) -> Blob:
        if path.is_symlink() or not path.is_dir():
            raise BadInput("not a folder", where=str(path))
        files = {}
        for found in path.rglob("*"):
            if found.is_symlink() or not found.is_dir():
                files[_utf8(found.relative_to(path))] = _read(found)
        rows = sorted([name, self._keep(content), len(content)] for name, content in files.items())
        digest = digest_of(MARK + canonical_json(rows).encode())
        self.blobs[digest] = MARK + canonical_json(rows).encode()
        return Blob(digest, sum(map(len, files.values())), is_folder=True)

    def _path_of(self, digest: str) -> Path:
        content = self._get(digest)
        if content.startswith(MARK):
            raise BadInput("it is a folder", where=digest)
        path = self._folder / digest.removeprefix("sha256:")
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return path

    def _unpack(self, digest: str, dest: Path) -> None:
        content = self._get(digest)
        if os.path.lexists(dest):
            raise Conflict("it exists already", where=str(dest))
        if not content.startswith(MARK):
            _write(dest, content)
            return
        files = {name: self._get(inner) for name, inner, _ in self._rows(content)}
        dest.mkdir(parents=True)
        for name, inner in files.items():
            _write(dest / name, inner)

    def _keep(self, content: bytes) -> str:
        if content.startswith(MARK):
            raise BadInput("it is a folder's list of files, not a file")
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def _get(self, digest: str) -> bytes:
        content = self.blobs.get(check_digest(digest))
        if content is None:
            raise NotFound(f"no artifact {digest}")
        if digest_of(content) != digest:
            raise Damaged(f"the bytes of {digest} are others now")
        return content

    @staticmethod
    def _rows(content: bytes) -> list[tuple[str, str, int]]:
        return [(name, digest, size) for name, digest, size in json.loads(content.removeprefix(MARK))]


def _read(path: Path) -> bytes:
    if not os.path.lexists(path) or not stat.S_ISREG(path.lstat().st_mode):
        raise BadInput("not a regular file", where=str(path))
    return path.read_bytes()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _utf8(path: Path) -> str:
    try:
        path.as_posix().encode()
    except UnicodeEncodeError:
        raise BadInput("a file name is not UTF-8", where=ascii(path.as_posix())) from None
    return path.as_posix()
