"""The errand ``vouch``: have OpenSSF's own library verify a ``model.sig``, in a process of its own.

Order: ``folder`` (the model), ``signature`` (the file), ``key`` (a public key as PEM). Result: ``version`` of
``model-signing``. Refused words are the library's own. What is verified here is verified in
:mod:`tallystick.evidence.papers.oms` as well: two readers that know nothing of each other must agree.

With ``do`` (``sign`` or ``identity``) it signs or verifies with Sigstore's identities instead of keys
(:mod:`tallystick.crew.vouch.identity`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput, Failed, MissingTile
from tallystick.crew.desk import Desk

__all__ = ["main"]


def main(desk: Desk) -> Mapping[str, Any]:
    """Failed with the library's words where it says no; MissingTile where it is not installed."""
    order = desk.order
    if "do" in order:
        from tallystick.crew.vouch import identity

        what = {"sign": identity.sign, "identity": identity.verify}.get(str(order["do"]))
        needs = {"sign": {"folder", "signature", "cache"}, "identity": {"bundle", "identities", "cache"}}
        if what is None or not needs[str(order["do"])] <= order.keys():
            raise BadInput("the order is none", where="crew/vouch")
        return what(order)
    if not {"folder", "signature", "key"} <= order.keys():
        raise BadInput("the order lacks 'folder', 'signature' or 'key'", where="crew/vouch")
    try:
        from model_signing import verifying
    except ImportError as missing:
        hint = "pip install 'tallystick[supply]'"
        raise MissingTile(f"it needs {missing.name}", where="model-signing", hint=hint) from None
    desk.progress(0.1, "model_signing reads the files")
    with tempfile.TemporaryDirectory() as temp:
        key = Path(temp) / "key.pem"
        key.write_text(str(order["key"]))
        try:
            config = verifying.Config().use_elliptic_key_verifier(public_key=key)  # type: ignore[no-untyped-call]  # its __init__
            config.verify(Path(order["folder"]), Path(order["signature"]))
        except Exception as wrong:  # noqa: BLE001  reason: whatever a hostile bundle makes of it, it says no
            words = str(wrong).splitlines()[0][:300] if str(wrong) else type(wrong).__name__
            raise Failed(f"it says no: {words}", where="model_signing") from None
    return {"version": version("model-signing")}
