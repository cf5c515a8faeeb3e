"""What a path may be, on a disk and in an object store alike."""

from __future__ import annotations

from tallystick.core.errors import BadInput

__all__ = ["UNFINISHED", "is_plain", "segments_of"]

UNFINISHED = ".artifact.uploading."
"""How names begin that MLflow keeps for uploads under way; it lists none of them, nor do we."""
_SEGMENT_BYTES_MAX = 255


def segments_of(path: str, bytes_max: int) -> tuple[str, ...]:
    """The path's segments, none for the root (``""``); BadInput where it could lead elsewhere."""
    if not path:
        return ()
    segments = tuple(path.split("/"))
    if not all(map(is_plain, segments)):
        raise BadInput(
            "this is no path of an artifact",
            where=ascii(path[:200]),
            hint="use plain segments: no '..', backslash, control character or reserved name",
        )
    if len(path.encode()) > bytes_max:
        raise BadInput(f"a path is at most {bytes_max} bytes long here", where=path[:200])
    return segments


def is_plain(segment: str) -> bool:
    """Whether it can name a file or folder, and means the same to whoever reads it."""
    odd = any(ord(ch) < 32 or 127 <= ord(ch) < 160 or 0xD800 <= ord(ch) < 0xE000 for ch in segment)
    if odd or segment in ("", ".", "..") or "\\" in segment or segment.startswith(UNFINISHED):
        return False
    return len(segment.encode()) <= _SEGMENT_BYTES_MAX
