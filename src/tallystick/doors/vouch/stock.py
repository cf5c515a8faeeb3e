"""Ask OpenSSF's own library, in a process of its own, what it says of a ``model.sig``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tallystick.core.errors import Failed, TookTooLong, error_from_dict
from tallystick.ports.models.signing import Key

__all__ = ["ask_stock", "vouched"]

MODULE = "tallystick.crew.vouch"

START_S = 120.0
"""To start, import its libraries and check what they check, on a machine that is busy."""

SERVICES_S = 180.0
"""More where Sigstore's services are asked: the libraries wait 30 s for some of them, for others for ever."""

BYTES_A_SECOND = 10 * 2**20
"""Of the model's files, at the least: a slow disk, or one over a network."""

_OFFLINE = "sign with a key, which needs no network: tally sign MODEL --key mine.pem"


def ask_stock(folder: Path, signature: Path, key: Key) -> str:
    """The library's version where it agrees; Failed with its words where it does not.

    MissingTile where it is not installed, TookTooLong where it says nothing in time. It takes as long as the
    files take to be read once more.
    """
    order = {"folder": str(folder.absolute()), "signature": str(signature.absolute()), "key": key.pem}
    return str(vouched(order)["version"])


def vouched(order: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the errand ``vouch`` answers to an order, or its error; TookTooLong where neither comes in time.

    The process that is late is ended.
    """
    signs, limit_s = order.get("do") == "sign", _limit_s(order)
    with tempfile.TemporaryDirectory(prefix="tally-vouch-") as cache:
        try:
            ended = subprocess.run(
                [sys.executable, "-P", "-W", "ignore", "-m", MODULE],
                input=json.dumps({**order, "cache": cache}).encode() + b"\n",
                capture_output=True,
                check=False,
                timeout=limit_s,
            )
        except subprocess.TimeoutExpired:
            words, hint = f"it was not done within {limit_s:.0f} s", _OFFLINE if signs else ""
            raise TookTooLong(words, where="--sigstore" if signs else "model_signing", hint=hint) from None
    for line in reversed(ended.stdout.splitlines()):
        said = json.loads(line)
        if "result" in said:
            return dict(said["result"])
        if "error" in said:
            raise error_from_dict(said["error"])
    raise Failed(f"it ended with status {ended.returncode}", where="model_signing")


def _limit_s(order: Mapping[str, Any]) -> float:
    """How long it may take: anyhow, and for the files in ``folder``, which are read whole."""
    files = Path(str(order["folder"])).rglob("*") if "folder" in order else ()
    read_s = sum(file.lstat().st_size for file in files) / BYTES_A_SECOND
    return START_S + read_s + (SERVICES_S if order.get("do") == "sign" else 0.0)
