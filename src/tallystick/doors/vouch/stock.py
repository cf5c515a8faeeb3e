"""Ask OpenSSF's own library, in a process of its own, what it says of a ``model.sig``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tallystick.core.errors import Failed, error_from_dict
from tallystick.ports.models.signing import Key

__all__ = ["ask_stock"]

MODULE = "tallystick.crew.vouch"


def ask_stock(folder: Path, signature: Path, key: Key) -> str:
    """The library's version where it agrees; Failed with its words where it does not.

    MissingTile where it is not installed. It takes as long as the files take to be read once more.
    """
    order = {"folder": str(folder.absolute()), "signature": str(signature.absolute()), "key": key.pem}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", MODULE],
        input=json.dumps(order).encode() + b"\n",
        capture_output=True,
        check=False,
    )
    for line in reversed(ended.stdout.splitlines()):
        said = json.loads(line)
        if "result" in said:
            return str(said["result"]["version"])
        if "error" in said:
            raise error_from_dict(said["error"])
    raise Failed(f"it ended with status {ended.returncode}", where="model_signing")
