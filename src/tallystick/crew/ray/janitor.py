"""Removes a keeper's folder once the keeper is gone, however it went.

``python -I -S janitor.py FOLDER``, with the end of a pipe as standard input that the keeper holds open.
Standard library only. It waits until what the keeper had started is gone too, as that may still write.
"""

from __future__ import annotations

import os
import shutil
import sys
import time

__all__ = ["main"]

TRIES = 40
RETRY_S = 0.25


def main(folder: str) -> int:
    """Wait for the keeper's end, then remove ``folder``; 1 when it could not be."""
    if os.fork():
        return 0  # whoever ends the keeper's children does not find this one
    os.setsid()
    while sys.stdin.buffer.read(1):
        continue
    for _ in range(TRIES):
        time.sleep(RETRY_S)
        for inner, _, _ in os.walk(folder):
            os.chmod(inner, 0o700)  # noqa: PTH101  no more modules than needed are loaded
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
