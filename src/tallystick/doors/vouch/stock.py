"""Ask OpenSSF's own library, in a process of its own, what it says of a ``model.sig``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tallystick.core.errors import Failed, error_from_dict
from tallystick.ports.models.signing import Key

__all__ = ["ask_stock", "vouched"]

MODULE = "tallystick.crew.vouch"


def ask_stock(folder: Path, signature: Path, key: Key) -> str:
    """The library's version where it agrees; Failed with its words where it does not.

    MissingTile where it is not installed. It takes as long as the files take to be read once more.
    """
    order = {"folder": str(folder.absolute()), "signature": str(signature.absolute()), "key": key.pem}
    return str(vouched(order)["version"])


def vouched(order: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the errand ``vouch`` answers to an order, or its error."""
    with tempfile.TemporaryDirectory(prefix="tally-vouch-") as cache:
        ended = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-m", MODULE],
            input=json.dumps({**order, "cache": cache}).encode() + b"\n",
            capture_output=True,
            check=False,
        )
    for line in reversed(ended.stdout.splitlines()):
        said = json.loads(line)
        if "result" in said:
            return dict(said["result"])
        if "error" in said:
            raise error_from_dict(said["error"])
    raise Failed(f"it ended with status {ended.returncode}", where="model_signing")
